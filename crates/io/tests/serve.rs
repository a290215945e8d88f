//! Promises of `serve_listeners` and `serve_tcp`. After trio's `test_highlevel_serve_listeners`, with listeners that are not
//! real where errors are wanted.

use std::cell::{Cell, RefCell};
use std::future::IntoFuture;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use nursery::lowlevel::wait_all_tasks_blocked;
use nursery::{
    CancelScope, Cancelled, ErrorGroup, Nursery, TaskError, TaskStatus, cancellable, checkpoint,
    move_on_after, now, open_nursery, sleep, sleep_forever,
};
use nursery_io::channel::{self, Receiver, Sender};
use nursery_io::net::{
    TcpListener, TcpStream, is_out_of_resources, open_tcp_stream, serve_listeners, serve_tcp,
};
use nursery_io::stream::{HalfClose, Listener, ReceiveStream, Resource, SendStream, StreamError};
use nursery_io::sync::Event;
use nursery_testing::run;

const SECOND: Duration = Duration::from_secs(1);

/// Accepts what a test sends it: numbers, or errors.
struct FakeListener {
    incoming: Receiver<Result<u32, StreamError>>,
    open: Rc<Cell<usize>>,
    is_closed: Cell<bool>,
}

/// A connection, open until it is dropped.
struct Conn {
    number: u32,
    open: Rc<Cell<usize>>,
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
    }
}

impl Resource for Conn {
    async fn aclose(&self) -> Result<(), StreamError> {
        Ok(checkpoint().await?)
    }
}

impl Resource for FakeListener {
    async fn aclose(&self) -> Result<(), StreamError> {
        self.is_closed.set(true);
        Ok(checkpoint().await?)
    }
}

impl Listener for FakeListener {
    type Stream = Conn;

    async fn accept(&self) -> Result<Conn, StreamError> {
        match self.incoming.recv().await.map_err(io::Error::from)? {
            Ok(number) => {
                self.open.set(self.open.get() + 1);
                Ok(Conn { number, open: self.open.clone() })
            }
            Err(error) => Err(error),
        }
    }
}

fn listener() -> (Sender<Result<u32, StreamError>>, FakeListener) {
    let (sender, incoming) = channel::open(channel::UNBOUNDED);
    (sender, FakeListener { incoming, open: Rc::default(), is_closed: Cell::new(false) })
}

async fn settled() -> Result<(), Cancelled> {
    wait_all_tasks_blocked(Duration::ZERO).await
}

fn exhausted() -> StreamError {
    io::Error::from_raw_os_error(24).into() // EMFILE
}

#[test]
fn serve_listeners_basic() -> io::Result<()> {
    run(async {
        let (first, one) = listener();
        let (second, other) = listener();
        let seen = RefCell::new(vec![]);
        let shared = RefCell::new(None);
        open_nursery(async |n| -> io::Result<()> {
            let serve = async |status: TaskStatus<Rc<[FakeListener]>>| {
                serve_listeners([one, other], async |conn: Conn| {
                    seen.borrow_mut().push(conn.number);
                    Ok::<_, io::Error>(sleep_forever().await?)
                })
                .started(status)
                .await
            };
            let listeners = n.start(serve).await?;
            for number in 0..3 {
                first.try_send(Ok(number)).unwrap();
                second.try_send(Ok(number + 10)).unwrap();
            }
            settled().await?;
            seen.borrow_mut().sort_unstable();
            assert_eq!(*seen.borrow(), [0, 1, 2, 10, 11, 12]);
            assert_eq!((listeners[0].open.get(), listeners[1].open.get()), (3, 3));
            shared.replace(Some(listeners));
            n.cancel_scope().cancel();
            Ok(())
        })
        .await?;
        let listeners = shared.take().unwrap();
        assert!(
            listeners.iter().all(|listener| listener.is_closed.get() && listener.open.get() == 0)
        );
        Ok(())
    })
}

/// `serve_listeners_accept_unrecognized_error`
#[test]
fn what_a_listener_fails_with_ends_the_server_and_its_connections() -> io::Result<()> {
    run(async {
        for (error, number) in
            [(io::Error::from_raw_os_error(9999), 1), (io::Error::other("broken"), 2)]
        {
            let text = error.to_string();
            let (sender, listener) = listener();
            let open = listener.open.clone();
            sender.try_send(Ok(number)).unwrap();
            sender.try_send(Err(error.into())).unwrap();
            let failed = serve_listeners([listener], async |_conn| Ok(sleep_forever().await?));
            let failed: io::Error = failed.await.unwrap_err();
            let leaf = failed.as_group().unwrap().leaves().next().unwrap().to_string();
            assert_eq!((leaf, open.get()), (text, 0));
        }
        Ok(())
    })
}

#[test]
fn a_listener_that_is_closed_by_somebody_else_ends_the_server() -> io::Result<()> {
    run(async {
        open_nursery(async |n| -> io::Result<()> {
            let server = async |status| {
                let failed = serve_tcp("127.0.0.1", 0, async |_| Ok(())).started(status).await;
                let failed: io::Error = failed.unwrap_err();
                assert!(matches!(
                    failed.as_group().unwrap().find::<StreamError>(),
                    Some(StreamError::Closed)
                ));
                Ok(())
            };
            let listeners = n.start(server).await?;
            settled().await?;
            listeners[0].close();
            Ok(())
        })
        .await
    })
}

/// `serve_listeners_accept_capacity_error`
#[test]
fn out_of_resources_it_waits_and_goes_on() -> io::Result<()> {
    run(async {
        let (sender, listener) = listener();
        for _ in 0..10 {
            sender.try_send(Err(exhausted())).unwrap();
        }
        sender.try_send(Ok(7)).unwrap();
        let complaints = Cell::new(0);
        let start = now();
        let served = serve_listeners([listener], async |conn: Conn| {
            assert_eq!((conn.number, now() - start), (7, SECOND));
            Err(io::Error::other("served"))
        })
        .on_exhaustion(|error| {
            assert!(is_out_of_resources(error));
            complaints.set(complaints.get() + 1);
        })
        .on_error(Err);
        let failed: io::Error = served.await.unwrap_err();
        assert_eq!(failed.as_group().unwrap().leaves().next().unwrap().to_string(), "served");
        assert_eq!(complaints.get(), 10);
        Ok(())
    })
}

#[cfg(unix)]
#[test]
fn what_counts_as_out_of_resources() {
    use rustix::io::Errno;
    for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS] {
        assert!(is_out_of_resources(&errno.into()), "{errno:?}");
    }
    for errno in [Errno::INVAL, Errno::BADF, Errno::CONNABORTED] {
        assert!(!is_out_of_resources(&errno.into()), "{errno:?}");
    }
}

#[test]
fn a_connection_that_fails_does_not_end_the_server_unless_asked_to() -> io::Result<()> {
    run(async {
        let (sender, listener) = listener();
        for number in 0..4 {
            sender.try_send(Ok(number)).unwrap();
        }
        let seen = RefCell::new(vec![]);
        let served = serve_listeners([listener], async |conn: Conn| {
            sleep(SECOND * conn.number).await?;
            Err(io::Error::other(conn.number.to_string()))
        })
        .on_error(|error| {
            seen.borrow_mut().push(error.to_string());
            if error.to_string() == "2" { Err(error) } else { Ok(()) }
        });
        let failed: io::Error = served.await.unwrap_err();
        assert_eq!(*seen.borrow(), ["0", "1", "2"]);
        let group = failed.downcast::<ErrorGroup<io::Error>>().unwrap();
        assert_eq!(group.leaves().map(ToString::to_string).collect::<Vec<_>>(), ["2"]);
        Ok(())
    })
}

#[test]
fn by_default_errors_are_written_down_and_the_server_goes_on() -> io::Result<()> {
    run(async {
        let (sender, listener) = listener();
        sender.try_send(Ok(1)).unwrap();
        sender.try_send(Err(exhausted())).unwrap();
        sender.try_send(Ok(2)).unwrap();
        let count = Cell::new(0);
        let served = serve_listeners([listener], async |_conn| {
            count.set(count.get() + 1);
            Err(io::Error::other("this line of the test's output is right"))
        });
        assert_eq!(move_on_after(SECOND, served.into_future()).await?, None);
        assert_eq!(count.get(), 2);
        Ok(())
    })
}

#[test]
fn a_cancellation_inside_a_handler_is_no_error_of_the_connection() -> io::Result<()> {
    run(async {
        let (sender, listener) = listener();
        sender.try_send(Ok(1)).unwrap();
        let served = serve_listeners([listener], async |_conn| Ok(sleep_forever().await?))
            .on_error(|error: io::Error| panic!("{error}"));
        assert_eq!(move_on_after(SECOND, served.into_future()).await?, None);
        Ok(())
    })
}

/// `serve_listeners_connection_nursery`: the connections outlive the accepting.
#[test]
fn a_gentle_end_serves_the_connections_that_there_are() -> io::Result<()> {
    run(async {
        let (sender, listener) = listener();
        let open = listener.open.clone();
        sender.try_send(Ok(1)).unwrap();
        let (accepting, done) = (CancelScope::new(), Event::new());
        let finished = Cell::new(false);
        let shared = RefCell::new(None);
        open_nursery(async |n| -> io::Result<()> {
            let serve = async |status: TaskStatus<Rc<[FakeListener]>>| {
                let served = serve_listeners([listener], async |_conn: Conn| {
                    done.wait().await?;
                    finished.set(true);
                    Ok::<_, io::Error>(())
                });
                served.accepting_in(&accepting).started(status).await
            };
            shared.replace(Some(n.start(serve).await?));
            settled().await?;
            accepting.cancel();
            settled().await?;
            let listeners = shared.take().unwrap();
            assert!(listeners[0].is_closed.get(), "it listens no more");
            assert_eq!((open.get(), finished.get()), (1, false));
            done.set();
            Ok(())
        })
        .await?;
        assert_eq!((open.get(), finished.get()), (0, true));
        Ok(())
    })
}

#[test]
fn a_panic_of_a_handler_ends_the_server() {
    let (sender, listener) = listener();
    let open = listener.open.clone();
    sender.try_send(Ok(1)).unwrap();
    sender.try_send(Ok(2)).unwrap();
    let served = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        run(async {
            serve_listeners([listener], async |conn: Conn| {
                if conn.number == 2 {
                    panic!("a mistake");
                }
                Ok::<_, io::Error>(cancellable(std::future::pending::<()>()).inside().await?)
            })
            .await
        })
    }));
    assert_eq!(*served.unwrap_err().downcast::<&str>().unwrap(), "a mistake");
    assert_eq!(open.get(), 0);
}

async fn echo(stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 1000];
    loop {
        match stream.receive_some(&mut buffer).await? {
            0 => return Ok(()),
            n => stream.send_all(&buffer[..n]).await?,
        }
    }
}

async fn serve_echo<'scope>(
    n: &'scope Nursery<'scope, '_, io::Error>,
) -> io::Result<Rc<[TcpListener]>> {
    n.start(async |status| serve_tcp("127.0.0.1", 0, echo).started(status).await).await
}

/// `serve_tcp`
#[test]
fn a_server_echoes_and_ends_when_cancelled() -> io::Result<()> {
    run(async {
        let shared = RefCell::new(None);
        open_nursery(async |n| -> io::Result<()> {
            let listeners = serve_echo(n).await?;
            let port = listeners[0].local_addr()?.port();
            shared.replace(Some(listeners));
            for _ in 0..3 {
                let client = open_tcp_stream("127.0.0.1", port).await?;
                client.send_all(b"x").await?;
                let mut byte = [0];
                assert_eq!((client.receive_some(&mut byte).await?, byte), (1, *b"x"));
                client.send_eof().await?;
                assert_eq!(client.receive_some(&mut byte).await?, 0, "closed when it was served");
            }
            n.cancel_scope().cancel();
            Ok(())
        })
        .await?;
        // Although it is shared.
        let listeners = shared.take().unwrap();
        assert!(matches!(listeners[0].accept().await, Err(StreamError::Closed)));
        Ok(())
    })
}

#[test]
fn a_peer_that_never_reads_and_one_that_resets_do_no_harm_to_others() -> io::Result<()> {
    run(async {
        open_nursery(async |n| -> io::Result<()> {
            let port = serve_echo(n).await?[0].local_addr()?.port();
            let greedy = open_tcp_stream("127.0.0.1", port).await?;
            let data = vec![0; 32 << 20];
            let sent =
                move_on_after(SECOND, async { io::Result::Ok(greedy.send_all(&data).await?) });
            assert_eq!(sent.await?, None, "it echoes no faster than it is read");
            let rude = open_tcp_stream("127.0.0.1", port).await?;
            rude.send_all(b"x").await?;
            rude.with(|io| socket2::SockRef::from(io).set_linger(Some(Duration::ZERO)))??;
            drop(rude);

            let other = open_tcp_stream("127.0.0.1", port).await?;
            other.send_all(b"x").await?;
            assert_eq!(other.receive_some(&mut [0]).await?, 1);
            n.cancel_scope().cancel();
            Ok(())
        })
        .await
    })
}

#[test]
fn a_server_that_cannot_listen_says_so_from_start() -> io::Result<()> {
    run(async {
        let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
        let port = taken.local_addr()?.port();
        open_nursery(async |n| -> io::Result<()> {
            let error = n
                .start(async |status: TaskStatus<Rc<[_]>>| {
                    serve_tcp("127.0.0.1", port, echo).started(status).await
                })
                .await
                .unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            Ok(())
        })
        .await
    })
}
