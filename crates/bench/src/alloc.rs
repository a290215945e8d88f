//! A counting allocator: how much the heap has grown between two moments (`--features alloc`).
#![expect(unsafe_code, reason = "a global allocator that counts is unsafe to implement")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The bytes that are asked for and not given back, as their owners counted them.
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

thread_local! {
    static MARK: Cell<usize> = const { Cell::new(0) };
    static GROWTH: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Growth counts from here.
pub(crate) fn mark() {
    MARK.set(BYTES.load(Ordering::Relaxed));
}

/// Notes the growth since the mark.
pub(crate) fn note_growth() {
    GROWTH.set(Some(BYTES.load(Ordering::Relaxed).saturating_sub(MARK.get())));
}

/// Returns what was noted.
pub(crate) fn take_growth() -> Option<usize> {
    GROWTH.take()
}
