//! What our sockets promise beyond the contract of streams, which the kit of `nursery-testing` checks: as an `AsyncRead` and
//! an `AsyncWrite`, and with both directions in use.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, Read, Write};
use std::pin::pin;
use std::time::Duration;

use futures_lite::future::{or, poll_once};
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use nursery::lowlevel::{self, wait_all_tasks_blocked};
use nursery::{CancelScope, Cancelled, checkpoint, move_on_after, open_nursery};
use nursery_io::net::SocketStream;
use nursery_io::stream::{
    HalfClose, Interrupted, ReceiveStream, SendStream, StreamError, aclose_forcefully,
};

const SECOND: Duration = Duration::from_secs(1);

/// More than any system takes that nobody receives.
const HUGE: usize = 64 << 20;

pub(crate) trait Stream:
    SendStream + ReceiveStream + HalfClose + AsyncRead + AsyncWrite + Unpin
{
    /// As an `AsyncRead`, by reference.
    fn polled_read(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>>;

    /// As an `AsyncWrite`, by reference.
    fn polled_write(&self, data: &[u8]) -> impl Future<Output = io::Result<usize>>;
}

impl<T> Stream for SocketStream<T>
where
    for<'a> &'a T: Read + Write,
{
    async fn polled_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut stream = self;
        stream.read(buffer).await
    }

    async fn polled_write(&self, data: &[u8]) -> io::Result<usize> {
        let mut stream = self;
        stream.write(data).await
    }
}

/// Runs all chapters, each with connected pairs of its own.
pub(crate) async fn check<S: Stream>(make: impl AsyncFn() -> io::Result<(S, S)>) -> io::Result<()> {
    what_was_closed_before_its_end_was_said_says_so(make().await?).await?;
    the_second_of_two_is_busy(make().await?).await?;
    a_send_that_ended_half_way_breaks_only_sending(make().await?, make().await?).await?;
    polled_by_another_executor_and_for_nothing(make().await?).await?;
    as_async_read_and_write(make().await?).await?;
    polled_reads_and_writes_are_cancelled_and_dropped(make().await?).await
}

async fn settled() -> Result<(), Cancelled> {
    wait_all_tasks_blocked(Duration::ZERO).await
}

/// Both halves of a checkpoint must be in it.
async fn a_checkpoint<R>(operation: impl Future<Output = R>) -> R {
    let before = lowlevel::points();
    let result = operation.await;
    let after = lowlevel::points();
    assert_ne!(before.cancel, after.cancel, "not a cancel point");
    assert_ne!(before.schedule, after.schedule, "not a schedule point");
    result
}

/// Runs it in a scope that is cancelled already.
async fn cancelled<R, E: Into<StreamError>>(
    operation: impl Future<Output = Result<R, E>>,
) -> Result<R, StreamError> {
    let scope = CancelScope::new();
    scope.cancel();
    let result = Cell::new(None);
    let entered = scope.enter(async {
        result.set(Some(operation.await.map_err(Into::into)));
        Ok::<_, Cancelled>(())
    });
    entered.await?;
    result.take().expect("it has ended")
}

async fn receive(stream: &impl ReceiveStream, count: usize) -> Result<Vec<u8>, StreamError> {
    let mut received = vec![0; count];
    let mut filled = 0;
    while filled < count {
        match stream.receive_some(&mut received[filled..]).await? {
            0 => break,
            n => filled += n,
        }
    }
    received.truncate(filled);
    Ok(received)
}

async fn what_was_closed_before_its_end_was_said_says_so<S: Stream>(
    (a, _b): (S, S),
) -> io::Result<()> {
    aclose_forcefully(&a).await?;
    assert!(matches!(a.send_eof().await, Err(StreamError::Closed)));
    for error in
        [a.polled_write(b"x").await.unwrap_err(), a.polled_read(&mut [0]).await.unwrap_err()]
    {
        assert!(matches!(error.into(), StreamError::Closed));
    }
    Ok(())
}

async fn the_second_of_two_is_busy<S: Stream>((a, b): (S, S)) -> io::Result<()> {
    let huge = vec![7; HUGE];
    open_nursery(async |n| -> io::Result<()> {
        n.start_soon(async {
            let mut byte = [0];
            assert_eq!(a.receive_some(&mut byte).await?, 1);
            assert_eq!(byte, *b"!");
            Ok(())
        });
        n.start_soon(async { Ok(a.send_all(&huge).await?) });
        settled().await?;
        let written = a.polled_write(b"x").await.unwrap_err();
        assert!(matches!(written.into(), StreamError::Busy));
        let read = a.polled_read(&mut [0]).await.unwrap_err();
        assert!(matches!(read.into(), StreamError::Busy));
        // The first ones are not disturbed.
        b.send_all(b"!").await?;
        assert_eq!(receive(&b, HUGE).await?.len(), HUGE);
        Ok(())
    })
    .await
}

async fn a_send_that_ended_half_way_breaks_only_sending<S: Stream>(
    (a, b): (S, S),
    (c, d): (S, S),
) -> io::Result<()> {
    let huge = vec![0; HUGE];
    assert_eq!(
        move_on_after(SECOND, async { io::Result::Ok(a.send_all(&huge).await?) }).await?,
        None
    );
    let dropped = or(async { c.send_all(&huge).await }, async {
        settled().await?;
        Ok(())
    });
    dropped.await?;
    for (here, there) in [(&a, &b), (&c, &d)] {
        let interrupted = interrupted(here.send_all(b"").await.unwrap_err());
        assert!(interrupted.sent > 0 && interrupted.sent < HUGE);
        assert_eq!(interrupted.of, HUGE);
        for refused in [
            here.send_all(b"x").await,
            here.send_eof().await,
            here.wait_send_all_might_not_block().await,
            here.polled_write(b"x").await.map(drop).map_err(StreamError::from),
        ] {
            assert_eq!(self::interrupted(refused.unwrap_err()), interrupted);
        }
        // Receiving goes on, and so does the other side.
        there.send_all(b"still here").await?;
        assert_eq!(receive(here, 10).await?, b"still here");
        assert_eq!(receive(there, interrupted.sent).await?.len(), interrupted.sent);
        here.aclose().await?;
        assert_eq!(there.receive_some(&mut [0]).await?, 0, "more was sent than was said");
    }
    Ok(())
}

fn interrupted(error: StreamError) -> Interrupted {
    let StreamError::Broken(cause) = error else { panic!("{error:?}") };
    cause.downcast().expect("interrupted")
}

async fn polled_by_another_executor_and_for_nothing<S: Stream>((a, b): (S, S)) -> io::Result<()> {
    let mut buffers = [[0; 10]; 2];
    let [first, second] = &mut buffers;
    // One that is given up under its own waker leaves nothing behind for the next, under another.
    assert!(poll_once(pin!(b.receive_some(first))).await.is_none());
    let mut others = FuturesUnordered::new();
    others.push(b.receive_some(second));
    for _ in 0..3 {
        assert!(poll_once(others.next()).await.is_none());
        checkpoint().await?;
    }
    a.send_all(b"woken").await?;
    assert_eq!(others.next().await.expect("one")?, 5);
    drop(others);
    assert_eq!(&buffers[1][..5], b"woken");
    Ok(())
}

async fn as_async_read_and_write<S: Stream>((mut a, mut b): (S, S)) -> io::Result<()> {
    open_nursery(async |n| -> io::Result<()> {
        n.start_soon(async {
            let mut all = String::new();
            b.read_to_string(&mut all).await?;
            assert_eq!(all.len(), 1 << 20);
            b.write_all(b"thanks").await
        });
        a_checkpoint(a.write_all(&[b'a'; 1 << 20])).await?;
        a.flush().await?;
        a_checkpoint(a.close()).await?;
        assert!(matches!(a.send_all(b"x").await, Err(StreamError::Closed)));
        let mut answer = [0; 6];
        a_checkpoint(a.read_exact(&mut answer)).await?;
        assert_eq!(answer, *b"thanks");
        Ok(())
    })
    .await
}

async fn polled_reads_and_writes_are_cancelled_and_dropped<S: Stream>(
    (a, b): (S, S),
) -> io::Result<()> {
    let mut buffer = [0; 10];
    a.send_all(b"kept").await?;
    for _ in 0..2 {
        let read = cancelled(b.polled_read(&mut buffer)).await;
        assert!(matches!(read, Err(StreamError::Cancelled(_))), "{read:?}");
        let written = cancelled(b.polled_write(b"lost")).await;
        assert!(matches!(written, Err(StreamError::Cancelled(_))), "{written:?}");
    }
    assert_eq!(b.polled_read(&mut buffer).await?, 4);

    // Cancelled, and dropped, while they wait; then used again, in another scope and another task.
    assert_eq!(move_on_after(SECOND, b.polled_read(&mut buffer)).await?, None);
    assert!(poll_once(pin!(b.polled_read(&mut buffer))).await.is_none());
    settled().await?;
    let got = RefCell::new(vec![]);
    open_nursery(async |n| -> io::Result<()> {
        n.start_soon(async {
            assert_eq!(move_on_after(SECOND, b.polled_read(&mut [0; 10])).await?, None);
            // Under the waker of another executor.
            let mut reads = FuturesUnordered::new();
            reads.push(async {
                let mut buffer = [0; 10];
                let n = b.polled_read(&mut buffer).await?;
                io::Result::Ok(buffer[..n].to_vec())
            });
            let read = reads.next().await.expect("one")?;
            got.borrow_mut().extend(read);
            Ok(())
        });
        let asleep = move_on_after(SECOND * 10, nursery::sleep_forever()).await?;
        assert!(asleep.is_none());
        a.send_all(b"after").await?;
        Ok(())
    })
    .await?;
    assert_eq!(*got.borrow(), b"after");

    // Closing wakes a reader, too.
    open_nursery(async |n| -> io::Result<()> {
        n.start_soon(async {
            let error = b.polled_read(&mut [0]).await.unwrap_err();
            assert!(matches!(error.into(), StreamError::Closed));
            Ok(())
        });
        settled().await?;
        checkpoint().await?;
        b.aclose().await?;
        Ok(())
    })
    .await
}
