//! Streams that break the contract, each in one way.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use nursery::{checkpoint, shield};
use nursery_io::stream::{
    ConflictDetector, HalfClose, Interrupted, ReceiveStream, Resource, SendStream, StreamError,
};
use nursery_testing::{
    BoundedReceiveStream, BoundedSendStream, BoundedStream, lockstep_stream_one_way_pair,
};

/// What is wrong with a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    Reverses,
    SendsNothingAtOnce,
    WaitsForRoomForEver,
    ClosesOnce,
    ClosesAtOnce,
    ClosesQuietly,
    ClosesQuietlyForAWait,
    ClosesWhenNotCancelled,
    IsKeptWhenDropped,
    TakesNothingWhenClosed,
    SaysClosedForBroken,
    RecoversFromBroken,
    NeverNotices,
    SendsAlthoughCancelled,
    SendsBeforeItLooks,
    SendsLater,
    ForgetsTheHalf,
    ForgetsTheDroppedHalf,
    SaysBrokenWithoutACause,
    Miscounts,
    TakesAnyBuffer,
    LetsTheSecondWait,
    LetsTheSecondSend,
    LetsASecondSendBesideAWait,
    EndsOnce,
    SaysTheEndOnce,
    EndsWhenClosed,
    EndsBothDirections,
    EndsBeforeItIsSaid,
    EndsInTheMiddle,
    EndsBesideAWait,
    ReceivesAlthoughCancelled,
    IsNotInterrupted,
    IsNotWokenByThePeer,
    IsNotWokenWaiting,
    KeepsTheFirstWaker,
    TakesTooEarly,
    DirectionsConflict,
}

use Fault::*;

/// A stream with a fault, or without.
pub(crate) struct Faulty<S> {
    inner: Rc<S>,
    fault: Option<Fault>,
    /// Keeps the peer open although it has been dropped.
    _peer: Option<Rc<dyn Any>>,
    /// What the fault needs to know.
    happened: Cell<bool>,
    is_closed: Cell<bool>,
    is_awaited: Cell<bool>,
    left_over: RefCell<Vec<u8>>,
    both: ConflictDetector,
}

impl<S> Faulty<S> {
    pub(crate) fn new(inner: S, fault: Option<Fault>) -> Self {
        Faulty {
            inner: Rc::new(inner),
            fault,
            _peer: None,
            happened: Cell::new(false),
            is_closed: Cell::new(false),
            is_awaited: Cell::new(false),
            left_over: RefCell::default(),
            both: ConflictDetector::new(),
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }
}

/// A pair in lockstep, with these faults.
pub(crate) fn faulty_pair(
    sender: Option<Fault>,
    receiver: Option<Fault>,
) -> (Faulty<BoundedSendStream>, Faulty<BoundedReceiveStream>) {
    let (s, r) = lockstep_stream_one_way_pair();
    let (mut s, mut r) = (Faulty::new(s, sender), Faulty::new(r, receiver));
    r._peer = s.has(IsKeptWhenDropped).then(|| s.inner.clone() as Rc<dyn Any>);
    s._peer = r.has(IsKeptWhenDropped).then(|| r.inner.clone() as Rc<dyn Any>);
    (s, r)
}

/// Closes without a checkpoint.
pub(crate) trait CloseNow: Resource {
    fn close_now(&self);
}

impl CloseNow for BoundedSendStream {
    fn close_now(&self) {
        self.close();
    }
}

impl CloseNow for BoundedReceiveStream {
    fn close_now(&self) {
        self.close();
    }
}

impl CloseNow for BoundedStream {
    fn close_now(&self) {
        self.send.close();
        self.receive.close();
    }
}

type Result<T = ()> = std::result::Result<T, StreamError>;

/// Returns also whether it had to wait.
async fn timed<T>(op: impl Future<Output = T>) -> (T, bool) {
    let mut op = pin!(op);
    let mut polls = 0;
    poll_fn(|cx| {
        polls += 1;
        op.as_mut().poll(cx).map(|value| (value, polls > 2)) // a yield is no wait
    })
    .await
}

async fn shielded<T>(op: impl Future<Output = Result<T>>) -> Result<T> {
    Ok(shield(async { Ok::<_, io::Error>(op.await?) }).await?)
}

/// Awaits it with the waker of the first poll only.
async fn with_the_first_waker<T>(op: impl Future<Output = T>) -> T {
    let mut op = pin!(op);
    let mut waker: Option<Waker> = None;
    poll_fn(|cx| {
        let waker = waker.get_or_insert_with(|| cx.waker().clone());
        op.as_mut().poll(&mut Context::from_waker(waker))
    })
    .await
}

fn interrupted(result: &Result) -> Option<Interrupted> {
    let Err(StreamError::Broken(cause)) = result else { return None };
    cause.get_ref()?.downcast_ref().copied()
}

impl<S: CloseNow> Resource for Faulty<S> {
    async fn aclose(&self) -> Result {
        if self.has(ClosesOnce) && self.is_closed.get() {
            return Err(StreamError::Closed);
        }
        if self.has(ClosesWhenNotCancelled) {
            checkpoint().await?;
        }
        self.is_closed.set(true);
        if self.has(ClosesAtOnce) {
            self.inner.close_now();
            return Ok(());
        }
        self.inner.aclose().await
    }
}

impl<S: CloseNow + SendStream> Faulty<S> {
    /// What becomes of the result of an operation that sends.
    async fn spoil(&self, (result, has_waited): (Result, bool)) -> Result {
        let is_quiet = match &result {
            Err(StreamError::Busy) => self.has(LetsTheSecondWait),
            Err(StreamError::Closed) => self.has(ClosesQuietly) && has_waited,
            Err(StreamError::Broken(_)) => self.has(IsNotWokenByThePeer) && has_waited,
            _ => false,
        };
        if is_quiet {
            return pending().await;
        }
        let first = !self.happened.get();
        match (self.fault, &result, interrupted(&result)) {
            (Some(LetsTheSecondSend), Err(StreamError::Busy), _) => Ok(()),
            (Some(LetsASecondSendBesideAWait), Err(StreamError::Busy), _)
                if self.is_awaited.get() =>
            {
                Ok(())
            }
            (Some(ForgetsTheHalf), _, Some(_)) => Ok(()),
            (Some(ForgetsTheDroppedHalf), _, Some(_)) if first => Ok(()),
            (Some(ForgetsTheDroppedHalf), Err(StreamError::Cancelled(_)), _) => {
                self.happened.set(true);
                result
            }
            (Some(SaysBrokenWithoutACause), _, Some(_)) => {
                Err(StreamError::Broken(io::ErrorKind::BrokenPipe.into()))
            }
            (Some(Miscounts), _, Some(of)) => Err(Interrupted::new(of.sent + 1, of.of).into()),
            (Some(SaysClosedForBroken), Err(StreamError::Broken(_)), None) => {
                Err(StreamError::Closed)
            }
            (Some(RecoversFromBroken), Err(StreamError::Broken(_)), None) => {
                self.happened.set(true);
                if first { result } else { Ok(()) }
            }
            (Some(NeverNotices), Err(StreamError::Broken(_)), None) => Ok(()),
            _ => result,
        }
    }

    async fn send(&self, data: &[u8]) -> Result {
        match self.fault {
            Some(Reverses) => {
                let reversed: Vec<u8> = data.iter().rev().copied().collect();
                self.inner.send_all(&reversed).await
            }
            Some(SendsNothingAtOnce) if data.is_empty() => Ok(()),
            Some(TakesNothingWhenClosed) if data.is_empty() && self.is_closed.get() => Ok(()),
            Some(SendsAlthoughCancelled) => shielded(self.inner.send_all(data)).await,
            Some(SendsBeforeItLooks) => {
                checkpoint().await?;
                shielded(self.inner.send_all(data)).await?;
                Ok(checkpoint().await?)
            }
            Some(SendsLater) => {
                let all = [self.left_over.borrow().as_slice(), data].concat();
                let result = self.inner.send_all(&all).await;
                match result {
                    Ok(()) => self.left_over.borrow_mut().clear(),
                    Err(_) => drop(self.left_over.replace(all)),
                }
                result
            }
            _ => self.inner.send_all(data).await,
        }
    }
}

impl<S: CloseNow + SendStream> SendStream for Faulty<S> {
    async fn send_all(&self, data: &[u8]) -> Result {
        let _guard = self.has(DirectionsConflict).then(|| self.both.enter()).transpose()?;
        self.spoil(timed(self.send(data)).await).await
    }

    async fn wait_send_all_might_not_block(&self) -> Result {
        if self.has(WaitsForRoomForEver) {
            return pending().await;
        }
        let was_awaited = self.is_awaited.replace(true);
        let (result, has_waited) = timed(self.inner.wait_send_all_might_not_block()).await;
        self.is_awaited.set(was_awaited);
        let is_quiet = match result {
            Err(StreamError::Broken(_)) => self.has(IsNotWokenWaiting),
            Err(StreamError::Closed) => self.has(ClosesQuietlyForAWait),
            _ => false,
        };
        if is_quiet && has_waited {
            return pending().await;
        }
        self.spoil((result, has_waited)).await
    }
}

impl<S: CloseNow + ReceiveStream> Faulty<S> {
    async fn receive(&self, buffer: &mut [u8]) -> Result<usize> {
        match self.fault {
            Some(TakesAnyBuffer) if buffer.is_empty() => Ok(0),
            Some(EndsWhenClosed) if self.is_closed.get() => Ok(0),
            Some(ReceivesAlthoughCancelled) => shielded(self.inner.receive_some(buffer)).await,
            Some(IsNotInterrupted) => {
                checkpoint().await?;
                shielded(self.inner.receive_some(buffer)).await
            }
            Some(KeepsTheFirstWaker) => with_the_first_waker(self.inner.receive_some(buffer)).await,
            Some(TakesTooEarly) => {
                let count = self.inner.receive_some(buffer).await?;
                checkpoint().await?;
                Ok(count)
            }
            _ => self.inner.receive_some(buffer).await,
        }
    }
}

impl<S: CloseNow + ReceiveStream> ReceiveStream for Faulty<S> {
    async fn receive_some(&self, buffer: &mut [u8]) -> Result<usize> {
        let _guard = self.has(DirectionsConflict).then(|| self.both.enter()).transpose()?;
        match timed(self.receive(buffer)).await {
            (Err(StreamError::Busy), _) if self.has(LetsTheSecondWait) => pending().await,
            (Err(StreamError::Closed), true) if self.has(ClosesQuietly) => pending().await,
            (Ok(0), _) if self.has(EndsOnce) && self.happened.replace(true) => {
                Err(StreamError::Broken(io::ErrorKind::BrokenPipe.into()))
            }
            (result, _) => result,
        }
    }
}

impl<S: CloseNow + HalfClose> HalfClose for Faulty<S> {
    async fn send_eof(&self) -> Result {
        let is_again = self.happened.replace(true);
        match self.fault {
            Some(EndsBothDirections) => self.inner.aclose().await,
            Some(SaysTheEndOnce) if is_again => Err(StreamError::Closed),
            Some(EndsBeforeItIsSaid) if is_again => Ok(checkpoint().await?),
            Some(EndsInTheMiddle) => match self.inner.send_eof().await {
                Err(StreamError::Busy) => Ok(()),
                result => result,
            },
            Some(EndsBesideAWait) if self.is_awaited.get() => Ok(checkpoint().await?),
            _ => self.inner.send_eof().await,
        }
    }
}
