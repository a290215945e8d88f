//! Foreign wakers that panic when they are woken: all others are woken all the same, and the panic is heard of.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use nursery::{CancelScope, Cancelled, checkpoint, open_nursery, sleep_forever};
use nursery_testing::Test;

/// Once it is armed, counts how often it was woken, and panics each time.
#[derive(Default)]
struct Panicking {
    is_armed: AtomicBool,
    woken: AtomicUsize,
}

impl Wake for Panicking {
    fn wake(self: Arc<Self>) {
        if self.is_armed.load(Ordering::Relaxed) {
            self.woken.fetch_add(1, Ordering::Relaxed);
            resume_unwind(Box::new("a waker"));
        }
    }
}

/// Polls once, with another waker.
async fn poll_with<F: Future + Unpin>(waker: &Arc<Panicking>, mut future: F) -> Poll<F::Output> {
    let waker = Waker::from(waker.clone());
    poll_fn(|_| Poll::Ready(Pin::new(&mut future).poll(&mut Context::from_waker(&waker)))).await
}

fn arm(wakers: &[Arc<Panicking>]) {
    wakers.iter().for_each(|waker| waker.is_armed.store(true, Ordering::Relaxed));
}

fn all_woken(wakers: &[Arc<Panicking>]) -> bool {
    wakers.iter().all(|waker| waker.woken.load(Ordering::Relaxed) == 1)
}

#[nursery_testing::test]
async fn a_cancellation_reaches_who_comes_after_one_that_panicked() -> Result<(), Cancelled> {
    let wakers: [Arc<Panicking>; 3] = Default::default();
    let scope = CancelScope::new();
    let left = scope
        .enter(async {
            let mut waits = [sleep_forever(), sleep_forever(), sleep_forever()];
            for (wait, waker) in waits.iter_mut().zip(&wakers) {
                assert!(poll_with(waker, wait).await.is_pending());
            }
            arm(&wakers);
            let panic = catch_unwind(AssertUnwindSafe(|| scope.cancel())).unwrap_err();
            assert_eq!(panic.downcast_ref(), Some(&"a waker"));
            assert!(all_woken(&wakers));
            for wait in waits {
                assert!(wait.await.is_err());
            }
            checkpoint().await
        })
        .await?;
    assert_eq!(left, None);
    Ok(())
}

/// Two nurseries that are polled with such wakers, and a child in each that another thread wakes.
#[test]
fn threads_reach_who_comes_after_one_that_panicked() {
    let wakers: [Arc<Panicking>; 2] = Default::default();
    let seen = wakers.clone();
    let panic = catch_unwind(AssertUnwindSafe(|| {
        Test::new().run(async move {
            let (tx, rx) = channel::<Waker>();
            let nursery = || {
                let tx = tx.clone();
                open_nursery(async move |n| {
                    n.start_soon(async move {
                        poll_fn(|cx| {
                            tx.send(cx.waker().clone()).unwrap();
                            Poll::<()>::Pending
                        })
                        .await;
                        Ok::<(), Cancelled>(())
                    });
                    Ok(())
                })
            };
            let (mut a, mut b) = (pin!(nursery()), pin!(nursery()));
            for _ in 0..2 {
                assert!(poll_with(&wakers[0], &mut a).await.is_pending());
                assert!(poll_with(&wakers[1], &mut b).await.is_pending());
            }
            let children: Vec<Waker> = rx.try_iter().collect();
            assert_eq!(children.len(), 2);
            arm(&wakers);
            thread::spawn(move || children.into_iter().for_each(Waker::wake)).join().unwrap();
            checkpoint().await?;
            sleep_forever().await
        })
    }));
    let panic = panic.unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"a waker"));
    assert!(all_woken(&seen), "{:?}", seen.map(|waker| waker.woken.load(Ordering::Relaxed)));
}
