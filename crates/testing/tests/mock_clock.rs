//! The virtual clock: standing still, moved by hand, running, jumping. Trio's `test_mock_clock`.

use std::cell::RefCell;
use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use nursery::lowlevel::{self, Busy};
use nursery::{
    Cancelled, Clock, RunLocal, cancellable, checkpoint, move_on_after, now, open_nursery, sleep,
    sleep_forever,
};
use nursery_testing::{MockClock, Test, wait_all_tasks_blocked};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const MS: Duration = Duration::from_millis(1);

fn run_on<T>(clock: &MockClock, main: impl Future<Output = Result<T, Cancelled>>) -> T {
    Test::new().clock(clock).run(main).unwrap()
}

fn panic_of(f: impl FnOnce()) -> String {
    *catch_unwind(AssertUnwindSafe(f)).unwrap_err().downcast::<String>().unwrap()
}

/// How long `f` takes, on the clock.
async fn takes(f: impl Future<Output = Result<(), Cancelled>>) -> Result<Duration, Cancelled> {
    let start = now();
    f.await?;
    Ok(now() - start)
}

#[test]
fn a_new_clock_stands_still_until_it_is_moved() {
    let clock = MockClock::new();
    assert_eq!(clock.rate(), 0.0);
    assert_eq!(clock.autojump_threshold(), None);
    assert_eq!(clock.elapsed(), Duration::ZERO);
    assert_eq!(clock.now(), clock.now());
    let start = clock.now();
    clock.jump(Duration::from_millis(1200));
    assert_eq!(clock.elapsed(), Duration::from_millis(1200));
    assert_eq!(clock.now(), start + Duration::from_millis(1200));
    clock.jump(Duration::ZERO);
    assert_eq!(clock.elapsed(), Duration::from_millis(1200));
}

#[test]
fn clones_are_handles_of_one_clock() {
    let clock = MockClock::new();
    let other = clock.clone();
    other.jump(SECOND);
    other.set_autojump_threshold(Some(SECOND));
    assert_eq!(clock.elapsed(), SECOND);
    assert_eq!(clock.autojump_threshold(), Some(SECOND));
    assert_eq!(clock.now(), other.now());
}

#[test]
fn time_does_not_go_back() {
    let clock = MockClock::new();
    for rate in [-1.0, f64::NAN, f64::INFINITY] {
        let text = panic_of(|| clock.set_rate(rate));
        assert!(text.contains("time does not go back"), "{text}");
        assert_eq!(clock.rate(), 0.0);
    }
}

/// Real time enters here, so that only bounds can be told.
#[test]
fn a_change_of_the_rate_keeps_the_time_continuous() {
    let clock = MockClock::new();
    clock.jump(SECOND);
    clock.set_rate(1e9);
    while clock.elapsed() < HOUR {
        thread::yield_now();
    }
    clock.set_rate(0.0);
    let stopped = clock.elapsed();
    assert!(stopped >= HOUR);
    assert_eq!(clock.elapsed(), stopped);
    clock.set_rate(1e-6); // an hour of it takes a hundred years
    assert!(clock.elapsed() - stopped < SECOND);
    clock.jump(SECOND);
    let passed = clock.elapsed() - stopped;
    assert!(passed >= SECOND && passed < 2 * SECOND);
}

#[test]
fn on_a_clock_that_runs_a_sleep_takes_its_share_of_real_time() {
    let clock = MockClock::new();
    clock.set_rate(1e6);
    let slept = run_on(&clock, takes(sleep(2000 * SECOND))); // two milliseconds
    assert!(slept >= 2000 * SECOND);
    let limited = run_on(&clock, async { move_on_after(1000 * SECOND, sleep_forever()).await });
    assert_eq!(limited, None);
}

#[test]
fn debug_shows_where_it_is() {
    let clock = MockClock::autojump();
    clock.jump(SECOND);
    let text = format!("{clock:?}");
    assert_eq!(text, "MockClock { elapsed: 1s, rate: 0.0, autojump_threshold: Some(0ns) }");
}

#[test]
fn the_runs_clock_is_this_one() {
    let clock = MockClock::new();
    run_on(&clock, async {
        assert_eq!(now(), clock.now());
        clock.jump(HOUR);
        assert_eq!(now(), clock.now());
        checkpoint().await?;
        assert_eq!(now(), clock.now()); // it stands still while tasks run
        Ok(())
    });
    assert_eq!(clock.elapsed(), HOUR);
}

/// D14: deadlines are noticed in the next turn.
#[test]
fn a_jump_by_hand_runs_nobody_by_itself() {
    let clock = MockClock::new();
    run_on(&clock, async {
        open_nursery(async |n| -> Result<(), Cancelled> {
            let sleeper = n.start_soon(sleep(SECOND));
            wait_all_tasks_blocked(Duration::ZERO).await?;
            clock.jump(SECOND);
            assert!(!sleeper.is_finished());
            sleeper.await
        })
        .await
    });
}

#[test]
fn mock_clock_autojump() {
    let clock = MockClock::new();
    run_on(&clock, async {
        assert_eq!(clock.autojump_threshold(), None);
        clock.set_autojump_threshold(Some(Duration::ZERO));
        for i in 0..10 {
            assert_eq!(takes(sleep(10 * i * SECOND)).await?, 10 * i * SECOND);
        }
        // Waiting for the others comes before a jump, with and without a cushion.
        clock.set_autojump_threshold(Some(4 * MS));
        open_nursery(async |n| -> Result<(), Cancelled> {
            n.start_soon(sleep(HOUR));
            for cushion in [Duration::ZERO, 2 * MS, 6 * MS] {
                let waited = takes(wait_all_tasks_blocked(cushion)).await?;
                assert_eq!(waited, Duration::ZERO);
            }
            Ok(())
        })
        .await?;
        // A change takes effect at once.
        clock.set_autojump_threshold(Some(10_000 * SECOND));
        wait_all_tasks_blocked(Duration::ZERO).await?;
        clock.set_autojump_threshold(Some(Duration::ZERO));
        assert_eq!(takes(sleep(100_000 * SECOND)).await?, 100_000 * SECOND);
        Ok(())
    });
}

#[test]
fn a_change_of_the_threshold_by_another_task_reaches_a_run_that_waits() {
    let clock = MockClock::new();
    clock.set_autojump_threshold(Some(HOUR));
    run_on(&clock, async {
        open_nursery(async |n| -> Result<(), Cancelled> {
            let sleeper = n.start_soon(sleep(SECOND));
            wait_all_tasks_blocked(MS).await?;
            clock.set_autojump_threshold(Some(Duration::ZERO));
            sleeper.await
        })
        .await
    });
}

#[test]
fn mock_clock_autojump_interference() {
    let clock = MockClock::new();
    clock.set_autojump_threshold(Some(4 * MS));
    run_on(&clock, async {
        let other = MockClock::new();
        other.set_autojump_threshold(Some(MS)); // not the run's
        assert_eq!(takes(wait_all_tasks_blocked(2 * MS)).await?, Duration::ZERO);
        assert_eq!(takes(sleep(100_000 * SECOND)).await?, 100_000 * SECOND);
        assert_eq!(other.elapsed(), Duration::ZERO);
        Ok(())
    });
}

#[test]
fn mock_clock_autojump_preset() {
    let clock = MockClock::new();
    clock.set_autojump_threshold(Some(HOUR));
    clock.set_autojump_threshold(Some(MS));
    assert_eq!(run_on(&clock, takes(sleep(10_000 * SECOND))), 10_000 * SECOND);
}

fn sleeper_and_waiter(cushion: Duration, seed: u64) -> Vec<&'static str> {
    let record = RefCell::new(vec![]);
    let main = open_nursery(async |n| -> Result<(), Cancelled> {
        n.start_soon(async {
            sleep(100 * SECOND).await?;
            record.borrow_mut().push("yawn");
            Ok(())
        });
        n.start_soon(async {
            wait_all_tasks_blocked(cushion).await?;
            record.borrow_mut().push("waiter woke");
            sleep(1000 * SECOND).await?;
            record.borrow_mut().push("waiter done");
            Ok(())
        });
        Ok(())
    });
    Test::new().seed(seed).run(main).unwrap();
    record.take()
}

#[test]
fn mock_clock_autojump_0_and_wait_all_tasks_blocked_0() {
    for seed in 0..8 {
        let record = sleeper_and_waiter(Duration::ZERO, seed);
        assert_eq!(record, ["waiter woke", "yawn", "waiter done"], "seed {seed}");
    }
}

#[test]
fn mock_clock_autojump_0_and_wait_all_tasks_blocked_nonzero() {
    for seed in 0..4 {
        let record = sleeper_and_waiter(5 * MS, seed);
        assert_eq!(record, ["waiter woke", "yawn", "waiter done"], "seed {seed}");
    }
}

#[test]
fn initialization_doesnt_mutate_runner() {
    let clock = MockClock::new();
    run_on(&clock, async {
        let before = now();
        let other = MockClock::autojump();
        other.set_rate(3.0);
        other.jump(HOUR);
        assert_eq!(now(), before);
        assert_eq!(clock.autojump_threshold(), None);
        assert_eq!(clock.rate(), 0.0);
        Ok(())
    });
}

/// D19.
#[test]
fn each_jump_goes_to_the_next_deadline_only() {
    let clock = MockClock::autojump();
    let record = RefCell::new(vec![]);
    run_on(&clock, async {
        let start = now();
        open_nursery(async |n| -> Result<(), Cancelled> {
            for seconds in [5, 1, 3] {
                let record = &record;
                n.start_soon(async move {
                    sleep(seconds * SECOND).await?;
                    record.borrow_mut().push((now() - start).as_secs());
                    // Runs until everybody waits again, before the next jump.
                    for _ in 0..10 {
                        checkpoint().await?;
                    }
                    sleep(SECOND).await?;
                    record.borrow_mut().push((now() - start).as_secs());
                    Ok(())
                });
            }
            Ok(())
        })
        .await
    });
    assert_eq!(record.take(), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn nested_time_limits_take_no_real_time() {
    let clock = MockClock::autojump();
    run_on(&clock, async {
        let start = now();
        let left = move_on_after(10 * HOUR, async {
            for hours in 1..4 {
                assert!(move_on_after(hours * HOUR, sleep_forever()).await?.is_none());
            }
            sleep(24 * HOUR).await
        });
        assert_eq!(left.await?, None);
        assert_eq!(now(), start + 10 * HOUR);
        Ok(())
    });
}

// What trio's clock does not do

/// D21, and the deadlock of C44.
#[test]
fn where_nothing_can_ever_happen_the_run_ends_with_its_tree() {
    for clock in [MockClock::new(), MockClock::autojump()] {
        let text = panic_of(|| {
            run_on(&clock, async { sleep_forever().await });
        });
        assert!(text.starts_with("deadlock"), "{text}");
        assert!(text.contains("task \"main\""), "{text}");
        assert!(text.contains("waits for its cancellation"), "{text}");
    }
    // A deadline does not help on a clock that nobody moves.
    let text = panic_of(|| {
        run_on(&MockClock::new(), async { sleep(SECOND).await });
    });
    assert!(text.starts_with("deadlock"), "{text}");
}

#[test]
fn what_comes_from_outside_has_the_grace_to_happen_before_a_jump() {
    let clock = MockClock::autojump();
    assert_eq!(clock.grace(), 10 * MS);
    clock.set_grace(HOUR);
    let (tell, told) = mpsc::channel::<Waker>();
    let thread = thread::spawn(move || told.recv().unwrap().wake());
    let mut asked = false;
    let answer = std::future::poll_fn(move |cx: &mut Context<'_>| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(42);
        }
        tell.send(cx.waker().clone()).unwrap();
        Poll::Pending
    });
    let got = run_on(&clock, async { move_on_after(SECOND, cancellable(answer)).await });
    assert_eq!(got, Some(42));
    assert_eq!(clock.elapsed(), Duration::ZERO);
    thread.join().unwrap();
}

#[test]
fn after_the_grace_the_clock_jumps_whatever_goes_on_outside() {
    let clock = MockClock::autojump();
    clock.set_grace(Duration::ZERO);
    run_on(&clock, async {
        let mut foreign: Pin<&mut _> = pin!(cancellable(pending::<()>()));
        assert_eq!(move_on_after(HOUR, &mut foreign).await?, None);
        Ok(())
    });
    assert_eq!(clock.elapsed(), HOUR);
    // A future that says it is woken from inside has no grace.
    clock.set_grace(HOUR);
    run_on(&clock, async {
        let inside = cancellable(pending::<()>()).inside();
        assert_eq!(move_on_after(HOUR, inside).await?, None);
        Ok(())
    });
    assert_eq!(clock.elapsed(), 2 * HOUR);
}

static WORK: RunLocal<RefCell<Option<Busy>>> = RunLocal::with_default(RefCell::default);

/// However long it takes, and without any grace. It jumps when the work has ended, or waits for the run.
#[test]
fn it_does_not_jump_while_something_works_for_the_run() {
    for rests in [false, true] {
        let clock = MockClock::autojump();
        clock.set_grace(Duration::ZERO);
        run_on(&clock, async {
            let work = WORK.get_shared().unwrap();
            work.replace(Some(lowlevel::busy()));
            assert_eq!(lowlevel::statistics().busy, 1);
            let token = lowlevel::token();
            let (tx, ended_at) = mpsc::channel();
            thread::spawn(move || {
                (0..1000).for_each(|_| thread::yield_now());
                let end = move || {
                    tx.send(now()).unwrap();
                    let work = WORK.get_shared().unwrap();
                    work.borrow().as_ref().unwrap().set(!rests);
                    if !rests {
                        work.take();
                    }
                };
                token.run_soon(end).unwrap();
            });
            let start = now();
            sleep(HOUR).await?;
            assert_eq!(ended_at.try_recv(), Ok(start), "it came before the jump");
            assert_eq!(now() - start, HOUR);
            assert_eq!(lowlevel::statistics().busy, 0);
            work.take();
            Ok(())
        });
    }
}

/// A run that only waits for work is not stuck; when the work is given up, it is.
#[test]
fn work_that_goes_on_is_no_deadlock() {
    let text = panic_of(|| {
        Test::new()
            .run(async {
                WORK.get_shared().unwrap().replace(Some(lowlevel::busy()));
                let mut main = pin!(sleep_forever());
                let mut polls = 0;
                std::future::poll_fn(move |cx| {
                    polls += 1;
                    if polls == 1 {
                        let waker = cx.waker().clone();
                        thread::spawn(move || {
                            (0..1000).for_each(|_| thread::yield_now());
                            waker.wake();
                        });
                    } else {
                        WORK.get_shared().unwrap().take(); // nothing else comes
                    }
                    main.as_mut().poll(cx)
                })
                .await
            })
            .map(drop)
            .unwrap();
    });
    assert!(text.starts_with("deadlock"), "{text}");
}

#[test]
fn a_clock_that_runs_goes_on_during_work() {
    let clock = MockClock::new();
    clock.set_rate(1e6);
    run_on(&clock, async {
        let _work = lowlevel::busy();
        assert!(takes(sleep(HOUR)).await? >= HOUR); // a few milliseconds
        Ok(())
    });
}
