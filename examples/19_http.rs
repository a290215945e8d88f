//! An HTTP server: hyper on sockets of ours, a task for each connection. Ctrl-C lets it finish what it has begun.
//!
//! In asyncio, an HTTP server brings a runner, a site and a timeout for the shutdown, and starts tasks of its own that
//! the program cannot wait for. Here hyper does nothing but speak HTTP, in the task of the connection; who accepts,
//! waits, stops and gives up is the nursery. By itself it shows that; `cargo run --example 19_http 127.0.0.1:8080` serves:
//! try `curl http://127.0.0.1:8080/slow`, and press Ctrl-C meanwhile.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use futures_lite::AsyncReadExt;
use futures_util::future::{Either, select};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use nursery::{CancelScope, open_nursery, sleep};
use nursery_examples::say;
use nursery_io::net::{TcpListener, TcpStream, serve_listeners};
use nursery_io::signal::{self, Signal};
use nursery_io::stream::SendStream;
use nursery_io::sync::Event;
use smol_hyper::rt::FuturesIo;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
/// Answers one request.
async fn answer(request: Request<Incoming>) -> io::Result<Response<String>> {
    let path = request.uri().path().to_owned();
    say!("{path}: asked for");
    let mut response = Response::new(format!("This is {path}.\n"));
    match path.as_str() {
        "/" => {}
        "/slow" => sleep(2 * SECOND).await?,
        "/echo" => {
            let body = request.into_body().collect().await.map_err(io::Error::other)?;
            *response.body_mut() = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        }
        _ => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    say!("{path}: answered");
    Ok(response)
}

/// Speaks HTTP until the client has had enough; after `stop`, until the request at hand is answered.
async fn speak_http(stream: TcpStream, stop: &Event) -> anyhow::Result<()> {
    let connection = http1::Builder::new();
    let connection = connection.serve_connection(FuturesIo::new(stream), service_fn(answer));
    let mut connection = pin!(connection);
    match select(connection.as_mut(), pin!(stop.wait())).await {
        Either::Left((served, _)) => return Ok(served?),
        Either::Right((stopped, _)) => stopped?,
    }
    connection.as_mut().graceful_shutdown();
    Ok(connection.await?)
}

/// Serves until `stop` says why it is to end, and then for 5 s at most.
pub(crate) async fn serve_http(
    listener: TcpListener,
    stop: impl Future<Output = io::Result<Signal>>,
) -> anyhow::Result<()> {
    let (accepting, stopping) = (CancelScope::new(), Event::new());
    open_nursery(async |n| -> anyhow::Result<()> {
        n.start(async |status| {
            serve_listeners([listener], async |stream| speak_http(stream, &stopping).await)
                .accepting_in(&accepting)
                .started(status)
                .await
        })
        .await?;
        say!("listening");
        let signal = stop.await?;
        say!("{signal:?}, stopping");
        accepting.cancel();
        stopping.set();
        n.cancel_scope().set_timeout(5 * SECOND);
        Ok(())
    })
    .await
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    let Some(address) = std::env::args().nth(1) else { return demo().await };
    let listener = TcpListener::bind(address.parse::<SocketAddr>()?)?;
    let mut signals = signal::receiver(&[Signal::Int, Signal::Term])?;
    serve_http(listener, signals.recv()).await
}
// ANCHOR_END: body

/// What a browser would do.
async fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.send_all(request.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    Ok(response.lines().next().unwrap_or_default().to_owned())
}

/// A client, and Ctrl-C after a second, while it waits for its answer.
pub(crate) async fn demo() -> anyhow::Result<()> {
    let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
    let address = listener.local_addr()?;
    let ctrl_c = async {
        sleep(SECOND).await?;
        Ok(Signal::Int)
    };
    open_nursery(async |n| -> anyhow::Result<()> {
        n.start_soon(serve_http(listener, ctrl_c));
        for path in ["/", "/nothing", "/slow"] {
            let status = get(address, path).await?;
            say!("client: {status}");
        }
        let too_late = get(address, "/").await.unwrap_err();
        say!("client: {:?}", too_late.kind());
        Ok(())
    })
    .await?;
    say!("stopped");
    Ok(())
}
