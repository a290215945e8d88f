//! The workloads on nursery.

use std::cell::Cell;
use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::time::{Duration, Instant};

use nursery::{
    Builder, Cancelled, Clock, Idle, OnIdle, move_on_after, now, open_nursery, run, sleep,
    sleep_forever,
};

use crate::per_op;

fn block_on(main: impl Future<Output = Result<f64, Cancelled>>) -> f64 {
    run(main).expect("nobody cancels a benchmark")
}

pub(crate) fn spawn_join() -> f64 {
    const ROUNDS: usize = 50;
    block_on(async {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            open_nursery(async |n| {
                for i in 0..1000 {
                    n.start_soon(async move {
                        black_box(i);
                        Ok(())
                    });
                }
                Ok::<(), Cancelled>(())
            })
            .await?;
        }
        Ok(per_op(start.elapsed(), ROUNDS * 1000))
    })
}

pub(crate) fn small() -> f64 {
    const ROUNDS: usize = 20_000;
    block_on(async {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            open_nursery(async |n| {
                n.start_soon(async { Ok(()) });
                n.start_soon(async { Ok(()) });
                Ok::<(), Cancelled>(())
            })
            .await?;
        }
        Ok(per_op(start.elapsed(), ROUNDS))
    })
}

/// A plain yield, without the look at the budget.
async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if yielded {
            return std::task::Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

pub(crate) fn yields() -> f64 {
    const YIELDS: usize = 1000;
    block_on(async {
        let start = Instant::now();
        open_nursery(async |n| {
            for _ in 0..100 {
                n.start_soon(async {
                    for _ in 0..YIELDS {
                        yield_now().await;
                    }
                    Ok(())
                });
            }
            Ok::<(), Cancelled>(())
        })
        .await?;
        Ok(per_op(start.elapsed(), 100 * YIELDS))
    })
}

/// 100 nurseries of 100 tasks each: set up, then cancelled.
pub(crate) fn cancel_tree() -> (f64, f64) {
    let setup = Cell::new(0.0);
    let cancel = block_on(async {
        let start = Instant::now();
        let cancelled_at = Cell::new(start);
        open_nursery(async |outer| {
            for _ in 0..100 {
                outer.start_soon(async {
                    open_nursery(async |inner| {
                        for _ in 0..100 {
                            inner.start_soon(async { sleep_forever().await });
                        }
                        Ok::<(), Cancelled>(())
                    })
                    .await
                });
            }
            while nursery::lowlevel::statistics().waits < 10_000 {
                yield_now().await;
            }
            setup.set(per_op(start.elapsed(), 10_000));
            cancelled_at.set(Instant::now());
            outer.cancel_scope().cancel();
            Ok::<(), Cancelled>(())
        })
        .await?;
        Ok(per_op(cancelled_at.get().elapsed(), 10_000))
    });
    (setup.get(), cancel)
}

pub(crate) fn timeout_yield() -> f64 {
    const ROUNDS: usize = 50_000;
    block_on(async {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            move_on_after(Duration::from_secs(10), async {
                yield_now().await;
                Ok::<(), Cancelled>(())
            })
            .await?;
        }
        Ok(per_op(start.elapsed(), ROUNDS))
    })
}

pub(crate) fn timeout_ready() -> f64 {
    const ROUNDS: usize = 200_000;
    block_on(async {
        let start = Instant::now();
        for i in 0..ROUNDS {
            let value = move_on_after(Duration::from_secs(10), async { Ok::<_, Cancelled>(i) });
            black_box(value.await?);
        }
        Ok(per_op(start.elapsed(), ROUNDS))
    })
}

pub(crate) fn checkpoint_fast() -> impl Future<Output = Result<f64, Cancelled>> {
    const ROUNDS: usize = 1_000_000;
    async {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            nursery::checkpoint().await?;
        }
        Ok(per_op(start.elapsed(), ROUNDS))
    }
}

/// With a budget that never runs out, so that nothing but the fast path is measured.
pub(crate) fn checkpoint() -> f64 {
    Builder::new().checkpoint_budget(u32::MAX).run(checkpoint_fast()).expect("not cancelled")
}

fn nested<'a>(
    depth: usize,
    yields: usize,
) -> Pin<Box<dyn Future<Output = Result<(), Cancelled>> + 'a>> {
    Box::pin(async move {
        if depth == 0 {
            for _ in 0..yields {
                yield_now().await;
            }
            return Ok(());
        }
        open_nursery(async |n| {
            n.start_soon(nested(depth - 1, yields));
            Ok::<(), Cancelled>(())
        })
        .await
    })
}

pub(crate) fn depth(depth: usize) -> f64 {
    const YIELDS: usize = 10_000;
    block_on(async {
        let start = Instant::now();
        nested(depth, YIELDS).await?;
        Ok(per_op(start.elapsed(), YIELDS))
    })
}

struct Jump(Cell<Instant>);

impl Clock for Jump {
    fn now(&self) -> Instant {
        self.0.get()
    }

    fn on_idle(&self, idle: &Idle) -> OnIdle {
        match idle.next_deadline() {
            Some(next) => {
                self.0.set(next);
                OnIdle::Again
            }
            None => OnIdle::Wait(None),
        }
    }
}

pub(crate) fn virtual_sleeps() -> f64 {
    const SLEEPS: u64 = 20_000;
    let builder = Builder::new().clock(Jump(Cell::new(Instant::now())));
    let measured = builder.run(async {
        let start = Instant::now();
        let begin = now();
        open_nursery(async |n| {
            let mut rng = fastrand::Rng::with_seed(1);
            for _ in 0..SLEEPS {
                let nap = Duration::from_micros(rng.u64(1..10_000_000));
                n.start_soon(async move { sleep(nap).await });
            }
            Ok::<(), Cancelled>(())
        })
        .await?;
        black_box(begin);
        Ok::<_, Cancelled>(per_op(start.elapsed(), usize::try_from(SLEEPS).unwrap_or(1)))
    });
    measured.expect("not cancelled")
}

const MESSAGES: usize = 200_000;

pub(crate) fn channel() -> f64 {
    block_on(async {
        let (sender, receiver) = nursery_io::channel::open(64);
        let start = Instant::now();
        open_nursery(async |n| {
            n.start_soon(async move {
                for i in 0..MESSAGES {
                    sender.send(i).await.map_err(not_cancelled)?;
                }
                Ok(())
            });
            while let Ok(i) = receiver.recv().await {
                black_box(i);
            }
            Ok::<(), Cancelled>(())
        })
        .await?;
        Ok(per_op(start.elapsed(), MESSAGES))
    })
}

/// The cancellation in an error of a channel that stays open.
fn not_cancelled<T>(error: nursery_io::channel::SendError<T>) -> Cancelled {
    match error {
        nursery_io::channel::SendError::Cancelled(cancelled, _) => cancelled,
        _ => unreachable!("the channel stays open"),
    }
}

/// One operation is one message: half a round trip.
pub(crate) fn ping_pong() -> f64 {
    const TRIPS: usize = 50_000;
    block_on(async {
        let (ping, pinged) = nursery_io::channel::open(1);
        let (pong, ponged) = nursery_io::channel::open(1);
        let start = Instant::now();
        open_nursery(async |n| {
            n.start_soon(async move {
                while let Ok(i) = pinged.recv().await {
                    pong.send(i).await.map_err(not_cancelled)?;
                }
                Ok(())
            });
            for i in 0..TRIPS {
                ping.send(i).await.map_err(not_cancelled)?;
                black_box(ponged.recv().await.ok());
            }
            drop(ping);
            Ok::<(), Cancelled>(())
        })
        .await?;
        Ok(per_op(start.elapsed(), 2 * TRIPS))
    })
}

pub(crate) fn mutex() -> f64 {
    const TURNS: usize = 5_000;
    block_on(async {
        let mutex = nursery_io::sync::Mutex::new(0_usize);
        let start = Instant::now();
        open_nursery(async |n| {
            for _ in 0..16 {
                n.start_soon(async {
                    for _ in 0..TURNS {
                        if let Ok(mut guard) = mutex.lock().await {
                            *guard += 1;
                            yield_now().await;
                        }
                    }
                    Ok(())
                });
            }
            Ok::<(), Cancelled>(())
        })
        .await?;
        Ok(per_op(start.elapsed(), 16 * TURNS))
    })
}
