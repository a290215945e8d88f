//! [`Breakers`]: which parking lots break when a task ends.

use std::collections::BTreeMap;
use std::rc::Rc;

use slotmap::SecondaryMap;

use crate::park::LotCore;
use crate::tree::NodeId;

/// Which parking lots break when a task ends. A lock that is handed on is in and out all the time: in steady state,
/// nothing is allocated.
#[derive(Default)]
pub(crate) struct Breakers {
    /// Also of tasks that had some. Each in the order in which they were added.
    of_task: SecondaryMap<NodeId, Vec<Rc<LotCore>>>,
    /// Of tasks that are ending: their nodes have gone, but their destructors may still take a lot out. Not in the map
    /// above, in which a new task may take their places.
    of_ending: BTreeMap<NodeId, Vec<Rc<LotCore>>>,
}

impl Breakers {
    /// Adds a lot of a task that has not ended.
    #[inline]
    pub(crate) fn add(&mut self, task: NodeId, lot: Rc<LotCore>) {
        match self.of_task.get_mut(task) {
            Some(lots) => lots.push(lot),
            None => drop(self.of_task.insert(task, vec![lot])),
        }
    }

    /// Takes a lot out that was added, the last one first. `None` if there is none.
    #[inline]
    pub(crate) fn remove(&mut self, task: NodeId, lot: &Rc<LotCore>) -> Option<Rc<LotCore>> {
        let last = self.of_task.get_mut(task).and_then(|lots| {
            // Mostly, what was acquired last is released first.
            lots.pop_if(|last| Rc::ptr_eq(last, lot))
        });
        last.or_else(|| self.find_and_remove(task, lot))
    }

    #[cold]
    fn find_and_remove(&mut self, task: NodeId, lot: &Rc<LotCore>) -> Option<Rc<LotCore>> {
        let remove = |lots: &mut Vec<Rc<LotCore>>| {
            let at = lots.iter().rposition(|other| Rc::ptr_eq(other, lot))?;
            Some(lots.remove(at))
        };
        let found = self.of_task.get_mut(task).and_then(remove);
        found.or_else(|| self.of_ending.get_mut(&task).and_then(remove))
    }

    /// The task's node goes, or may go. Returns whether anything is to be broken at its end.
    pub(crate) fn set_aside(&mut self, task: NodeId) -> bool {
        if let Some(lots) = self.of_task.remove(task).filter(|lots| !lots.is_empty()) {
            self.of_ending.entry(task).or_default().extend(lots);
        }
        !self.of_ending.is_empty()
    }

    /// Takes the lots of a task that has ended.
    pub(crate) fn take(&mut self, task: NodeId) -> Vec<Rc<LotCore>> {
        self.of_ending.remove(&task).unwrap_or_default()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, &Rc<LotCore>)> {
        let ending = self.of_ending.iter().map(|(&task, lots)| (task, lots));
        let all = self.of_task.iter().chain(ending);
        all.flat_map(|(task, lots)| lots.iter().map(move |lot| (task, lot)))
    }
}

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;

    use super::*;

    #[test]
    fn a_task_in_the_place_of_one_that_is_ending_takes_nothing_from_it() {
        let (mut tasks, mut breakers) = (SlotMap::<NodeId, ()>::with_key(), Breakers::default());
        let (kept, released): (Rc<LotCore>, Rc<LotCore>) = Default::default();
        let ending = tasks.insert(());
        breakers.add(ending, kept.clone());
        breakers.add(ending, released.clone());
        assert!(breakers.set_aside(ending));
        tasks.remove(ending);

        let young = tasks.insert(());
        breakers.add(young, released.clone());
        assert_eq!(breakers.iter().count(), 3);
        assert!(breakers.remove(ending, &released).is_some(), "by a destructor");
        assert!(breakers.remove(ending, &released).is_none(), "that of the other task");
        let broken = breakers.take(ending);
        assert!(matches!(&broken[..], [lot] if Rc::ptr_eq(lot, &kept)));
        assert!(!breakers.set_aside(ending), "nothing is left of it");
        assert!(breakers.remove(young, &released).is_some());
    }

    #[test]
    fn lots_are_taken_out_in_any_order_and_break_in_the_order_in_which_they_came() {
        let mut breakers = Breakers::default();
        let task = SlotMap::<NodeId, ()>::with_key().insert(());
        let lots: [Rc<LotCore>; 3] = Default::default();
        lots.iter().for_each(|lot| breakers.add(task, lot.clone()));
        assert!(breakers.remove(task, &lots[1]).is_some());
        assert!(breakers.set_aside(task));
        let broken = breakers.take(task);
        assert!(
            matches!(&broken[..], [a, b] if Rc::ptr_eq(a, &lots[0]) && Rc::ptr_eq(b, &lots[2]))
        );
    }
}
