//! [`Plan`]: watches one run of the body, counts its points, and strikes the victim at one of them.
//!
//! A cancellation that comes from outside a task reaches it while it is suspended, and a future is dropped while it is not
//! polled: so there is one instant before and one after each step of each task, and nothing between. [`Plan`] is an
//! instrument and counts these *ticks*. Point 0 of a victim is before its first poll; point `p` is the `p`th tick after.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;

use nursery::lowlevel::{Instrument, TaskId};
use nursery::{Cancelled, RunLocal, tree};

use crate::cancel_everywhere::place::Place;
use crate::cancel_everywhere::victim::Victim;

/// The text of the cancellation, by which it is known when it is raised.
pub(super) const REASON: &str = "cancel_everywhere";

/// Before the strike, places are looked up for so many ticks: it takes some time.
const LOOK_AHEAD: u32 = 8;

/// The plan of the current run.
static CURRENT: RunLocal<RefCell<Option<Rc<Plan>>>> = RunLocal::with_default(RefCell::default);

/// What is to happen to a victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blow {
    pub(super) victim: usize,
    pub(super) point: u32,
    pub(super) how: How,
    /// Dropped at this later point, if it is still there.
    pub(super) then_dropped: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Cancelled,
    Dropped,
}

pub(super) struct Plan {
    blow: Option<Blow>,
    /// So many ticks after the blow, it is dropped and reported: it does not end.
    patience: u32,
    tick: Cell<u32>,
    victims: RefCell<Vec<Rc<Victim>>>,
    /// The tick of the blow.
    struck: Cell<Option<u32>>,
    is_endless: Cell<bool>,
    /// Where each task has yielded last, unless it has waited since.
    yielded: RefCell<BTreeMap<TaskId, Rc<Place>>>,
    /// Where the blow was struck, and where the second one. `None`: before the first poll.
    scenes: RefCell<Vec<Option<Scene>>>,
    /// Where the cancellation was first raised by a checkpoint that was come to.
    raised: RefCell<Option<Place>>,
}

#[derive(Clone, Copy)]
enum Step {
    Before,
    After,
}

/// A tick, to be put into words.
struct Scene {
    task: Option<String>,
    step: Step,
    spot: Option<Spot>,
}

/// Where a task is suspended.
enum Spot {
    Waits(String),
    Yields(Rc<Place>),
}

impl Plan {
    pub(super) fn new(blow: Option<Blow>, patience: u32) -> Rc<Self> {
        Rc::new(Plan {
            blow,
            patience,
            tick: Cell::new(0),
            victims: RefCell::default(),
            struck: Cell::new(None),
            is_endless: Cell::new(false),
            yielded: RefCell::default(),
            scenes: RefCell::default(),
            raised: RefCell::default(),
        })
    }

    pub(super) fn install(self: &Rc<Self>) {
        if let Some(current) = CURRENT.get_shared() {
            current.replace(Some(self.clone()));
        }
    }

    pub(super) fn current() -> Option<Rc<Plan>> {
        CURRENT.get_shared()?.borrow().clone()
    }

    /// A victim is about to be polled for the first time.
    pub(super) fn begin(self: &Rc<Self>) -> Rc<Victim> {
        let victim = Rc::new(Victim::new(self.clone(), self.tick.get()));
        let index = self.victims.borrow().len();
        self.victims.borrow_mut().push(victim.clone());
        if let Some(blow) = self.blow.filter(|blow| (blow.victim, blow.point) == (index, 0)) {
            self.scenes.borrow_mut().push(None);
            self.strike(&victim, blow.how);
        }
        victim
    }

    pub(super) fn now(&self) -> u32 {
        self.tick.get()
    }

    /// How many points each victim has had. The first is the whole body.
    pub(super) fn points(&self) -> Vec<u32> {
        self.victims.borrow().iter().map(|victim| victim.ticks() + 1).collect()
    }

    /// How long a run like this one may go on when it has been struck.
    pub(super) fn patience(&self) -> u32 {
        self.tick.get().saturating_mul(10).max(10_000)
    }

    /// Has a victim returned `Ok`, and not because its cancellation was absorbed?
    pub(super) fn has_finished(&self, victim: usize) -> bool {
        self.victims.borrow().get(victim).is_some_and(|victim| victim.has_finished())
    }

    fn was_struck(&self) -> bool {
        self.struck.get().is_some()
    }

    pub(super) fn is_endless(&self) -> bool {
        self.is_endless.get()
    }

    pub(super) fn has_raised(&self) -> bool {
        self.raised.borrow().is_some()
    }

    /// In words, when the blow came, and the second one.
    pub(super) fn scene(&self) -> String {
        let words = |scene: &Option<Scene>| match scene {
            Some(scene) => scene.to_string(),
            None => "before it began".to_owned(),
        };
        let scenes: Vec<String> = self.scenes.borrow().iter().map(words).collect();
        scenes.join("; and then ")
    }

    /// Where the cancellation was first raised.
    pub(super) fn raised_at(&self) -> Option<String> {
        self.raised.borrow().as_ref().map(Place::to_string)
    }

    fn tick(&self, task: TaskId, step: Step) {
        let now = self.tick.get() + 1;
        self.tick.set(now);
        let Some(blow) = self.blow else { return };
        if self.struck.get().is_some_and(|then| now - then == self.patience) {
            self.is_endless.set(true);
            let all = self.victims.borrow().clone();
            all.iter().for_each(|victim| victim.drop_soon());
            return;
        }
        let Some(victim) = self.victims.borrow().get(blow.victim).cloned() else { return };
        if victim.has_ended() {
            return;
        }
        let point = now - victim.begun();
        if point == blow.point {
            self.note_scene(task, step);
            self.strike(&victim, blow.how);
        } else if self.was_struck() && blow.then_dropped == Some(point) {
            self.note_scene(task, step);
            victim.drop_soon();
        }
    }

    fn strike(&self, victim: &Victim, how: How) {
        self.struck.set(Some(self.tick.get()));
        match how {
            How::Cancelled => victim.cancel(),
            How::Dropped => victim.drop_soon(),
        }
    }

    fn note_scene(&self, task: TaskId, step: Step) {
        let wait = waits_of(task).map(Spot::Waits);
        let spot = wait.or_else(|| self.yielded.borrow().get(&task).cloned().map(Spot::Yields));
        let scene = Scene { task: task.name(), step, spot };
        self.scenes.borrow_mut().push(Some(scene));
    }

    /// Is the blow so near that places count?
    fn looks_out(&self) -> bool {
        let Some(blow) = self.blow else { return false };
        let victims = self.victims.borrow();
        let Some(victim) = victims.get(blow.victim) else { return blow.point <= LOOK_AHEAD };
        let points = [Some(blow.point), blow.then_dropped];
        points.into_iter().flatten().any(|point| {
            (victim.begun() + point).checked_sub(self.tick.get()).is_some_and(|n| n <= LOOK_AHEAD)
        })
    }
}

impl Instrument for Plan {
    fn before_task_step(&self, task: TaskId) {
        self.tick(task, Step::Before);
        self.yielded.borrow_mut().remove(&task);
    }

    fn after_task_step(&self, task: TaskId) {
        self.tick(task, Step::After);
    }

    fn task_yielded(&self, task: TaskId, place: &'static Location<'static>) {
        if self.blow.is_some() {
            let place = if self.looks_out() { Place::here(place) } else { Place::only(place) };
            self.yielded.borrow_mut().insert(task, Rc::new(place));
        }
    }

    fn cancel_raised(&self, _: TaskId, error: &Cancelled) {
        if error.reason().text() == Some(REASON) && !self.has_raised() {
            self.raised.replace(Some(Place::unknown()));
        }
    }

    fn task_exited(&self, task: TaskId) {
        self.yielded.borrow_mut().remove(&task);
    }
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.task.as_deref().unwrap_or("one that has ended");
        match (self.step, &self.spot) {
            (Step::Before, None) => write!(f, "before a step of the task {name:?}"),
            (Step::After, None) => write!(f, "after a step of the task {name:?}"),
            (Step::Before, Some(spot)) => {
                write!(f, "before the task {name:?} went on from {spot}")
            }
            (Step::After, Some(spot)) => write!(f, "when the task {name:?} had come to {spot}"),
        }
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Spot::Waits(waits) => f.write_str(waits),
            Spot::Yields(place) => write!(f, "a yield at {place}"),
        }
    }
}

/// What a task waits for, and where, in words.
fn waits_of(task: TaskId) -> Option<String> {
    let tree = tree();
    let nodes = tree.nodes();
    let at = nodes.iter().position(|node| node.task == Some(task))?;
    let depth = nodes[at].depth;
    let below = nodes[at + 1..].iter().take_while(|node| node.depth > depth);
    // Not what other tasks below it wait for.
    let own = below.scan(None, |foreign, node| {
        if foreign.is_some_and(|depth| node.depth > depth) {
            return Some(None);
        }
        *foreign = node.task.is_some().then_some(node.depth);
        Some(foreign.is_none().then_some(node))
    });
    let waits = std::iter::once(&nodes[at]).chain(own.flatten()).flat_map(|node| &node.waits);
    let words: Vec<_> = waits
        .map(|wait| {
            format!("its wait for {} at {}:{}", wait.what, wait.place.file(), wait.place.line())
        })
        .collect();
    (!words.is_empty()).then(|| words.join(" and "))
}
