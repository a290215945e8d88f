//! [`Pool`]: the memory of tasks that have gone, for those to come.
//!
//! Tasks come and go in numbers, mostly small ones. An allocator has to find a place for each, and to join what is freed
//! with its neighbours, which are in no cache any more. The last block that was put here is taken first.
//!
//! It does not outgrow the tasks for long: with each block that is put back while there are more spare ones than ones in
//! use, two are freed.
//!
//! With `--cfg nursery_no_pool` nothing is kept, so that the tools that look for uses of freed memory see them.

use std::cell::{Cell, RefCell};
use std::mem::MaybeUninit;

/// A part of a block.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(crate) struct Part([u8; 16]);

pub(crate) type Block = Box<[MaybeUninit<Part>]>;

/// Blocks have from one to so many parts.
pub(crate) const LARGEST: usize = 32;

/// So many spare blocks of a size are always kept.
const FEW: usize = 1024;

#[derive(Default)]
pub(crate) struct Pool {
    /// By number of parts, from one on.
    sizes: [OneSize; LARGEST],
}

#[derive(Default)]
struct OneSize {
    spare: RefCell<Vec<Block>>,
    /// How many have been taken and not been put back.
    used: Cell<usize>,
}

impl Pool {
    /// Takes a block of `parts`.
    #[inline]
    pub(crate) fn take(&self, parts: usize) -> Block {
        let size = &self.sizes[parts - 1];
        size.used.set(size.used.get() + 1);
        let spare = size.spare.borrow_mut().pop();
        spare.unwrap_or_else(|| Box::new_uninit_slice(parts))
    }

    /// Puts a block back. It may come from elsewhere.
    #[inline]
    pub(crate) fn put(&self, block: Block) {
        if cfg!(nursery_no_pool) {
            return;
        }
        let size = &self.sizes[block.len() - 1];
        size.used.set(size.used.get().saturating_sub(1));
        let mut spare = size.spare.borrow_mut();
        if spare.len() < size.used.get() + FEW {
            spare.push(block);
        } else {
            spare.pop();
        }
    }
}

#[cfg(all(test, not(nursery_no_pool)))]
mod tests {
    use super::*;

    fn spare(pool: &Pool, parts: usize) -> usize {
        pool.sizes[parts - 1].spare.borrow().len()
    }

    #[test]
    fn what_was_put_back_last_is_taken_first() {
        let pool = Pool::default();
        let (a, b, other) = (pool.take(2), pool.take(2), pool.take(3));
        let (at_a, at_b) = (a.as_ptr(), b.as_ptr());
        pool.put(a);
        pool.put(b);
        pool.put(other);
        let (last, first) = (pool.take(2), pool.take(2));
        assert_eq!((last.as_ptr(), first.as_ptr()), (at_b, at_a));
        assert_eq!((pool.take(2).len(), spare(&pool, 2), spare(&pool, 3)), (2, 0, 1));
    }

    #[test]
    fn after_a_crowd_has_gone_few_blocks_are_kept() {
        let pool = Pool::default();
        let mut crowd: Vec<Block> = (0..10 * FEW).map(|_| pool.take(1)).collect();
        while let Some(block) = crowd.pop() {
            pool.put(block);
            assert!(spare(&pool, 1) <= crowd.len() + FEW, "{} of {}", spare(&pool, 1), crowd.len());
        }
        assert_eq!(spare(&pool, 1), FEW);
    }
}
