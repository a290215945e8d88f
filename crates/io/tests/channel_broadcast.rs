//! Broadcast channels: every receiver gets every value, or is told how many it has missed.

use std::cell::{Cell, RefCell};
use std::panic::catch_unwind;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::{or, poll_once};
use futures_util::stream::{FuturesUnordered, StreamExt};
use nursery::lowlevel::points;
use nursery::{CancelScope, TaskError, move_on_after, open_nursery, sleep};
use nursery_io::channel::broadcast::{self, Receiver, RecvError};
use nursery_io::channel::{SendError, TryRecvError};
use nursery_io::sync::Event;

mod support;

use support::{seeds, settled};

fn drain<T: Clone>(r: &Receiver<T>) -> Vec<T> {
    std::iter::from_fn(|| r.try_recv().ok()).collect()
}

#[test]
fn every_receiver_gets_every_value_in_order() {
    seeds(async || {
        let (s, r) = broadcast::open(10);
        let got = &RefCell::new(vec![]);
        open_nursery(async |n| {
            for i in 0..3 {
                let r = r.clone();
                n.start_soon(async move {
                    let mut values = vec![];
                    loop {
                        match r.recv().await {
                            Ok(value) => values.push(value),
                            Err(RecvError::EndOfChannel) => break,
                            Err(error) => return Err(error.into()),
                        }
                    }
                    assert!(matches!(r.recv().await, Err(RecvError::EndOfChannel)));
                    got.borrow_mut().push((i, values));
                    Ok(())
                });
            }
            drop(r);
            let other = s.clone();
            for i in 0..5 {
                assert_eq!(s.send(i)?, 3);
                if i % 2 == 0 {
                    settled().await?;
                }
            }
            drop(s);
            settled().await?;
            assert_eq!(got.borrow().len(), 0);
            drop(other);
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        got.borrow_mut().sort();
        assert_eq!(*got.borrow(), Vec::from_iter((0..3).map(|i| (i, vec![0, 1, 2, 3, 4]))));
        Ok(())
    });
}

#[test]
fn a_receiver_that_lags_is_told_so_once_and_goes_on_with_what_is_kept() {
    seeds(async || {
        let (s, r) = broadcast::open(2);
        let quick = r.clone();
        for i in 0..5 {
            s.send(i)?;
            assert_eq!(quick.recv().await?, i);
        }
        assert!(matches!(r.recv().await, Err(RecvError::Lagged(3))));
        assert_eq!(drain(&r), [3, 4]);
        for i in 5..9 {
            s.send(i)?;
        }
        assert_eq!(drain(&r), [7, 8]); // `try_recv` skips
        assert_eq!(s.statistics().kept, 2); // for the other one
        assert!(matches!(quick.recv().await, Err(RecvError::Lagged(2))));
        drop(quick);
        assert_eq!(s.statistics().kept, 0);
        Ok(())
    });
}

#[test]
fn who_subscribes_gets_what_is_sent_from_then_on_and_a_clone_what_its_original_would() {
    let (s, r) = broadcast::open(10);
    s.send(1).unwrap();
    s.send(2).unwrap();
    assert_eq!(r.try_recv(), Ok(1));
    let (late, clone) = (s.subscribe(), r.clone());
    assert_eq!(s.send(3).unwrap(), 3);
    assert_eq!(drain(&r), [2, 3]);
    assert_eq!(drain(&clone), [2, 3]);
    assert_eq!(late.try_recv(), Ok(3));
    assert_eq!(late.try_recv(), Err(TryRecvError::WouldBlock));
    drop(s);
    assert_eq!(late.try_recv(), Err(TryRecvError::EndOfChannel));
}

#[test]
fn without_receivers_the_value_comes_back() {
    let (s, r) = broadcast::open(1);
    drop(r);
    let error = s.send(5).unwrap_err();
    assert!(matches!(error, SendError::Broken(5)));
    let r = s.subscribe();
    assert_eq!(s.send(6).unwrap(), 1);
    assert_eq!(r.try_recv(), Ok(6));
    assert!(catch_unwind(|| broadcast::open::<i32>(0)).is_err());
}

#[test]
fn a_value_is_kept_no_longer_than_some_receiver_needs_it() {
    let value = Rc::new(());
    let (s, r) = broadcast::open(4);
    let slow = r.clone();
    for _ in 0..3 {
        s.send(value.clone()).unwrap();
    }
    assert_eq!(drain(&r).len(), 3);
    assert_eq!(Rc::strong_count(&value), 4);
    drop(slow.try_recv());
    assert_eq!(Rc::strong_count(&value), 3);
    let clone = slow.clone();
    drop(slow);
    assert_eq!(Rc::strong_count(&value), 3);
    drop(clone);
    assert_eq!(Rc::strong_count(&value), 1);
    assert_eq!(s.statistics().kept, 0);
}

#[test]
fn recv_is_a_checkpoint_whether_or_not_it_waits() {
    seeds(async || {
        let (s, r) = broadcast::open(2);
        s.send(1)?;
        let before = points();
        r.recv().await?;
        let after = points();
        assert!(after.cancel != before.cancel && after.schedule != before.schedule);
        s.send(2)?;
        let scope = CancelScope::new();
        scope.cancel();
        let done = scope.enter(async {
            let error = anyhow::Error::from(r.recv().await.unwrap_err());
            assert!(error.as_cancelled().is_some());
            Err::<(), _>(error)
        });
        assert!(done.await?.is_none());
        assert_eq!(r.try_recv()?, 2);
        Ok(())
    });
}

#[test]
fn a_receive_that_is_cancelled_or_dropped_at_any_point_takes_nothing() {
    seeds(async || {
        let (s, r) = &broadcast::open(9);
        // In its yield.
        s.send(1)?;
        assert!(poll_once(r.recv()).await.is_none());
        assert_eq!(r.try_recv()?, 1);
        // While it waits, and after it was woken.
        for is_woken in [false, true] {
            let mut recv = Box::pin(r.recv());
            assert!(poll_once(&mut recv).await.is_none());
            if is_woken {
                s.send(2)?;
            }
            drop(recv);
            assert_eq!(s.statistics().tasks_waiting, 0);
            assert_eq!(r.try_recv().is_ok(), is_woken);
        }
        let (scope, stop) = (&CancelScope::new(), &Event::new());
        open_nursery(async |n| {
            n.start_soon(async {
                let body = async { Ok::<_, anyhow::Error>(r.recv().await?) };
                assert_eq!(scope.enter(body).await?, None);
                Ok(())
            });
            let r = r.clone();
            n.start_soon(async move {
                let stopped = async { Ok::<_, anyhow::Error>(stop.wait().await?) };
                or(stopped, async { Ok(r.recv().await.map(|_| ())?) }).await?;
                assert_eq!(drain(&r), [3]);
                Ok(())
            });
            settled().await?;
            scope.cancel();
            s.send(3)?;
            stop.set();
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        assert_eq!(drain(r), [3]);
        Ok(())
    });
}

#[test]
fn a_value_that_was_there_before_the_cancellation_is_received() {
    seeds(async || {
        let (s, r) = &broadcast::open(9);
        let scope = &CancelScope::new();
        open_nursery(async |n| {
            n.start_soon(async {
                let body = async { Ok::<_, anyhow::Error>(r.recv().await?) };
                assert_eq!(scope.enter(body).await?, Some(1));
                Ok(())
            });
            settled().await?;
            s.send(1)?;
            scope.cancel();
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        Ok(())
    });
}

#[test]
fn several_receives_on_one_handle_share_the_values_under_a_foreign_waker() {
    seeds(async || {
        let (s, r) = &broadcast::open(9);
        let got = &RefCell::new(vec![]);
        open_nursery(async |n| {
            n.start_soon(async {
                let mut recvs: FuturesUnordered<_> = (0..4).map(|_| r.recv()).collect();
                while let Some(value) = recvs.next().await {
                    got.borrow_mut().push(value?);
                }
                Ok(())
            });
            for i in 0..4 {
                settled().await?;
                s.send(i)?;
            }
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        assert_eq!(*got.borrow(), [0, 1, 2, 3]);
        Ok(())
    });
}

#[test]
fn in_a_storm_of_time_limits_every_value_arrives_once_or_is_counted_as_missed() {
    seeds(async || {
        let (s, r) = broadcast::open(3);
        let lagged = &Cell::new(0);
        open_nursery(async |n| {
            for i in 0..3_u32 {
                let r = r.clone();
                n.start_soon(async move {
                    let mut next = 0;
                    loop {
                        let recv = async { anyhow::Ok(r.recv().await) };
                        let limit = Duration::from_secs(u64::from(1 + next % 3));
                        match move_on_after(limit, async { Ok(recv.await??) }).await {
                            Ok(None) => {}
                            Ok(Some(value)) => {
                                assert_eq!(value, next);
                                next += 1;
                            }
                            Err(error) => {
                                let error: anyhow::Error = error;
                                match error.downcast()? {
                                    RecvError::Lagged(count) => {
                                        lagged.set(lagged.get() + 1);
                                        next += u32::try_from(count)?;
                                    }
                                    _ => break,
                                }
                            }
                        }
                        sleep(Duration::from_secs(u64::from(i + 1))).await?;
                    }
                    assert_eq!(next, 20);
                    Ok(())
                });
            }
            drop(r);
            for i in 0..20_u32 {
                s.send(i)?;
                sleep(Duration::from_secs(1)).await?;
            }
            drop(s);
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        assert!(lagged.get() > 0);
        Ok(())
    });
}

#[test]
fn a_pinned_receive_can_be_polled_for_nothing() {
    seeds(async || {
        let (s, r) = broadcast::open(9);
        let mut recv = pin!(r.recv());
        for _ in 0..5 {
            assert!(poll_once(&mut recv).await.is_none());
            assert_eq!(s.statistics().tasks_waiting, 1);
        }
        s.send(1)?;
        assert_eq!(recv.await?, 1);
        Ok(())
    });
}
