//! A proxy: copies between a client and an upstream, both ways at the same time, and says how each way ended.
//!
//! In asyncio, one of two copying tasks ends and the other goes on for ever, or both are cancelled and the answer to
//! a client that has sent all it had is cut off: `StreamWriter.close` closes both ways. Here each way passes its own end
//! on, has its own time limit, and, if it fails, takes the other with it. Run it with an address and an upstream,
//! `127.0.0.1:8080 example.org:80`, and press Ctrl-C in the end.

use std::cell::Cell;
use std::env;
use std::fmt;
use std::future::IntoFuture;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use futures_lite::AsyncReadExt;
use nursery::{TaskError, fail_after, move_on_after, open_nursery};
use nursery_examples::say;
use nursery_io::net::{TcpListener, TcpStream, open_tcp_stream, serve_listeners};
use nursery_io::signal::cancel_on_ctrl_c;
use nursery_io::stream::{HalfClose, Listener, ReceiveStream, SendStream};

const SECOND: Duration = Duration::from_secs(1);
/// How long it may take to connect to the upstream.
pub(crate) const CONNECT: Duration = Duration::from_secs(10);

// ANCHOR: body
/// How a way ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    /// With the end of the stream, which has been passed on.
    Passed,
    /// Nothing was sent, or nothing taken, for so long.
    Idle(Duration),
    Failed(io::ErrorKind),
    /// By the end of the other way, or of the proxy.
    CutOff,
}

/// One of the two ways.
pub(crate) struct Way {
    limit: Duration,
    pub(crate) bytes: Cell<u64>,
    pub(crate) end: Cell<End>,
}

impl Way {
    fn new(limit: Duration) -> Self {
        Way { limit, bytes: Cell::new(0), end: Cell::new(End::CutOff) }
    }

    async fn copy(&self, from: &impl ReceiveStream, to: &impl HalfClose) -> io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let step = async {
                let count = from.receive_some(&mut buffer).await?;
                match count {
                    0 => to.send_eof().await?,
                    _ => to.send_all(&buffer[..count]).await?,
                }
                io::Result::Ok(count as u64)
            };
            match move_on_after(self.limit, step).await {
                Ok(Some(0)) => {
                    self.end.set(End::Passed);
                    return Ok(());
                }
                Ok(Some(count)) => self.bytes.set(self.bytes.get() + count),
                Ok(None) => {
                    self.end.set(End::Idle(self.limit));
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(error) => {
                    if error.as_cancelled().is_none() {
                        self.end.set(End::Failed(error.kind()));
                    }
                    return Err(error);
                }
            }
        }
    }
}

/// Both ways between a client and an upstream.
pub(crate) struct Relay {
    pub(crate) up: Way,
    pub(crate) down: Way,
}

impl Relay {
    /// With how long each way may be idle: to the upstream, and from it.
    pub(crate) fn new((up, down): (Duration, Duration)) -> Self {
        Relay { up: Way::new(up), down: Way::new(down) }
    }

    /// Copies until both ways have ended, or one has failed.
    pub(crate) async fn run<C, U>(&self, client: &C, upstream: &U) -> io::Result<()>
    where
        C: ReceiveStream + HalfClose,
        U: ReceiveStream + HalfClose,
    {
        open_nursery(async |n| -> io::Result<()> {
            n.start_soon(self.up.copy(client, upstream));
            n.start_soon(self.down.copy(upstream, client));
            Ok(())
        })
        .await
    }
}

/// Serves until it is cancelled: connects to the upstream for each client.
pub(crate) async fn serve_proxy<L, U>(
    listener: L,
    connect: impl AsyncFn() -> io::Result<U>,
    limits: (Duration, Duration),
) -> io::Result<()>
where
    L: Listener<Stream: ReceiveStream + HalfClose>,
    U: ReceiveStream + HalfClose,
{
    let clients = Cell::new(0);
    let handler = async |client: L::Stream| -> io::Result<()> {
        let id = clients.get() + 1;
        clients.set(id);
        let upstream = match fail_after(CONNECT, connect()).await {
            Err(error) if error.as_cancelled().is_none() => {
                say!("client {id}: no upstream: {}", error.kind());
                return Ok(());
            }
            other => other?,
        };
        let relay = Relay::new(limits);
        let relayed = relay.run(&client, &upstream).await;
        say!("client {id}: {relay}");
        relayed
    };
    // What failed has been said.
    serve_listeners([listener], handler).on_error(|_| Ok(())).await
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    let Some(address) = env::args().nth(1) else { return demo().await };
    let upstream = env::args().nth(2).context("where is the upstream?")?;
    let (host, port) = upstream.rsplit_once(':').context("the upstream has no port")?;
    let port = port.parse()?;
    let listener = TcpListener::bind(address.parse::<SocketAddr>()?)?;
    say!("from {} to {upstream}", listener.local_addr()?);
    let connect = async || open_tcp_stream(host, port).await;
    cancel_on_ctrl_c(serve_proxy(listener, connect, (60 * SECOND, 60 * SECOND))).await?;
    say!("stopped");
    Ok(())
}
// ANCHOR_END: body

impl fmt::Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "to the upstream {}; from the upstream {}", self.up, self.down)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, {}", self.bytes.get(), self.end.get())
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Passed => f.write_str("and its end"),
            End::Idle(limit) => write!(f, "and then none for {limit:?}"),
            End::Failed(kind) => write!(f, "failed: {kind}"),
            End::CutOff => f.write_str("cut off"),
        }
    }
}

/// Counts what it receives until the end of the stream, and then sends how much it was.
async fn count(mut stream: TcpStream) -> anyhow::Result<()> {
    let mut received = vec![];
    stream.read_to_end(&mut received).await?;
    Ok(stream.send_all(format!("{} bytes", received.len()).as_bytes()).await?)
}

/// Sends `text` and its end, and receives the answer up to its end.
async fn ask(address: SocketAddr, text: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.send_all(text.as_bytes()).await?;
    stream.send_eof().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// A client that ends its way, one that forgets to, and one that comes when the upstream is gone.
pub(crate) async fn demo() -> anyhow::Result<()> {
    let proxy = TcpListener::bind(([127, 0, 0, 1], 0))?;
    let address = proxy.local_addr()?;
    let upstream = TcpListener::bind(([127, 0, 0, 1], 0))?;
    let upstream_address = upstream.local_addr()?;
    let mut answers = vec![];
    open_nursery(async |n| -> anyhow::Result<()> {
        let counting = n.start_soon(serve_listeners([upstream], count).into_future());
        let connect = async || TcpStream::connect(upstream_address).await;
        n.start_soon(
            async move { Ok(serve_proxy(proxy, connect, (2 * SECOND, 9 * SECOND)).await?) },
        );
        answers.push(ask(address, "hello").await?);

        let forgetful = TcpStream::connect(address).await?;
        forgetful.send_all(b"one, two, ").await?;
        assert_eq!(forgetful.receive_some(&mut [0]).await?, 0); // the proxy has had enough

        counting.cancel_and_join().await?;
        answers.push(ask(address, "anybody there?").await.unwrap_or_default());
        n.cancel_scope().cancel();
        Ok(())
    })
    .await?;
    say!("answers: {answers:?}");
    Ok(())
}
