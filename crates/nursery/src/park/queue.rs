//! [`Queue`]: who is parked in a lot, in order of arrival.
//!
//! Who leaves before its turn is found by its ticket, and leaves a gap. Mostly at most one is there: it costs no
//! allocation.

use std::collections::VecDeque;

use crate::wait::Waiter;

#[derive(Default)]
pub(super) struct Queue {
    /// Absent only if nobody is there.
    first: Option<(u64, Waiter)>,
    /// By ticket. The last one is no gap.
    rest: VecDeque<(u64, Option<Waiter>)>,
    gaps: usize,
}

/// So many gaps are always let be.
const FEW: usize = 16;

impl Queue {
    /// Adds a waiter, with a ticket higher than those that are there.
    #[inline]
    pub(super) fn push(&mut self, ticket: u64, waiter: Waiter) {
        if self.first.is_none() {
            self.first = Some((ticket, waiter));
        } else {
            self.rest.push_back((ticket, Some(waiter)));
        }
    }

    #[inline]
    pub(super) fn first(&self) -> Option<&(u64, Waiter)> {
        self.first.as_ref()
    }

    #[inline]
    pub(super) fn take_first(&mut self) -> Option<(u64, Waiter)> {
        let first = self.first.take();
        if !self.rest.is_empty() {
            self.first = self.take_next();
        }
        first
    }

    /// Takes a waiter out. Returns whether it was there.
    #[inline]
    pub(super) fn remove(&mut self, ticket: u64) -> bool {
        match &self.first {
            Some((first, _)) if *first == ticket => self.take_first().is_some(),
            _ => self.remove_from_rest(ticket),
        }
    }

    fn take_next(&mut self) -> Option<(u64, Waiter)> {
        while let Some((ticket, waiter)) = self.rest.pop_front() {
            match waiter {
                Some(waiter) => return Some((ticket, waiter)),
                None => self.gaps -= 1,
            }
        }
        None
    }

    #[cold]
    fn remove_from_rest(&mut self, ticket: u64) -> bool {
        let Some(waiter) = self.find(ticket) else { return false };
        if waiter.take().is_none() {
            return false;
        }
        self.gaps += 1;
        while self.rest.pop_back_if(|(_, waiter)| waiter.is_none()).is_some() {
            self.gaps -= 1;
        }
        if self.gaps > FEW.max(self.rest.len() / 2) {
            self.rest.retain(|(_, waiter)| waiter.is_some());
            self.gaps = 0;
        }
        true
    }

    fn find(&mut self, ticket: u64) -> Option<&mut Option<Waiter>> {
        let at = self.rest.binary_search_by_key(&ticket, |&(ticket, _)| ticket).ok()?;
        Some(&mut self.rest[at].1)
    }

    /// Gives a place in the queue to another.
    pub(super) fn replace(&mut self, ticket: u64, waiter: Waiter) {
        match &mut self.first {
            Some((first, other)) if *first == ticket => *other = waiter,
            _ => {
                if let Some(other) = self.find(ticket) {
                    *other = Some(waiter);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;

    use super::*;
    use crate::wait::apart::WaitId;

    fn id(waiter: &Waiter) -> WaitId {
        match waiter {
            Waiter::Apart(id) => *id,
            Waiter::Own(..) => unreachable!("not in these tests"),
        }
    }

    /// Against a naive twin: a vector of tickets.
    #[test]
    fn waiters_come_out_in_order_whoever_leaves() {
        for seed in 0..100 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut ids = SlotMap::<WaitId, ()>::with_key();
            let (mut queue, mut twin) = (Queue::default(), Vec::new());
            let growing = random.u8(1..10);
            for ticket in 0..1000 {
                if random.u8(..10) < growing && ticket < 500 {
                    let waiter = ids.insert(());
                    queue.push(ticket, Waiter::Apart(waiter));
                    twin.push((ticket, waiter));
                } else if !twin.is_empty() {
                    let at = if random.bool() { 0 } else { random.usize(..twin.len()) };
                    let (leaving, _) = twin.remove(at);
                    assert!(queue.remove(leaving));
                    assert!(!queue.remove(leaving), "it has left");
                }
                if let Some((ticket, waiter)) = twin.last_mut() {
                    *waiter = ids.insert(());
                    queue.replace(*ticket, Waiter::Apart(*waiter));
                }
                let first = queue.first().map(|(ticket, waiter)| (*ticket, id(waiter)));
                assert_eq!(first, twin.first().copied(), "seed {seed}");
                let rest: Vec<_> = queue.rest.iter().filter_map(|(_, w)| w.as_ref()).collect();
                assert!(rest.into_iter().map(id).eq(twin.iter().skip(1).map(|(_, id)| *id)));
                assert!(queue.rest.len() <= 2 * twin.len() + FEW, "mostly gaps");
            }
        }
    }
}
