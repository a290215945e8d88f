//! UNSAFE, as a part of its parent: [`Block`], memory for one task, cut from a [`Chunk`] with others.
//!
//! All blocks of a chunk have a share in it from the beginning, so that nothing atomic is done until one of them goes. Who
//! drops the last share, on whatever thread, frees the chunk.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

use crate::run::inbox::Door;

/// A part of a block.
#[repr(C, align(16))]
pub(crate) struct Part([u8; 16]);

/// Memory that is got from the allocator, and given back, as one.
struct Chunk {
    shares: AtomicUsize,
    /// Of the run whose tasks it is for.
    home: Door,
    memory: Box<[MaybeUninit<UnsafeCell<Part>>]>,
}

/// Memory for one task: some parts of a chunk that nobody else uses, and a share in it.
pub(crate) struct Block {
    pub(crate) at: NonNull<Part>,
    pub(crate) share: Share,
}

/// Keeps a chunk.
pub(crate) struct Share(NonNull<Chunk>);

/// Gets so many blocks of so many parts. The one at the lowest address is last.
pub(crate) fn allocate(home: Door, blocks: usize, parts: usize, to: &mut Vec<Block>) {
    to.reserve(blocks); // from here on nothing panics
    let memory = Box::new_uninit_slice(blocks * parts);
    let chunk = Box::new(Chunk { shares: AtomicUsize::new(blocks), home, memory });
    let chunk = NonNull::from(Box::leak(chunk));
    // SAFETY: it has just been made, and no share has gone.
    let memory = unsafe { &*chunk.as_ref().memory };
    let block = |parts: &[_]| Block { at: NonNull::from(parts).cast(), share: Share(chunk) };
    to.extend(memory.chunks_exact(parts).rev().map(block));
}

impl Share {
    #[inline]
    pub(crate) fn home(&self) -> &Door {
        // SAFETY: a share keeps its chunk.
        unsafe { &self.0.as_ref().home }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // SAFETY: a share keeps its chunk.
        let shares = unsafe { &self.0.as_ref().shares };
        if shares.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire); // what others did with their blocks comes before
            // SAFETY: `allocate` made it of this box, and that was the last share.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }
}
