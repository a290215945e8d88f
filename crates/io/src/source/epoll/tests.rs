//! Promises of [`Watched`], and of the epoll of a run.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nursery::lowlevel::wait_all_tasks_blocked;
use nursery::{Builder, CancelScope, Cancelled, checkpoint, move_on_after, open_nursery};
use nursery_testing::{MockClock, hostile_with};
use rustix::io::Errno;
use socket2::SockRef;

use super::*;
use crate::source::Source;
use crate::source::epoll::driver::AT_ONCE;
use crate::stream::StreamError;

const LONG: Duration = Duration::from_secs(60);

async fn settled() -> Result<(), Cancelled> {
    wait_all_tasks_blocked(Duration::ZERO).await
}

/// Runs it in a thread of its own, which waits in the epoll; and as a guest.
fn run(main: impl AsyncFn() -> io::Result<()>) {
    nursery_testing::run(main()).unwrap();
    let guest = Builder::new().clock(MockClock::autojump()).seed(1).guest(main());
    async_io::block_on(guest).unwrap();
}

/// A TCP connection, and how often was read from it.
struct Counted {
    source: Source<TcpStream>,
    reads: Cell<u32>,
}

impl Counted {
    /// With its other end, whose bytes go at once.
    fn pair() -> io::Result<(Counted, TcpStream)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let one = TcpStream::connect(listener.local_addr()?)?;
        let other = listener.accept()?.0;
        other.set_nodelay(true)?;
        Ok((Counted { source: Source::new(one)?, reads: Cell::new(0) }, other))
    }

    /// Reads up to ten bytes, as TCP streams do it.
    async fn read(&self) -> io::Result<String> {
        let mut buffer = [0; 10];
        let read = self.source.run(Interest::Read, "bytes", |mut io| {
            self.reads.set(self.reads.get() + 1);
            let n = io.read(&mut buffer)?;
            if (1..10).contains(&n) {
                self.source.read_short();
            }
            Ok(n)
        });
        let n = read.await?;
        Ok(String::from_utf8_lossy(&buffer[..n]).into())
    }
}

async fn read_a_byte(source: &Source<UnixStream>) -> io::Result<()> {
    let n = source.run(Interest::Read, "a byte", |mut io| io.read(&mut [0])).await?;
    assert_eq!(n, 1);
    Ok(())
}

#[test]
fn after_a_short_read_no_other_is_made_in_vain() {
    run(async || {
        let (tcp, mut other) = Counted::pair()?;
        for expected in [2, 3, 4] {
            open_nursery(async |n| -> io::Result<()> {
                let read = n.start_soon(tcp.read());
                settled().await?;
                other.write_all(b"word")?;
                assert_eq!((&*read.await?, tcp.reads.get()), ("word", expected));
                Ok(())
            })
            .await?;
        }
        other.write_all(b"a word of more than ten bytes")?;
        for expected in ["a word of ", "more than ", "ten bytes"] {
            assert_eq!(tcp.read().await?, expected);
        }
        Ok(())
    });
}

/// What the other end does after "word": before a look hears of it, or after the look, before the task has read.
fn after_the_word(meanwhile: fn(&TcpStream), then: &'static str) {
    for is_heard_of in [false, true] {
        run(async || {
            let (tcp, mut other) = Counted::pair()?;
            let theirs = Rc::new(Cell::new(None));
            let once = {
                let theirs = theirs.clone();
                move |_| theirs.take().iter().for_each(meanwhile)
            };
            open_nursery(async |n| -> io::Result<()> {
                let read = n.start_soon(hostile_with(once, tcp.read()));
                settled().await?;
                other.write_all(b"word")?;
                if is_heard_of {
                    theirs.set(Some(other.try_clone()?)); // by the waker that the look wakes
                } else {
                    meanwhile(&other);
                }
                assert_eq!(read.await?, "word");
                assert!(theirs.take().is_none());
                assert_eq!(tcp.read().await?, then);
                Ok(())
            })
            .await
        });
    }
}

#[test]
fn the_end_is_heard_of_with_the_last_bytes_and_after_them() {
    after_the_word(|other| other.shutdown(Shutdown::Write).unwrap(), "");
}

/// Each read stops before an urgent byte, which is not among the others.
#[test]
fn what_comes_behind_an_urgent_byte_is_not_missed() {
    let urgent = |mut other: &TcpStream| {
        SockRef::from(other).send_out_of_band(b"!").unwrap();
        other.write_all(b"behind").unwrap();
    };
    after_the_word(urgent, "behind");
}

#[test]
fn more_sockets_than_fit_into_one_look_are_all_woken() {
    run(async || {
        let mut pairs = vec![];
        for _ in 0..10 {
            let (one, other) = UnixStream::pair()?;
            pairs.push((Source::new(one)?, other));
        }
        open_nursery(async |n| -> io::Result<()> {
            for (source, _) in &pairs {
                n.start_soon(read_a_byte(source));
            }
            settled().await?;
            for (_, other) in &pairs {
                (&*other).write_all(b"x")?;
            }
            Ok(())
        })
        .await
    });
}

/// The number of a descriptor that was closed is that of the next one.
#[test]
fn who_is_closed_leaves_no_registration_even_if_its_file_is_still_open() {
    run(async || {
        let (one, mut other) = UnixStream::pair()?;
        let still_open = one.try_clone()?;
        let source = Source::new(one)?;
        assert_eq!(move_on_after(LONG, read_a_byte(&source)).await?, None);
        let driver = Driver::of_this_run()?;
        assert_eq!(driver.registered(), 1);
        drop(source);
        assert_eq!(driver.registered(), 0);

        let (one, _next_other) = UnixStream::pair()?;
        let next = Source::new(one)?;
        open_nursery(async |n| -> io::Result<()> {
            let scope = n.cancel_scope();
            n.start_soon(read_a_byte(&next));
            settled().await?;
            other.write_all(b"not for the next")?;
            settled().await?;
            let waits = !next.get()?.is_perhaps_ready(Interest::Read);
            assert!(waits, "it was told of what is not its own");
            scope.cancel();
            Ok(())
        })
        .await?;
        drop(still_open);
        Ok(())
    });
}

#[test]
fn who_is_woken_may_close_another_of_the_same_look() {
    run(async || {
        let (first, mut to_first) = UnixStream::pair()?;
        let (second, mut to_second) = UnixStream::pair()?;
        let (first, second) = (Source::new(first)?, Rc::new(Source::new(second)?));
        let to_be_closed = Rc::new(Cell::new(None));
        let closes = {
            let to_be_closed = to_be_closed.clone();
            move |_| to_be_closed.take().iter().for_each(|source: &Rc<Source<_>>| source.close())
        };
        open_nursery(async |n| -> io::Result<()> {
            n.start_soon(hostile_with(closes, read_a_byte(&first)));
            n.start_soon(async {
                let error = read_a_byte(&second).await.unwrap_err();
                assert!(matches!(error.into(), StreamError::Closed));
                Ok(())
            });
            settled().await?;
            to_be_closed.set(Some(second.clone()));
            to_first.write_all(b"x")?;
            to_second.write_all(b"x")?;
            Ok(())
        })
        .await
    });
}

#[test]
fn what_no_epoll_takes_is_refused_when_it_is_waited_for_and_by_request_before() {
    run(async || {
        let file = || File::open(std::env::current_exe()?);
        let source = Source::new(file()?)?;
        let waits = source.run(Interest::Read, "a miracle", |_| {
            io::Result::<()>::Err(io::ErrorKind::WouldBlock.into())
        });
        let StreamError::Broken(error) = waits.await.unwrap_err() else { panic!("not broken") };
        assert_eq!(Errno::from_io_error(&error), Some(Errno::PERM));
        assert_eq!(Driver::of_this_run()?.registered(), 0);
        assert!(Source::new_checked(file()?).is_err());
        Ok(())
    });
}

/// In an order that the program does not make. What it makes itself is turned round, or not.
#[test]
fn what_comes_first_goes_first() {
    for _ in 0..20 {
        let served = RefCell::new(vec![]);
        let pairs: Vec<_> = (0..AT_ONCE).map(|_| UnixStream::pair().unwrap()).collect();
        nursery::run(async {
            open_nursery(async |n| -> io::Result<()> {
                let mut sources = vec![];
                for (i, (one, _)) in pairs.iter().enumerate() {
                    let (source, served) = (Source::new(one.try_clone()?)?, &served);
                    sources.push(n.start_soon(async move {
                        read_a_byte(&source).await?;
                        served.borrow_mut().push(i);
                        Ok(())
                    }));
                }
                settled().await?;
                for (_, other) in pairs.iter().rev() {
                    (&*other).write_all(b"x")?;
                }
                Ok(())
            })
            .await
        })
        .unwrap();
        assert!(served.take().into_iter().eq((0..AT_ONCE).rev()));
    }
}

/// The thread waits in the epoll, for a socket that has nothing, and is woken from elsewhere each time.
#[test]
fn other_threads_wake_who_waits_for_sockets() {
    let (one, _other) = UnixStream::pair().unwrap();
    let result = nursery::run(async {
        let source = Source::new(one)?;
        for _ in 0..200 {
            let scope = CancelScope::new();
            let remote = scope.remote();
            let read = scope.enter(async {
                let waits = open_nursery(async |n| {
                    n.start_soon(read_a_byte(&source));
                    checkpoint().await?;
                    std::thread::spawn(move || remote.cancel());
                    Ok(())
                });
                waits.await
            });
            assert_eq!(read.await?, None::<()>);
        }
        io::Result::Ok(())
    });
    result.unwrap();
}
