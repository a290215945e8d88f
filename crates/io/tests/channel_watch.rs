//! Watch channels: the latest value, and who has not seen it yet.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures_lite::future::{or, poll_once};
use futures_util::stream::{FuturesUnordered, StreamExt};
use nursery::lowlevel::points;
use nursery::{CancelScope, TaskError, open_nursery};
use nursery_io::channel::watch::{self, ChangedError};
use nursery_io::sync::Event;

mod support;

use support::{seeds, settled};

#[test]
fn a_receiver_sees_the_latest_value() {
    seeds(async || {
        let (s, r) = watch::open(0);
        assert!(!r.has_changed());
        assert_eq!((*r.get(), *s.get()), (0, 0));
        s.set(1);
        s.set(2);
        assert!(r.has_changed());
        assert_eq!(*r.get(), 2);
        assert!(r.has_changed()); // `get` does not mark it
        r.changed().await?;
        assert!(!r.has_changed());
        s.set(2); // counts, although it is the same
        assert!(r.has_changed());
        assert_eq!(*r.see(), 2);
        assert!(!r.has_changed());
        let late = s.subscribe();
        assert!(!late.has_changed());
        s.set(3);
        let clone = late.clone();
        assert!(late.has_changed() && clone.has_changed());
        late.mark_seen();
        assert!(!late.has_changed() && clone.has_changed());
        assert_eq!(s.statistics().open_receivers, 3);
        assert!(format!("{s:?} {r:?}").contains("value: 3"));
        Ok(())
    });
}

#[test]
fn every_receiver_is_woken_by_a_change() {
    seeds(async || {
        let (s, r) = watch::open(0);
        let seen = &RefCell::new(vec![]);
        open_nursery(async |n| {
            for i in 0..3 {
                let r = r.clone();
                n.start_soon(async move {
                    r.changed().await?;
                    seen.borrow_mut().push((i, *r.get()));
                    assert!(matches!(r.changed().await, Err(ChangedError::EndOfChannel)));
                    Ok(())
                });
            }
            settled().await?;
            assert_eq!(s.statistics().tasks_waiting, 3);
            s.set(1);
            s.set(2);
            settled().await?;
            seen.borrow_mut().sort_unstable();
            assert_eq!(*seen.borrow(), [(0, 2), (1, 2), (2, 2)]);
            let other = s.clone();
            drop(s);
            settled().await?;
            assert_eq!(other.statistics().tasks_waiting, 3);
            drop(other);
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        Ok(())
    });
}

#[test]
fn the_last_value_is_seen_before_the_end() {
    seeds(async || {
        let (s, r) = watch::open(0);
        s.set(1);
        drop(s);
        r.changed().await?;
        assert!(matches!(r.changed().await, Err(ChangedError::EndOfChannel)));
        assert_eq!(*r.get(), 1);
        Ok(())
    });
}

#[test]
fn waiting_for_a_condition_skips_values_that_do_not_meet_it() {
    seeds(async || {
        let (s, r) = &watch::open(0);
        open_nursery(async |n| {
            let asked = Rc::new(Cell::new(0));
            let counter = asked.clone();
            n.start_soon(async move {
                let is_large = |value: &i32| {
                    counter.set(counter.get() + 1);
                    *value >= 5
                };
                r.wait_for(is_large).await?;
                assert!(!r.has_changed());
                let already = points();
                r.wait_for(|value| *value >= 5).await?; // it is so already
                assert_ne!(points().schedule, already.schedule);
                Ok(())
            });
            for i in 1..=5 {
                settled().await?;
                s.set(i);
            }
            settled().await?;
            assert!(asked.get() >= 6);
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        Ok(())
    });
    seeds(async || {
        let (s, r) = watch::open(0);
        drop(s);
        assert!(matches!(r.wait_for(|value| *value > 0).await, Err(ChangedError::EndOfChannel)));
        r.wait_for(|value| *value == 0).await?;
        Ok(())
    });
}

#[test]
fn a_value_that_is_set_while_the_condition_looks_at_another_has_not_been_seen() {
    seeds(async || {
        let (s, r) = watch::open(0);
        r.wait_for(|value| {
            s.set(value + 1);
            true
        })
        .await?;
        assert!(r.has_changed());
        r.changed().await?;
        assert!(!r.has_changed());
        Ok(())
    });
}

#[test]
fn a_value_that_somebody_holds_stays_what_it_is_and_one_that_nobody_holds_is_replaced_in_place() {
    let (s, r) = watch::open(String::from("old"));
    let held = r.get();
    s.set(String::from("new"));
    assert_eq!((held.as_str(), r.get().as_str()), ("old", "new"));
    let place = Rc::as_ptr(&r.get());
    s.set(String::from("newer"));
    assert_eq!(Rc::as_ptr(&r.get()), place);
    assert_eq!(r.get().as_str(), "newer");
}

#[test]
fn a_wait_that_is_cancelled_or_dropped_at_any_point_has_seen_nothing() {
    seeds(async || {
        let (s, r) = &watch::open(0);
        s.set(1);
        assert!(poll_once(r.changed()).await.is_none()); // in its yield
        assert!(r.has_changed());
        let scope = CancelScope::new();
        scope.cancel();
        let done = scope.enter(async {
            let error = anyhow::Error::from(r.changed().await.unwrap_err());
            assert!(error.as_cancelled().is_some());
            Err::<(), _>(error)
        });
        assert!(done.await?.is_none());
        assert!(r.has_changed());
        r.mark_seen();

        let (scopes, stop) = (&[CancelScope::new(), CancelScope::new()], &Event::new());
        open_nursery(async |n| {
            let (r0, r1, r2) = (r.clone(), r.clone(), r.clone());
            n.start_soon(async move {
                let body = async { Ok::<_, anyhow::Error>(r0.changed().await?) };
                assert!(scopes[0].enter(body).await?.is_none()); // cancelled before the change
                assert!(r0.has_changed());
                Ok(())
            });
            n.start_soon(async move {
                let body = async { Ok::<_, anyhow::Error>(r1.changed().await?) };
                assert!(scopes[1].enter(body).await?.is_some()); // cancelled after it
                assert!(!r1.has_changed());
                Ok(())
            });
            n.start_soon(async move {
                let stopped = async { anyhow::Ok(stop.wait().await?) };
                or(stopped, async { Ok(r2.changed().await?) }).await?; // dropped after it
                assert!(r2.has_changed());
                Ok(())
            });
            settled().await?;
            scopes[0].cancel();
            s.set(2);
            scopes[1].cancel();
            stop.set();
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        assert_eq!(s.statistics().tasks_waiting, 0);
        Ok(())
    });
}

#[test]
fn waits_under_a_foreign_waker_are_woken() {
    seeds(async || {
        let (s, r) = &watch::open(0);
        open_nursery(async |n| {
            n.start_soon(async {
                let waits = (1..4).map(|i| r.wait_for(move |value| *value >= i));
                let mut waits: FuturesUnordered<_> = waits.collect();
                let mut done = 0;
                while let Some(result) = waits.next().await {
                    result?;
                    done += 1;
                    assert!(*r.get() >= done);
                }
                Ok(())
            });
            for i in 1..4 {
                settled().await?;
                assert_eq!(s.statistics().tasks_waiting, 4 - usize::try_from(i)?);
                s.set(i);
            }
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        Ok(())
    });
}
