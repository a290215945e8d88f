//! [`Pool`]: the memory of tasks that have gone, for those to come.
//!
//! Tasks come and go in numbers, mostly small ones. An allocator has to find a place for each, and to join what is freed
//! with its neighbours, which are in no cache any more. The last block that was put here is taken first.
//!
//! It does not outgrow the tasks for long. When many have gone, perhaps all at once, their blocks are freed when the run
//! has nothing else to do; a few at a time if it always has.
//!
//! Where there are many tasks of a size, blocks are cut from chunks: the allocator is asked less often. A chunk is freed
//! with the last of its blocks, so that a task may keep the memory of [`AT_ONCE`].
//!
//! With `--cfg nursery_no_pool` nothing is kept, and nothing cut, so that the tools that look for uses of freed memory see
//! them.

use std::cell::{Cell, RefCell};

use crate::nursery::erase::memory::{self, Block};
use crate::run::inbox::Door;

/// Blocks have from one to so many parts.
pub(crate) const LARGEST: usize = 32;

/// So many spare blocks of a size are kept, besides as many as are in use. Up to twice as many are let be: to look for them
/// costs more than one of them.
const FEW: usize = 1024;

/// So many blocks are cut from a chunk, or, if there are fewer tasks of the size, as many as these.
const AT_ONCE: usize = 16;

pub(crate) struct Pool {
    home: Door,
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
    /// A pool for the tasks of a run.
    pub(crate) fn new(home: Door) -> Self {
        Pool { home, sizes: Default::default(), has_surplus: Cell::new(false) }
    }

    /// Takes a block of `parts`.
    #[inline]
    pub(crate) fn take(&self, parts: usize) -> Block {
        let size = &self.sizes[parts - 1];
        let used = size.used.get();
        size.used.set(used + 1);
        let mut spare = size.spare.borrow_mut();
        spare.pop().unwrap_or_else(|| self.allocate(parts, used, &mut spare))
    }

    /// Gets a block, and some to spare.
    #[cold]
    fn allocate(&self, parts: usize, used: usize, spare: &mut Vec<Block>) -> Block {
        let blocks = if cfg!(nursery_no_pool) { 1 } else { used.clamp(1, AT_ONCE) };
        memory::allocate(self.home, blocks, parts, spare);
        spare.pop().expect("one at least")
    }

    /// Gets a block of any size, which is not to be put back.
    #[cold]
    pub(crate) fn take_apart(&self, parts: usize) -> Block {
        let mut blocks = Vec::with_capacity(1);
        memory::allocate(self.home, 1, parts, &mut blocks);
        blocks.pop().expect("one")
    }

    /// Puts a block of `parts` back.
    #[inline(always)] // the size is known to the caller
    pub(crate) fn put(&self, block: Block, parts: usize) {
        if cfg!(nursery_no_pool) {
            return;
        }
        let size = &self.sizes[parts - 1];
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
    use crate::run::inbox::Inbox;

    fn pool() -> Pool {
        let door = Inbox::open();
        door.inbox.close();
        Pool::new(door)
    }

    fn spare(pool: &Pool, parts: usize) -> usize {
        pool.sizes[parts - 1].spare.borrow().len()
    }

    #[test]
    fn what_was_put_back_last_is_taken_first() {
        let pool = pool();
        let (a, b, other) = (pool.take(2), pool.take(2), pool.take(3));
        let (at_a, at_b) = (a.at, b.at);
        pool.put(a, 2);
        pool.put(b, 2);
        pool.put(other, 3);
        let (last, first) = (pool.take(2), pool.take(2));
        assert_eq!((last.at, first.at), (at_b, at_a));
        assert_eq!((spare(&pool, 2), spare(&pool, 3)), (0, 1));
    }

    #[test]
    fn after_a_crowd_has_gone_few_blocks_are_kept() {
        let pool = pool();
        let mut crowd: Vec<Block> = (0..10 * FEW).map(|_| pool.take(1)).collect();
        let left_over = spare(&pool, 1);
        assert!(left_over < AT_ONCE);
        crowd.drain(..3 * FEW).for_each(|block| pool.put(block, 1));
        pool.trim(usize::MAX);
        assert_eq!(spare(&pool, 1), 3 * FEW + left_over, "most may come back");
        crowd.drain(..).for_each(|block| pool.put(block, 1));
        assert_eq!(spare(&pool, 1), 10 * FEW + left_over);
        pool.trim(FEW);
        assert_eq!(spare(&pool, 1), 9 * FEW + left_over, "a few at a time");
        pool.trim(usize::MAX);
        assert_eq!((spare(&pool, 1), pool.has_surplus.get()), (FEW, false));
    }

    #[test]
    fn the_more_tasks_of_a_size_the_more_blocks_are_got_at_once() {
        let pool = pool();
        let mut blocks = Vec::new();
        let mut left_over = || {
            blocks.push(pool.take(5));
            spare(&pool, 5)
        };
        assert_eq!([(); 9].map(|()| left_over()), [0, 0, 1, 0, 3, 2, 1, 0, 7]);
    }

    #[test]
    fn blocks_that_are_got_at_once_lie_side_by_side() {
        let pool = pool();
        let blocks: Vec<Block> = (0..3 * AT_ONCE).map(|_| pool.take(3)).collect();
        let last = &blocks[2 * AT_ONCE + 1..];
        let distance = |pair: &[Block]| pair[1].at.addr().get() - pair[0].at.addr().get();
        assert!(last.windows(2).all(|pair| distance(pair) == 3 * 16));
    }
}
