//! hyper speaks HTTP/1.1 over our sockets, in our nurseries: our own requests, curl's, cancellations and Ctrl-C.
#![cfg(unix)]

#[path = "../examples/19_http.rs"]
#[allow(dead_code, reason = "its `main` is called when it is run by hand")]
mod http;

use std::cell::Cell;
use std::env;
use std::future::{Future, pending};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::AsyncReadExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, client, server};
use nursery::{
    CancelScope, Cancelled, TaskError, cancellable, checkpoint, move_on_after, open_nursery, sleep,
    sleep_forever,
};
use nursery_io::net::{TcpListener, TcpStream};
use nursery_io::signal::{self, Signal};
use nursery_io::stream::{Listener, ReceiveStream, SendStream};
use nursery_io::sync::Event;
use nursery_io::thread::to_thread;
use nursery_testing::{Test, run};
use rustix::process::{Pid, kill_process};
use smol_hyper::rt::FuturesIo;

const SECOND: Duration = Duration::from_secs(1);
const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// Runs `client` against the server of the example, and stops that gently.
async fn with_server<F: Future<Output = anyhow::Result<()>>>(
    client: impl FnOnce(SocketAddr) -> F,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(ANY)?;
    let address = listener.local_addr()?;
    let stop = Event::new();
    open_nursery(async |n| -> anyhow::Result<()> {
        n.start_soon(http::serve_http(listener, async {
            stop.wait().await?;
            Ok(Signal::Term)
        }));
        client(address).await?;
        stop.set();
        Ok(())
    })
    .await
}

/// Reads a response that says how long it is.
async fn response(stream: &mut TcpStream) -> anyhow::Result<(String, String)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head)?.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(Ok(0), str::parse)?];
    stream.read_exact(&mut body).await?;
    Ok((head.lines().next().unwrap_or_default().to_owned(), String::from_utf8(body)?))
}

#[test]
fn several_requests_of_one_connection_are_answered() -> anyhow::Result<()> {
    run(with_server(async |address| {
        let mut stream = TcpStream::connect(address).await?;
        for (request, status, body) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "http/1.1 200 ok", "This is /.\n"),
            ("GET /no HTTP/1.1\r\nHost: a\r\n\r\n", "http/1.1 404 not found", "This is /no.\n"),
            (
                "POST /echo HTTP/1.1\r\nHost: a\r\ncontent-length: 5\r\n\r\nhello",
                "http/1.1 200 ok",
                "hello",
            ),
            ("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", "http/1.1 200 ok", "This is /slow.\n"),
        ] {
            stream.send_all(request.as_bytes()).await?;
            assert_eq!(response(&mut stream).await?, (status.to_owned(), body.to_owned()));
        }
        Ok(())
    }))
}

#[test]
fn what_is_no_http_is_refused_and_others_are_served() -> anyhow::Result<()> {
    run(with_server(async |address| {
        let mut other = TcpStream::connect(address).await?;
        let mut rude = TcpStream::connect(address).await?;
        for garbage in [&[0xff; 100][..], b"GET / HTTP/9.9\r\n\r\n", b"\r\n \0\0\0\r\n\r\n"] {
            rude.send_all(garbage).await?;
            assert!(response(&mut rude).await?.0.starts_with("http/1.1 400"));
            assert_eq!(rude.receive_some(&mut [0]).await?, 0);
            rude = TcpStream::connect(address).await?;
        }
        // It is closed before all has gone: the rest is refused, now or when something is received.
        let endless = vec![b'A'; 8 << 20];
        assert!(rude.send_all(&endless).await.is_err());

        other.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
        assert_eq!(response(&mut other).await?.1, "This is /.\n");
        Ok(())
    }))
}

#[test]
fn curl_is_answered() -> anyhow::Result<()> {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("skipped: curl is not installed");
        return Ok(());
    }
    // Another process: a virtual clock would not wait for it.
    Test::new().real_clock().time_limit(60 * SECOND).run(with_server(async |address| {
        let call = move || {
            let url = format!("http://{address}/echo");
            let mut curl = Command::new("curl");
            curl.args([
                "--silent",
                "--show-error",
                "--noproxy",
                "*",
                "--data",
                "from curl",
                &url,
                &url,
            ]);
            curl.output()
        };
        let output = to_thread::run_sync(call).await??;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8(output.stdout)?, "from curlfrom curl");
        Ok(())
    }))
}

const ROLE: &str = "NURSERY_INTEROP_TEST_CHILD";

/// The same test, called again as a process of its own.
struct Program {
    child: Child,
    says: BufReader<ChildStdout>,
}

impl Program {
    fn start(test: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(ROLE, "child")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let says = BufReader::new(child.stdout.take().unwrap());
        Program { child, says }
    }

    /// Waits until it prints a line that holds `text`, and returns what follows there.
    fn wait_for(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.says.read_line(&mut line).unwrap() > 0, "never said {text:?}");
            if let Some((_, rest)) = line.trim_end().split_once(text) {
                return rest.to_owned();
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill(); // a test that failed leaves nobody behind
    }
}

#[test]
fn ctrl_c_lets_a_request_be_answered_and_closes_what_is_idle() {
    const TEST: &str = "ctrl_c_lets_a_request_be_answered_and_closes_what_is_idle";
    if env::var_os(ROLE).is_some() {
        nursery::run(async {
            let mut signals = signal::receiver(&[Signal::Int])?;
            let listener = TcpListener::bind(ANY)?;
            println!("at {}", listener.local_addr()?);
            http::serve_http(listener, signals.recv()).await
        })
        .unwrap();
        return;
    }
    let mut program = Program::start(TEST);
    let address: SocketAddr = program.wait_for("at ").parse().unwrap();
    let mut idle = std::net::TcpStream::connect(address).unwrap();
    let mut busy = std::net::TcpStream::connect(address).unwrap();
    let request = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf ";
    busy.write_all(request).unwrap();
    program.wait_for("/echo: asked for");

    kill_process(Pid::from_child(&program.child), rustix::process::Signal::INT).unwrap();
    program.wait_for("Int, stopping");
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "closed");
    busy.write_all(b"and b").unwrap();
    let mut response = String::new();
    busy.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.ends_with("\r\n\r\nhalf and b"), "{response}");
    assert!(program.child.wait().unwrap().success());
}

/// What a service may fail with so that its `Cancelled` is found again outside of hyper.
trait Carrier: TaskError + std::error::Error + Send + Sync + 'static {}
impl Carrier for Cancelled {}
impl Carrier for io::Error {}

async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(ANY)?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    Ok((client, listener.accept().await?))
}

/// Serves one connection, whose service waits for ever and says when it is called.
async fn serve_forever<E: Carrier>(stream: TcpStream, called: &Cell<bool>) -> anyhow::Result<()> {
    let service = service_fn(|_: Request<Incoming>| async {
        called.set(true);
        cancellable(pending::<Result<Response<String>, E>>()).await?
    });
    let connection = server::conn::http1::Builder::new();
    Ok(connection.serve_connection(FuturesIo::new(stream), service).await?)
}

#[test]
fn a_deadline_around_a_silent_connection_is_recognised() -> anyhow::Result<()> {
    run(async {
        let (_client, stream) = pair().await?;
        let called = Cell::new(false);
        let served = move_on_after(SECOND, serve_forever::<Cancelled>(stream, &called)).await?;
        assert_eq!((served, called.get()), (None, false));
        Ok(())
    })
}

async fn is_cut_off_in_its_service<E: Carrier>() -> anyhow::Result<()> {
    let (client, stream) = pair().await?;
    client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
    let called = Cell::new(false);
    let served = move_on_after(SECOND, serve_forever::<E>(stream, &called)).await?;
    assert_eq!((served, called.get()), (None, true));
    assert_eq!(client.receive_some(&mut [0]).await?, 0, "closed, without an answer");
    Ok(())
}

#[test]
fn a_deadline_that_a_service_learns_is_recognised_outside_the_connection() -> anyhow::Result<()> {
    run(is_cut_off_in_its_service::<Cancelled>())?;
    run(is_cut_off_in_its_service::<io::Error>())
}

/// hyper boxes what a service fails with, and an `anyhow::Error` in a box does not tell any more what it was made of. So a
/// service fails with an `io::Error`, or an enum of its own.
#[test]
fn a_deadline_that_a_service_learns_is_hidden_by_an_anyhow_error() -> anyhow::Result<()> {
    run(async {
        let (client, stream) = pair().await?;
        client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
        let service = service_fn(|_: Request<Incoming>| async {
            anyhow::Ok(cancellable(pending::<Response<String>>()).await?)
        });
        let connection = server::conn::http1::Builder::new();
        let connection = connection.serve_connection(FuturesIo::new(stream), service);
        let served = move_on_after(SECOND, async { anyhow::Ok(connection.await?) });
        assert!(served.await.unwrap_err().is::<hyper::Error>());
        Ok(())
    })
}

/// The nursery takes the cancellations of its scope out of what is left of the connections.
#[test]
fn a_nursery_of_connections_is_cancelled() -> anyhow::Result<()> {
    for seed in 0..20 {
        Test::new().seed(seed).run(async {
            let called = Cell::new(false);
            open_nursery(async |n| -> anyhow::Result<()> {
                let mut clients = vec![];
                for _ in 0..10 {
                    let (client, stream) = pair().await?;
                    n.start_soon(serve_forever::<io::Error>(stream, &called));
                    client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
                    clients.push(client);
                }
                sleep(SECOND).await?;
                n.cancel_scope().cancel();
                Ok(())
            })
            .await
        })?;
    }
    Ok(())
}

#[test]
fn a_deadline_around_a_client_of_hyper_is_recognised() -> anyhow::Result<()> {
    run(async {
        let (stream, _silent) = pair().await?;
        let scope = CancelScope::new().with_timeout(SECOND);
        let fetched: Option<anyhow::Result<()>> = scope
            .enter(open_nursery(async |n| -> anyhow::Result<_> {
                let handshake = client::conn::http1::handshake(FuturesIo::new(stream));
                let (mut sender, connection) = cancellable(handshake).await??;
                n.start_soon(async { Ok(connection.await?) });
                let request = Request::get("/").body(String::new())?;
                Ok(cancellable(sender.send_request(request)).await?.map(drop).map_err(Into::into))
            }))
            .await?;
        assert!(fetched.is_none());
        assert!(scope.cancelled_caught());
        Ok(())
    })
}

/// hyper drops the service's future then; whatever that had begun goes with it.
#[test]
fn a_client_that_goes_away_takes_its_request_with_it_and_nothing_else() -> anyhow::Result<()> {
    struct Gone(Rc<Cell<usize>>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    run(async {
        let (called, gone) = (Rc::new(Event::new()), Rc::new(Cell::new(0)));
        let service = service_fn(|_: Request<Incoming>| async {
            open_nursery(async |n| -> io::Result<()> {
                for _ in 0..3 {
                    let held = Gone(gone.clone());
                    n.start_soon(async move {
                        let _held = held;
                        Ok(sleep_forever().await?)
                    });
                }
                called.set();
                Ok(cancellable(pending::<()>()).await?)
            })
            .await?;
            io::Result::Ok(Response::new(String::new()))
        });
        let (client, stream) = pair().await?;
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                let connection = server::conn::http1::Builder::new();
                let served = connection.serve_connection(FuturesIo::new(stream), service).await;
                assert!(served.unwrap_err().is_incomplete_message());
                Ok(())
            });
            client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
            called.wait().await?;
            assert_eq!(gone.get(), 0);
            drop(client);
            Ok(())
        })
        .await?;
        assert_eq!(gone.get(), 3);
        checkpoint().await?;
        Ok(())
    })
}
