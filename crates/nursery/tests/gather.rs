//! Several at once: `gather`, `map_concurrent`, `race`, `as_completed` and `map_unordered` keep what a nursery promises.
//! Each test runs under 100 seeds.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use anyhow::{anyhow, bail};
use futures_util::FutureExt;
use futures_util::future::poll_immediate;
use nursery::lowlevel::{self, statistics};
use nursery::{
    CancelScope, Cancelled, TaskError, as_completed, checkpoint, finally, gather, map_concurrent,
    map_unordered, move_on_after, now, open_nursery, race, shield, sleep, sleep_forever, tree,
};
use nursery_testing::{Test, wait_all_tasks_blocked};

const SECOND: Duration = Duration::from_secs(1);

type Result<T = ()> = anyhow::Result<T>;

#[track_caller]
fn seeds<F: Future<Output = Result>>(main: impl Fn() -> F) {
    for seed in 0..100 {
        if let Err(error) = Test::new().seed(seed).run(main()) {
            panic!("seed {seed}: {error:?}");
        }
    }
}

async fn after<T>(seconds: u32, value: T) -> Result<T> {
    sleep(seconds * SECOND).await?;
    Ok(value)
}

async fn fails(seconds: u32, text: &'static str) -> Result<u32> {
    sleep(seconds * SECOND).await?;
    bail!(text)
}

/// Fails when it is cancelled.
async fn fails_late(text: &'static str) -> Result<u32> {
    let _ = sleep_forever().await;
    bail!(text)
}

/// Does not hear that it is cancelled.
async fn deaf<T>(seconds: u32, value: T) -> Result<T> {
    shield(sleep(seconds * SECOND)).await?;
    Ok(value)
}

/// A cancellation that no scope here asked for.
async fn stray() -> Result<u32> {
    let mut found = None;
    let scope = CancelScope::new();
    scope.cancel();
    scope
        .enter(async {
            found = checkpoint().await.err();
            Ok::<(), Cancelled>(())
        })
        .await?;
    Err(found.expect("the scope is cancelled").into())
}

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

/// The message of the panic of a future.
async fn panic_of<F: Future>(future: F) -> String {
    let panic = AssertUnwindSafe(future).catch_unwind().await.err().expect("it did not panic");
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().expect("a panic with a message")).to_owned(),
    }
}

/// Counts what is alive.
#[derive(Default)]
struct World {
    alive: Cell<i32>,
    begun: Cell<i32>,
}

struct Life<'a>(&'a World);

impl World {
    fn life(&self) -> Life<'_> {
        self.alive.set(self.alive.get() + 1);
        self.begun.set(self.begun.get() + 1);
        Life(self)
    }
}

impl Drop for Life<'_> {
    fn drop(&mut self) {
        self.0.alive.set(self.0.alive.get() - 1);
    }
}

// What holds for all of them.

#[derive(Clone, Copy, Debug, PartialEq)]
enum Which {
    Gather,
    Map,
    Race,
    AsCompleted,
    Unordered,
}

const ALL: [Which; 5] =
    [Which::Gather, Which::Map, Which::Race, Which::AsCompleted, Which::Unordered];

/// One use of each, with futures, values, items and closures that are counted, and borrow.
async fn program(which: Which, world: &World) -> Result<u32> {
    let item = async |i: u32| {
        let _life = world.life();
        for _ in 0..i {
            checkpoint().await?;
        }
        let wait = async { sleep(i * SECOND).await.map_err(anyhow::Error::from) };
        finally(wait, SECOND, async || {
            let _life = world.life();
            Ok(checkpoint().await?)
        })
        .await?;
        Ok((i, world.life()))
    };
    let owned = world.life();
    let each = async |(i, _life): (u32, Life<'_>)| {
        assert_eq!(owned.0.alive.as_ptr(), world.alive.as_ptr());
        item(i).await
    };
    let items = [2, 0, 1, 1].into_iter().map(|i| (i, world.life()));
    let futures = items.clone().map(&each);
    let sum = |values: Vec<(u32, Life<'_>)>| values.iter().map(|(i, _)| i).sum();
    Ok(match which {
        Which::Gather => sum(gather(futures).await?),
        Which::Map => sum(map_concurrent(2, items, &each).await?),
        Which::Race => race(futures).await?.0,
        Which::AsCompleted => {
            as_completed(futures, async |values| {
                let mut sum = 0;
                for _ in 0..3 {
                    sum += values.next().await?.expect("there are four").0;
                }
                anyhow::Ok(sum)
            })
            .await?
        }
        Which::Unordered => {
            map_unordered(2, items, &each, async |values| {
                let mut sum = 0;
                while let Some((i, _life)) = values.next().await? {
                    checkpoint().await?;
                    sum += i;
                }
                anyhow::Ok(sum)
            })
            .await?
        }
    })
}

fn expected(which: Which) -> u32 {
    match which {
        Which::Race => 0,
        Which::AsCompleted => 2,
        _ => 4,
    }
}

/// Polls a future; says so before the nth poll.
async fn interrupted<F: Future>(
    future: F,
    nth: u32,
    mut interrupt: impl FnMut(),
    was_reached: &Cell<bool>,
) -> Option<F::Output> {
    let mut future = pin!(Some(future));
    let mut polls = 0;
    poll_fn(move |cx| {
        if polls == nth {
            was_reached.set(true);
            interrupt();
        }
        polls += 1;
        match future.as_mut().as_pin_mut() {
            Some(future) => future.poll(cx).map(Some),
            None => Poll::Ready(None),
        }
    })
    .await
}

#[test]
fn cancelled_at_any_poll_all_have_ended_when_it_returns() {
    for which in ALL {
        seeds(|| async {
            for nth in 0.. {
                let (world, reached) = (World::default(), Cell::new(false));
                let before = statistics();
                let scope = CancelScope::new();
                let run = interrupted(program(which, &world), nth, || scope.cancel(), &reached);
                let result = scope.enter(async { run.await.expect("is not dropped") }).await?;
                assert_eq!(world.alive.get(), 0, "{which:?}, cancelled at poll {nth}");
                assert_eq!(statistics(), before, "{which:?}, cancelled at poll {nth}");
                if !reached.get() {
                    assert!(nth > 4);
                    assert_eq!(result, Some(expected(which)));
                    return Ok(());
                }
                if nth == 0 {
                    assert_eq!(result, None, "{which:?}, cancelled before");
                }
            }
            unreachable!()
        });
    }
}

#[test]
fn dropped_at_any_poll_all_have_been_dropped() {
    for which in ALL {
        seeds(|| async {
            for nth in 0.. {
                let (world, reached) = (World::default(), Cell::new(false));
                let before = statistics();
                let mut polls = 0;
                {
                    let mut run = pin!(program(which, &world));
                    let result = poll_fn(|cx| {
                        if polls == nth {
                            reached.set(true);
                            return Poll::Ready(None);
                        }
                        polls += 1;
                        run.as_mut().poll(cx).map(Some)
                    })
                    .await;
                    if let Some(result) = result {
                        assert_eq!(result?, expected(which));
                    }
                }
                assert_eq!(world.alive.get(), 0, "{which:?}, dropped at poll {nth}");
                assert_eq!(statistics(), before, "{which:?}, dropped at poll {nth}");
                if !reached.get() {
                    assert!(nth > 4);
                    return Ok(());
                }
            }
            unreachable!()
        });
    }
}

#[test]
fn nothing_is_begun_before_the_first_poll() {
    seeds(|| async {
        for which in ALL {
            let world = World::default();
            drop(program(which, &world));
            let items = || (0..3).map(|i| (i, world.life()));
            drop(map_concurrent(1, items(), async |_| Ok::<_, Cancelled>(())));
            drop(gather(items().map(|_| async { Ok::<_, Cancelled>(()) })));
            drop(race(items().map(|_| async { Ok::<_, Cancelled>(()) })));
            assert_eq!(world.begun.get(), 0);
        }
        Ok(())
    });
}

/// What each does with these futures; those with a body receive all values.
async fn all_of<'a>(
    which: Which,
    futures: Vec<std::pin::Pin<Box<dyn Future<Output = Result<u32>> + 'a>>>,
) -> Result<u32> {
    let each =
        async |future: std::pin::Pin<Box<dyn Future<Output = Result<u32>> + 'a>>| future.await;
    let all = async |values: &mut nursery::Completed<u32>| {
        let mut sum = 0;
        while let Some(value) = values.next().await? {
            sum += value;
        }
        Ok(sum)
    };
    match which {
        Which::Gather => Ok(gather(futures).await?.into_iter().sum()),
        Which::Map => Ok(map_concurrent(9, futures, each).await?.into_iter().sum()),
        Which::Race => race(futures).await,
        Which::AsCompleted => as_completed(futures, all).await,
        Which::Unordered => map_unordered(9, futures, each, all).await,
    }
}

#[test]
fn a_failure_cancels_the_rest_and_all_errors_leave_in_order() {
    for which in ALL.into_iter().filter(|which| *which != Which::Race) {
        seeds(|| async {
            let start = now();
            let futures = vec![
                fails_late("second").boxed_local(),
                fails(1, "first").boxed_local(),
                deaf(3, 0).boxed_local(),
                after(9, 0).boxed_local(),
            ];
            assert_eq!(shape_of(all_of(which, futures).await), "[first, second]", "{which:?}");
            assert_eq!(now() - start, 3 * SECOND, "it has waited for the deaf one");
            Ok(())
        });
    }
}

#[test]
fn a_single_error_is_in_a_group_but_for_a_race() {
    for which in ALL {
        seeds(|| async {
            let futures = vec![after(9, 0).boxed_local(), fails(1, "oh").boxed_local()];
            let expected = if which == Which::Race { "oh" } else { "[oh]" };
            assert_eq!(shape_of(all_of(which, futures).await), expected);
            Ok(())
        });
    }
}

#[test]
fn a_stray_cancellation_is_not_taken_for_success() {
    for which in ALL {
        seeds(|| async {
            let futures = vec![after(9, 0).boxed_local(), stray().boxed_local()];
            assert_eq!(shape_of(all_of(which, futures).await), "Cancelled", "{which:?}");
            Ok(())
        });
    }
}

#[test]
fn a_panic_comes_out_after_the_others_have_ended() {
    for which in ALL {
        seeds(|| async {
            let (world, before) = (World::default(), statistics());
            let start = now();
            let crash = async {
                sleep(SECOND).await?;
                panic!("crash")
            };
            let sibling = async {
                let _life = world.life();
                deaf(2, 0).await
            };
            let futures =
                vec![sibling.boxed_local(), crash.boxed_local(), after(9, 0).boxed_local()];
            assert_eq!(panic_of(all_of(which, futures)).await, "crash");
            assert_eq!((world.alive.get(), world.begun.get()), (0, 1));
            assert_eq!(statistics(), before);
            assert_eq!(now() - start, 2 * SECOND);
            Ok(())
        });
    }
}

#[test]
fn the_tree_shows_the_caller_s_place_and_who_is_which() {
    seeds(|| async {
        let line = line!() + 1;
        let all = gather([after(1, 'a'), after(1, 'b')]);
        open_nursery(async |n| {
            n.start_soon(async { all.await.map(drop) });
            wait_all_tasks_blocked(Duration::ZERO).await?;
            let tree = tree().to_string();
            assert!(tree.contains(&format!("nursery ({}:{line})", file!())), "{tree}");
            assert!(tree.contains("task \"gather[1]\""), "{tree}");
            Ok(())
        })
        .await
    });
}

// gather

#[test]
fn gather_returns_the_values_in_the_order_of_the_futures() {
    seeds(|| async {
        let texts = ["c", "a", "b"].map(str::to_owned);
        let start = now();
        let found = gather(texts.iter().zip([3, 1, 2]).map(|(text, at)| after(at, text))).await?;
        assert_eq!(found, [&texts[0], &texts[1], &texts[2]]);
        assert_eq!(now() - start, 3 * SECOND, "at the same time");
        Ok(())
    });
}

#[test]
fn gather_of_nothing_is_nothing() {
    seeds(|| async {
        assert_eq!(gather(Vec::<std::future::Ready<Result>>::new()).await?, []);
        Ok(())
    });
}

#[test]
fn gather_keeps_the_values_of_those_that_do_not_hear_the_cancellation() {
    seeds(|| async {
        let values = move_on_after(SECOND, gather([deaf(2, 1), deaf(3, 2)])).await?;
        assert_eq!(values, Some(vec![1, 2]));
        Ok(())
    });
}

#[test]
fn gather_gives_errors_beside_values_if_they_are_values() {
    seeds(|| async {
        let futures = [after(2, 7).boxed_local(), fails(1, "oh").boxed_local()];
        let found = gather(futures.map(async |future| anyhow::Ok(future.await))).await?;
        assert_eq!(found[0].as_ref().unwrap(), &7);
        assert_eq!(found[1].as_ref().unwrap_err().to_string(), "oh");
        Ok(())
    });
}

#[test]
fn cancelled_from_outside_with_an_error_the_error_is_left() {
    seeds(|| async {
        let futures = vec![fails_late("late").boxed_local(), after(9, 0).boxed_local()];
        let result = move_on_after(SECOND, all_of(Which::Gather, futures)).await;
        assert_eq!(shape_of(result), "[late]");
        Ok(())
    });
}

// map_concurrent

/// Items that say when they are taken.
fn counted(taken: &Cell<usize>, count: usize) -> impl Iterator<Item = usize> {
    (0..count).inspect(|_| taken.set(taken.get() + 1))
}

#[test]
fn map_concurrent_runs_at_most_so_many_and_takes_no_item_early() {
    seeds(|| async {
        for limit in [1, 3, 10, usize::MAX] {
            let (taken, begun, done, most) =
                (Cell::new(0), Cell::new(0), Cell::new(0), Cell::new(0));
            let values = map_concurrent(limit, counted(&taken, 10), async |i| {
                begun.set(begun.get() + 1);
                assert!(taken.get() - done.get() <= limit);
                most.set(most.get().max(begun.get() - done.get()));
                sleep(Duration::from_millis(some_time(i))).await?;
                done.set(done.get() + 1);
                anyhow::Ok(2 * i)
            })
            .await?;
            assert_eq!(values, (0..10).map(|i| 2 * i).collect::<Vec<_>>());
            assert_eq!(most.get(), limit.min(10));
        }
        Ok(())
    });
}

/// Times in no order.
fn some_time(i: usize) -> u64 {
    (i as u64 * 7919) % 13
}

#[test]
fn map_concurrent_with_limit_1_runs_one_after_the_other() {
    seeds(|| async {
        let start = now();
        let log = RefCell::new(vec![]);
        map_concurrent(1, [2, 1, 3], async |i| {
            log.borrow_mut().push(i);
            sleep(i * SECOND).await?;
            log.borrow_mut().push(i);
            anyhow::Ok(())
        })
        .await?;
        assert_eq!(log.take(), [2, 2, 1, 1, 3, 3]);
        assert_eq!(now() - start, 6 * SECOND);
        Ok(())
    });
}

#[test]
fn map_concurrent_takes_no_item_after_a_failure() {
    seeds(|| async {
        let taken = Cell::new(0);
        let result = map_concurrent(2, counted(&taken, usize::MAX), async |i| {
            if i == 1 { fails(1, "oh").await } else { deaf(2, 0).await }
        })
        .await;
        assert_eq!(shape_of(result), "[oh]");
        assert_eq!(taken.get(), 2);
        Ok(())
    });
}

#[test]
fn map_concurrent_takes_no_item_after_a_cancellation_even_if_items_never_wait() {
    seeds(|| async {
        let (taken, scope) = (Cell::new(0), CancelScope::new());
        let cancels = async |i| {
            if i == 5 {
                scope.cancel();
            }
            anyhow::Ok(())
        };
        let result = scope.enter(map_concurrent(1, counted(&taken, 10), cancels)).await?;
        assert_eq!((result, taken.get()), (None, 6));
        Ok(())
    });
}

#[test]
fn map_concurrent_lets_others_run_between_items() {
    seeds(|| async {
        let is_set = Cell::new(false);
        open_nursery(async |n| {
            n.start_soon(map_concurrent(1, 0..1000, async |_| {
                if is_set.get() { Err(anyhow!("seen")) } else { Ok(()) }
            }));
            n.start_soon(async {
                checkpoint().await?;
                is_set.set(true);
                anyhow::Ok(())
            });
            Ok(())
        })
        .await
        .unwrap_err();
        Ok(())
    });
}

#[test]
fn map_concurrent_keeps_its_values_if_the_cancellation_comes_during_the_last_item() {
    seeds(|| async {
        for items in [1, 3] {
            let deaf = map_concurrent(2, 0..items, async |i| deaf(2, i).await);
            let values = move_on_after(if items == 1 { SECOND } else { 3 * SECOND }, deaf).await?;
            assert_eq!(values, Some((0..items).collect()));
        }
        // It cannot be known here, without taking one, that no item is left.
        let mut only = Some(1);
        let unknown = std::iter::from_fn(move || only.take());
        let deaf = map_concurrent(1, unknown, async |i| deaf(2, i).await);
        assert_eq!(move_on_after(SECOND, deaf).await?, None);
        Ok(())
    });
}

#[test]
fn map_concurrent_with_an_iterator_that_panics_ends_the_others_first() {
    seeds(|| async {
        let world = World::default();
        let items = (0..5).inspect(|i| assert!(*i < 3, "no such item"));
        let map = map_concurrent(2, items, async |i| {
            let _life = world.life();
            deaf(1 + i, i).await
        });
        assert_eq!(panic_of(map).await, "no such item");
        assert_eq!((world.alive.get(), world.begun.get()), (0, 3));
        Ok(())
    });
}

#[test]
fn a_limit_of_0_is_refused_where_it_is_given() {
    let refused = catch_unwind(|| map_concurrent(0, 0..1, async |_| Ok::<_, Cancelled>(())));
    let text = *refused.err().unwrap().downcast::<&str>().unwrap();
    assert!(text.starts_with("the limit is 0"), "{text}");
    let each = async |_| Ok::<_, Cancelled>(());
    catch_unwind(|| map_unordered(0, 0..1, each, async |_| Ok(()))).err().unwrap();
}

// race

#[test]
fn race_returns_the_first_after_the_losers_have_cleaned_up() {
    seeds(|| async {
        let start = now();
        let log = RefCell::new(vec![]);
        let first = race([3, 1, 2].map(|i| {
            let log = &log;
            let cleanup = async move || {
                sleep(SECOND).await?;
                log.borrow_mut().push(i);
                Ok(())
            };
            finally(after(i, i), 9 * SECOND, cleanup)
        }))
        .await?;
        assert_eq!((first, now() - start), (1, 3 * SECOND));
        let mut cleaned = log.take();
        assert_eq!(cleaned.remove(0), 1, "the winner has won when it is done");
        cleaned.sort_unstable();
        assert_eq!(cleaned, [2, 3]);
        Ok(())
    });
}

#[test]
fn an_error_wins_a_race_too() {
    seeds(|| async {
        let futures = vec![after(2, 0).boxed_local(), fails(1, "oh").boxed_local()];
        assert_eq!(shape_of(race(futures).await), "oh");
        Ok(())
    });
}

#[test]
fn a_loser_that_fails_is_not_overlooked() {
    seeds(|| async {
        let futures = vec![fails_late("late").boxed_local(), after(1, 0).boxed_local()];
        assert_eq!(shape_of(race(futures).await), "[late]");
        let futures = vec![fails_late("late").boxed_local(), fails(1, "first").boxed_local()];
        assert_eq!(shape_of(race(futures).await), "[first, late]");
        Ok(())
    });
}

#[test]
fn race_between_none_panics_with_advice() {
    seeds(|| async {
        let place = format!("{}:{}", file!(), line!() + 1);
        let race = race(Vec::<std::future::Ready<Result>>::new());
        let text = panic_of(race).await;
        assert!(text.starts_with(&format!("the race at {place}:")), "{text}");
        Ok(())
    });
}

#[test]
fn of_a_tie_one_wins_and_the_other_s_value_is_dropped() {
    let firsts = RefCell::new(vec![]);
    seeds(|| async {
        let world = World::default();
        let tie = [1, 2].map(|i| {
            let world = &world;
            async move {
                sleep(SECOND).await?;
                anyhow::Ok((i, world.life()))
            }
        });
        let (first, life) = race(tie).await?;
        assert_eq!(world.alive.get(), 1);
        drop(life);
        firsts.borrow_mut().push(first);
        Ok(())
    });
    let firsts = firsts.take();
    assert!(firsts.contains(&1) && firsts.contains(&2), "it depends on the seed");
}

#[test]
fn race_cancelled_from_outside_is_cancelled() {
    seeds(|| async {
        assert_eq!(move_on_after(SECOND, race([after(2, 1), after(3, 2)])).await?, None);
        let scope = CancelScope::new();
        scope.cancel();
        assert_eq!(scope.enter(race([after(0, 1), after(3, 2)])).await?, None);
        Ok(())
    });
}

#[test]
fn a_result_beats_a_cancellation_that_came_before_it() {
    seeds(|| async {
        let futures = vec![after(9, 1).boxed_local(), deaf(2, 2).boxed_local()];
        assert_eq!(move_on_after(SECOND, race(futures)).await?, Some(2));
        let futures = vec![after(9, 1).boxed_local(), fails_late("oh").boxed_local()];
        assert_eq!(shape_of(move_on_after(SECOND, race(futures)).await), "oh");
        Ok(())
    });
}

#[test]
fn a_value_that_has_won_is_kept_when_the_losers_meet_a_cancellation_from_outside() {
    seeds(|| async {
        let scope = CancelScope::new();
        let winner = async {
            sleep(SECOND).await?;
            scope.cancel();
            anyhow::Ok(1)
        };
        let race = race([winner.boxed_local(), after(9, 2).boxed_local()]);
        let result = scope
            .enter(async {
                let value = race.await?;
                assert!(lowlevel::is_cancelled(), "the next checkpoint says so");
                Ok::<_, anyhow::Error>(value)
            })
            .await?;
        assert_eq!(result, Some(1));
        Ok(())
    });
}

// as_completed

#[test]
fn as_completed_gives_the_values_as_they_come_and_then_none() {
    seeds(|| async {
        let found = as_completed([3, 1, 2].map(|i| after(i, i)), async |values| {
            let mut found = vec![];
            while let Some(value) = values.next().await? {
                found.push((value, now()));
            }
            assert_eq!(values.next().await?, None, "as often as one asks");
            anyhow::Ok(found)
        })
        .await?;
        let start = found[0].1 - SECOND;
        assert_eq!(found, [1, 2, 3].map(|i| (i, start + i * SECOND)));
        let none = Vec::<std::future::Ready<Result>>::new();
        as_completed(none, async |values| {
            assert_eq!(values.next().await?, None);
            Ok(())
        })
        .await
    });
}

#[test]
fn a_body_that_returns_early_ends_the_rest() {
    seeds(|| async {
        let (world, start) = (World::default(), now());
        let futures = [1, 2, 3, 4].map(|i| {
            let world = &world;
            async move {
                let _life = world.life();
                finally(after(i, world.life()), SECOND, async || Ok(sleep(SECOND / 2).await?)).await
            }
        });
        as_completed(futures, async |values| {
            values.next().await?;
            sleep(SECOND).await?; // the second is there, and not taken
            anyhow::Ok(())
        })
        .await?;
        assert_eq!((world.alive.get(), now() - start), (0, 3 * SECOND));
        Ok(())
    });
}

#[test]
fn a_failure_cancels_the_body_which_does_not_see_an_end() {
    seeds(|| async {
        let futures = vec![after(1, 0).boxed_local(), fails(2, "oh").boxed_local()];
        let saw = RefCell::new(vec![]);
        let result = as_completed(futures, async |values| {
            loop {
                let next = values.next().await;
                saw.borrow_mut().push(format!("{:?}", next.as_ref().ok()));
                next?;
            }
            #[expect(unreachable_code, reason = "gives the type")]
            Ok(())
        })
        .await;
        assert_eq!(shape_of(result), "[oh]");
        assert_eq!(saw.take(), ["Some(Some(0))", "None"]);
        Ok(())
    });
}

#[test]
fn a_shielded_body_gets_to_the_end_after_a_failure() {
    seeds(|| async {
        let futures = vec![after(1, 0).boxed_local(), fails(2, "oh").boxed_local()];
        let count = Cell::new(0);
        let result = as_completed(futures, async |values| {
            shield(async {
                while values.next().await?.is_some() {
                    count.set(count.get() + 1);
                }
                Ok::<_, Cancelled>(())
            })
            .await?;
            Ok(())
        })
        .await;
        assert_eq!((shape_of(result).as_str(), count.get()), ("[oh]", 1));
        Ok(())
    });
}

#[test]
fn an_error_of_the_body_is_grouped_with_those_of_the_futures() {
    seeds(|| async {
        let result = as_completed([fails_late("late")], async |values| {
            if move_on_after(SECOND, values.next()).await?.is_none() {
                bail!("body");
            }
            Ok(())
        })
        .await;
        assert_eq!(shape_of(result), "[body, late]");
        Ok(())
    });
}

#[test]
fn next_cancelled_or_dropped_took_nothing() {
    seeds(|| async {
        let found = as_completed([1, 2, 3].map(|i| after(i, i)), async |values| {
            let mut found = vec![];
            while found.len() < 3 {
                assert!(poll_immediate(values.next()).await.is_none(), "it yields first");
                let scope = CancelScope::new();
                scope.cancel();
                assert!(scope.enter(values.next()).await?.is_none());
                match move_on_after(SECOND, values.next()).await? {
                    Some(value) => found.extend(value),
                    None => checkpoint().await?,
                }
            }
            anyhow::Ok(found)
        })
        .await?;
        assert_eq!(found, [1, 2, 3]);
        Ok(())
    });
}

#[test]
fn a_body_keeps_its_value_when_the_rest_meets_a_cancellation_from_outside() {
    seeds(|| async {
        let scope = CancelScope::new();
        let value = scope
            .enter(as_completed([after(1, 1), after(9, 2)], async |values| {
                let value = values.next().await?;
                scope.cancel();
                Ok(value)
            }))
            .await?;
        assert_eq!(value, Some(Some(1)));
        Ok(())
    });
}

// map_unordered

#[test]
fn map_unordered_gives_every_value_once_as_they_come() {
    seeds(|| async {
        let found = map_unordered(
            2,
            [3, 1, 1, 5],
            async |i| after(i, i).await,
            async |values| {
                let mut found = vec![];
                while let Some(value) = values.next().await? {
                    found.push(value);
                }
                Ok(found)
            },
        )
        .await?;
        // 3 and then 5; beside, 1 and 1.
        assert_eq!(found, [1, 1, 3, 5]);
        Ok(())
    });
}

#[test]
fn values_that_are_not_taken_occupy_their_places() {
    seeds(|| async {
        for limit in [1, 2, 5] {
            let taken = Cell::new(0);
            let items = counted(&taken, usize::MAX);
            map_unordered(
                limit,
                items,
                async |i| anyhow::Ok(i),
                async |values| {
                    for received in 0..20 {
                        wait_all_tasks_blocked(Duration::ZERO).await?;
                        assert_eq!(taken.get(), received + limit);
                        values.next().await?.expect("they have no end");
                    }
                    Ok(())
                },
            )
            .await?;
        }
        Ok(())
    });
}

#[test]
fn map_unordered_ends_although_it_could_not_know_that_no_item_was_left() {
    seeds(|| async {
        let odd = (0..10).filter(|i| i % 2 == 1);
        let sum = map_unordered(
            3,
            odd,
            async |i| after(i, i).await,
            async |values| {
                let mut sum = 0;
                while let Some(value) = values.next().await? {
                    sum += value;
                }
                Ok(sum)
            },
        )
        .await?;
        assert_eq!(sum, 25);
        Ok(())
    });
}

#[test]
fn they_nest_and_share_what_they_borrow() {
    seeds(|| async {
        let log = RefCell::new(vec![]);
        let rows = map_concurrent(2, 1..=3, async |row: u32| {
            let cells = (1..=2).map(async |cell: u32| {
                sleep(cell * SECOND).await?;
                log.borrow_mut().push((row, cell));
                anyhow::Ok(row * cell)
            });
            gather(cells).await
        })
        .await?;
        assert_eq!(rows, [[1, 2], [2, 4], [3, 6]]);
        assert_eq!(log.borrow().len(), 6);
        Ok(())
    });
}
