//! Promises of [`Source`], whoever tells it of readiness.

use std::cell::Cell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::pin::pin;

use nursery::lowlevel::{cancelled, spawn_system_task, wait_all_tasks_blocked};
use nursery::{Builder, Cancelled, checkpoint, move_on_after, open_nursery, shield};
use nursery_testing::Test;

use super::*;

const WHAT: &str = "something to receive";
const LONG: Duration = Duration::from_secs(60);

async fn settled() -> Result<(), Cancelled> {
    wait_all_tasks_blocked(Duration::ZERO).await
}

fn run<T>(main: impl Future<Output = io::Result<T>>) -> T {
    nursery_testing::run(main).unwrap()
}

fn pair() -> io::Result<(Source<UnixStream>, UnixStream)> {
    let (one, other) = UnixStream::pair()?;
    Ok((Source::new(one)?, other))
}

/// Reads up to ten bytes.
async fn read(source: &Source<UnixStream>) -> Result<usize, StreamError> {
    source.run(Interest::Read, WHAT, |mut io| io.read(&mut [0; 10])).await
}

/// Writes until nothing goes.
fn fill(source: &Source<UnixStream>) -> Result<(), StreamError> {
    while source.with(|mut io| io.write(&[0; 1 << 16]))?.is_ok() {}
    Ok(())
}

/// Reads until nothing comes.
fn drain(mut io: &UnixStream) -> io::Result<()> {
    io.set_nonblocking(true)?;
    while io.read(&mut [0; 1 << 16]).is_ok() {}
    Ok(())
}

/// An attempt in vain is a system call.
#[test]
fn one_attempt_before_the_wait_and_one_after_it() {
    run(async {
        let (source, mut other) = pair()?;
        let attempts = Cell::new(0);
        for _ in 0..3 {
            attempts.set(0);
            let read = |mut io: &UnixStream| {
                attempts.set(attempts.get() + 1);
                io.read(&mut [0; 10])
            };
            open_nursery(async |n| -> io::Result<()> {
                let received =
                    n.start_soon(async { Ok(source.run(Interest::Read, WHAT, read).await?) });
                settled().await?;
                assert_eq!(attempts.get(), 1);
                other.write_all(b"x")?;
                assert_eq!((received.await?, attempts.get()), (1, 2));
                Ok(())
            })
            .await?;
        }
        Ok(())
    });
}

#[test]
fn a_wait_that_was_given_up_loses_nothing() {
    run(async {
        let (source, mut other) = pair()?;
        for _ in 0..3 {
            let nothing = move_on_after(LONG, async { io::Result::Ok(read(&source).await?) });
            assert_eq!(nothing.await?, None);
            other.write_all(b"xy")?;
            assert_eq!(read(&source).await?, 2);
        }
        Ok(())
    });
}

#[test]
fn a_run_that_is_never_idle_hears_of_readiness() {
    for test in [Test::new(), Test::new().real_clock(), Test::new().checkpoint_budget(128)] {
        let ended = test.run(async {
            let (source, mut other) = pair()?;
            let is_read = Cell::new(false);
            open_nursery(async |n| -> io::Result<()> {
                n.start_soon(async {
                    assert_eq!(read(&source).await?, 1);
                    is_read.set(true);
                    Ok(())
                });
                settled().await?;
                other.write_all(b"x")?;
                while !is_read.get() {
                    checkpoint().await?;
                }
                Ok(())
            })
            .await
        });
        ended.unwrap();
    }
}

#[test]
fn made_outside_of_any_run_it_is_used_by_one_after_the_other() {
    let (source, mut other) = pair().unwrap();
    for _ in 0..3 {
        run(async {
            open_nursery(async |n| -> io::Result<()> {
                let received = n.start_soon(async { Ok(read(&source).await?) });
                settled().await?;
                other.write_all(b"x")?;
                assert_eq!(received.await?, 1);
                Ok(())
            })
            .await
        });
    }
    other.write_all(b"x").unwrap();
    assert_eq!(run(async { Ok(read(&source).await?) }), 1);
}

/// Each run waits for one direction.
#[test]
fn two_runs_on_a_thread_wait_for_it_at_the_same_time() {
    let (source, mut other) = pair().unwrap();
    fill(&source).unwrap();
    let reader = Builder::new().guest(async { Ok::<_, io::Error>(read(&source).await?) });
    let writer = Builder::new().guest(async {
        Ok::<_, io::Error>(source.run(Interest::Write, "room", |mut io| io.write(b"x")).await?)
    });
    let third = Builder::new().guest(async {
        for interest in [Interest::Read, Interest::Write] {
            assert!(!source.get()?.is_perhaps_ready(interest), "nobody waits");
        }
        other.write_all(b"y")?;
        drain(&other)
    });
    let all = futures_util::future::join3(reader, writer, third);
    let (read, written, third) = async_io::block_on(all);
    assert_eq!((read.unwrap(), written.unwrap()), (1, 1));
    third.unwrap();
}

/// When the main task has ended, its sockets still work for system tasks that clean up.
#[test]
fn it_works_while_the_run_shuts_down() {
    let (source, mut other) = pair().unwrap();
    let has_read = Rc::new(Cell::new(0));
    run(async {
        let has_read = has_read.clone();
        let reader = spawn_system_task("reader", async move {
            cancelled().await;
            for _ in 0..2 {
                let n = shield(async { io::Result::Ok(read(&source).await?) }).await;
                has_read.set(has_read.get() + n.unwrap());
            }
            Ok(())
        });
        let writer = spawn_system_task("writer", async move {
            cancelled().await;
            for _ in 0..2 {
                shield(settled()).await?;
                other.write_all(b"x").unwrap();
            }
            Ok(())
        });
        assert!(reader.is_ok() && writer.is_ok());
        checkpoint().await?;
        Ok(())
    });
    assert_eq!(has_read.get(), 2);
}

/// A wait for it is one for the outside world; that it is there is none.
#[test]
fn it_hides_no_deadlock() {
    let message = std::panic::catch_unwind(|| {
        run(async {
            let (source, _other) = pair()?;
            let nothing = move_on_after(LONG, async { io::Result::Ok(read(&source).await?) });
            assert_eq!(nothing.await?, None);
            nursery::sleep_forever().await?;
            Ok(())
        });
    });
    let message = *message.unwrap_err().downcast::<String>().unwrap();
    assert!(message.starts_with("deadlock: "), "{message}");
}

#[test]
fn room_is_asked_for_whatever_was_known() {
    run(async {
        let (source, other) = pair()?;
        fill(&source)?;
        let has_room = Cell::new(false);
        open_nursery(async |n| -> io::Result<()> {
            n.start_soon(async {
                let _asked = source.ask(Interest::Write)?;
                let ready = poll_fn(|cx| source.poll_ready(Interest::Write, cx));
                cancellable(ready).await??;
                has_room.set(true);
                Ok(())
            });
            settled().await?;
            assert!(!has_room.get());
            drain(&other)
        })
        .await?;
        assert!(has_room.get());
        Ok(())
    });
}

#[test]
fn a_host_without_a_reactor_is_woken() {
    let (source, mut other) = pair().unwrap();
    let mut guest = pin!(Builder::new().guest(async { io::Result::Ok(read(&source).await?) }));
    let mut is_written = false;
    let ended = futures_lite::future::block_on(poll_fn(|cx| {
        let ended = guest.as_mut().poll(cx);
        if ended.is_pending() && !is_written {
            other.write_all(b"x").unwrap();
            is_written = true;
        }
        ended
    }));
    assert_eq!(ended.unwrap(), 1);
}
