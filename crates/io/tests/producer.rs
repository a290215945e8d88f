//! `channel::producer`: the task that makes values on demand, and the block that receives them. Each test runs under
//! 100 seeds. After trio's tests of `as_safe_channel`.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::task::Poll;

use anyhow::{anyhow, bail};
use futures_util::FutureExt;
use futures_util::future::poll_immediate;
use nursery::lowlevel::{is_cancelled, statistics};
use nursery::{
    CancelScope, Cancelled, ErrorGroup, TaskError, TaskStatus, checkpoint, finally, gather,
    move_on_after, now, open_nursery, shield, sleep, sleep_forever,
};
use nursery_io::channel::producer::{Receiver, Sender};
use nursery_io::channel::{RecvError, SendError, producer};
use nursery_io::sync::Event;

mod support;

use support::{SECOND, seeds, settled};

type Result<T = ()> = anyhow::Result<T>;

/// The shape of an error: `[a, [b, Cancelled]]`.
fn shape(error: &anyhow::Error) -> String {
    match (error.as_group(), error.as_cancelled()) {
        (Some(group), _) => {
            let members: Vec<_> = group.iter().map(shape).collect();
            format!("[{}]", members.join(", "))
        }
        (None, Some(_)) => "Cancelled".to_owned(),
        (None, None) => error.to_string(),
    }
}

#[track_caller]
fn shape_of<T: std::fmt::Debug>(result: Result<T>) -> String {
    shape(&result.unwrap_err())
}

async fn one_two(sender: &Sender<u32>) -> Result {
    sender.send(1).await?;
    sender.send(2).await?;
    Ok(())
}

async fn without_end(sender: &Sender<u32>) -> Result {
    for i in 0.. {
        sender.send(i).await?;
    }
    Ok(())
}

async fn all(receiver: &Receiver<u32>) -> Result<Vec<u32>> {
    let mut values = vec![];
    while let Some(value) = receiver.next().await? {
        values.push(value);
    }
    Ok(values)
}

/// Waits to be cancelled, and fails then.
async fn wait_then_raise(text: &'static str) -> Result {
    let _ = sleep_forever().await;
    bail!(text)
}

// After trio.

#[test]
fn as_safe_channel_exhaust() {
    seeds(|| async {
        assert_eq!(producer(one_two, all).await?, [1, 2]);
        Ok(())
    });
}

#[test]
fn as_safe_channel_broken_resource() {
    seeds(|| async {
        producer(one_two, async |receiver| {
            assert_eq!(receiver.recv().await?, 1);
            receiver.close();
            assert!(receiver.is_closed());
            assert!(matches!(receiver.recv().await, Err(RecvError::Closed)));
            anyhow::Ok(())
        })
        .await
    });
}

#[test]
fn as_safe_channel_cancelled_before_the_first_demand_runs_nothing() {
    seeds(|| async {
        let scope = CancelScope::new();
        let unreachable = async |_: &Sender<u32>| unreachable!("nobody asked for a value");
        let body = async |_: &Receiver<u32>| {
            scope.cancel();
            Ok::<_, anyhow::Error>(7)
        };
        // In trio the cancellation is raised here; it is left to the next checkpoint, and the value kept.
        let value = scope.enter(producer(unreachable, body)).await?;
        assert_eq!(value, Some(7));
        let body = async |receiver: &Receiver<u32>| {
            let scope = CancelScope::new();
            scope.cancel();
            let cancelled = scope.enter(async { Ok::<_, anyhow::Error>(receiver.recv().await?) });
            assert_eq!(cancelled.await?, None);
            settled().await?;
            Ok::<_, anyhow::Error>(())
        };
        producer(unreachable, body).await
    });
}

#[test]
fn as_safe_channel_no_race_between_an_error_and_the_end() {
    seeds(|| async {
        let saw_the_end = Cell::new(false);
        let result = producer(
            async |sender| {
                sender.send(1).await?;
                bail!("oae")
            },
            async |receiver| {
                assert_eq!(receiver.next().await?, Some(1));
                saw_the_end.set(receiver.next().await?.is_none());
                Ok(())
            },
        )
        .await;
        assert_eq!(shape_of(result), "oae");
        assert!(!saw_the_end.get(), "it was cancelled instead");
        Ok(())
    });
}

#[test]
fn as_safe_channel_buffer_size_too_small_to_run_ahead() {
    seeds(|| async {
        let produce = async |sender: &Sender<u32>| {
            sender.send(1).await?;
            panic!("nobody asked for another value")
        };
        let body = async |receiver: &Receiver<u32>| {
            assert_eq!(receiver.recv().await?, 1);
            anyhow::Ok(sleep_forever().await?)
        };
        assert_eq!(move_on_after(5 * SECOND, producer(produce, body)).await?, None);
        Ok(())
    });
}

#[test]
fn as_safe_channel_no_interleave() {
    seeds(|| async {
        producer(
            async |sender| {
                sender.send(1).await?;
                panic!("nobody asked for another value")
            },
            async |receiver| {
                assert_eq!(receiver.recv().await?, 1);
                Ok::<_, anyhow::Error>(checkpoint().await?)
            },
        )
        .await
    });
}

#[test]
fn as_safe_channel_genexit_finally_both_errors_leave_in_a_group() {
    seeds(|| async {
        let events = RefCell::new(vec![]);
        let result = producer(
            async |sender| {
                let sent = sender.send(1).await;
                events.borrow_mut().push(format!("{:?}", sent.unwrap_err().without_value()));
                bail!("producer")
            },
            async |receiver| {
                assert_eq!(receiver.recv().await?, 1);
                bail!("iterator") as Result
            },
        )
        .await;
        assert_eq!(shape_of(result), "[iterator, producer]");
        let events = events.take();
        assert_eq!(events.len(), 1);
        assert!(events[0].contains("the block was left"), "{events:?}");
        Ok(())
    });
}

#[test]
fn as_safe_channel_nested_loop() {
    seeds(|| async {
        let mut pairs = vec![];
        producer(one_two, async |outer| {
            while let Some(i) = outer.next().await? {
                producer(one_two, async |inner| {
                    while let Some(j) = inner.next().await? {
                        pairs.push((i, j));
                    }
                    anyhow::Ok(())
                })
                .await?;
            }
            anyhow::Ok(())
        })
        .await?;
        assert_eq!(pairs, [(1, 1), (1, 2), (2, 1), (2, 2)]);
        Ok(())
    });
}

#[test]
fn as_safe_channel_doesnt_leak_cancellation() {
    seeds(|| async {
        let result = producer(
            async |sender| {
                sender.send(1).await?;
                let scope = CancelScope::new();
                scope.cancel();
                scope.enter(async { Ok::<_, anyhow::Error>(sender.send(2).await?) }).await?;
                Ok(())
            },
            async |receiver| {
                assert_eq!(all(receiver).await?, [1]);
                assert!(!is_cancelled());
                bail!("is reached") as Result
            },
        )
        .await;
        assert_eq!(shape_of(result), "is reached");
        Ok(())
    });
}

#[test]
fn as_safe_channel_dont_unwrap_user_exceptiongroup() {
    seeds(|| async {
        let group = || Result::<()>::Err(ErrorGroup::new(vec![anyhow!("bar")]).into());
        let result = producer(without_end, async |_| group()).await;
        assert_eq!(shape_of(result), "[bar]");
        let result = producer(async |_: &Sender<u32>| group(), all).await;
        assert_eq!(shape_of(result), "[bar]");
        Ok(())
    });
}

#[test]
fn as_safe_channel_multiple_receiver() {
    seeds(|| async {
        let event = Event::new();
        let produce = async |sender: &Sender<u32>| {
            event.wait().await?;
            one_two(sender).await
        };
        producer(produce, async |receiver| {
            open_nursery(async |n| {
                for value in [1, 2] {
                    n.start(async move |status: TaskStatus<()>| {
                        status.started(());
                        assert_eq!(receiver.recv().await?, value);
                        anyhow::Ok(())
                    })
                    .await?;
                    settled().await?; // trio starts them in order by itself
                }
                event.set();
                Ok(())
            })
            .await
        })
        .await
    });
}

#[test]
fn as_safe_channel_multi_cancel_both_hear_it() {
    seeds(|| async {
        let (scope, events) = (CancelScope::new(), RefCell::new(vec![]));
        let done = scope
            .enter(producer(
                async |sender| {
                    let sent = sender.send(()).await;
                    assert!(matches!(sent, Err(SendError::Cancelled(..))));
                    checkpoint().await.inspect_err(|_| events.borrow_mut().push("producer"))?;
                    anyhow::Ok(())
                },
                async |receiver| {
                    receiver.recv().await?;
                    scope.cancel();
                    checkpoint().await.inspect_err(|_| events.borrow_mut().push("body"))?;
                    Ok(())
                },
            ))
            .await?;
        assert_eq!(done, None);
        let mut events = events.take();
        events.sort_unstable();
        assert_eq!(events, ["body", "producer"]);
        Ok(())
    });
}

#[test]
fn as_safe_channel_genexit_filter_takes_the_cancellation_out_of_a_producer_s_own_nursery() {
    seeds(|| async {
        for texts in [&["a"][..], &["a", "b"]] {
            let result = producer(
                async |sender| {
                    open_nursery(async |n| {
                        for text in texts {
                            n.start_soon(wait_then_raise(text));
                        }
                        without_end(sender).await
                    })
                    .await
                },
                async |receiver| Ok(receiver.recv().await?),
            )
            .await;
            let mut shape = shape_of(result);
            if shape == "[b, a]" {
                shape = "[a, b]".to_owned();
            }
            assert_eq!(shape, format!("[{}]", texts.join(", ")), "its own group, as it is");
        }
        Ok(())
    });
}

/// trio: `as_safe_channel_swallowing_extra_exceptions`
#[test]
fn as_safe_channel_swallowing_extra_exceptions_does_not_happen() {
    seeds(|| async {
        let result = producer(
            async |sender| {
                let sent = without_end(sender);
                finally(sent, SECOND, async || bail!("clean-up")).await
            },
            async |receiver| Ok(receiver.recv().await?),
        )
        .await;
        // The clean-up's, beside the cancellation, which the scope takes out.
        assert_eq!(shape_of(result), "[clean-up]");
        Ok(())
    });
}

#[test]
fn as_safe_channel_close_between_iteration() {
    seeds(|| async {
        let ended = Event::new();
        let produce = async |sender: &Sender<u32>| {
            let result = without_end(sender).await;
            ended.set();
            result
        };
        producer(produce, async |receiver| {
            open_nursery(async |n| {
                n.start_soon(async {
                    checkpoint().await?;
                    receiver.close();
                    anyhow::Ok(())
                });
                loop {
                    match receiver.recv().await {
                        Ok(_) => {}
                        Err(RecvError::Closed) => break,
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok(())
            })
            .await?;
            Ok::<_, anyhow::Error>(())
        })
        .await
    });
}

#[test]
fn as_safe_channel_close_before_iteration_runs_nothing() {
    seeds(|| async {
        producer(
            async |_: &Sender<u32>| unreachable!("it is closed"),
            async |receiver| {
                receiver.close();
                assert!(matches!(receiver.recv().await, Err(RecvError::Closed)));
                settled().await?;
                Ok::<_, anyhow::Error>(())
            },
        )
        .await
    });
}

/// In trio it is the generator that closes it, which has no way to get at the receiver here.
#[test]
fn as_safe_channel_close_during_iteration() {
    seeds(|| async {
        let ended = Cell::new(false);
        let produce = async |sender: &Sender<u32>| {
            sender.send(0).await?;
            let _ = sleep_forever().await;
            ended.set(true);
            sender.send(1).await?;
            Ok(())
        };
        producer(produce, async |receiver| {
            open_nursery(async |n| {
                n.start_soon(async {
                    settled().await?;
                    receiver.close();
                    receiver.close();
                    Ok(())
                });
                assert_eq!(receiver.recv().await?, 0);
                assert!(matches!(receiver.recv().await, Err(RecvError::Closed)));
                settled().await?;
                assert!(ended.get(), "it was cancelled at once, not at the end of the block");
                anyhow::Ok(())
            })
            .await
        })
        .await
    });
}

// On demand.

#[test]
fn each_step_is_made_when_somebody_waits_for_it() {
    seeds(|| async {
        let steps = Cell::new(0);
        let produce = async |sender: &Sender<u32>| {
            for i in 1.. {
                steps.set(i);
                checkpoint().await?;
                sender.send(i).await?;
            }
            Ok(())
        };
        producer(produce, async |receiver| {
            for i in 0..5 {
                settled().await?;
                assert_eq!(steps.get(), i);
                assert_eq!(receiver.recv().await?, i + 1);
            }
            anyhow::Ok(())
        })
        .await
    });
}

#[test]
fn demands_that_were_given_up_do_not_add_up() {
    seeds(|| async {
        let steps = Cell::new(0);
        let produce = async |sender: &Sender<u32>| {
            for i in 1.. {
                steps.set(i);
                sleep(SECOND).await?;
                sender.send(i).await?;
            }
            Ok(())
        };
        producer(produce, async |receiver| {
            for _ in 0..3 {
                assert!(
                    move_on_after(SECOND / 10, async {
                        Ok::<_, anyhow::Error>(receiver.recv().await?)
                    })
                    .await?
                    .is_none()
                );
                assert!(poll_immediate(receiver.recv()).await.is_none());
            }
            sleep(5 * SECOND).await?;
            assert_eq!(steps.get(), 1, "the first demand has woken it; its value is not taken");
            assert_eq!(receiver.recv().await?, 1, "and not lost");
            sleep(5 * SECOND).await?;
            assert_eq!(steps.get(), 1);
            Ok(())
        })
        .await
    });
}

#[test]
fn a_value_handed_to_a_receiver_that_is_dropped_goes_to_the_next() {
    seeds(|| async {
        let steps = Cell::new(0);
        let produce = async |sender: &Sender<u32>| {
            for i in 1.. {
                steps.set(i);
                sender.send(i).await?;
            }
            Ok(())
        };
        producer(produce, async |receiver| {
            {
                let mut recv = pin!(receiver.recv());
                while steps.get() == 0 {
                    assert!(poll_immediate(recv.as_mut()).await.is_none());
                    checkpoint().await?;
                }
                settled().await?; // it has been handed over, and is dropped
            }
            assert_eq!(steps.get(), 1);
            assert_eq!(receiver.recv().await?, 1);
            settled().await?;
            assert_eq!(steps.get(), 1);
            anyhow::Ok(())
        })
        .await
    });
}

#[test]
fn several_tasks_of_the_producer_may_send() {
    seeds(|| async {
        let mut values = producer(
            async |sender| {
                gather([1, 2, 3].map(async |i| anyhow::Ok(sender.send(i).await?))).await?;
                Ok(())
            },
            all,
        )
        .await?;
        values.sort_unstable();
        assert_eq!(values, [1, 2, 3]);
        Ok(())
    });
}

#[test]
fn several_receivers_get_each_value_once() {
    seeds(|| async {
        let mut values: Vec<u32> = producer(
            async |sender| {
                for i in 0..20 {
                    sender.send(i).await?;
                }
                anyhow::Ok(())
            },
            async |receiver| Ok(gather((0..3).map(|_| all(receiver))).await?.concat()),
        )
        .await?;
        values.sort_unstable();
        assert_eq!(values, (0..20).collect::<Vec<_>>());
        Ok(())
    });
}

// The end.

#[test]
fn leaving_the_block_waits_for_the_producer_s_clean_up() {
    seeds(|| async {
        let (start, cleaned) = (now(), Cell::new(false));
        let value = producer(
            async |sender| {
                finally(without_end(sender), 9 * SECOND, async || {
                    sleep(3 * SECOND).await?;
                    cleaned.set(true);
                    Ok(())
                })
                .await
            },
            async |receiver| Ok(receiver.recv().await?),
        )
        .await?;
        assert_eq!((value, cleaned.get(), now() - start), (0, true, 3 * SECOND));
        Ok(())
    });
}

#[test]
fn a_producer_that_fails_cancels_the_body_and_its_error_is_bare() {
    seeds(|| async {
        let result = producer(
            async |sender| {
                sender.send(1).await?;
                sleep(SECOND).await?;
                bail!("producer")
            },
            async |receiver| {
                receiver.recv().await?;
                let next = receiver.recv().await;
                assert!(matches!(next, Err(RecvError::Cancelled(_))));
                sleep_forever().await?;
                Ok(())
            },
        )
        .await;
        assert_eq!(shape_of(result), "producer");
        Ok(())
    });
}

#[test]
fn a_producer_that_takes_a_stray_cancellation_for_an_end_is_not_an_end() {
    seeds(|| async {
        let result = producer(
            async |sender| {
                sender.send(1).await?;
                let mut found = None;
                let scope = CancelScope::new();
                scope.cancel();
                let look = async {
                    found = checkpoint().await.err();
                    Ok::<(), Cancelled>(())
                };
                scope.enter(look).await?;
                Err(found.expect("the scope is cancelled").into())
            },
            all,
        )
        .await;
        assert_eq!(shape_of(result), "Cancelled");
        Ok(())
    });
}

#[test]
fn a_value_is_kept_when_the_producer_meets_a_cancellation_from_outside() {
    seeds(|| async {
        let scope = CancelScope::new();
        let block = producer(without_end, async |receiver| {
            let value = receiver.recv().await?;
            scope.cancel();
            Ok(value)
        });
        assert_eq!(scope.enter(block).await?, Some(0));
        Ok(())
    });
}

#[test]
fn an_error_beside_a_cancellation_from_outside_is_left_bare() {
    seeds(|| async {
        let block = producer(
            async |sender| {
                sender.send(0).await?;
                Ok(())
            },
            async |receiver| {
                receiver.recv().await?;
                wait_then_raise("body").await
            },
        );
        assert_eq!(shape_of(move_on_after(SECOND, block).await), "body");
        Ok(())
    });
}

#[test]
fn a_shielded_producer_learns_that_nothing_is_wanted_any_more() {
    seeds(|| async {
        let sent = RefCell::new(vec![]);
        producer(
            async |sender| {
                shield(async {
                    for i in 1..=3 {
                        let is_sent = sender.send(i).await.is_ok();
                        sent.borrow_mut().push(is_sent);
                    }
                })
                .await;
                Ok(())
            },
            async |receiver| {
                assert_eq!(receiver.recv().await?, 1);
                assert_eq!(receiver.recv().await?, 2);
                anyhow::Ok(())
            },
        )
        .await?;
        assert_eq!(sent.take(), [true, false, false]);
        Ok(())
    });
}

#[test]
fn a_panic_comes_out_after_the_other_has_ended() {
    seeds(|| async {
        for in_producer in [true, false] {
            let (before, ended) = (statistics(), Cell::new(false));
            let other = async || {
                let _ = sleep_forever().await;
                shield(sleep(SECOND)).await?;
                ended.set(true);
                anyhow::Ok(())
            };
            let crash = async || {
                sleep(SECOND).await?;
                panic!("crash")
            };
            let block = producer(
                async |_: &Sender<u32>| if in_producer { crash().await } else { other().await },
                async |receiver| {
                    assert!(poll_immediate(receiver.recv()).await.is_none());
                    let mut recv = pin!(receiver.recv());
                    assert!(poll_immediate(recv.as_mut()).await.is_none());
                    settled().await?;
                    if in_producer { other().await } else { crash().await }
                },
            );
            let panic = AssertUnwindSafe(block).catch_unwind().await.unwrap_err();
            assert_eq!(*panic.downcast::<&str>().unwrap(), "crash");
            assert!(ended.get());
            assert_eq!(statistics(), before);
        }
        Ok(())
    });
}

#[test]
fn a_producer_that_panics_is_not_an_end() {
    seeds(|| async {
        let saw_the_end = Cell::new(false);
        let block = producer(
            async |_: &Sender<u32>| panic!("crash"),
            async |receiver| {
                saw_the_end.set(receiver.next().await?.is_none());
                anyhow::Ok(())
            },
        );
        AssertUnwindSafe(block).catch_unwind().await.unwrap_err();
        assert!(!saw_the_end.get(), "it was cancelled instead");
        Ok(())
    });
}

// Interrupted anywhere.

#[derive(Default)]
struct World {
    alive: Cell<i32>,
    made: Cell<u32>,
    got: Cell<u32>,
}

struct Value<'a>(&'a World, u32);

impl<'a> Value<'a> {
    fn new(world: &'a World, number: u32) -> Self {
        world.alive.set(world.alive.get() + 1);
        Value(world, number)
    }
}

impl Drop for Value<'_> {
    fn drop(&mut self) {
        self.0.alive.set(self.0.alive.get() - 1);
    }
}

async fn program(world: &World) -> Result {
    let _owned = Value::new(world, 0);
    producer(
        async |sender| {
            let _life = Value::new(world, 0);
            for i in 1..=3 {
                world.made.set(i);
                checkpoint().await?;
                let value = Value::new(world, i);
                sender.send(value).await?;
            }
            finally(
                async { Ok(checkpoint().await?) },
                SECOND,
                async || Ok(sleep(SECOND / 2).await?),
            )
            .await
        },
        async |receiver| {
            let _life = Value::new(world, 0);
            while let Some(value) = receiver.next().await? {
                assert_eq!(value.1, world.got.get() + 1, "in order, none is missing");
                world.got.set(value.1);
                assert_eq!(world.made.get(), value.1, "none is made before it is wanted");
            }
            Ok(())
        },
    )
    .await
}

#[test]
fn cancelled_or_dropped_at_any_poll_both_have_ended() {
    for dropped in [false, true] {
        seeds(|| async {
            for nth in 0.. {
                let (world, mut reached, mut polls) = (World::default(), false, 0);
                let before = statistics();
                let scope = CancelScope::new();
                let result = {
                    let mut run = pin!(scope.enter(program(&world)));
                    poll_fn(|cx| {
                        if polls == nth {
                            reached = true;
                            if dropped {
                                return Poll::Ready(Ok(None));
                            }
                            scope.cancel();
                        }
                        polls += 1;
                        run.as_mut().poll(cx)
                    })
                    .await?
                };
                assert_eq!(world.alive.get(), 0, "poll {nth}");
                assert_eq!(statistics(), before, "poll {nth}");
                if nth == 0 {
                    assert_eq!((world.made.get(), result), (0, None), "nothing was run");
                }
                if !reached {
                    assert!(nth > 6);
                    assert_eq!((world.got.get(), result), (3, Some(())));
                    return Ok(());
                }
            }
            unreachable!()
        });
    }
}
