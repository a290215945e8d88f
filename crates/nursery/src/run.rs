//! A run: one thread, one main task, one tree, one clock. [`run`], [`Builder`], and [`Guest`], the run as a future.

pub(crate) mod context;
pub(crate) mod host;
pub(crate) mod inbox;
pub(crate) mod turn;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::{Location, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Instant;

use crate::clock::{Clock, SystemClock};
use crate::deadlines::{Due, Target, Timer};
use crate::error::{Cancelled, TaskError};
use crate::instrument::{Instrument, Instruments};
use crate::local::RunLocals;
use crate::nursery::drop_panic::{self, Panic};
use crate::nursery::erase::{self, Birth, Finish, Task};
use crate::nursery::pool::Pool;
use crate::nursery::ready::{Load, Ready};
use crate::run::host::Host;
use crate::run::inbox::{Inbox, Token};
use crate::run::turn::{HostPoll, Idler, Pace, Turn};
use crate::scope::reason::{CancelReason, CancelSource};
use crate::stats::TaskId;
use crate::tree::{Effects, Kind, Node, NodeId, State};
use crate::wait::{WaitState, Waiter};

/// Runs `main`, and everything it starts, to the end, on this thread.
///
/// Returns what `main` returns, unchanged. Deadlines are on the system clock; for a virtual clock, a seed or instruments see
/// [`Builder`]. While nothing is ready the thread waits in async-io's reactor, or in a
/// [parker](crate::lowlevel::Parker) of who has sockets to watch, as `nursery-io` has on Linux.
///
/// # Errors
///
/// The error of `main`.
///
/// # Panics
///
/// If a run is in progress on this thread already; with the panic of `main` or of a child, if there is one.
///
/// # Examples
///
/// ```
/// use nursery::{open_nursery, run};
///
/// let words = ["borrowed", "by", "children"];
/// let letters = run(async {
///     open_nursery(async |n| -> anyhow::Result<usize> {
///         let counts: Vec<_> = words
///             .iter()
///             .map(|word| n.start_soon(async { Ok(word.len()) }))
///             .collect();
///         let mut sum = 0;
///         for count in counts {
///             sum += count.await?;
///         }
///         Ok(sum)
///     })
///     .await
/// })?;
/// assert_eq!(letters, 18);
/// # Ok::<(), anyhow::Error>(())
/// ```
#[track_caller]
pub fn run<T, E: TaskError>(main: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    Builder::new().run(main)
}

/// How a run is to be made: clock, seed, budget, instruments, name.
///
/// # Examples
///
/// ```
/// use nursery::{Builder, Cancelled, checkpoint};
///
/// let answer = Builder::new().name("answering machine").seed(7).run(async {
///     checkpoint().await?;
///     Ok::<_, Cancelled>(42)
/// })?;
/// assert_eq!(answer, 42);
/// # Ok::<(), Cancelled>(())
/// ```
#[must_use = "a `Builder` does nothing until `run` or `guest`"]
pub struct Builder {
    clock: Option<Rc<dyn Clock>>,
    seed: Option<u64>,
    budget: u32,
    instruments: Vec<Rc<dyn Instrument>>,
    name: Option<Box<str>>,
}

/// So many lists of ended nurseries are kept.
const SPARE_LISTS: usize = 16;

/// How often operations that need not wait may succeed in a row before one of them yields.
const DEFAULT_BUDGET: u32 = 128;

impl Builder {
    /// Makes a builder with the defaults: system clock, an order that varies, a budget of 128 (as tokio's).
    pub fn new() -> Self {
        Builder {
            clock: None,
            seed: None,
            budget: DEFAULT_BUDGET,
            instruments: Vec::new(),
            name: None,
        }
    }

    /// Sets the clock. Default: [`SystemClock`].
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Some(Rc::new(clock));
        self
    }

    /// Sets the seed from which the order of ready tasks is drawn.
    ///
    /// With the same seed and the same clock, a program that does no I/O makes the same steps in the same
    /// order. Without a seed the order varies from run to run, so that nobody comes to depend on it; only tasks that all
    /// were woken by the outside world, such as by sockets, go in the order in which that happened.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets how many operations may succeed without waiting before one of them yields to other tasks.
    ///
    /// 1 is trio's rule: every operation is a schedule point on every call. More is faster. Whatever the
    /// budget, every operation is a cancel point on every call.
    ///
    /// # Panics
    ///
    /// If `budget` is 0.
    #[track_caller]
    pub fn checkpoint_budget(mut self, budget: u32) -> Self {
        assert!(
            budget > 0,
            "a checkpoint budget of 0 would never let an operation succeed; 1 is the smallest"
        );
        self.budget = budget;
        self
    }

    /// Installs an instrument from the start. See [`Instrument`].
    pub fn instrument(mut self, instrument: Rc<dyn Instrument>) -> Self {
        self.instruments.push(instrument);
        self
    }

    /// Names the run, for messages and the tree.
    pub fn name(mut self, name: impl Into<Box<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Runs `main` to the end, blocking this thread.
    ///
    /// # Errors
    ///
    /// The error of `main`, unchanged.
    ///
    /// # Panics
    ///
    /// If a run is in progress on this thread already; with the panic of `main` or of a child, if there is
    /// one.
    #[track_caller]
    pub fn run<T, E: TaskError>(self, main: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        assert!(
            context::try_current_run().is_none(),
            "`run` was called inside a run\n\
             \n\
             A thread has one run at a time, and this one would block the other. Usual causes:\n\
             - a library calls `nursery::run` itself: give it an async function instead, and await that\n\
             - two things are to happen at once: start them in a nursery with `open_nursery`\n\
             - a run of its own is really wanted: call `run` in a thread of its own"
        );
        host::run_here(self.guest(main))
    }

    /// Makes the run a future, which any executor can poll: see [`Guest`].
    #[track_caller]
    pub fn guest<'a, T: 'a, E: TaskError + 'a>(
        self,
        main: impl Future<Output = Result<T, E>> + 'a,
    ) -> Guest<'a, T, E> {
        Guest::new(self, main, Location::caller())
    }
}

impl Default for Builder {
    fn default() -> Self {
        Builder::new()
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("seed", &self.seed)
            .field("checkpoint_budget", &self.budget)
            .finish_non_exhaustive()
    }
}

/// A run as a future: a guest of any executor.
///
/// Made by [`Builder::guest`]. It is polled by its host like any future, wakes the host's waker when it
/// has something to do, and ends with what its main task returns. The host's own timers and I/O can be used
/// inside, through [`cancellable`](crate::cancellable). It is not `Send`: hosts with several threads poll it
/// with `LocalSet`, `spawn_local` or `block_on`.
///
/// # Cancellation
///
/// Dropped half-way, it drops the main task and all children synchronously, youngest data last: nothing
/// async runs. To end a guest gently, cancel a scope in it (for example through
/// [`CancelScope::remote`](crate::CancelScope::remote)) and await it.
///
/// # Examples
///
/// Inside tokio:
///
/// ```
/// use std::time::Duration;
/// use nursery::{Builder, cancellable, move_on_after};
///
/// let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// let (tx, rx) = tokio::sync::oneshot::channel();
/// let answer = runtime.block_on(async {
///     tokio::spawn(async move { tx.send(42) });
///     Builder::new()
///         .guest(async { move_on_after(Duration::from_secs(5), async { Ok(cancellable(rx).await?) }).await })
///         .await
/// });
/// assert_eq!(answer.map_err(|e: nursery::Cancelled| e)?, Some(Ok(42)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a `Guest` does nothing until it is polled"]
pub struct Guest<'a, T, E> {
    run: Rc<Run>,
    outcome: Outcome<T, E>,
    idler: Idler,
    stage: Stage,
    /// The main task may borrow for `'a`; invariant.
    _main: PhantomData<&'a mut &'a ()>,
}

type Outcome<T, E> = Rc<RefCell<Option<thread::Result<Result<T, E>>>>>;

/// How far the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New,
    Running,
    /// The main task has ended, the system tasks are being cancelled.
    Stopping,
    Over,
}

impl<'a, T: 'a, E: TaskError + 'a> Guest<'a, T, E> {
    fn new(
        builder: Builder,
        main: impl Future<Output = Result<T, E>> + 'a,
        place: &'static Location<'static>,
    ) -> Self {
        let run = Run::new(builder, place);
        let _run = context::enter_run(&run);
        run.instrument(|i| i.before_run());
        let outcome: Outcome<T, E> = Rc::default();
        run.live.set(1);
        let done = MainEnd { run: run.clone(), outcome: outcome.clone() };
        let birth = Birth::named("main", run.root, place);
        let main = erase::spawn_main(PhantomData::<&'a mut &'a ()>, &run, main, done, birth);
        drop(main);
        drop(_run);
        Guest { run, outcome, idler: Idler::default(), stage: Stage::New, _main: PhantomData }
    }
}

/// What is to be done at the end of the main task.
struct MainEnd<T, E> {
    run: Rc<Run>,
    outcome: Outcome<T, E>,
}

impl<T, E> Finish<Result<T, E>> for MainEnd<T, E> {
    type Value = ();

    fn ready(&self) -> &Rc<Ready> {
        &self.run.ready
    }

    fn finish(self, task: &Task, result: thread::Result<Result<T, E>>) -> Option<()> {
        self.run.end_of_own_task(task);
        *self.outcome.borrow_mut() = Some(result);
        None
    }
}

/// What is to be done at the end of a system task.
pub(crate) struct SystemEnd(pub(crate) Rc<Run>);

impl Finish<Result<(), Cancelled>> for SystemEnd {
    type Value = ();

    fn ready(&self) -> &Rc<Ready> {
        &self.0.ready
    }

    fn finish(self, task: &Task, result: thread::Result<Result<(), Cancelled>>) -> Option<()> {
        self.0.end_of_own_task(task);
        if let Err(panic) = result {
            self.0.note_crash(panic);
        }
        None
    }
}

impl<T, E> Guest<'_, T, E> {
    /// Returns the run's token: a way into it from any thread, also before it is first polled.
    #[must_use]
    pub fn token(&self) -> Token {
        self.run.token.clone()
    }
}

impl<T, E> Future for Guest<'_, T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let this = &mut *self;
        assert!(this.stage != Stage::Over, "a `Guest` was polled after it had ended");
        let run = this.run.clone();
        let _run = context::enter_run(&run);
        if this.stage == Stage::New {
            this.stage = Stage::Running;
            run.clock.start();
        }
        this.idler.begin_poll(&run);
        loop {
            let turn = run.turn();
            if this.outcome.borrow().is_some() || run.crashed() {
                this.stop(&run);
            }
            match turn {
                // Calls may be left, perhaps some that queue themselves for ever: they are made at the end.
                _ if this.is_over(&run) => return Poll::Ready(this.end(&run)),
                Turn::More => {}
                Turn::Enough => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Turn::Idle if run.is_idle() && this.idler.wait(&run, cx) => return Poll::Pending,
                Turn::Idle => {}
            }
        }
    }
}

impl<T, E> Guest<'_, T, E> {
    /// The main task has ended: cancel the system tasks.
    fn stop(&mut self, run: &Run) {
        if self.stage == Stage::Running {
            self.stage = Stage::Stopping;
            run.change(|state, fx| {
                state.cancel(run.system, |_| CancelSource::Shutdown.into(), fx);
                if run.crashed() {
                    state.cancel(run.root, |_| CancelSource::Shutdown.into(), fx);
                }
            });
        }
    }

    fn is_over(&self, run: &Run) -> bool {
        self.stage == Stage::Stopping && run.ready.is_empty() && run.live.get() == 0
    }

    /// Closes the entry queue, and gives the outcome.
    fn end(&mut self, run: &Rc<Run>) -> Result<T, E> {
        self.stage = Stage::Over;
        run.close();
        run.instrument(|i| i.after_run());
        let outcome = self.outcome.borrow_mut().take();
        let crash = run.crash.take().or_else(drop_panic::take_drop_panic);
        match (crash, outcome) {
            (Some(panic), _) | (None, Some(Err(panic))) => resume_unwind(panic),
            (None, Some(Ok(result))) => result,
            (None, None) => unreachable!("the main task has ended, and left its outcome"),
        }
    }
}

impl<T, E> Drop for Guest<'_, T, E> {
    fn drop(&mut self) {
        if self.stage == Stage::Over {
            return;
        }
        self.stage = Stage::Over;
        let run = self.run.clone();
        run.closed.set(true); // destructors start nothing in it
        run.ready.end_all(&run, run.root);
        run.ready.end_all(&run, run.system);
        {
            let _run = context::enter_run(&run);
            run.close();
            run.instrument(|i| i.after_run());
        }
        let panic = drop_panic::take_drop_panic().or_else(|| run.crash.take());
        if let Some(panic) = panic
            && !thread::panicking()
        {
            resume_unwind(panic);
        }
    }
}

impl<T, E> std::fmt::Debug for Guest<'_, T, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guest").field("stage", &self.stage).finish_non_exhaustive()
    }
}

/// All that belongs to one run. Shared by everything in it, on its thread.
pub(crate) struct Run {
    pub(crate) inbox: &'static Inbox,
    pub(crate) generation: u32,
    pub(crate) token: Token,
    pub(crate) state: RefCell<State>,
    pub(crate) clock: Rc<dyn Clock>,
    /// On the system clock, the time is read every so many steps; on others, every turn.
    is_system_clock: bool,
    pub(crate) budget: u32,
    rng: RefCell<fastrand::Rng>,
    is_seeded: bool,
    pub(crate) instruments: Instruments,
    pub(crate) locals: RunLocals,
    /// Some task has set a task-local value.
    pub(crate) has_task_locals: Cell<bool>,
    pub(crate) root: NodeId,
    /// The scope of the system tasks.
    pub(crate) system: NodeId,
    /// The list of the main task and of the system tasks.
    pub(crate) ready: Rc<Ready>,
    /// How many of these have not ended.
    pub(crate) live: Cell<usize>,
    pub(crate) load: Load,
    pub(crate) pool: Pool,
    /// Lists of nurseries that have ended, for those to come.
    spare_lists: RefCell<Vec<Rc<Ready>>>,
    /// When a deadline was set that had passed, until that is noticed.
    pub(crate) overdue: Cell<Option<Instant>>,
    /// Numbers nodes in the order of their arrival.
    births: Cell<u32>,
    /// Counts the steps of all tasks.
    steps: Cell<u64>,
    pace: Cell<Pace>,
    pub(crate) host: Host,
    host_poll: Cell<HostPoll>,
    /// Before this step there is nothing to look at between two turns but the inbox: what changes that sets it to 0.
    look_at: Cell<u64>,
    /// Tasks in `wait_all_tasks_blocked`, with their cushion.
    pub(crate) blocked: RefCell<Vec<(std::time::Duration, Waiter)>>,
    /// How much goes on outside that will come back.
    pub(crate) busy: Cell<usize>,
    /// The first panic of a system task or an entry-queue call.
    crash: RefCell<Option<Panic>>,
    closed: Cell<bool>,
}

impl Run {
    fn new(builder: Builder, place: &'static Location<'static>) -> Rc<Run> {
        let door = Inbox::open();
        let load = Load::default();
        let ready = Rc::new(Ready::new(load.clone()));
        ready.begin_poll(); // its owner is the run, which looks by itself
        ready.waits_for_children.set(true);
        let clock = builder.clock;
        let is_system_clock = clock.is_none();
        let clock = clock.unwrap_or_else(|| Rc::new(SystemClock::new()));
        let mut state = State::new(clock.now());
        let root = state.insert(None, Node::new(Kind::Nursery(ready.clone(), Timer::Never), place));
        let system =
            state.insert(Some(root), Node::new(Kind::Nursery(ready.clone(), Timer::Never), place));
        state.nodes[root].extra().name = builder.name.clone();
        state.nodes[system].extra().name = Some("system".into());
        Rc::new(Run {
            inbox: door.inbox,
            generation: door.generation,
            token: Token::new(door),
            state: RefCell::new(state),
            is_system_clock,
            clock,
            budget: builder.budget,
            rng: RefCell::new(
                builder.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
            ),
            is_seeded: builder.seed.is_some(),
            instruments: Instruments::new(builder.instruments),
            locals: RunLocals::default(),
            has_task_locals: Cell::new(false),
            root,
            system,
            ready,
            load,
            pool: Pool::new(door),
            spare_lists: RefCell::default(),
            live: Cell::new(0),
            overdue: Cell::new(None),
            births: Cell::new(0),
            steps: Cell::new(0),
            pace: Cell::default(),
            host: Host::default(),
            host_poll: Cell::default(),
            look_at: Cell::new(0),
            blocked: RefCell::default(),
            busy: Cell::new(0),
            crash: RefCell::default(),
            closed: Cell::new(false),
        })
    }

    /// A list for a nursery.
    pub(crate) fn take_list(&self) -> Rc<Ready> {
        let spare = self.spare_lists.borrow_mut().pop();
        spare.unwrap_or_else(|| Rc::new(Ready::new(self.load.clone())))
    }

    /// Keeps the list of a nursery that has ended, if nobody else has it.
    pub(crate) fn keep_list(&self, list: &Rc<Ready>) {
        if Rc::strong_count(list) == 1 && list.is_empty() && !self.closed.get() {
            list.reset();
            let mut spare = self.spare_lists.borrow_mut();
            if spare.len() < SPARE_LISTS {
                spare.push(list.clone());
            }
        }
    }

    /// Changes the state, then does what follows from it, with nothing borrowed.
    pub(crate) fn change<R>(&self, f: impl FnOnce(&mut State, &mut Effects) -> R) -> R {
        let mut fx = Effects { overdue: self.overdue.get(), ..Effects::default() };
        let result = f(&mut self.state.borrow_mut(), &mut fx);
        if fx.flipped {
            context::refresh(self);
        }
        if fx.is_scheduled && !context::is_current(self) {
            self.wake_host();
        }
        fx.wake.wake();
        for task in std::mem::take(&mut fx.announce) {
            self.instrument(|i| i.task_scheduled(self.task_id(task)));
        }
        result
    }

    /// From outside: the host has to poll.
    #[cold]
    pub(crate) fn wake_host(&self) {
        self.inbox.wake_root(self.generation);
    }

    /// Reads the clock. Relative timers that were set since it was last read count from now.
    pub(crate) fn now(&self) -> Instant {
        let now = self.clock.now();
        let mut state = self.state.borrow_mut();
        if state.deadlines.has_fresh() {
            state.resolve(now);
        }
        now
    }

    /// A time limit was set. On a virtual clock, which may be moved by hand in this very step, it counts from now.
    pub(crate) fn limit_was_set(&self) {
        if !self.is_system_clock && self.state.borrow().deadlines.has_fresh() {
            self.now();
        }
    }

    /// A task has used up its budget.
    pub(crate) fn read_clock_next_turn(&self) {
        self.pace.set(self.pace.get().at_once());
        self.look_soon();
    }

    /// Something has come that is to be looked at before the next turn.
    fn look_soon(&self) {
        self.look_at.set(0);
    }

    /// A task has ended its step. What it made overdue takes effect before any other task, its nursery included,
    /// goes on; the task itself went on to its schedule point.
    pub(crate) fn notice_overdue(&self) {
        if self.overdue.get().is_some() {
            self.overdue.set(None);
            self.expire();
        }
    }

    /// Puts the tasks of a batch in the order in which they run: one that varies, so that no program comes to depend on
    /// it. But what the outside world has woken, in an order that no program makes, goes in that order: who came first is
    /// not to wait for all others.
    pub(crate) fn order(&self, batch: &mut VecDeque<Task>) {
        let mut rng = self.rng.borrow_mut();
        if self.is_seeded {
            rng.shuffle(batch.make_contiguous());
        } else if !self.host.has_arrivals() {
            let is_reversed = rng.bool();
            if batch.len() == 2 {
                batch.swap(0, usize::from(is_reversed)); // a branch nobody could predict
            } else if is_reversed {
                batch.make_contiguous().reverse();
            }
        }
    }

    pub(crate) fn coin(&self) -> bool {
        self.rng.borrow_mut().bool()
    }

    pub(crate) fn count_step(&self) {
        let steps = self.steps.get() + 1;
        self.steps.set(steps);
        if steps.is_multiple_of(turn::READ_EVERY) && self.state.borrow().deadlines.has_fresh() {
            self.now();
        }
    }

    pub(crate) fn instrument(&self, hook: impl Fn(&dyn Instrument)) {
        if !self.instruments.is_empty() {
            self.instruments.call(hook);
        }
    }

    pub(crate) fn task_id(&self, node: NodeId) -> TaskId {
        TaskId { generation: self.generation, node }
    }

    /// How a task begins that is started now, by the current task: it inherits that one's context.
    #[inline]
    pub(crate) fn birth_of_child(
        &self,
        parent: NodeId,
        place: &'static Location<'static>,
    ) -> Birth {
        let inherits = self.has_task_locals.get() && context::is_current(self);
        let spawner = if inherits { context::known_task() } else { None };
        let extra = spawner.and_then(|id| self.state.borrow().locals_of(id));
        Birth { parent, place, extra, in_tree: false }
    }

    /// A new number in the order of arrival.
    pub(crate) fn birth(&self) -> u32 {
        self.births.replace(self.births.get().wrapping_add(1))
    }

    /// Gives every task its node, and every scope.
    pub(crate) fn settle(&self) {
        context::settle();
        let tasks = self.state.borrow().tasks_without_node();
        let mut state = self.state.borrow_mut();
        for task in tasks {
            task.node_in(&mut state);
        }
        let is_light = |task: &Task| task.wait().light.is_waiting();
        let with_light: Vec<Task> =
            state.tasks_with_node().filter(|task| is_light(task)).cloned().collect();
        for task in with_light {
            state.settle_light(&task, self.birth());
        }
    }

    /// Takes an ended task's node out; breaks the lots it was to break.
    #[inline]
    pub(crate) fn end_of_task(&self, task: &Task) {
        if let Some(id) = task.leave_tree() {
            self.end_of_node(id);
        }
    }

    fn end_of_node(&self, id: NodeId) {
        let (node, has_breakers) = {
            let mut state = self.state.borrow_mut();
            (state.discard(id), state.breakers.set_aside(id))
        };
        if let Some((_, Some(node))) = node {
            drop_panic::drop_quietly(node); // foreign values may be in it: outside the borrow
        }
        if has_breakers {
            self.break_lots_of(id);
        }
        self.instrument(|i| i.task_exited(self.task_id(id)));
    }

    /// The same for the main task and system tasks.
    fn end_of_own_task(&self, task: &Task) {
        self.end_of_task(task);
        self.live.set(self.live.get() - 1);
    }

    /// Ends a task by dropping it, as [`erase::end_task`] does; breaks the lots it was to break.
    pub(crate) fn drop_task(&self, task: &Task) -> bool {
        if let Some(id) = task.known_node() {
            self.state.borrow_mut().breakers.set_aside(id);
        }
        let has_ended = erase::end_task(self, task);
        if has_ended && let Some(id) = task.known_node() {
            self.break_lots_of(id);
        }
        has_ended
    }

    fn break_lots_of(&self, id: NodeId) {
        let lots = self.state.borrow_mut().breakers.take(id);
        for lot in lots {
            lot.break_by(self.task_id(id));
        }
    }

    /// The name of the current task, for reasons.
    pub(crate) fn current_task_name(&self, state: &State) -> Option<Box<str>> {
        if !context::is_current(self) {
            return None;
        }
        context::known_task().map(|task| state.label(task).into())
    }

    /// Cancels a node because somebody said so.
    pub(crate) fn cancel(&self, node: NodeId, reason: CancelReason) {
        context::settle(); // for its name
        self.change(|state, fx| {
            let by = |state: &State| reason.with_task(self.current_task_name(state));
            state.cancel(node, by, fx);
        });
    }

    /// Notes the panic of a system task or an entry-queue call: the run will end with it.
    pub(crate) fn note_crash(&self, panic: Panic) {
        self.look_soon();
        let surplus = drop_panic::keep_first(&mut self.crash.borrow_mut(), panic);
        drop(surplus);
    }

    pub(crate) fn crashed(&self) -> bool {
        self.crash.borrow().is_some()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// The run is over: what the entry queue has accepted is called, then everything is let go.
    fn close(&self) {
        self.closed.set(true);
        for call in self.inbox.close() {
            self.guard(call.call);
        }
        self.host.close();
        let locals = self.locals.take();
        let state = self.state.replace(State::new(self.clock.now()));
        for task in state.tasks_with_node() {
            _ = task.queue(); // its nursery is still somewhere, and finds it there when it is dropped
        }
        drop(state);
        drop(locals);
    }
}

impl State {
    /// Relative timers count from `now`.
    pub(crate) fn resolve(&mut self, now: Instant) {
        let mut fresh = self.deadlines.take_fresh();
        for (target, seq) in fresh.drain(..) {
            if let Some(Timer::After { after, seq: current }) = self.timer_of(&target)
                && current == seq
            {
                let timer = self.deadlines.resolve(after, now);
                self.set_timer_of(&target, timer);
                self.deadlines.put(target, timer);
            }
        }
        self.deadlines.put_fresh_buffer(fresh);
    }

    /// Cancels the scopes that are due, then wakes the sleepers that are. All that is due at one instant is
    /// done before any task runs, scopes first: a sleep that ends at the deadline around it is cancelled.
    fn expire(&mut self, now: Instant, birth: impl Fn() -> u32, fx: &mut Effects) {
        let Due { mut targets, mut sleepers } = self.deadlines.take_due(now);
        // Many targets are in no cache. They are looked at one right after the other, so that they come together.
        for (target, seq) in targets.drain(..) {
            if self.timer_of(&target).and_then(Timer::seq) != Some(seq) {
                self.deadlines.one_was_stale();
            } else if let Some(id) = self.scope_of(&target, &birth) {
                self.nodes[id].take_timer();
                self.cancel(id, |_| CancelSource::Deadline.into(), fx);
            } else {
                sleepers.extend(self.take_sleeper(target));
            }
        }
        for sleeper in sleepers.drain(..) {
            self.wake_wait(&sleeper, WaitState::Woken, fx);
        }
        self.deadlines.put_due_buffers(Due { targets, sleepers });
        self.next_deadline(); // it comes into the cache while those that were woken run
    }

    /// The scope that is due.
    #[inline]
    fn scope_of(&mut self, target: &Target, birth: impl Fn() -> u32) -> Option<NodeId> {
        match target {
            Target::Scope(id) => Some(*id),
            Target::Sleeper(task) if task.wait().light.is_waiting() => {
                task.wait().timer.set(Timer::Never);
                self.settle_light(task, birth())
            }
            Target::Sleeper(_) | Target::Apart(_) => None,
        }
    }

    pub(crate) fn next_deadline(&mut self) -> Option<Instant> {
        let State { nodes, waits, deadlines, .. } = self;
        deadlines.next(|target, seq| crate::tree::is_live(nodes, waits, target, seq))
    }
}
