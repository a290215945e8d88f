//! Promises of `nursery_io::stream`: its errors, its tools, and streams that are made of streams.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::io;
use std::rc::Rc;

use nursery::lowlevel::{self, is_cancelled};
use nursery::{CancelScope, Cancelled, ErrorGroup, TaskError, checkpoint, open_nursery};
use nursery_io::stream::{
    ConflictDetector, HalfClose, Interrupted, ReceiveStream, Resource, SendStream, Stapled,
    StreamError, aclose_forcefully,
};
use nursery_testing::run;

/// Notes what is called, and fails if asked to.
#[derive(Default)]
struct Recorder {
    calls: RefCell<Vec<String>>,
    fails: Cell<bool>,
}

impl Recorder {
    async fn note(&self, call: impl Into<String>) -> Result<(), StreamError> {
        self.calls.borrow_mut().push(call.into());
        checkpoint().await?;
        if self.fails.get() { Err(io::Error::other("asked to fail").into()) } else { Ok(()) }
    }

    fn take(&self) -> Vec<String> {
        self.calls.take()
    }
}

impl Resource for Recorder {
    async fn aclose(&self) -> Result<(), StreamError> {
        self.note("aclose").await
    }
}

impl SendStream for Recorder {
    async fn send_all(&self, data: &[u8]) -> Result<(), StreamError> {
        self.note(format!("send_all {data:?}")).await
    }

    async fn wait_send_all_might_not_block(&self) -> Result<(), StreamError> {
        self.note("wait").await
    }
}

impl HalfClose for Recorder {}

impl ReceiveStream for Recorder {
    async fn receive_some(&self, buffer: &mut [u8]) -> Result<usize, StreamError> {
        self.note(format!("receive_some {}", buffer.len())).await?;
        Ok(1)
    }
}

/// One that says itself what is to happen at `send_eof`.
#[derive(Default)]
struct Both(Recorder);

impl Resource for Both {
    async fn aclose(&self) -> Result<(), StreamError> {
        self.0.aclose().await
    }
}

impl SendStream for Both {
    async fn send_all(&self, data: &[u8]) -> Result<(), StreamError> {
        self.0.send_all(data).await
    }

    async fn wait_send_all_might_not_block(&self) -> Result<(), StreamError> {
        self.0.wait_send_all_might_not_block().await
    }
}

impl HalfClose for Both {
    async fn send_eof(&self) -> Result<(), StreamError> {
        self.0.note("send_eof").await
    }
}

#[test]
fn stapled_stream() -> io::Result<()> {
    run(async {
        let stapled = Stapled::new(Recorder::default(), Recorder::default());
        stapled.send_all(b"x").await?;
        stapled.wait_send_all_might_not_block().await?;
        assert_eq!(stapled.send.take(), ["send_all [120]", "wait"]);
        assert_eq!(stapled.receive.take(), [""; 0]);

        assert_eq!(stapled.receive_some(&mut [0; 7]).await?, 1);
        assert_eq!(stapled.receive.take(), ["receive_some 7"]);

        // A stream that only sends is closed, one that also receives is half-closed.
        stapled.send_eof().await?;
        assert_eq!(stapled.send.take(), ["aclose"]);
        let stapled = Stapled::new(Both::default(), stapled.receive);
        stapled.send_eof().await?;
        assert_eq!(stapled.send.0.take(), ["send_eof"]);
        assert_eq!(stapled.receive.take(), [""; 0]);

        stapled.aclose().await?;
        assert_eq!((stapled.send.0.take(), stapled.receive.take()), (one("aclose"), one("aclose")));
        Ok(())
    })
}

fn one(call: &str) -> Vec<String> {
    vec![call.to_owned()]
}

#[test]
fn stapled_stream_with_erroring_close() -> io::Result<()> {
    run(async {
        let stapled = Stapled::new(Recorder::default(), Recorder::default());
        stapled.send.fails.set(true);
        let error = stapled.aclose().await.unwrap_err();
        assert_eq!(error.source().unwrap().to_string(), "asked to fail");
        assert_eq!((stapled.send.take(), stapled.receive.take()), (one("aclose"), one("aclose")));

        stapled.send.fails.set(false);
        stapled.receive.fails.set(true);
        assert!(matches!(stapled.aclose().await, Err(StreamError::Broken(_))));
        Ok(())
    })
}

#[test]
fn stapled_closes_both_although_cancelled() -> io::Result<()> {
    run(async {
        let stapled = Stapled::new(Recorder::default(), Recorder::default());
        let scope = CancelScope::new();
        scope.cancel();
        let closed = scope.enter(async { Ok::<_, io::Error>(stapled.aclose().await?) }).await?;
        assert_eq!(closed, None);
        assert_eq!((stapled.send.take(), stapled.receive.take()), (one("aclose"), one("aclose")));
        Ok(())
    })
}

/// Is closed after a goodbye, or at once if it is cancelled.
#[derive(Default)]
struct Polite {
    closed: RefCell<Vec<&'static str>>,
}

impl Resource for Polite {
    async fn aclose(&self) -> Result<(), StreamError> {
        let goodbye = checkpoint().await;
        self.closed.borrow_mut().push(if goodbye.is_ok() { "politely" } else { "forcefully" });
        Ok(goodbye?)
    }
}

/// `AsyncResource_defaults`
#[test]
fn closing_forcefully_is_closing_in_a_cancelled_scope() -> io::Result<()> {
    run(async {
        let resource = Rc::new(Polite::default());
        resource.aclose().await?;
        let before = lowlevel::points();
        aclose_forcefully(&resource).await?;
        assert_ne!(lowlevel::points().schedule, before.schedule);
        assert!(!is_cancelled());
        assert_eq!(*resource.closed.borrow(), ["politely", "forcefully"]);
        Ok(())
    })
}

#[test]
fn closing_forcefully_passes_on_the_cancellation_from_outside_and_what_fails() -> io::Result<()> {
    run(async {
        let resource = Polite::default();
        let scope = CancelScope::new();
        scope.cancel();
        let closed = scope
            .enter(async {
                let error = aclose_forcefully(&resource).await.unwrap_err();
                assert!(matches!(error, StreamError::Cancelled(_)));
                Err::<(), io::Error>(error.into())
            })
            .await?;
        assert_eq!(closed, None);
        assert_eq!(*resource.closed.borrow(), ["forcefully"]);

        struct Fails;
        impl Resource for Fails {
            async fn aclose(&self) -> Result<(), StreamError> {
                Err(io::Error::other("no").into())
            }
        }
        assert!(matches!(aclose_forcefully(&Fails).await, Err(StreamError::Broken(_))));
        Ok(())
    })
}

/// `ConflictDetector`
#[test]
fn the_intruder_is_busy_and_the_first_is_not_disturbed() -> io::Result<()> {
    run(async {
        let detector = ConflictDetector::new();
        for _ in 0..2 {
            let results = RefCell::new(vec![]);
            open_nursery(async |n| -> io::Result<()> {
                for _ in 0..2 {
                    n.start_soon(async {
                        let entered = detector.enter();
                        results.borrow_mut().push(entered.is_ok());
                        checkpoint().await?;
                        drop(entered);
                        Ok(())
                    });
                }
                checkpoint().await?;
                checkpoint().await?;
                assert_eq!(*results.borrow(), [true, false]);
                Ok(())
            })
            .await?;
        }
        assert!(detector.enter().is_ok());
        Ok(())
    })
}

async fn a_cancelled() -> Cancelled {
    let scope = CancelScope::new();
    scope.cancel_because("a test");
    let caught = Cell::new(None);
    let entered = scope.enter(async {
        let error = checkpoint().await.unwrap_err();
        caught.set(Some(error.clone()));
        Err::<(), _>(error)
    });
    entered.await.expect("absorbed");
    caught.take().expect("cancelled")
}

#[test]
fn every_error_comes_back_from_an_io_error_unharmed() {
    run(async {
        let round = |error: StreamError| StreamError::from(io::Error::from(error));
        let cancelled = round(a_cancelled().await.into());
        let StreamError::Cancelled(cancelled) = cancelled else { panic!("{cancelled:?}") };
        assert_eq!(cancelled.reason().text(), Some("a test"));
        assert!(matches!(round(StreamError::Closed), StreamError::Closed));
        assert!(matches!(round(StreamError::Busy), StreamError::Busy));
        assert!(matches!(round(StreamError::EmptyBuffer), StreamError::EmptyBuffer));
        let reset = io::Error::from_raw_os_error(104);
        let StreamError::Broken(reset) = round(StreamError::Broken(reset)) else { panic!() };
        assert_eq!(reset.raw_os_error(), Some(104));
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

#[test]
fn a_cancellation_is_recognised_in_whatever_carries_it() {
    run(async {
        let cancelled = a_cancelled().await;
        let stream = || StreamError::from(cancelled.clone());
        assert!(anyhow::Error::from(stream()).as_cancelled().is_some());
        assert!(anyhow::Error::from(stream()).context("while sending").as_cancelled().is_some());
        assert!(io::Error::from(stream()).as_cancelled().is_some());
        assert!(io::Error::other(stream()).as_cancelled().is_some());
        assert!(matches!(
            StreamError::from(io::Error::other(io::Error::other(cancelled.clone()))),
            StreamError::Cancelled(_)
        ));
        assert!(io::Error::from(StreamError::Closed).as_cancelled().is_none());
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}

#[test]
fn errors_are_sources_and_say_what_is_wrong() {
    let broken = StreamError::from(Interrupted::new(3, 10));
    let cause = broken.source().expect("broken by something");
    assert_eq!(cause.to_string(), "an earlier `send_all` ended after 3 of its 10 bytes");
    let held = io::Error::from(broken).downcast::<Interrupted>().unwrap();
    assert_eq!((held.sent, held.of), (3, 10));
    assert_eq!(io::Error::from(StreamError::Busy).kind(), io::ErrorKind::ResourceBusy);
    assert_eq!(io::Error::from(StreamError::EmptyBuffer).kind(), io::ErrorKind::InvalidInput);
    assert_eq!(StreamError::Closed.to_string(), "it has been closed on this side");
    assert!(StreamError::Closed.source().is_none());
}

#[test]
fn a_nursery_may_fail_with_it_by_way_of_any_error() {
    run(async {
        let group = open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async { Err::<(), anyhow::Error>(StreamError::Closed.into()) });
            Ok(())
        })
        .await
        .unwrap_err();
        let group: ErrorGroup<anyhow::Error> = group.downcast().unwrap();
        assert!(matches!(group.find::<StreamError>(), Some(StreamError::Closed)));

        let group = open_nursery(async |n| -> io::Result<()> {
            n.start_soon(async { Err::<(), io::Error>(StreamError::Busy.into()) });
            Ok(())
        })
        .await
        .unwrap_err();
        let error = group.downcast::<ErrorGroup<io::Error>>().unwrap().into_single().unwrap();
        assert!(matches!(error.into(), StreamError::Busy));
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}
