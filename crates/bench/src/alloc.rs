//! Heap figures: bytes per idle child, from a counting allocator (`--features count`).

/// Prints the figures.
pub(crate) fn print() {
    #[cfg(feature = "count")]
    counting::print();
}

#[cfg(feature = "count")]
#[expect(unsafe_code, reason = "a global allocator that counts is unsafe to implement")]
mod counting {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::future::Future;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use nursery::{Cancelled, lowlevel, open_nursery, sleep_forever};

    struct Counting;

    static BYTES: AtomicUsize = AtomicUsize::new(0);

    // SAFETY: every call is passed on to the system's allocator unchanged.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            BYTES.fetch_add(layout.size(), Ordering::Relaxed);
            // SAFETY: as our caller promises.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
            BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
            // SAFETY: as our caller promises.
            unsafe { System.dealloc(ptr, layout) }
        }
    }

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    const CHILDREN: usize = 10_000;

    pub(super) fn print() {
        let ours = nursery::run(async {
            let before = BYTES.load(Ordering::Relaxed);
            let mut after = before;
            open_nursery(async |n| {
                for _ in 0..CHILDREN {
                    n.start_soon(idle([0_u64; 8], sleep_forever()));
                }
                while lowlevel::statistics().waits < CHILDREN {
                    nursery::checkpoint().await?;
                }
                after = BYTES.load(Ordering::Relaxed);
                n.cancel_scope().cancel();
                Ok::<(), Cancelled>(())
            })
            .await?;
            Ok::<_, Cancelled>((after - before) / CHILDREN)
        });
        println!("bytes per idle child with 64 bytes of state: nursery {}", ours.unwrap_or(0));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let tokio = runtime.block_on(async {
            let before = BYTES.load(Ordering::Relaxed);
            let mut set = tokio::task::JoinSet::new();
            for _ in 0..CHILDREN {
                set.spawn(idle([0_u64; 8], std::future::pending::<Result<(), Cancelled>>()));
            }
            tokio::task::yield_now().await;
            (BYTES.load(Ordering::Relaxed) - before) / CHILDREN
        });
        println!("                                             tokio JoinSet {tokio}");
    }

    /// 64 bytes of state, and a wait.
    async fn idle<F>(state: [u64; 8], wait: F) -> Result<(), Cancelled>
    where
        F: Future<Output = Result<(), Cancelled>>,
    {
        wait.await?;
        std::hint::black_box(&state);
        Ok(())
    }
}
