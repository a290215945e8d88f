//! [`Pool`]: the memory of tasks that have gone, for those to come.
//!
//! Tasks come and go in numbers, mostly small ones. An allocator has to find a place for each, and to join what is freed
//! with its neighbours, which are in no cache any more. The last block that was put here is taken first.
//!
//! It does not outgrow the tasks for long. When many have gone, perhaps all at once, their blocks are freed when the run
//! has nothing else to do; a few at a time if it always has.
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

/// So many spare blocks of a size are kept, besides as many as are in use. Up to twice as many are let be: to look for them
/// costs more than one of them.
const FEW: usize = 1024;

#[derive(Default)]
pub(crate) struct Pool {
    /// By number of parts, from one on.
    sizes: [OneSize; LARGEST],
    /// There are many more spare blocks than are to be kept, of some size.
    has_surplus: Cell<bool>,
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
        spare.push(block);
        if spare.len() > size.used.get() + 2 * FEW {
            self.has_surplus.set(true);
        }
    }

    /// Frees what is too much, but at most so many blocks of a size.
    #[inline]
    pub(crate) fn trim(&self, most: usize) {
        if self.has_surplus.get() {
            self.trim_now(most);
        }
    }

    #[cold]
    fn trim_now(&self, most: usize) {
        self.has_surplus.set(false);
        for size in &self.sizes {
            let mut spare = size.spare.borrow_mut();
            let surplus = spare.len().saturating_sub(size.used.get() + FEW);
            let kept = spare.len() - surplus.min(most);
            spare.truncate(kept);
            if surplus > most {
                self.has_surplus.set(true);
            } else if surplus > 0 {
                spare.shrink_to(2 * FEW);
            }
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
        crowd.drain(..3 * FEW).for_each(|block| pool.put(block));
        pool.trim(usize::MAX);
        assert_eq!(spare(&pool, 1), 3 * FEW, "most may come back");
        crowd.drain(..).for_each(|block| pool.put(block));
        assert_eq!(spare(&pool, 1), 10 * FEW);
        pool.trim(FEW);
        assert_eq!(spare(&pool, 1), 9 * FEW, "a few at a time");
        pool.trim(usize::MAX);
        assert_eq!((spare(&pool, 1), pool.has_surplus.get()), (FEW, false));
    }
}
