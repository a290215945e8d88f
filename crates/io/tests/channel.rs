//! Memory channels: what each end promises, in the words of trio's tests where there is one.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::error::Error as _;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::StreamExt as _;
use nursery::{
    CancelScope, Cancelled, TaskError, checkpoint, move_on_after, open_nursery, sleep, tree,
};
use nursery_io::channel::{
    self, Receiver, RecvError, SendError, Sender, TryRecvError, TrySendError, UNBOUNDED,
};
use nursery_testing::Test;

mod support;

use support::{checkpoints, run, settled};

/// All values up to the end of the channel.
async fn collect<T>(receiver: &Receiver<T>) -> Result<Vec<T>, RecvError> {
    let mut values = vec![];
    while let Some(value) = receiver.next().await? {
        values.push(value);
    }
    Ok(values)
}

#[test]
fn channel() {
    run(async {
        let (s, r) = channel::open(2);
        assert!(format!("{s:?}{r:?}").contains("max_buffer_size: 2"));
        s.try_send(1)?;
        checkpoints(s.send(2)).await?;
        assert_eq!(s.try_send(3), Err(TrySendError::WouldBlock(3)));

        assert_eq!(checkpoints(r.recv()).await?, 1);
        assert_eq!(r.try_recv()?, 2);
        assert_eq!(r.try_recv(), Err(TryRecvError::WouldBlock));

        s.try_send(4)?;
        s.close();
        assert!(s.is_closed());
        assert!(matches!(s.send(5).await, Err(SendError::Closed(5))));
        assert_eq!(s.try_send(5), Err(TrySendError::Closed(5)));
        assert!(s.clone().is_closed());
        s.close();

        assert_eq!(r.try_recv()?, 4);
        assert!(matches!(r.recv().await, Err(RecvError::EndOfChannel)));
        assert!(matches!(r.recv().await, Err(RecvError::EndOfChannel)));
        r.close();
        assert!(matches!(r.recv().await, Err(RecvError::Closed)));
        assert_eq!(r.try_recv(), Err(TryRecvError::Closed));
        r.close();
        Ok(())
    });
}

#[test]
fn issue_553() {
    run(async {
        let (s, r) = channel::open(1);
        let received = move_on_after(Duration::from_secs(10), async { Ok(r.recv().await?) });
        let received: anyhow::Result<_> = received.await;
        assert!(received?.is_none());
        s.send("Test for PR #553").await?;
        assert_eq!(s.statistics().current_buffer_used, 1);
        Ok(())
    });
}

#[test]
fn channel_multiple_producers() {
    run(async {
        let (s, r) = channel::open(0);
        open_nursery(async |n| -> anyhow::Result<()> {
            for i in 0..10 {
                let s = s.clone();
                n.start_soon(async move {
                    for j in 3 * i..3 * (i + 1) {
                        s.send(j).await?;
                    }
                    Ok(())
                });
            }
            drop(s);
            let mut got = collect(&r).await?;
            got.sort_unstable();
            assert_eq!(got, Vec::from_iter(0..30));
            Ok(())
        })
        .await
    });
}

#[test]
fn channel_multiple_consumers() {
    for shares_a_handle in [true, false] {
        run(async {
            let (s, r) = channel::open(1);
            let (who, received) = (&RefCell::new(BTreeSet::new()), &RefCell::new(vec![]));
            let r = Rc::new(r);
            open_nursery(async |n| -> anyhow::Result<()> {
                for i in 0..5 {
                    let r = if shares_a_handle { r.clone() } else { Rc::new((*r).clone()) };
                    n.start_soon(async move {
                        while let Some(value) = r.next().await? {
                            who.borrow_mut().insert(i);
                            received.borrow_mut().push(value);
                        }
                        Ok(())
                    });
                }
                settled().await?;
                for i in 0..10 {
                    s.send(i).await?;
                }
                drop(s);
                Ok(())
            })
            .await?;
            assert_eq!(who.borrow().len(), 5);
            received.borrow_mut().sort_unstable();
            assert_eq!(*received.borrow(), Vec::from_iter(0..10));
            Ok(())
        });
    }
}

#[test]
fn close_basics_and_close_sync() {
    run(async {
        // Closing the sender: a send that waits on it gets Closed.
        let (s, r) = &channel::open(0);
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                assert!(matches!(s.send(7).await, Err(SendError::Closed(7))));
                Ok(())
            });
            settled().await?;
            s.close();
            Ok(())
        })
        .await?;
        assert_eq!(s.try_send(7), Err(TrySendError::Closed(7)));
        assert!(matches!(s.send(7).await, Err(SendError::Closed(7))));
        assert_eq!(r.try_recv(), Err(TryRecvError::EndOfChannel));
        assert!(matches!(r.recv().await, Err(RecvError::EndOfChannel)));

        // Closing the receiver: a send gets Broken.
        let (s, r) = &channel::open(0);
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                assert!(matches!(s.send(7).await, Err(SendError::Broken(7))));
                Ok(())
            });
            settled().await?;
            r.close();
            Ok(())
        })
        .await?;
        assert_eq!(s.try_send(7), Err(TrySendError::Broken(7)));
        assert!(matches!(s.send(7).await, Err(SendError::Broken(7))));

        // And a receive that waits on it gets Closed.
        let (_s, r) = &channel::open::<i32>(0);
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                assert!(matches!(r.recv().await, Err(RecvError::Closed)));
                Ok(())
            });
            settled().await?;
            r.close();
            Ok(())
        })
        .await?;
        assert_eq!(r.try_recv(), Err(TryRecvError::Closed));
        assert!(matches!(r.recv().await, Err(RecvError::Closed)));
        Ok(())
    });
}

#[test]
fn dropping_the_last_handle_closes_that_side() {
    run(async {
        let (s, r) = channel::open::<()>(0);
        open_nursery(async |n| -> anyhow::Result<()> {
            let other = s.clone();
            n.start_soon(async move {
                assert!(matches!(r.recv().await, Err(RecvError::EndOfChannel)));
                drop(r);
                Ok(())
            });
            settled().await?;
            drop(other);
            settled().await?;
            assert_eq!(s.statistics().tasks_waiting_recv, 1);
            drop(s);
            Ok(())
        })
        .await?;

        let (s, r) = channel::open(0);
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async move {
                assert!(matches!(s.send(1).await, Err(SendError::Broken(1))));
                Ok(())
            });
            settled().await?;
            drop(r);
            Ok(())
        })
        .await
    });
}

#[test]
fn receive_channel_clone_and_close() {
    let (s, r) = channel::open(10);
    let (r2, r3) = (r.clone(), r.clone());
    s.try_send(()).unwrap();
    r.close();
    drop(r2);
    assert!(r.clone().is_closed());
    assert_eq!(r.clone().try_recv(), Err(TryRecvError::Closed));
    // r3 is still open
    assert_eq!(s.statistics().open_receivers, 1);
    s.try_send(()).unwrap();
    r3.close();
    assert_eq!(s.try_send(()), Err(TrySendError::Broken(())));
}

#[test]
fn close_multiple_send_handles() {
    run(async {
        let (s1, r) = &channel::open(0);
        let s2 = &s1.clone();
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                assert!(matches!(s1.send("nope").await, Err(SendError::Closed("nope"))));
                Ok(())
            });
            n.start_soon(async { Ok(s2.send("ok").await?) });
            settled().await?;
            s1.close();
            assert_eq!(r.recv().await?, "ok");
            Ok(())
        })
        .await
    });
}

#[test]
fn close_multiple_receive_handles() {
    run(async {
        let (s, r1) = &channel::open(0);
        let r2 = &r1.clone();
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                assert!(matches!(r1.recv().await, Err(RecvError::Closed)));
                Ok(())
            });
            n.start_soon(async {
                assert_eq!(r2.recv().await?, "ok");
                Ok(())
            });
            settled().await?;
            r1.close();
            s.send("ok").await?;
            Ok(())
        })
        .await
    });
}

#[test]
fn inf_capacity() {
    run(async {
        let (s, r) = channel::open(UNBOUNDED);
        for i in 0..5 {
            s.try_send(i)?;
            checkpoints(s.send(i + 5)).await?;
        }
        drop(s);
        assert_eq!(collect(&r).await?, [0, 5, 1, 6, 2, 7, 3, 8, 4, 9]);
        Ok(())
    });
}

#[test]
fn statistics() {
    run(async {
        let (s, r) = &channel::open(2);
        assert_eq!(s.statistics(), r.statistics());
        let stats = s.statistics();
        assert_eq!((stats.current_buffer_used, stats.max_buffer_size), (0, 2));
        assert_eq!((stats.open_senders, stats.open_receivers), (1, 1));
        assert_eq!((stats.tasks_waiting_send, stats.tasks_waiting_recv), (0, 0));
        assert_eq!(stats.peak_buffer_used, 0);

        s.try_send(())?;
        let used = || (s.statistics().current_buffer_used, s.statistics().peak_buffer_used);
        assert_eq!(used(), (1, 1));

        let s2 = &s.clone();
        assert_eq!(s.statistics().open_senders, 2);
        s.close();
        assert_eq!(s2.statistics().open_senders, 1);
        let r2 = r.clone();
        assert_eq!(s2.statistics().open_receivers, 2);
        drop(r2);
        assert_eq!(s2.statistics().open_receivers, 1);

        open_nursery(async |n| -> anyhow::Result<()> {
            s2.try_send(())?;
            assert_eq!(used(), (2, 2));
            n.start_soon(async { Ok(s2.send(()).await?) });
            n.start_soon(async { Ok(s2.send(()).await?) });
            settled().await?;
            assert_eq!(s.statistics().tasks_waiting_send, 2);
            n.cancel_scope().cancel();
            Ok(())
        })
        .await?;
        assert_eq!(s.statistics().tasks_waiting_send, 0);
        while r.try_recv().is_ok() {}
        assert_eq!(used(), (0, 2));

        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async { Ok(r.recv().await?) });
            settled().await?;
            assert_eq!(s.statistics().tasks_waiting_recv, 1);
            n.cancel_scope().cancel();
            Ok(())
        })
        .await?;
        assert_eq!(s.statistics().tasks_waiting_recv, 0);
        Ok(())
    });
}

#[test]
fn the_peak_counts_values_of_senders_that_waited() {
    run(async {
        let (s, r) = &channel::open(1);
        {
            let mut recv = pin!(r.recv());
            assert!(futures_lite::future::poll_once(&mut recv).await.is_none());
            s.try_send(1)?; // past the buffer
            assert_eq!(s.statistics().peak_buffer_used, 0);
        } // it came back
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async { Ok(s.send(2).await?) });
            settled().await?;
            assert_eq!(r.try_recv()?, 1); // 2 goes into the buffer
            let stats = r.statistics();
            assert_eq!((stats.current_buffer_used, stats.peak_buffer_used), (1, 1));
            Ok(())
        })
        .await
    });
}

#[test]
fn channel_fairness() {
    run(async {
        let (s, r) = &channel::open(1);
        s.try_send(1)?;
        assert_eq!(r.try_recv()?, 1);
        s.try_send(2)?;
        assert_eq!(r.try_recv()?, 2);

        // What is sent while somebody waits is theirs, even if we run first.
        open_nursery(async |n| -> anyhow::Result<()> {
            let received = n.start_soon(async { Ok(r.recv().await?) });
            settled().await?;
            s.try_send(2)?;
            assert_eq!(r.try_recv(), Err(TryRecvError::WouldBlock));
            assert_eq!(received.await?, 2);
            Ok(())
        })
        .await?;

        // And so is the room.
        s.try_send(1)?;
        assert_eq!(s.try_send(0), Err(TrySendError::WouldBlock(0)));
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async { Ok(s.send(2).await?) });
            settled().await?;
            assert_eq!(r.try_recv()?, 1);
            assert_eq!(s.try_send(3), Err(TrySendError::WouldBlock(3)));
            assert_eq!(r.recv().await?, 2);
            Ok(())
        })
        .await
    });
}

#[test]
fn unbuffered() {
    run(async {
        let (s, r) = &channel::open(0);
        assert_eq!(r.try_recv(), Err(TryRecvError::WouldBlock));
        assert_eq!(s.try_send(1), Err(TrySendError::WouldBlock(1)));
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async { Ok(checkpoints(s.send(1)).await?) });
            assert_eq!(checkpoints(r.recv()).await?, 1);
            Ok(())
        })
        .await?;
        assert_eq!(r.try_recv(), Err(TryRecvError::WouldBlock));

        // `send` is done when a receiver has it, not before.
        let sent = &Cell::new(false);
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                s.send(2).await?;
                sent.set(true);
                Ok(())
            });
            settled().await?;
            assert!(!sent.get());
            assert_eq!(r.try_recv()?, 2);
            settled().await?;
            assert!(sent.get());
            // A receiver that waits makes `try_send` possible.
            let received = n.start_soon(async { Ok(r.recv().await?) });
            settled().await?;
            s.try_send(3)?;
            assert_eq!(received.await?, 3);
            Ok(())
        })
        .await
    });
}

#[test]
fn values_arrive_in_the_order_sent_by_whoever_waits() {
    run(async {
        for capacity in [0, 1, 3] {
            let (s, r) = &channel::open(capacity);
            open_nursery(async |n| -> anyhow::Result<()> {
                for i in 0..6 {
                    n.start_soon(async move { Ok(s.send(i).await?) });
                    settled().await?;
                }
                assert_eq!(s.statistics().current_buffer_used, capacity);
                assert_eq!(s.statistics().tasks_waiting_send, 6 - capacity);
                for i in 0..6 {
                    assert_eq!(r.recv().await?, i);
                }
                Ok(())
            })
            .await?;

            let log = &RefCell::new(vec![]);
            open_nursery(async |n| -> anyhow::Result<()> {
                for i in 0..6 {
                    n.start_soon(async move {
                        let value = r.recv().await?;
                        log.borrow_mut().push((i, value));
                        Ok(())
                    });
                    settled().await?;
                }
                for i in 0..6 {
                    s.try_send(i)?;
                }
                Ok(())
            })
            .await?;
            log.borrow_mut().sort_unstable();
            assert_eq!(*log.borrow(), Vec::from_iter((0..6).map(|i| (i, i))));
        }
        Ok(())
    });
}

#[test]
fn what_is_checked_first() {
    let (s, r) = channel::open(1);
    let (s2, r2) = (s.clone(), r.clone());
    s.try_send(1).unwrap();
    // Closed before Broken, and before WouldBlock.
    s.close();
    assert_eq!(s.try_send(2), Err(TrySendError::Closed(2)));
    r.close();
    r2.close();
    assert_eq!(s.try_send(2), Err(TrySendError::Closed(2)));
    assert_eq!(s2.try_send(2), Err(TrySendError::Broken(2))); // before WouldBlock
    // Closed before EndOfChannel.
    s2.close();
    assert_eq!(r.try_recv(), Err(TryRecvError::Closed));

    let (s, r) = channel::open(1);
    s.try_send(1).unwrap();
    drop(s);
    assert_eq!(r.try_recv(), Ok(1)); // the buffer before EndOfChannel
    assert_eq!(r.try_recv(), Err(TryRecvError::EndOfChannel));
}

#[test]
fn the_last_receiver_drops_what_is_left_in_the_buffer() {
    let value = Rc::new(());
    let (s, r) = channel::open(4);
    for _ in 0..3 {
        s.try_send(value.clone()).unwrap();
    }
    let other = r.clone();
    drop(r);
    assert_eq!(Rc::strong_count(&value), 4);
    other.close();
    assert_eq!(Rc::strong_count(&value), 1);
    assert_eq!(s.statistics().current_buffer_used, 0);
}

#[test]
fn a_value_whose_drop_uses_the_channel_may() {
    struct Echo(Sender<Option<Echo>>);
    impl Drop for Echo {
        fn drop(&mut self) {
            assert!(matches!(self.0.try_send(None), Err(TrySendError::Broken(None))));
            assert_eq!(self.0.statistics().current_buffer_used, 0);
        }
    }
    let (s, r) = channel::open(4);
    s.try_send(Some(Echo(s.clone()))).unwrap_or_else(|_| panic!());
    drop(r);
    assert_eq!(s.statistics().open_senders, 1);
}

#[test]
fn what_cannot_be_sent_comes_back() {
    run(async {
        // Cancelled before, cancelled in the line, closed in the line, broken in the line.
        let (s, _r) = &channel::open(0);
        let scope = CancelScope::new();
        scope.cancel();
        let done = scope.enter(async {
            let error = s.send(String::from("before")).await.unwrap_err();
            assert!(error.source().unwrap().is::<Cancelled>());
            assert!(matches!(&error, SendError::Cancelled(_, value) if value == "before"));
            anyhow::Ok(error.into_value())
        });
        assert_eq!(done.await?.as_deref(), Some("before"));
        assert_eq!(s.statistics().tasks_waiting_send, 0);

        for end in ["cancelled", "closed", "broken"] {
            let ((s, r), scope) = (&channel::open(0), &CancelScope::new());
            let (_s, _r) = (s.clone(), (end != "broken").then(|| r.clone()));
            open_nursery(async |n| -> anyhow::Result<()> {
                n.start_soon(async {
                    let body = async {
                        let error = s.send(String::from(end)).await.unwrap_err();
                        assert!(format!("{error:?}").to_lowercase().contains(end));
                        assert_eq!(error.clone().into_value(), end);
                        Err::<(), _>(anyhow::Error::from(error))
                    };
                    match scope.enter(body).await {
                        Ok(None) => assert_eq!(end, "cancelled"),
                        other => assert!(other.is_err() && end != "cancelled"),
                    }
                    Ok(())
                });
                settled().await?;
                match end {
                    "cancelled" => scope.cancel(),
                    "closed" => s.close(),
                    _ => r.close(),
                }
                settled().await?;
                let nothing =
                    if end == "broken" { TryRecvError::Closed } else { TryRecvError::WouldBlock };
                assert_eq!(r.try_recv(), Err(nothing));
                Ok(())
            })
            .await?;
        }
        Ok(())
    });
}

#[test]
fn errors_say_which_side_did_it_and_convert_into_io_errors() {
    use std::io::{Error, ErrorKind};
    assert_eq!(SendError::Broken(Rc::new(1)).to_string(), "all receivers of the channel are gone");
    assert_eq!(
        SendError::Closed(Rc::new(1)).to_string(),
        "this handle of the channel has been closed"
    );
    let kind = |error: Error| error.kind();
    assert_eq!(kind(SendError::Broken(Rc::new(1)).into()), ErrorKind::BrokenPipe);
    assert_eq!(kind(TrySendError::WouldBlock(Rc::new(1)).into()), ErrorKind::WouldBlock);
    assert_eq!(kind(TrySendError::Broken(Rc::new(1)).into()), ErrorKind::BrokenPipe);
    assert_eq!(kind(RecvError::EndOfChannel.into()), ErrorKind::UnexpectedEof);
    assert_eq!(kind(TryRecvError::WouldBlock.into()), ErrorKind::WouldBlock);
    assert_eq!(kind(TryRecvError::EndOfChannel.into()), ErrorKind::UnexpectedEof);
    assert_eq!(SendError::Closed(Rc::new(1)).without_value().into_value(), ());
    assert_eq!(TrySendError::WouldBlock(5).into_value(), 5);
    assert_eq!(TrySendError::Broken(5).without_value(), TrySendError::Broken(()));
}

#[test]
fn a_cancelled_send_or_receive_is_recognised_inside_anyhow_and_io_errors() {
    async fn cancelled<E: TaskError>(body: impl Future<Output = Result<(), E>>) {
        let scope = CancelScope::new();
        scope.cancel();
        assert!(matches!(scope.enter(body).await, Ok(None)));
    }
    run(async {
        let (s, r) = &channel::open(1);
        cancelled::<anyhow::Error>(async { Ok(s.send(1).await?) }).await;
        cancelled::<anyhow::Error>(async { Ok(r.recv().await.map(|_| ())?) }).await;
        cancelled::<std::io::Error>(async { Ok(s.send(1).await?) }).await;
        cancelled::<std::io::Error>(async { Ok(r.recv().await.map(|_| ())?) }).await;
        let (s, _r) = channel::open(1);
        let send = async { Ok(s.send(Rc::new(1)).await.map_err(SendError::without_value)?) };
        cancelled::<anyhow::Error>(send).await;
        assert_eq!(s.statistics().current_buffer_used, 0);
        Ok(())
    });
}

#[test]
fn the_values_may_borrow() {
    run(async {
        let text = String::from("a b c");
        let (s, r) = channel::open(1);
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                for word in text.split(' ') {
                    s.send(word).await.map_err(SendError::without_value)?;
                }
                drop(s);
                Ok(())
            });
            assert_eq!(collect(&r).await?, ["a", "b", "c"]);
            Ok(())
        })
        .await
    });
}

#[test]
fn a_receiver_is_a_stream_that_ends_with_the_channel() {
    for seed in 0..100 {
        let main = async {
            let (s, mut r) = channel::open(1);
            open_nursery(async |n| -> anyhow::Result<()> {
                n.start_soon(async move {
                    for i in 0..5 {
                        s.send(i).await?;
                        sleep(Duration::from_secs(1)).await?;
                    }
                    Ok(())
                });
                let mut sum = 0;
                let stream = &mut r;
                while let Some(value) = checkpoints(stream.try_next()).await? {
                    sum += value;
                }
                assert_eq!(sum, 10);
                assert!(r.try_next().await?.is_none());
                assert!(!r.is_closed());
                r.close();
                assert!(matches!(r.try_next().await, Err(RecvError::Closed)));
                Ok(())
            })
            .await
        };
        Test::new().seed(seed).run(main).unwrap();
    }
}

#[test]
fn a_stream_is_cancelled_and_goes_on_afterwards() {
    run(async {
        let (s, mut r) = channel::open(1);
        for waits in [true, false] {
            if !waits {
                s.try_send(1)?;
            }
            let scope = CancelScope::new();
            if !waits {
                scope.cancel();
            }
            scope.set_deadline(Some(nursery::now() + Duration::from_secs(1)));
            let next = scope.enter(async { anyhow::Ok(r.try_next().await?) }).await?;
            assert_eq!(next, None);
            assert_eq!(s.statistics().tasks_waiting_recv, 0);
        }
        assert_eq!(r.try_next().await?, Some(1));
        Ok(())
    });
}

#[test]
fn a_cancellation_of_a_step_of_a_stream_that_was_given_up_is_not_reported_elsewhere() {
    run(async {
        let (s, mut r) = channel::open(1);
        let scope = CancelScope::new();
        let body = scope.enter(async {
            assert!(futures_lite::future::poll_once(r.try_next()).await.is_none());
            scope.cancel();
            anyhow::Ok(())
        });
        body.await?;
        s.try_send(1)?;
        assert_eq!(r.try_next().await?, Some(1));
        Ok(())
    });
}

#[test]
fn what_a_stream_was_given_that_is_not_polled_any_more_goes_to_who_asks_next() {
    run(async {
        for way in ["recv", "try_recv", "stream", "close", "drop"] {
            let (s, mut r) = channel::open(0);
            let other = r.clone();
            // The stream waits, and is left.
            let gone = futures_lite::future::poll_once(r.try_next()).await;
            assert!(gone.is_none());
            assert_eq!(s.statistics().tasks_waiting_recv, 1);
            s.try_send(1)?;
            match way {
                "recv" => assert_eq!(r.recv().await?, 1),
                "try_recv" => assert_eq!(r.try_recv()?, 1),
                "stream" => assert_eq!(r.try_next().await?, Some(1)),
                "close" => {
                    r.close();
                    assert_eq!(other.try_recv()?, 1);
                }
                _ => {
                    drop(r);
                    assert_eq!(other.try_recv()?, 1);
                }
            }
            assert_eq!(other.try_recv(), Err(TryRecvError::WouldBlock));
            assert_eq!(s.statistics().tasks_waiting_recv, 0);
        }
        Ok(())
    });
}

#[test]
fn the_tree_shows_which_end_is_waited_at_and_where() {
    run(async {
        let (s, r) = &channel::open(0);
        let (_s, r2) = &channel::open::<()>(0);
        open_nursery(async |n| -> anyhow::Result<()> {
            let line = line!() + 1;
            n.start_soon(async { Ok(s.send(()).await?) });
            n.start_soon(async { Ok(r2.recv().await?) });
            settled().await?;
            let tree = tree().to_string();
            for (what, line) in [("room in a channel", line), ("a value from a channel", line + 1)]
            {
                let place = format!("channel.rs:{line}");
                let shown = tree.lines().any(|line| line.contains(what) && line.contains(&place));
                assert!(shown, "{what} at {place} is not in\n{tree}");
            }
            r.try_recv()?;
            n.cancel_scope().cancel();
            Ok(())
        })
        .await
    });
}

#[test]
fn two_tasks_play_ping_pong_over_handles_of_their_own() {
    for seed in 0..100 {
        let main = async {
            let (to, from) = (channel::open(0), channel::open(0));
            open_nursery(async |n| -> anyhow::Result<()> {
                let (to_s, to_r) = to;
                let (from_s, from_r) = from;
                n.start_soon(async move {
                    while let Some(i) = to_r.next().await? {
                        from_s.send(i + 1).await?;
                    }
                    Ok(())
                });
                let mut i = 0;
                while i < 20 {
                    to_s.send(i).await?;
                    i = from_r.recv().await?;
                    checkpoint().await?;
                }
                Ok(())
            })
            .await
        };
        Test::new().seed(seed).run(main).unwrap();
    }
}
