//! Whatever cuts a send or a receive short, and whenever: no value is lost, doubled or out of order. Under 100 seeds each.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::task::Context;

use futures_lite::future::{or, poll_once, zip};
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use nursery::{CancelScope, checkpoint, move_on_after, now, open_nursery, sleep};
use nursery_io::channel::{
    self, Receiver, RecvError, SendError, Sender, TryRecvError, TrySendError, UNBOUNDED,
};
use nursery_io::sync::Event;

mod support;

use support::{SECOND, seeds, seeds_with_budget, settled, spin, waker_that_calls};

/// Channels the senders of which wait: nobody receives, and the buffer is full (of zeros).
fn full() -> Vec<(Sender<u32>, Receiver<u32>)> {
    let fill = |capacity| {
        let (s, r) = channel::open(capacity);
        (0..capacity).for_each(|_| s.try_send(0).unwrap());
        (s, r)
    };
    vec![fill(0), fill(1), fill(3)]
}

fn empty() -> Vec<(Sender<u32>, Receiver<u32>)> {
    vec![channel::open(0), channel::open(1), channel::open(UNBOUNDED)]
}

/// What is in the channel, and waits to get into it, without the zeros.
fn drain(r: &Receiver<u32>) -> Vec<u32> {
    std::iter::from_fn(|| r.try_recv().ok()).filter(|value| *value != 0).collect()
}

async fn send_in(scope: &CancelScope, s: &Sender<u32>, value: u32) -> anyhow::Result<bool> {
    let sent = scope.enter(async {
        match s.send(value).await {
            Err(SendError::Cancelled(cancelled, back)) => {
                assert_eq!(back, value);
                Err(anyhow::Error::from(cancelled))
            }
            other => Ok(other?),
        }
    });
    Ok(sent.await?.is_some())
}

async fn recv_in(scope: &CancelScope, r: &Receiver<u32>) -> anyhow::Result<Option<u32>> {
    scope.enter(async { Ok(r.recv().await?) }).await
}

fn cancelled_scope() -> CancelScope {
    let scope = CancelScope::new();
    scope.cancel();
    scope
}

#[test]
fn cancelled_before_nothing_is_sent_or_taken() {
    seeds(async || {
        for (s, r) in &empty() {
            assert!(!send_in(&cancelled_scope(), s, 1).await?);
            assert_eq!(r.try_recv(), Err(TryRecvError::WouldBlock));
        }
        let (s, r) = &channel::open(1);
        s.try_send(1)?;
        assert_eq!(recv_in(&CancelScope::new(), r).await?, Some(1));
        s.try_send(2)?;
        assert_eq!(recv_in(&cancelled_scope(), r).await?, None);
        assert_eq!(r.try_recv()?, 2);
        Ok(())
    });
}

#[test]
fn a_sender_cancelled_in_the_line_sends_nothing_and_the_others_keep_their_order() {
    seeds(async || {
        for (s, r) in &full() {
            let scopes: Vec<_> = (0..4).map(|_| CancelScope::new()).collect();
            open_nursery(async |n| {
                for (scope, value) in scopes.iter().zip(1..) {
                    n.start_soon(async move {
                        assert_eq!(send_in(scope, s, value).await?, value % 3 != 2);
                        Ok(())
                    });
                    settled().await?;
                }
                scopes[1].cancel();
                assert_eq!(s.statistics().tasks_waiting_send, 3);
                assert_eq!(drain(r), [1, 3, 4]); // also if it has not run since
                Ok::<_, anyhow::Error>(())
            })
            .await?;
        }
        Ok(())
    });
}

#[test]
fn a_receiver_cancelled_in_the_line_takes_nothing_and_the_others_keep_their_order() {
    seeds(async || {
        for (s, r) in &empty() {
            let scopes: Vec<_> = (0..4).map(|_| CancelScope::new()).collect();
            open_nursery(async |n| {
                for (scope, i) in scopes.iter().zip(1..) {
                    n.start_soon(async move {
                        let expected = [None, Some(10), None, Some(11), Some(12)][i];
                        assert_eq!(recv_in(scope, r).await?, expected);
                        Ok(())
                    });
                    settled().await?;
                }
                scopes[1].cancel();
                assert_eq!(s.statistics().tasks_waiting_recv, 3);
                for value in 10..13 {
                    s.try_send(value)?;
                }
                Ok::<_, anyhow::Error>(())
            })
            .await?;
        }
        Ok(())
    });
}

#[test]
fn cancelled_after_the_hand_over_it_is_sent_and_received() {
    seeds(async || {
        for (s, r) in &full() {
            let scope = &CancelScope::new();
            open_nursery(async |n| {
                n.start_soon(async move {
                    assert!(send_in(scope, s, 1).await?);
                    Ok(())
                });
                settled().await?;
                r.try_recv()?;
                scope.cancel();
                Ok::<_, anyhow::Error>(())
            })
            .await?;
        }
        for (s, r) in &empty() {
            let scope = &CancelScope::new();
            open_nursery(async |n| {
                n.start_soon(async move {
                    assert_eq!(recv_in(scope, r).await?, Some(1));
                    Ok(())
                });
                settled().await?;
                s.try_send(1)?;
                scope.cancel();
                Ok::<_, anyhow::Error>(())
            })
            .await?;
        }
        Ok(())
    });
}

#[test]
fn cancelled_in_the_yield_after_it_was_done_it_is_sent_and_received() {
    seeds(async || {
        let (s, r) = &channel::open(1);
        let scope = CancelScope::new();
        let done = scope.enter(async {
            let mut send = pin!(s.send(1));
            assert!(poll_once(&mut send).await.is_none()); // it yields, as the budget is 1
            scope.cancel();
            Ok::<_, anyhow::Error>(send.await?)
        });
        assert!(done.await?.is_some());
        let scope = CancelScope::new();
        let done = scope.enter(async {
            let mut recv = pin!(r.recv());
            assert!(poll_once(&mut recv).await.is_none());
            scope.cancel();
            Ok::<_, anyhow::Error>(recv.await?)
        });
        assert_eq!(done.await?, Some(1));
        Ok(())
    });
}

#[test]
fn dropped_before_its_first_poll_it_does_nothing() {
    let (s, r) = channel::open(1);
    drop(s.send(1));
    assert_eq!(r.try_recv(), Err(TryRecvError::WouldBlock));
    s.try_send(2).unwrap();
    drop(r.recv());
    assert_eq!(r.try_recv(), Ok(2));
}

#[test]
fn a_receive_dropped_in_the_yield_after_it_had_taken_a_value_puts_it_back_in_front() {
    seeds(async || {
        let (s, r) = &channel::open(3);
        for value in 1..=3 {
            s.try_send(value)?;
        }
        let first = {
            let mut a = pin!(r.recv());
            assert!(poll_once(&mut a).await.is_none());
            let mut b = pin!(r.recv());
            assert!(poll_once(&mut b).await.is_none());
            r.try_recv()? // both go back, the first one first
        };
        assert_eq!(first, 3);
        assert_eq!(drain(r), [1, 2]);
        Ok(())
    });
}

#[test]
fn a_sender_dropped_in_the_line_sends_nothing() {
    seeds(async || {
        for (s, r) in &full() {
            let stop = &Event::new();
            open_nursery(async |n| {
                for value in 1..=3 {
                    n.start_soon(async move {
                        let send = async { anyhow::Ok(s.send(value).await?) };
                        if value == 2 {
                            or(async { Ok(stop.wait().await?) }, send).await
                        } else {
                            send.await
                        }
                    });
                    settled().await?;
                }
                stop.set();
                settled().await?;
                assert_eq!(s.statistics().tasks_waiting_send, 2);
                assert_eq!(drain(r), [1, 3]);
                Ok::<_, anyhow::Error>(())
            })
            .await?;
        }
        Ok(())
    });
}

#[test]
fn a_receiver_dropped_after_the_hand_over_passes_the_value_on() {
    seeds(async || {
        for (s, r) in &empty() {
            let (stop, log) = (&Event::new(), &RefCell::new(vec![]));
            open_nursery(async |n| {
                let recv = || async {
                    let value = r.recv().await?;
                    log.borrow_mut().push(value);
                    anyhow::Ok(())
                };
                for _ in 0..2 {
                    n.start_soon(or(async { Ok(stop.wait().await?) }, recv()));
                    settled().await?;
                }
                n.start_soon(recv());
                settled().await?;
                s.try_send(1)?; // to the first
                stop.set(); // which drops it, and so does the second
                settled().await?;
                assert_eq!(s.statistics().tasks_waiting_recv, 0);
                Ok::<_, anyhow::Error>(())
            })
            .await?;
            assert_eq!(*log.borrow(), [1]);
        }
        Ok(())
    });
}

#[test]
fn receivers_dropped_after_the_hand_over_put_the_values_back_in_order() {
    seeds(async || {
        for (s, r) in &empty() {
            let stop = &Event::new();
            open_nursery(async |n| {
                for _ in 0..4 {
                    let stopped = async { Ok(stop.wait().await?) };
                    n.start_soon(or(stopped, async { anyhow::Ok(r.recv().await.map(|_| ())?) }));
                    settled().await?;
                }
                for value in 1..=4 {
                    s.try_send(value)?;
                }
                stop.set(); // they drop them in any order
                settled().await?;
                assert_eq!(s.statistics().current_buffer_used, 4);
                // The rendezvous is full now, and stays one.
                n.start_soon(async { Ok(s.send(5).await?) });
                settled().await?;
                assert_eq!(drain(r), [1, 2, 3, 4, 5]);
                Ok::<_, anyhow::Error>(())
            })
            .await?;
        }
        Ok(())
    });
}

#[test]
fn a_value_that_comes_back_when_the_last_receiver_is_gone_is_dropped() {
    seeds(async || {
        let value = Rc::new(());
        let (s, r) = channel::open(0);
        {
            let mut recv = pin!(r.recv());
            assert!(poll_once(&mut recv).await.is_none());
            s.try_send(value.clone()).unwrap();
            r.close();
        }
        assert_eq!(Rc::strong_count(&value), 1);
        Ok(())
    });
}

#[test]
fn a_deadline_at_the_instant_of_the_other_side_comes_first() {
    seeds(async || {
        for (s, r) in &full() {
            open_nursery(async |n| {
                n.start_soon(async {
                    let send = async { Ok(s.send(1).await?) };
                    let sent: anyhow::Result<_> = move_on_after(SECOND, send).await;
                    assert!(sent?.is_none());
                    Ok(())
                });
                sleep(SECOND).await?;
                assert!(drain(r).is_empty());
                Ok::<_, anyhow::Error>(())
            })
            .await?;
        }
        for (s, r) in &empty() {
            open_nursery(async |n| {
                n.start_soon(async {
                    let recv = async { Ok(r.recv().await?) };
                    let received: anyhow::Result<_> = move_on_after(SECOND, recv).await;
                    assert!(received?.is_none());
                    Ok(())
                });
                sleep(SECOND).await?;
                let kept = s.try_send(1).is_ok();
                assert_eq!(kept, s.statistics().max_buffer_size > 0);
                assert_eq!(drain(r).len(), usize::from(kept));
                Ok::<_, anyhow::Error>(())
            })
            .await?;
        }
        Ok(())
    });
}

#[test]
fn the_other_side_at_the_instant_of_a_deadline_set_later_comes_first() {
    seeds(async || {
        for (s, r) in &empty() {
            let scope = &CancelScope::new();
            open_nursery(async |n| {
                n.start_soon(async move {
                    assert_eq!(recv_in(scope, r).await?, Some(1));
                    Ok(())
                });
                sleep(SECOND).await?;
                s.try_send(1)?;
                scope.set_deadline(Some(now()));
                Ok::<_, anyhow::Error>(())
            })
            .await?;
        }
        Ok(())
    });
}

#[test]
fn under_a_foreign_waker_every_value_arrives_once() {
    seeds(async || {
        for (s, r) in &empty() {
            let got = &RefCell::new(vec![]);
            open_nursery(async |n| {
                n.start_soon(async {
                    let mut sends: FuturesUnordered<_> = (1..=6).map(|i| s.send(i)).collect();
                    while let Some(sent) = sends.next().await {
                        sent?;
                    }
                    Ok(())
                });
                n.start_soon(async {
                    let mut recvs: FuturesUnordered<_> = (1..=6).map(|_| r.recv()).collect();
                    while let Some(value) = recvs.next().await {
                        got.borrow_mut().push(value?);
                    }
                    Ok(())
                });
                Ok::<_, anyhow::Error>(())
            })
            .await?;
            got.borrow_mut().sort_unstable();
            assert_eq!(*got.borrow(), [1, 2, 3, 4, 5, 6]);
        }
        Ok(())
    });
}

#[test]
fn under_a_foreign_waker_each_is_cancelled() {
    seeds(async || {
        let (s, r) = &channel::open(0);
        let (_s, r2) = &channel::open::<u32>(0);
        let scope = CancelScope::new();
        let body = async {
            let send = async { anyhow::Ok(s.send(1).await?) };
            let recv = async { anyhow::Ok(r2.recv().await.map(|_| ())?) };
            let boxed: [futures_util::future::LocalBoxFuture<'_, _>; 3] = [
                Box::pin(send),
                Box::pin(recv),
                Box::pin(async {
                    settled().await?;
                    scope.cancel();
                    Ok(())
                }),
            ];
            let mut ops: FuturesUnordered<_> = boxed.into_iter().collect();
            let mut failed = vec![];
            while let Some(done) = ops.next().await {
                failed.extend(done.err());
            }
            assert_eq!(failed.len(), 2);
            Err::<(), _>(failed.remove(0))
        };
        assert!(scope.enter(body).await?.is_none());
        assert_eq!(r.try_recv(), Err(TryRecvError::WouldBlock));
        Ok(())
    });
}

#[test]
fn polled_for_nothing_it_stays_where_it_is_in_the_line() {
    seeds(async || {
        for (s, r) in &full() {
            open_nursery(async |n| {
                n.start_soon(async {
                    zip(spin(10, || {}), async { Ok(s.send(1).await?) }).await.1
                });
                for _ in 0..3 {
                    checkpoint().await?;
                }
                assert_eq!(s.statistics().tasks_waiting_send, 1);
                n.start_soon(async { Ok(s.send(2).await?) });
                settled().await?;
                assert_eq!(s.statistics().tasks_waiting_send, 2);
                assert_eq!(drain(r), [1, 2]);
                Ok::<_, anyhow::Error>(())
            })
            .await?;
        }
        Ok(())
    });
}

#[test]
fn in_a_storm_of_time_limits_and_drops_every_value_arrives_once_and_in_order() {
    for (capacity, budget) in [(0, 1), (1, 1), (3, 1), (UNBOUNDED, 1), (0, 3), (1, 3), (3, 3)] {
        seeds_with_budget(budget, async || {
            let (s, r) = channel::open(capacity);
            let (sent, got) = (&RefCell::new(vec![]), &RefCell::new(vec![]));
            let limits = &Cell::new(0_u32);
            let limit = || {
                limits.set(limits.get() + 1);
                SECOND * (limits.get() * 7 % 5)
            };
            open_nursery(async |n| {
                for producer in 0..3_u32 {
                    let s = s.clone();
                    n.start_soon(async move {
                        for i in 0..8_u32 {
                            let value = producer * 100 + i;
                            let send = async { Ok::<_, anyhow::Error>(s.send(value).await?) };
                            // Only the time limit tells reliably whether it was sent; a drop does not.
                            if move_on_after(limit(), send).await?.is_some() {
                                sent.borrow_mut().push(value);
                            }
                            sleep(SECOND * (i % 2)).await?;
                        }
                        Ok(())
                    });
                }
                drop(s);
                for consumer in 0..3_u32 {
                    let r = r.clone();
                    n.start_soon(async move {
                        loop {
                            let recv = async {
                                match r.recv().await {
                                    Ok(value) => got.borrow_mut().push(value),
                                    Err(RecvError::EndOfChannel) => return Ok(true),
                                    Err(error) => return Err(anyhow::Error::from(error)),
                                }
                                Ok(false)
                            };
                            let ended = if consumer == 0 {
                                let stop = async { Ok(sleep(limit()).await.map(|()| false)?) };
                                or(stop, recv).await?
                            } else {
                                move_on_after(limit(), recv).await?.unwrap_or(false)
                            };
                            if ended {
                                return Ok(());
                            }
                            sleep(SECOND * (consumer % 2)).await?;
                        }
                    });
                }
                Ok::<_, anyhow::Error>(())
            })
            .await?;
            for producer in 0..3 {
                let of = |values: &RefCell<Vec<u32>>| {
                    let values = values.borrow();
                    let mut values: Vec<_> =
                        values.iter().copied().filter(|value| value / 100 == producer).collect();
                    values.sort_unstable();
                    values
                };
                assert_eq!(of(sent), of(got));
            }
            assert!(!got.borrow().is_empty());
            Ok(())
        });
    }
}

#[test]
fn one_consumer_whose_receives_are_dropped_again_and_again_gets_everything_in_order() {
    for (capacity, budget) in [(0, 1), (1, 1), (3, 1), (UNBOUNDED, 1), (0, 3), (1, 3), (3, 3)] {
        seeds_with_budget(budget, async || {
            let (s, r) = channel::open(capacity);
            let got = &mut vec![];
            open_nursery(async |n| {
                n.start_soon(async move {
                    for i in 0..30 {
                        s.send(i).await?;
                    }
                    Ok(())
                });
                for polls in (0..3).cycle() {
                    // Gives up after so many polls.
                    let recv = async { Ok(r.recv().await?) };
                    let stop = async {
                        spin(polls, || {}).await;
                        Err(anyhow::anyhow!("stopped"))
                    };
                    match or(stop, recv).await {
                        Ok(value) => got.push(value),
                        Err(error) if error.is::<RecvError>() => break,
                        Err(_) => checkpoint().await?,
                    }
                }
                Ok::<_, anyhow::Error>(())
            })
            .await?;
            assert_eq!(*got, Vec::from_iter(0..30));
            Ok(())
        });
    }
}

/// Polls under a waker that calls `hook` inside the call that wakes it.
fn poll_hooked(wait: &mut LocalBoxFuture<'static, ()>, hook: impl FnOnce() + 'static) {
    let waker = waker_that_calls(hook);
    assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
}

#[test]
fn a_waker_that_drops_the_receive_it_would_wake_puts_the_value_back() {
    seeds(async || {
        for (s, r) in empty() {
            let wait = Rc::new(RefCell::new(None));
            let mut recv: LocalBoxFuture<'static, ()> = {
                let r = r.clone();
                Box::pin(async move { drop(r.recv().await) })
            };
            poll_hooked(&mut recv, {
                let wait = wait.clone();
                move || drop(wait.take())
            });
            wait.replace(Some(recv));
            s.try_send(1)?;
            assert!(wait.borrow().is_none());
            assert_eq!(drain(&r), [1]);
        }
        Ok(())
    });
}

#[test]
fn a_waker_that_drops_the_send_it_would_wake_has_sent() {
    seeds(async || {
        for (s, r) in full() {
            let wait = Rc::new(RefCell::new(None));
            let mut send: LocalBoxFuture<'static, ()> = {
                let s = s.clone();
                Box::pin(async move { drop(s.send(1).await) })
            };
            poll_hooked(&mut send, {
                let wait = wait.clone();
                move || drop(wait.take())
            });
            wait.replace(Some(send));
            assert_eq!(drain(&r), [1]);
            assert!(wait.borrow().is_none());
        }
        Ok(())
    });
}

#[test]
fn a_waker_that_uses_the_channel_may() {
    seeds(async || {
        let (s, r) = channel::open(0);
        let mut recv: LocalBoxFuture<'static, ()> = {
            let r = r.clone();
            Box::pin(async move { assert_eq!(r.recv().await.unwrap(), 1) })
        };
        let (s2, r2, hooked) = (s.clone(), r.clone(), Rc::new(Cell::new(false)));
        poll_hooked(&mut recv, {
            let hooked = hooked.clone();
            move || {
                hooked.set(true);
                assert_eq!(r2.try_recv(), Err(TryRecvError::WouldBlock)); // it has been handed over
                assert_eq!(s2.try_send(2), Err(TrySendError::WouldBlock(2)));
                s2.close();
                r2.close();
            }
        });
        s.try_send(1)?;
        assert!(hooked.get());
        recv.await;
        assert_eq!((s.statistics().open_senders, s.statistics().open_receivers), (1, 1));
        Ok(())
    });
}
