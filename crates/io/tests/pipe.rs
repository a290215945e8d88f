//! Promises of `nursery_io::pipe`. After trio's `test_unix_pipes`.
#![cfg(unix)]

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use nursery::lowlevel::wait_all_tasks_blocked;
use nursery::{move_on_after, open_nursery};
use nursery_io::pipe::{self, PipeReceiver, PipeSender};
use nursery_io::stream::{
    HalfClose, Interrupted, ReceiveStream, Resource, SendStream, Stapled, StreamError,
};
use nursery_testing::run;
use rustix::fs::{OFlags, fcntl_getfl};

const SECOND: Duration = Duration::from_secs(1);
const HUGE: usize = 2 << 20;

/// `send_pipe`, `receive_pipe`
#[test]
fn bytes_go_through_and_then_the_end() -> io::Result<()> {
    run(async {
        let (sender, receiver) = pipe::open()?;
        sender.send_all(b"123").await?;
        sender.send_all(b"").await?;
        let mut buffer = [0; 10];
        assert_eq!(receiver.receive_some(&mut buffer).await?, 3);
        assert!(matches!(receiver.receive_some(&mut []).await, Err(StreamError::EmptyBuffer)));
        sender.send_eof().await?;
        sender.send_eof().await?;
        for _ in 0..2 {
            assert_eq!(receiver.receive_some(&mut buffer).await?, 0);
        }
        assert!(matches!(sender.send_all(b"").await, Err(StreamError::Closed)));
        Ok(())
    })
}

/// `pipes_combined`, `pipe_fully`
#[test]
fn much_goes_through_and_both_ways() -> io::Result<()> {
    run(async {
        let ((to_b, from_a), (to_a, from_b)) = (pipe::open()?, pipe::open()?);
        let (a, b) = (Stapled::new(to_b, from_b), Stapled::new(to_a, from_a));
        let data: Vec<u8> = (0..HUGE).map(|i| (i % 251) as u8).collect();
        open_nursery(async |n| -> io::Result<()> {
            for end in [&a, &b] {
                let data = &data;
                n.start_soon(async {
                    end.send_all(data).await?;
                    Ok(end.send_eof().await?)
                });
                n.start_soon(async {
                    let mut received = vec![];
                    (&end.receive).read_to_end(&mut received).await?;
                    assert!(received == *data);
                    Ok(())
                });
            }
            Ok(())
        })
        .await
    })
}

#[test]
fn closing_wakes_those_that_wait_and_the_other_end_learns_it() -> io::Result<()> {
    run(async {
        let (sender, receiver) = pipe::open()?;
        open_nursery(async |n| -> io::Result<()> {
            n.start_soon(async {
                let received = receiver.receive_some(&mut [0]).await;
                assert!(matches!(received, Err(StreamError::Closed)));
                Ok(())
            });
            wait_all_tasks_blocked(Duration::ZERO).await?;
            assert!(matches!(receiver.receive_some(&mut [0]).await, Err(StreamError::Busy)));
            receiver.aclose().await?;
            Ok(())
        })
        .await?;
        for _ in 0..2 {
            assert!(matches!(sender.send_all(b"x").await, Err(StreamError::Broken(_))));
        }
        sender.wait_send_all_might_not_block().await?;
        let mut sender = &sender;
        let error = sender.write(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        Ok(())
    })
}

#[test]
fn a_full_pipe_makes_the_sender_wait_and_cut_off_it_refuses() -> io::Result<()> {
    run(async {
        let (sender, receiver) = pipe::open()?;
        let data = vec![0; HUGE];
        let sent = move_on_after(SECOND, async { io::Result::Ok(sender.send_all(&data).await?) });
        assert_eq!(sent.await?, None);
        let error = io::Error::from(sender.send_all(b"x").await.unwrap_err());
        let interrupted = error.downcast::<Interrupted>().unwrap();
        assert_eq!(interrupted.of, HUGE);
        drop(sender);
        let mut received = vec![];
        (&receiver).read_to_end(&mut received).await?;
        assert_eq!(received.len(), interrupted.sent);
        Ok(())
    })
}

/// H59, and `unix_pipes del`
#[test]
fn the_mode_of_a_descriptor_is_put_back() -> io::Result<()> {
    run(async {
        let is_nonblocking =
            |fd: &OwnedFd| Ok::<_, io::Error>(fcntl_getfl(fd)?.contains(OFlags::NONBLOCK));
        let (reader, writer) = io::pipe()?;
        let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
        let (other_reader, other_writer) = (reader.try_clone()?, writer.try_clone()?);
        let (receiver, sender) = (PipeReceiver::from_fd(reader)?, PipeSender::from_fd(writer)?);
        assert!(is_nonblocking(&other_reader)? && is_nonblocking(&other_writer)?);
        receiver.aclose().await?;
        drop(sender);
        assert!(!is_nonblocking(&other_reader)? && !is_nonblocking(&other_writer)?);
        Ok(())
    })
}

/// `misdirected_aclose_regression`
#[test]
fn closing_twice_closes_nothing_that_belongs_to_others() -> io::Result<()> {
    run(async {
        let (sender, receiver) = pipe::open()?;
        receiver.close();
        let (other_sender, other_receiver) = pipe::open()?; // may have the same numbers
        receiver.close();
        receiver.aclose().await?;
        drop((sender, receiver));
        other_sender.send_all(b"x").await?;
        assert_eq!(other_receiver.receive_some(&mut [0]).await?, 1);
        Ok(())
    })
}

/// `pipe_errors`
#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_waited_for_is_refused() -> io::Result<()> {
    let file = File::open(std::env::current_exe()?)?;
    assert!(PipeReceiver::from_fd(file).is_err());
    Ok(())
}
