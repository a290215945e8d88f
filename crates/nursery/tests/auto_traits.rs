//! Which public types are `Send`, `Sync` and `Unpin`: a table, so that a change is a decision.

use std::future::{Pending, Ready};
use std::marker::PhantomData;

use nursery::lowlevel::{
    Broken, CancelShieldedCheckpoint, CheckpointIfCancelled, OnceKey, Park, ParkError, ParkingLot,
    Points, Previous, RunFinished, RunStatistics, TaskId, Token, UntilCancelled, WeakToken,
};
use nursery::{
    Builder, CancelReason, CancelScope, CancelSource, Cancellable, Cancelled, Checkpoint, Child,
    EffectiveDeadline, Enter, ErrorGroup, FailAt, Forever, Guest, Idle, Leaves, MoveOn, NodeKind,
    Nursery, NurseryClosed, NurseryHandle, OnIdle, OpenNursery, RemoteScope, RunLocal, Shield,
    Sleep, SystemClock, TaskLocal, TaskStatus, TooSlow, Tree, TreeNode,
};

/// Answers by an associated constant: that of the inherent impl, if its bounds hold, hides that of the trait.
struct Is<T: ?Sized>(PhantomData<T>);

trait No {
    const SEND: bool = false;
    const SYNC: bool = false;
    const UNPIN: bool = false;
}

impl<T: ?Sized> No for Is<T> {}

impl<T: ?Sized + Send> Is<T> {
    const SEND: bool = true;
}

impl<T: ?Sized + Sync> Is<T> {
    const SYNC: bool = true;
}

impl<T: ?Sized + Unpin> Is<T> {
    const UNPIN: bool = true;
}

macro_rules! table {
    ($($ty:ty: $($auto:ident)*;)*) => {
        &[$((
            stringify!($ty),
            [Is::<$ty>::SEND, Is::<$ty>::SYNC, Is::<$ty>::UNPIN],
            &[$(stringify!($auto)),*],
        )),*]
    };
}

type Pinned = std::marker::PhantomPinned;
type Fut = Ready<Result<(), Cancelled>>;
/// A future that must stay where it is.
type Immobile = (Pending<()>, Pinned);

type Row = (&'static str, [bool; 3], &'static [&'static str]);

#[test]
fn the_table_of_auto_traits() {
    let table: &[Row] = table! {
        // Errors and plain data go anywhere.
        Cancelled: Send Sync Unpin;
        CancelReason: Send Sync Unpin;
        CancelSource: Send Sync Unpin;
        ErrorGroup<Cancelled>: Send Sync Unpin;
        ErrorGroup<std::rc::Rc<()>>: Unpin;
        Leaves<'static, Cancelled>: Send Sync Unpin;
        TooSlow: Send Sync Unpin;
        Broken: Send Sync Unpin;
        ParkError: Send Sync Unpin;
        RunFinished<fn()>: Send Sync Unpin;
        NurseryClosed<Fut>: Send Sync Unpin;
        TaskId: Send Sync Unpin;
        Points: Send Sync Unpin;
        RunStatistics: Send Sync Unpin;
        EffectiveDeadline: Send Sync Unpin;
        Idle: Send Sync Unpin;
        OnIdle: Send Sync Unpin;
        SystemClock: Send Sync Unpin;
        Tree: Send Sync Unpin;
        TreeNode: Send Sync Unpin;
        NodeKind: Send Sync Unpin;

        // The ways into a run from another thread.
        Token: Send Sync Unpin;
        WeakToken: Send Sync Unpin;
        OnceKey: Send Sync Unpin;
        RemoteScope: Send Sync Unpin;

        // Statics; what they hold stays on the run's thread.
        TaskLocal<std::rc::Rc<()>>: Send Sync Unpin;
        RunLocal<std::rc::Rc<()>>: Send Sync Unpin;

        // What belongs to a run stays on its thread.
        Builder: Unpin;
        Guest<'static, (), Cancelled>: Unpin;
        Nursery<'static, 'static, Cancelled>: Unpin;
        NurseryHandle<Cancelled>: Unpin;
        Child<'static, ()>: Unpin;
        TaskStatus<()>: Unpin;
        CancelScope: Unpin;
        ParkingLot: Unpin;
        ParkingLot<Pinned>: Unpin;
        Previous<u8>: Unpin;

        // Futures that wait are entered in the tree of a run once they are polled.
        Sleep: Unpin;
        Forever: Unpin;
        Park<'static, ()>: Unpin;
        Park<'static, Pinned>: Unpin;
        UntilCancelled: Unpin;
        Cancellable<Pending<()>>: Unpin;
        Cancellable<PinnedFuture>: ;
        Enter<Fut>: Unpin;
        Enter<Immobile>: ;
        MoveOn<Fut>: Unpin;
        MoveOn<Immobile>: ;
        FailAt<Fut>: Unpin;
        FailAt<Immobile>: ;
        Shield<Fut>: Unpin;
        Shield<PinnedFuture>: ;
        OpenNursery<Pending<()>>: Send Sync Unpin;
        OpenNursery<Immobile>: Send Sync;

        // Those that only look where they are have nothing of a run in them.
        Checkpoint: Send Sync Unpin;
        CheckpointIfCancelled: Send Sync Unpin;
        CancelShieldedCheckpoint: Send Sync Unpin;
    };
    for (ty, found, expected) in table {
        let expected = ["Send", "Sync", "Unpin"].map(|auto| expected.contains(&auto));
        assert_eq!(*found, expected, "Send, Sync, Unpin of {ty}");
    }
}

struct PinnedFuture(Pinned);

impl Future for PinnedFuture {
    type Output = ();

    fn poll(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        std::task::Poll::Ready(())
    }
}

/// Answers for a value, whose type has no name: the method that needs no further reference is preferred.
struct Probe<'a, T>(PhantomData<&'a T>);

fn probe<T>(_: &T) -> Probe<'_, T> {
    Probe(PhantomData)
}

trait IfSend {
    fn is_send(&self) -> bool {
        true
    }
}

impl<T: Send> IfSend for Probe<'_, T> {}

trait Otherwise {
    fn is_send(&self) -> bool {
        false
    }
}

impl<T> Otherwise for &Probe<'_, T> {}

/// The future of a real nursery stays on its thread, although `OpenNursery` says nothing against it.
#[test]
#[expect(clippy::needless_borrow, reason = "the reference is what lets the other method be found")]
fn the_future_of_a_nursery_is_not_send() {
    let nursery = nursery::open_nursery(async |_| Ok::<(), Cancelled>(()));
    assert!(!(&probe(&nursery)).is_send());
    assert!((&probe(&nursery::checkpoint())).is_send(), "the probe can say yes");
}
