//! Promises of the Unix sockets of `nursery_io::net`.
#![cfg(unix)]

mod stream_suite;

use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nursery::lowlevel::wait_all_tasks_blocked;
use nursery::{Cancelled, move_on_after, now, open_nursery, shield, sleep};
use nursery_io::net::{AddressError, UnixDatagram, UnixListener, UnixStream};
use nursery_io::stream::{
    BufferedReceive, Listener, ReceiveStream, Resource, SendStream, StreamError,
};
use nursery_testing::{CancelEverywhere, Test, hostile, run};

const SECOND: Duration = Duration::from_secs(1);

/// Shorter than any pause before something is tried again.
const SHORT: Duration = Duration::from_millis(1);

/// A directory that is removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("nursery-unix-{}-{}", id.0, id.1));
        fs::create_dir(&path)?;
        Ok(Directory(path))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn settled() -> Result<(), Cancelled> {
    wait_all_tasks_blocked(Duration::ZERO).await
}

#[test]
fn a_pair_keeps_the_contract_of_streams() -> io::Result<()> {
    for seed in 0..3 {
        Test::new()
            .seed(seed)
            .time_limit(SECOND * 10)
            .run(stream_suite::check(async || UnixStream::pair()))?;
    }
    Ok(())
}

#[test]
fn it_keeps_it_also_under_wakers_that_use_the_run() -> io::Result<()> {
    Test::new()
        .time_limit(SECOND * 60)
        .run(hostile(stream_suite::check(async || UnixStream::pair())))
}

/// What has been sent is received, once: however often, and wherever, either side was cancelled or dropped.
#[test]
fn cancelled_or_dropped_anywhere_no_byte_is_lost_or_comes_twice() {
    CancelEverywhere::new().time_limit(SECOND * 60).run(async || -> io::Result<()> {
        let (here, there) = UnixStream::pair()?;
        let sent = Cell::new(0);
        let mut received = BufferedReceive::new(there);
        let exchanged = async {
            for _ in 0..3 {
                here.send_all(b"ab").await?;
                sent.set(sent.get() + 1);
                assert_eq!(received.read_exactly(1).await?, b"a");
                assert_eq!(received.read_exactly(1).await?, b"b");
            }
            io::Result::Ok(())
        };
        let exchanged = exchanged.await;
        drop(here);
        // Shielded: whatever happened, look at what is left.
        let (stream, mut rest) = received.into_inner();
        let mut buffer = [0; 10];
        let n = shield(async { stream.receive_some(&mut buffer).await }).await?;
        rest.extend(&buffer[..n]);
        assert!([&b""[..], b"b", b"ab"].contains(&&*rest), "{rest:?}");
        assert!(sent.get() == 3 || exchanged.is_err());
        exchanged
    });
}

#[test]
fn open_unix_socket() -> io::Result<()> {
    run(async {
        let directory = Directory::new()?;
        let path = directory.path("socket");
        let listener = UnixListener::bind(&path)?;
        assert_eq!(listener.local_addr()?.as_pathname(), Some(&*path));
        let client = UnixStream::connect(&path).await?;
        let server = listener.accept().await?;
        client.send_all(b"hi").await?;
        let mut buffer = [0; 10];
        assert_eq!(server.receive_some(&mut buffer).await?, 2);
        assert_eq!(client.peer_addr()?.as_pathname(), Some(&*path));
        Ok(())
    })
}

fn address_of(error: io::Error) -> (String, io::ErrorKind) {
    let kind = error.kind();
    (error.downcast::<AddressError>().expect("with an address").address, kind)
}

/// `open_bad_socket`, `close_on_error`
#[test]
fn what_cannot_be_connected_to_is_named() -> io::Result<()> {
    run(async {
        let directory = Directory::new()?;
        let missing = directory.path("missing");
        let error = UnixStream::connect(&missing).await.unwrap_err();
        assert_eq!(address_of(error), (missing.display().to_string(), io::ErrorKind::NotFound));

        let stale = directory.path("stale");
        drop(net::UnixListener::bind(&stale)?);
        let error = UnixStream::connect(&stale).await.unwrap_err();
        assert_eq!(address_of(error).1, io::ErrorKind::ConnectionRefused);

        let too_long = Path::new("/tmp").join("x".repeat(1000));
        let error = UnixStream::connect(&too_long).await.unwrap_err();
        assert_eq!(address_of(error).1, io::ErrorKind::InvalidInput);
        Ok(())
    })
}

#[test]
fn a_listener_removes_its_file_when_it_is_closed_or_dropped() -> io::Result<()> {
    run(async {
        let directory = Directory::new()?;
        let path = directory.path("socket");
        let listener = UnixListener::bind(&path)?;
        let error = UnixListener::bind(&path).unwrap_err();
        assert_eq!(address_of(error), (path.display().to_string(), io::ErrorKind::AddrInUse));
        assert!(path.exists(), "removed by one that could not be bound");
        listener.aclose().await?;
        assert!(!path.exists());
        drop(UnixListener::bind(&path)?);
        assert!(!path.exists());

        // Not the file of somebody else.
        let first = UnixListener::bind(&path)?;
        fs::remove_file(&path)?;
        let second = UnixListener::bind(&path)?;
        drop(first);
        assert!(path.exists());
        UnixStream::connect(&path).await?;
        drop(second);
        assert!(!path.exists());
        Ok(())
    })
}

#[test]
fn the_file_of_a_listener_has_the_permissions_asked_for() -> io::Result<()> {
    let directory = Directory::new()?;
    for mode in [0o600, 0o660] {
        let path = directory.path("socket");
        let _listener = UnixListener::bind_with_mode(&path, mode)?;
        assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, mode);
    }
    Ok(())
}

/// `unix_domain_socket`
#[cfg(target_os = "linux")]
#[test]
fn a_name_may_be_abstract() -> io::Result<()> {
    run(async {
        let name = format!("\0nursery-{}", std::process::id());
        let listener = UnixListener::bind_with_mode(&name, 0o600)?;
        let client = UnixStream::connect(&name).await?;
        let server = listener.accept().await?;
        server.send_all(b"x").await?;
        assert_eq!(client.receive_some(&mut [0; 10]).await?, 1);
        drop(listener);
        assert_eq!(
            address_of(UnixStream::connect(&name).await.unwrap_err()).1,
            io::ErrorKind::ConnectionRefused
        );
        Ok(())
    })
}

#[test]
fn a_client_waits_while_too_many_wait_already() -> io::Result<()> {
    run(async {
        let directory = Directory::new()?;
        let path = directory.path("socket");
        let system = net::UnixListener::bind(&path)?;
        socket2::SockRef::from(&system).listen(0)?;
        let listener = UnixListener::from_std(system)?;
        let waiting = RefCell::new(vec![]);
        let full = move_on_after(SECOND, async {
            while waiting.borrow().len() < 1000 {
                let client = UnixStream::connect(&path).await?;
                waiting.borrow_mut().push(client);
            }
            io::Result::Ok(())
        });
        assert_eq!(full.await?, None);
        assert!(!waiting.borrow().is_empty());
        let start = now();
        open_nursery(async |n| -> io::Result<()> {
            n.start_soon(async { UnixStream::connect(&path).await.map(drop) });
            sleep(SECOND).await?;
            listener.accept().await?;
            Ok(())
        })
        .await?;
        assert!(now() - start < SECOND * 2);
        Ok(())
    })
}

#[test]
fn datagrams_arrive_whole_and_closing_wakes_those_that_wait() -> io::Result<()> {
    run(async {
        let directory = Directory::new()?;
        let path = directory.path("socket");
        let bound = UnixDatagram::bind(&path)?;
        let sender = UnixDatagram::unbound()?;
        sender.send_to(b"one", &path).await?;
        sender.connect(&path)?;
        sender.send(b"three").await?;
        let mut buffer = [0; 4];
        let (n, from) = bound.recv_from(&mut buffer).await?;
        assert_eq!((&buffer[..n], from.is_unnamed()), (&b"one"[..], true));
        assert_eq!(bound.recv(&mut buffer).await?, 4, "the rest is lost");
        assert_eq!(&buffer, b"thre");

        open_nursery(async |n| -> io::Result<()> {
            for _ in 0..2 {
                n.start_soon(async {
                    let error = bound.recv(&mut [0; 10]).await.unwrap_err();
                    assert!(matches!(error.into(), StreamError::Closed));
                    Ok(())
                });
            }
            settled().await?;
            bound.aclose().await?;
            Ok(())
        })
        .await?;
        assert!(!path.exists());
        let error = sender.send_to(b"x", &path).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        Ok(())
    })
}

#[test]
fn a_sender_of_datagrams_waits_for_room() -> io::Result<()> {
    run(async {
        let (a, b) = UnixDatagram::pair()?;
        let sent = RefCell::new(0);
        open_nursery(async |n| -> io::Result<()> {
            for _ in 0..2 {
                n.start_soon(async {
                    for _ in 0..1000 {
                        a.send(&[0; 1000]).await?;
                        *sent.borrow_mut() += 1;
                    }
                    Ok(())
                });
            }
            settled().await?;
            assert!(*sent.borrow() < 2000);
            for _ in 0..2000 {
                assert_eq!(b.recv(&mut [0; 2000]).await?, 1000);
            }
            Ok(())
        })
        .await?;
        assert_eq!(*sent.borrow(), 2000);
        Ok(())
    })
}

/// Sends datagrams to `path` until it takes no more, by several, as each has room for some. Returns how many.
fn fill_queue(path: &Path) -> io::Result<usize> {
    let mut sent = 0;
    loop {
        let sender = net::UnixDatagram::unbound()?;
        sender.set_nonblocking(true)?;
        for _ in 0..100 {
            if let Err(error) = sender.send_to(b"x", path) {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                return Ok(sent);
            }
            sent += 1;
        }
    }
}

/// Nothing tells a sender when it is the datagrams of others that make room.
#[test]
fn a_sender_of_datagrams_waits_for_room_that_others_make() -> io::Result<()> {
    run(async {
        let directory = Directory::new()?;
        let path = directory.path("socket");
        let bound = UnixDatagram::bind(&path)?;
        let count = fill_queue(&path)?;
        let sender = UnixDatagram::unbound()?;
        open_nursery(async |n| -> io::Result<()> {
            let sent = n.start_soon(sender.send_to(b"last", &path));
            settled().await?;
            for _ in 0..count {
                assert_eq!(bound.recv(&mut [0; 10]).await?, 1);
            }
            assert_eq!(sent.await?, 4);
            assert_eq!(bound.recv(&mut [0; 10]).await?, 4);
            Ok(())
        })
        .await
    })
}

/// A datagram for one may be in vain, and one for another may not.
#[test]
fn a_queue_that_is_full_is_in_the_way_of_nobody_else() -> io::Result<()> {
    run(async {
        let directory = Directory::new()?;
        let [full, free] = ["full", "free"].map(|name| directory.path(name));
        let (_never_read, bound) = (UnixDatagram::bind(&full)?, UnixDatagram::bind(&free)?);
        fill_queue(&full)?;
        let sender = UnixDatagram::unbound()?;
        sender.connect(&free)?;
        for sends_to in [true, false] {
            assert_eq!(move_on_after(SHORT, sender.send_to(b"x", &full)).await?, None);
            let before = now();
            if sends_to {
                sender.send_to(b"x", &free).await?;
            } else {
                sender.send(b"x").await?;
            }
            assert_eq!(now(), before);
            assert_eq!(bound.recv(&mut [0; 10]).await?, 1);
        }
        Ok(())
    })
}

/// The system speaks of room when there is much, and takes what fits into less.
#[test]
fn room_that_was_waited_for_in_vain_may_do_nevertheless() -> io::Result<()> {
    run(async {
        let (a, _b) = UnixStream::pair()?;
        let has_room = async || io::Result::Ok(a.wait_send_all_might_not_block().await?);
        while move_on_after(SHORT, has_room()).await?.is_some() {
            a.send_all(&[0; 1000]).await?;
        }
        a.send_all(b"x").await?;
        Ok(())
    })
}

#[test]
fn a_stream_goes_to_the_standard_library_and_back() -> io::Result<()> {
    use std::io::{Read, Write};
    run(async {
        let (a, b) = UnixStream::pair()?;
        let mut system = a.into_std()?;
        system.write_all(b"x")?;
        assert_eq!(b.receive_some(&mut [0; 10]).await?, 1);
        b.send_all(b"y").await?;
        system.read_exact(&mut [0])?; // it blocks, as it should
        let a = UnixStream::from_std(system)?;
        a.send_all(b"z").await?;
        assert_eq!(b.receive_some(&mut [0; 10]).await?, 1);
        a.close();
        assert!(matches!(a.into_std().unwrap_err().into(), StreamError::Closed));
        Ok(())
    })
}
