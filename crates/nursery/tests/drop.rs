//! A nursery, a run, a scope or a handle that is dropped or forgotten half-way: at every poll of several programs.
//!
//! Dropped, it drops what is inside, synchronously, in order, before anything that is borrowed. Forgotten, it
//! never touches anything again. Wakers that are left over are woken and dropped on other threads.
//!
//! Under Miri this leaks on purpose where something is forgotten: use `-Zmiri-ignore-leaks`.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use futures_util::future::{Either, join, join_all, poll_immediate, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use nursery::lowlevel::{ParkingLot, statistics};
use nursery::{
    Builder, CancelScope, Cancelled, Nursery, NurseryHandle, OpenNursery, TaskStatus, cancellable,
    checkpoint, open_nursery, shield, sleep_forever,
};
use nursery_testing::{Test, run, wait_all_tasks_blocked};

type Result<T = ()> = std::result::Result<T, Cancelled>;

/// [`open_nursery`] with an error type.
fn open<'env, T, B>(body: B) -> OpenNursery<impl Future<Output = Result<Result<T>>>>
where
    B: for<'scope> AsyncFnOnce(&'scope Nursery<'scope, 'env, Cancelled>) -> Result<T>,
{
    open_nursery(body)
}

async fn all_blocked() -> Result {
    wait_all_tasks_blocked(Duration::ZERO).await
}

fn text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().unwrap_or("?")
}

// The world that programs borrow.

/// What programs borrow, on the heap, so that a use after its end is seen by Miri and AddressSanitizer.
#[derive(Default)]
struct World {
    /// How often anything in a program looked at this.
    touched: Cell<u32>,
    alive: Cell<i32>,
    log: RefCell<Vec<String>>,
    round: Cell<u32>,
    wakers: RefCell<Vec<Waker>>,
    /// Clones of all wakers that were ever seen.
    kept: RefCell<Vec<Waker>>,
}

impl World {
    fn touch(&self) {
        self.touched.set(self.touched.get() + 1);
    }

    fn life(&self, name: impl Into<String>) -> Life<'_> {
        self.touch();
        self.alive.set(self.alive.get() + 1);
        Life { world: self, name: name.into() }
    }

    /// Waits for the next round; the waker is left with the world, outside the run.
    async fn pause(&self) -> Result {
        let mut since = None;
        cancellable(poll_fn(|cx| {
            self.touch();
            if *since.get_or_insert(self.round.get()) != self.round.get() {
                return Poll::Ready(());
            }
            self.wakers.borrow_mut().push(cx.waker().clone());
            self.kept.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        }))
        .await
    }

    /// Ends the round: wakes everybody who waits for that.
    fn end_round(&self) {
        self.round.set(self.round.get() + 1);
        let wakers = self.wakers.take();
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Counts as alive until it is dropped.
struct Life<'a> {
    world: &'a World,
    name: String,
}

impl Drop for Life<'_> {
    fn drop(&mut self) {
        self.world.touch();
        self.world.alive.set(self.world.alive.get() - 1);
        self.world.log.borrow_mut().push(std::mem::take(&mut self.name));
    }
}

// The programs.

type Program = for<'a> fn(&'a World) -> Pin<Box<dyn Future<Output = Result> + 'a>>;

const PROGRAMS: [(&str, Program); 8] = [
    ("borrowing children", |world| Box::pin(borrowing_children(world))),
    ("spawning destructors", |world| Box::pin(spawning_destructors(world))),
    ("nested nurseries", |world| Box::pin(nested_nurseries(world, 3))),
    ("starts", |world| Box::pin(starts(world))),
    ("scopes and handles", |world| Box::pin(scopes_and_handles(world))),
    ("several waits in a task", |world| Box::pin(several_waits(world))),
    ("a parking lot", |world| Box::pin(parking(world))),
    ("forgotten handles", |world| Box::pin(forgotten_handles(world))),
];

async fn borrowing_children(world: &World) -> Result {
    let _outside = world.life("outside");
    let names = vec![String::from("first"), String::from("second"), String::from("third")];
    let count = Cell::new(0);
    open(async |n| {
        let _body = world.life("body");
        for name in &names {
            let count = &count;
            n.start_soon(async move {
                let _life = world.life(name);
                world.pause().await?;
                count.set(count.get() + name.len());
                world.pause().await?;
                count.set(count.get() + name.len());
                Ok(())
            });
        }
        world.pause().await
    })
    .await?;
    assert_eq!(count.get(), 32);
    world.pause().await
}

/// Starts a child in two nurseries when it is dropped.
struct Spawns<'i, 'ie, 'o, 'oe, 'w: 'i + 'o> {
    world: &'w World,
    inner: &'i Nursery<'i, 'ie, Cancelled>,
    outer: &'o Nursery<'o, 'oe, Cancelled>,
}

impl Drop for Spawns<'_, '_, '_, '_, '_> {
    fn drop(&mut self) {
        let world = self.world;
        let child = async move || {
            let _life = world.life("spawned in a destructor");
            world.pause().await
        };
        let life = world.life("argument");
        let inner = self.inner.start_soon(async move {
            let _life = life;
            child().await
        });
        inner.set_name("of a destructor");
        drop(inner);
        self.outer.start_soon(child());
    }
}

async fn spawning_destructors(world: &World) -> Result {
    open(async |outer| {
        let _body = world.life("outer body");
        outer.start_soon(async {
            let _life = world.life("outer child");
            world.pause().await
        });
        open(async |inner| {
            let _body = world.life("inner body");
            let _spawns = Spawns { world, inner, outer };
            for _ in 0..2 {
                inner.start_soon(async {
                    let _spawns = Spawns { world, inner, outer };
                    let _life = world.life("inner child");
                    world.pause().await
                });
            }
            world.pause().await
        })
        .await
    })
    .await
}

fn nested_nurseries(world: &World, depth: u32) -> Pin<Box<dyn Future<Output = Result> + '_>> {
    Box::pin(async move {
        open(async |n| {
            let _body = world.life(format!("body {depth}"));
            n.start_soon(async {
                let _life = world.life(format!("leaf {depth}"));
                world.pause().await
            });
            if depth > 0 {
                n.start_soon(async {
                    let _life = world.life(format!("branch {depth}"));
                    nested_nurseries(world, depth - 1).await
                });
                nested_nurseries(world, depth - 1).await?;
            }
            world.pause().await
        })
        .await
    })
}

async fn starts(world: &World) -> Result {
    let service = async |status: TaskStatus<u32>| -> Result {
        let _life = world.life("service");
        world.pause().await?;
        status.started(1);
        world.pause().await
    };
    let service = &service;
    open(async |n| {
        let _body = world.life("body");
        n.start_soon(async {
            let _life = world.life("caller");
            n.start(service).await?;
            world.pause().await
        });
        // Nested, and from below a nursery of its own.
        n.start_soon(async {
            open(async |own| {
                let _life = world.life("own body");
                own.start_soon(async {
                    n.start(async |status: TaskStatus<u32>| {
                        let _life = world.life("outer service");
                        let value = n.start(service).await?;
                        status.started(value);
                        world.pause().await
                    })
                    .await?;
                    Ok(())
                });
                own.start(service).await?;
                Ok(())
            })
            .await
        });
        let first = n.start(service).await?;
        let second = n.handle();
        assert_eq!(first, 1);
        drop(second);
        world.pause().await
    })
    .await
}

async fn scopes_and_handles(world: &World) -> Result {
    let scope = CancelScope::new().with_name("outer");
    scope
        .enter(async {
            let _life = world.life("in scope");
            open(async |n| {
                let a = n.start_soon(async {
                    let _life = world.life("a");
                    world.pause().await?;
                    Ok(world.life("value of a"))
                });
                let b = n.start_soon(async {
                    let _life = world.life("b");
                    let value = a.await?;
                    world.pause().await?;
                    Ok(value)
                });
                let c = n.start_soon(async {
                    let _life = world.life("c");
                    let _ = world.pause().await;
                    shield(world.pause()).await?;
                    Ok(world.life("value of c"))
                });
                world.pause().await?;
                let shielded = CancelScope::new().with_shield(true);
                let value = shielded.enter(b).await?;
                drop(value);
                drop(c.cancel_and_join().await?);
                world.pause().await
            })
            .await
        })
        .await?;
    Ok(())
}

/// Operations whose wakers are not the task's own.
async fn several_waits(world: &World) -> Result {
    open(async |n| {
        n.start_soon(async {
            let _life = world.life("unordered");
            let mut all: FuturesUnordered<_> = (0..3)
                .map(|i| async move {
                    let _life = world.life(format!("member {i}"));
                    world.pause().await?;
                    nested_nurseries(world, 0).await
                })
                .collect();
            while let Some(result) = all.next().await {
                result?;
            }
            Ok(())
        });
        let (a, b) = join(nested_nurseries(world, 0), world.pause()).await;
        a.and(b)?;
        join_all((0..2).map(|_| nested_nurseries(world, 0))).await.into_iter().collect()
    })
    .await
}

async fn parking(world: &World) -> Result {
    let lot = ParkingLot::<u32>::new();
    open(async |n| {
        for i in 0..3 {
            let lot = &lot;
            n.start_soon(async move {
                let _life = world.life(format!("parked {i}"));
                lot.park().await.map_err(|error| match error {
                    nursery::lowlevel::ParkError::Cancelled(cancelled) => cancelled,
                    other => panic!("{other}"),
                })?;
                world.pause().await
            });
        }
        world.pause().await?;
        for i in 0..3 {
            world.pause().await?;
            let _ = lot.unpark_one(i); // there may be nobody left
        }
        Ok(())
    })
    .await
}

/// Forgets handles, waits and futures at every stage.
#[expect(clippy::mem_forget, reason = "what is tested")]
async fn forgotten_handles(world: &World) -> Result {
    open(async |n| {
        for polls in 0..4 {
            let mut child = n.start_soon(async {
                let _life = world.life("child");
                world.pause().await?;
                Ok(world.touched.get())
            });
            for _ in 0..polls {
                if poll_immediate(&mut child).await.is_some() {
                    break;
                }
                world.pause().await?;
            }
            std::mem::forget(child);
        }
        Ok(())
    })
    .await
}

// Ways to end.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Drop,
    Forget,
}

#[expect(clippy::mem_forget, reason = "what is tested")]
fn end<T>(future: Pin<Box<T>>, how: End) {
    match how {
        End::Drop => drop(future),
        End::Forget => std::mem::forget(future),
    }
}

fn end_dyn<'a>(future: Pin<Box<dyn Future<Output = Result> + 'a>>, how: End) {
    end(Box::pin(future), how);
}

/// Wakes and drops wakers here, and on another thread.
fn wake_everywhere(wakers: Vec<Waker>) {
    for waker in &wakers {
        waker.wake_by_ref();
        let clone = waker.clone();
        clone.wake();
    }
    let elsewhere = wakers.clone();
    thread::spawn(move || {
        for waker in elsewhere {
            waker.wake_by_ref();
            drop(waker.clone());
            waker.wake();
        }
    })
    .join()
    .unwrap();
    drop(wakers);
}

fn builder(seed: u64) -> Builder {
    Test::new().seed(seed).real_clock().builder()
}

const SEEDS: u64 = if cfg!(miri) { 1 } else { 5 };
/// Every poll; under Miri, which is slow, every fourth.
const STEP: usize = if cfg!(miri) { 4 } else { 1 };

/// Ends the guest after `polls` polls of its host. Returns whether it was over before.
fn guest_ends(program: Program, polls: usize, seed: u64, how: End) -> bool {
    let world = Box::new(World::default());
    let mut guest = Box::pin(builder(seed).guest(program(&world)));
    let mut cx = Context::from_waker(Waker::noop());
    let mut is_over = false;
    for _ in 0..polls {
        if let Poll::Ready(result) = guest.as_mut().poll(&mut cx) {
            result.unwrap();
            is_over = true;
            break;
        }
        world.end_round();
    }
    end(guest, how);
    let touched = world.touched.get();
    if how == End::Drop || is_over {
        assert_eq!(world.alive.get(), 0, "{:?}", world.log.borrow());
    }
    wake_everywhere(world.kept.take());
    wake_everywhere(world.wakers.take());
    assert_eq!(world.touched.get(), touched, "nothing runs, or is dropped, any more");
    let wakers = world.kept.take();
    drop(world);
    wake_everywhere(wakers);
    is_over
}

/// Ends the program after `polls` polls by a task that goes on, in a run that goes on. Returns whether it was over.
fn task_ends(program: Program, polls: usize, seed: u64, how: End) -> bool {
    let world = Box::new(World::default());
    let mut is_over = false;
    builder(seed)
        .run(async {
            let before = statistics();
            let mut future = program(&world);
            for i in 0..polls {
                if let Some(result) = poll_immediate(&mut future).await {
                    result?;
                    is_over = true;
                    break;
                }
                if i % 2 == 0 {
                    world.end_round();
                }
                checkpoint().await?;
            }
            end_dyn(future, how);
            let touched = world.touched.get();
            if how == End::Drop || is_over {
                assert_eq!(world.alive.get(), 0, "{:?}", world.log.borrow());
                // Their waits go with forgotten handles only when those handles do.
                let after = statistics();
                assert_eq!((after.tasks_living, after.nodes), (before.tasks_living, before.nodes));
            }
            wake_everywhere(world.kept.borrow().clone());
            world.end_round();
            for _ in 0..3 {
                checkpoint().await?;
            }
            // A run with other nurseries is not disturbed.
            open(async |n| {
                n.start_soon(async { checkpoint().await });
                Ok(())
            })
            .await?;
            assert_eq!(world.touched.get(), touched, "nothing runs, or is dropped, any more");
            Ok::<_, Cancelled>(())
        })
        .unwrap();
    let wakers = world.kept.take();
    drop(world);
    wake_everywhere(wakers);
    is_over
}

fn at_every_poll(ends: fn(Program, usize, u64, End) -> bool, how: End, at_least: usize) {
    for (name, program) in PROGRAMS {
        for seed in 0..SEEDS {
            let mut polls = 0;
            while !ends(program, polls, seed, how) {
                polls += STEP;
                assert!(polls < 1000, "{name} does not end");
            }
            assert!(polls >= at_least, "{name} is over after {polls} polls");
        }
    }
}

#[test]
fn a_run_that_is_dropped_at_any_poll_drops_everything_before_what_it_borrows() {
    at_every_poll(guest_ends, End::Drop, 3);
}

#[test]
fn a_run_that_is_forgotten_at_any_poll_touches_nothing_ever_again() {
    at_every_poll(guest_ends, End::Forget, 3);
}

#[test]
fn a_nursery_that_is_dropped_at_any_poll_drops_everything_before_what_it_borrows() {
    at_every_poll(task_ends, End::Drop, 5);
}

#[test]
fn a_nursery_that_is_forgotten_at_any_poll_touches_nothing_ever_again() {
    at_every_poll(task_ends, End::Forget, 5);
}

#[test]
fn a_scope_that_is_dropped_or_forgotten_at_any_poll_is_out_of_the_way() {
    fn scoped(world: &World) -> Pin<Box<dyn Future<Output = Result> + '_>> {
        Box::pin(async move {
            let scope = CancelScope::new().with_name("dropped").with_timeout(Duration::MAX);
            scope.enter(nested_nurseries(world, 1)).await?;
            world.pause().await
        })
    }
    for how in [End::Drop, End::Forget] {
        for ends in [guest_ends, task_ends] {
            let mut polls = 0;
            while !ends(scoped, polls, 0, how) {
                polls += 1;
            }
            assert!(polls > 2);
        }
    }
}

/// What a foreign `select!` does.
#[test]
fn a_select_that_drops_a_nursery_drops_everything_in_it() {
    for (name, program) in PROGRAMS {
        for rounds in 0..10 {
            let world = World::default();
            builder(rounds)
                .run(async {
                    let timer = Box::pin(async {
                        for _ in 0..rounds {
                            checkpoint().await?;
                            world.end_round();
                        }
                        Ok::<_, Cancelled>(())
                    });
                    match select(program(&world), timer).await {
                        Either::Left((result, _)) | Either::Right((result, _)) => result?,
                    }
                    assert_eq!(world.alive.get(), 0, "{name}");
                    Ok::<_, Cancelled>(())
                })
                .unwrap();
        }
    }
}

// Order.

#[test]
fn children_are_dropped_oldest_first_then_the_body_then_what_they_borrow() -> Result {
    for polls in 1..4 {
        run(async {
            let world = World::default();
            let outside = world.life("outside");
            let borrowed = &outside;
            let mut nursery = Box::pin(open(async |n| {
                let _body = world.life("body");
                for i in 0..3 {
                    let life = world.life(format!("child {i}"));
                    n.start_soon(async move {
                        assert_eq!(borrowed.name, "outside");
                        let _life = life;
                        sleep_forever().await
                    });
                }
                sleep_forever().await
            }));
            for _ in 0..polls {
                assert!(poll_immediate(&mut nursery).await.is_none());
            }
            drop(nursery);
            drop(outside);
            let log = world.log.borrow();
            assert_eq!(*log, ["child 0", "child 1", "child 2", "body", "outside"], "{polls}");
            Ok::<_, Cancelled>(())
        })?;
    }
    Ok(())
}

#[test]
fn a_nursery_that_was_never_polled_holds_nothing() -> Result {
    run(async {
        let before = statistics();
        drop(open(async |_| sleep_forever().await));
        drop(CancelScope::new().enter(async { sleep_forever().await }));
        assert_eq!(statistics(), before);
        Ok(())
    })
}

#[test]
fn a_dropped_nursery_has_closed_its_handle_and_its_scope() -> Result {
    run(async {
        let kept = RefCell::new(None::<NurseryHandle<Cancelled>>);
        let mut nursery = Box::pin(open(async |n| {
            kept.replace(Some(n.handle()));
            n.cancel_scope().set_shield(true);
            sleep_forever().await
        }));
        assert!(poll_immediate(&mut nursery).await.is_none());
        let handle = kept.take().unwrap();
        assert!(!handle.is_closed());
        drop(nursery);
        assert!(handle.is_closed());
        assert!(handle.start_soon(async { Ok(()) }).is_err());
        assert!(!handle.cancel_scope().cancel_called());
        assert!(handle.cancel_scope().shield());
        handle.cancel_scope().cancel();
        assert!(handle.cancel_scope().cancel_called());
        Ok(())
    })
}

#[test]
fn destructors_of_a_dropped_nursery_start_children_in_those_that_are_still_open() -> Result {
    run(async {
        let ran = Cell::new(false);
        open(async |outer| {
            let mut inner = Box::pin(open(async |inner| {
                struct StartsInDrop<F: FnMut()>(F);
                impl<F: FnMut()> Drop for StartsInDrop<F> {
                    fn drop(&mut self) {
                        (self.0)();
                    }
                }
                let _guard = StartsInDrop(|| {
                    outer.start_soon(async {
                        ran.set(true);
                        Ok(())
                    });
                    let gone = inner.start_soon(async { Ok(()) });
                    assert!(gone.is_finished());
                    assert_eq!(gone.id(), None);
                });
                sleep_forever().await
            }));
            assert!(poll_immediate(&mut inner).await.is_none());
            drop(inner);
            Ok(())
        })
        .await?;
        assert!(ran.get());
        Ok(())
    })
}

// Panics in destructors.

struct Bomb<'a> {
    _life: Life<'a>,
    text: &'static str,
}

impl Drop for Bomb<'_> {
    fn drop(&mut self) {
        std::panic::panic_any(self.text);
    }
}

async fn bombs(world: &World) -> Result {
    open(async |n| {
        let _body = world.life("body");
        for text in ["first", "second"] {
            n.start_soon(async move {
                let _life = world.life("beside a bomb");
                let _bomb = Bomb { _life: world.life("bomb"), text };
                std::future::pending::<Result>().await
            });
            n.start_soon(async {
                let _life = world.life("harmless");
                sleep_forever().await
            });
        }
        n.start(async |_: TaskStatus<()>| {
            let _bomb = Bomb { _life: world.life("bomb"), text: "third" };
            std::future::pending().await
        })
        .await
    })
    .await
}

#[test]
fn a_panic_in_a_destructor_does_not_keep_the_others_from_being_dropped() -> Result {
    for polls in 0..4 {
        run(async {
            let world = World::default();
            let mut nursery = Box::pin(bombs(&world));
            for _ in 0..polls {
                assert!(poll_immediate(&mut nursery).await.is_none());
            }
            let armed = world.alive.get() > 3;
            let result = catch_unwind(AssertUnwindSafe(|| drop(nursery)));
            assert_eq!(world.alive.get(), 0);
            match result {
                Err(panic) => assert_eq!(text(&*panic), "first"),
                Ok(()) => assert!(!armed, "{polls}"),
            }
            assert_eq!(statistics().tasks_living, 1);
            checkpoint().await
        })?;
    }
    Ok(())
}

#[test]
fn a_panic_in_a_destructor_of_a_dropped_run_leaves_its_drop() {
    let world = World::default();
    let mut guest = Box::pin(builder(0).guest(bombs(&world)));
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..3 {
        assert!(guest.as_mut().poll(&mut cx).is_pending());
    }
    let panic = catch_unwind(AssertUnwindSafe(|| drop(guest))).unwrap_err();
    assert_eq!(text(&*panic), "first");
    assert_eq!(world.alive.get(), 0);
    assert!(!nursery::lowlevel::in_run());
}

#[test]
fn dropped_while_the_thread_unwinds_it_does_not_panic_again() -> Result {
    run(async {
        let world = World::default();
        let mut nursery = Box::pin(bombs(&world));
        for _ in 0..3 {
            assert!(poll_immediate(&mut nursery).await.is_none());
        }
        let panic = catch_unwind(AssertUnwindSafe(|| {
            let _nursery = nursery;
            std::panic::panic_any("the first panic");
        }))
        .unwrap_err();
        assert_eq!(text(&*panic), "the first panic");
        assert_eq!(world.alive.get(), 0);
        Ok(())
    })
}

// Forgotten.

#[test]
#[expect(clippy::mem_forget, reason = "what is tested")]
fn a_run_ends_although_a_nursery_in_it_was_forgotten() -> Result {
    let world = World::default();
    run(async {
        open(async |n| {
            n.start_soon(async {
                let mut nursery = Box::pin(nested_nurseries(&world, 2));
                assert!(poll_immediate(&mut nursery).await.is_none());
                assert!(poll_immediate(&mut nursery).await.is_none());
                std::mem::forget(nursery);
                Ok(())
            });
            Ok(())
        })
        .await?;
        all_blocked().await
    })?;
    assert!(world.alive.get() > 0);
    wake_everywhere(world.kept.take());
    Ok(())
}

#[test]
#[expect(clippy::mem_forget, reason = "what is tested")]
fn cancelling_around_a_forgotten_nursery_wakes_none_of_its_children() -> Result {
    run(async {
        let world = World::default();
        let scope = CancelScope::new();
        scope
            .enter(async {
                let mut nursery = Box::pin(open(async |n| {
                    n.start_soon(async {
                        let _life = world.life("child");
                        let result = sleep_forever().await;
                        world.touch();
                        result
                    });
                    sleep_forever().await
                }));
                for _ in 0..3 {
                    assert!(poll_immediate(&mut nursery).await.is_none());
                }
                std::mem::forget(nursery);
                let touched = world.touched.get();
                scope.cancel();
                shield(async { all_blocked().await }).await?;
                assert_eq!(world.touched.get(), touched);
                Ok::<_, Cancelled>(())
            })
            .await?;
        Ok(())
    })
}

#[test]
#[expect(clippy::mem_forget, reason = "what is tested")]
fn the_handle_of_a_forgotten_nursery_takes_children_that_never_run() -> Result {
    let kept = RefCell::new(None::<NurseryHandle<Cancelled>>);
    let ran = Rc::new(Cell::new(false));
    let child = || {
        let ran = ran.clone();
        async move {
            ran.set(true);
            Ok(())
        }
    };
    run(async {
        let mut nursery = Box::pin(open(async |n| {
            kept.replace(Some(n.handle()));
            sleep_forever().await
        }));
        assert!(poll_immediate(&mut nursery).await.is_none());
        std::mem::forget(nursery);
        let handle = kept.borrow().clone().unwrap();
        drop(handle.start_soon(child()));
        handle.cancel_scope().cancel();
        all_blocked().await
    })?;
    drop(kept.take().unwrap().start_soon(child()));
    assert!(!ran.get());
    Ok(())
}

// Other threads.

/// Counts how often it was woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn waking_from_another_thread_wakes_the_host_once_and_the_child_runs_at_home() {
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let mut cx = Context::from_waker(&waker);
    let world = World::default();
    let home = thread::current().id();
    let steps = Cell::new(0);
    let mut guest = Box::pin(builder(0).guest(async {
        open(async |n| {
            n.start_soon(async {
                world.pause().await?;
                assert_eq!(thread::current().id(), home);
                steps.set(steps.get() + 1);
                Ok(())
            });
            Ok(())
        })
        .await
    }));
    while guest.as_mut().poll(&mut cx).is_pending() && world.wakers.borrow().is_empty() {}
    let woken = count.0.load(Ordering::Relaxed);
    world.round.set(1);
    let wakers = world.wakers.take();
    thread::spawn(move || {
        for waker in wakers {
            waker.wake_by_ref();
            waker.wake_by_ref();
            waker.wake();
        }
    })
    .join()
    .unwrap();
    assert_eq!(count.0.load(Ordering::Relaxed), woken + 1);
    assert_eq!(steps.get(), 0);
    let mut polls = 0;
    while guest.as_mut().poll(&mut cx).is_pending() {
        polls += 1;
        assert!(polls < 20);
    }
    assert_eq!(steps.get(), 1);
}

/// Threads wake a guest's tasks while it is polled, dropped, forgotten.
fn race(how: Option<End>) {
    let times = if cfg!(miri) { 4 } else { 400 };
    for i in 0..times {
        let world = Box::new(World::default());
        let mut guest = Box::pin(builder(i).guest(nested_nurseries(&world, 2)));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(guest.as_mut().poll(&mut cx).is_pending());
        assert!(guest.as_mut().poll(&mut cx).is_pending());
        let wakers = world.kept.borrow().clone();
        assert!(!wakers.is_empty());
        let barrier = Arc::new(Barrier::new(3));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (barrier, wakers) = (barrier.clone(), wakers.clone());
                thread::spawn(move || {
                    barrier.wait();
                    for waker in wakers {
                        waker.wake_by_ref();
                        waker.wake();
                    }
                })
            })
            .collect();
        barrier.wait();
        match how {
            Some(how) => end(guest, how),
            None => {
                world.end_round();
                while guest.as_mut().poll(&mut cx).is_pending() {
                    world.end_round();
                }
                drop(guest);
            }
        }
        if how != Some(End::Forget) {
            assert_eq!(world.alive.get(), 0);
        }
        drop(world);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        wake_everywhere(wakers);
    }
}

#[test]
fn waking_from_other_threads_races_with_the_drop_of_a_run() {
    race(Some(End::Drop));
}

#[test]
fn waking_from_other_threads_races_with_forgetting_a_run() {
    race(Some(End::Forget));
}

#[test]
fn waking_from_other_threads_races_with_the_end_of_a_run() {
    race(None);
}

#[test]
fn waking_from_another_thread_races_with_the_drop_of_a_nursery() {
    let times = if cfg!(miri) { 4 } else { 400 };
    builder(0)
        .run(async {
            for _ in 0..times {
                let world = Box::new(World::default());
                let mut nursery = nested_nurseries(&world, 1);
                for _ in 0..3 {
                    assert!(poll_immediate(&mut nursery).await.is_none());
                }
                let wakers = world.kept.borrow().clone();
                let barrier = Arc::new(Barrier::new(2));
                let other = {
                    let barrier = barrier.clone();
                    thread::spawn(move || {
                        barrier.wait();
                        wakers.into_iter().for_each(Waker::wake);
                    })
                };
                barrier.wait();
                drop(nursery);
                assert_eq!(world.alive.get(), 0);
                drop(world);
                checkpoint().await?;
                other.join().unwrap();
                checkpoint().await?;
            }
            Ok::<_, Cancelled>(())
        })
        .unwrap();
}

#[test]
fn wakers_of_an_old_run_do_nothing_to_the_next() {
    let world = World::default();
    for _ in 0..3 {
        let mut guest = Box::pin(builder(0).guest(nested_nurseries(&world, 1)));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(guest.as_mut().poll(&mut cx).is_pending());
        assert!(guest.as_mut().poll(&mut cx).is_pending());
    }
    let touched = world.touched.get();
    builder(0)
        .run(async {
            wake_everywhere(world.kept.borrow().clone());
            checkpoint().await?;
            checkpoint().await
        })
        .unwrap();
    assert_eq!(world.touched.get(), touched);
}
