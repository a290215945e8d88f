//! The queue of the timers of a run: by instant, then by sequence number.
//!
//! ```text
//!                      push ─▶ ┌──────┐
//!   ┌─────────────────────┐    │ heap │  what came since
//!   │ run, the next last  │    └──┬───┘
//!   └──────────────┬──────┘       │
//!                  └── peek, pop ─┴▶ the earlier of the two
//! ```
//!
//! # Why
//!
//! A heap of 100,000 entries is larger than a core's cache, and each pop walks it from the root to a leaf, to a
//! different one each time. A sorted vector is taken from at its end. So the heap keeps only what has come lately:
//! when it has grown past a part of the run, its entries are sorted and merged into the run: for an entry that is a few
//! comparisons and a few moves, in memory that is read in order.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::deadlines::Tick;

/// A heap of up to this many entries is fast …
const HEAP: usize = 64;

/// … and one of less than this part of the run costs less than to merge it into that.
const PART: usize = 4;

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<T> {
    pub(super) at: Tick,
    pub(super) seq: u32,
    pub(super) target: T,
}

impl<T> Entry<T> {
    /// Both in one number: compared without a branch.
    fn key(&self) -> u128 {
        u128::from(self.at) << 32 | u128::from(self.seq)
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Entry<T> {}

pub(super) struct Queue<T> {
    /// Sorted, the next one last.
    run: Vec<Entry<T>>,
    heap: BinaryHeap<Reverse<Entry<T>>>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue { run: Vec::new(), heap: BinaryHeap::new() }
    }
}

impl<T> Queue<T> {
    pub(super) fn push(&mut self, entry: Entry<T>) {
        self.heap.push(Reverse(entry));
    }

    pub(super) fn peek(&self) -> Option<&Entry<T>> {
        if self.is_heap_next() {
            self.heap.peek().map(|Reverse(entry)| entry)
        } else {
            self.run.last()
        }
    }

    pub(super) fn pop(&mut self) -> Option<Entry<T>> {
        self.settle();
        if self.is_heap_next() {
            self.heap.pop().map(|Reverse(entry)| entry)
        } else {
            self.run.pop()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.run.len() + self.heap.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.run.is_empty() && self.heap.is_empty()
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Entry<T>) -> bool) {
        self.run.retain(&keep);
        self.heap.retain(|Reverse(entry)| keep(entry));
    }

    fn is_heap_next(&self) -> bool {
        match (self.heap.peek(), self.run.last()) {
            (Some(Reverse(late)), Some(next)) => late < next,
            (late, _) => late.is_some(),
        }
    }

    /// Makes one run of both, if the heap has grown too large.
    fn settle(&mut self) {
        if self.heap.len() > HEAP.max(self.run.len() / PART) {
            let sorted = self.run.len();
            let late = std::mem::take(&mut self.heap).into_vec();
            self.run.extend(late.into_iter().map(|Reverse(entry)| entry));
            self.run[sorted..].sort_unstable_by(|a, b| b.cmp(a));
            self.run.sort_by(|a, b| b.cmp(a)); // finds two sorted parts, and only merges them
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at: Tick, seq: u32) -> Entry<()> {
        Entry { at, seq, target: () }
    }

    /// Against a naive twin: a vector that is searched for its smallest.
    #[test]
    fn entries_come_out_by_instant_and_then_by_number() {
        for seed in 0..50 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut queue = Queue::default();
            let mut twin: Vec<Entry<()>> = Vec::new();
            // The instants are few, so that there are ties, or many; pushes come in bursts.
            let instants = if seed % 2 == 0 { 50 } else { Tick::MAX };
            let burst = random.usize(1..2000);
            for seq in 0..4000 {
                if (seq / burst).is_multiple_of(2) || random.bool() {
                    let new = entry(random.u64(..instants), u32::try_from(seq).unwrap());
                    queue.push(new);
                    twin.push(new);
                } else if random.u8(..100) == 0 {
                    let odd = random.u32(2..10);
                    queue.retain(|entry| entry.seq % odd != 0);
                    twin.retain(|entry| entry.seq % odd != 0);
                } else {
                    let least = twin.iter().min().copied();
                    assert_eq!(queue.peek(), least.as_ref(), "seed {seed}");
                    assert_eq!(queue.pop(), least, "seed {seed}");
                    twin.retain(|&entry| Some(entry) != least);
                }
                assert_eq!(queue.len(), twin.len());
            }
            twin.sort();
            for least in twin {
                assert_eq!(queue.pop(), Some(least), "seed {seed}");
            }
            assert!(queue.is_empty());
        }
    }

    /// 100,000 timers that are set at once are sorted once; one that comes now and then stays in the heap.
    #[test]
    fn what_comes_now_and_then_is_not_sorted_in() {
        let mut queue = Queue::default();
        (0..10_000).rev().for_each(|i| queue.push(entry(1_000 + u64::from(i), i)));
        assert_eq!(queue.pop(), Some(entry(1_000, 0)));
        assert_eq!((queue.run.len(), queue.heap.len()), (9_999, 0));
        for i in 0..1_000 {
            queue.push(entry(u64::from(i), i));
            assert_eq!(queue.pop(), Some(entry(u64::from(i), i)));
            queue.push(entry(20_000, i));
        }
        assert_eq!((queue.run.len(), queue.heap.len()), (9_999, 1_000));
    }
}
