//! An echo server, and how it stops: on Ctrl-C it accepts no more, lets its connections finish for 5 s, then ends them.
//!
//! In asyncio, `server.close()` does not wait for the connections, `wait_closed()` does or does not, depending on the version,
//! and so there is a set of tasks, a done callback for each, and a timeout around them all. Here the connections are in a
//! nursery, which gets a deadline. Run it with `127.0.0.1:7777`, and `15_echo_client` with the same in another
//! terminal; press Ctrl-C in this one.

use std::env;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nursery::{CancelScope, Cancelled, move_on_after, open_nursery, sleep, sleep_forever};
use nursery_examples::say;
use nursery_io::net::{TcpListener, TcpStream, serve_listeners};
use nursery_io::signal::cancel_on_ctrl_c;
use nursery_io::stream::{Listener, ReceiveStream, SendStream};

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
/// Sends back what it receives.
async fn echo(stream: impl SendStream + ReceiveStream) -> io::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        match stream.receive_some(&mut buffer).await? {
            0 => return Ok(()), // the client has said all it had to say
            n => stream.send_all(&buffer[..n]).await?,
        }
    }
}

/// Serves until `stop` is over, and then for 5 s at most.
pub(crate) async fn serve<L>(
    listener: L,
    stop: impl Future<Output = Result<(), Cancelled>>,
) -> anyhow::Result<()>
where
    L: Listener<Stream: SendStream + ReceiveStream>,
{
    let accepting = CancelScope::new();
    open_nursery(async |n| -> anyhow::Result<()> {
        n.start(async |status| {
            let server = serve_listeners([listener], async |stream| echo(stream).await);
            Ok(server.accepting_in(&accepting).started(status).await?)
        })
        .await?;
        say!("server: listening");
        stop.await?;
        say!("server: stopping");
        accepting.cancel();
        n.cancel_scope().set_timeout(5 * SECOND);
        Ok(())
    })
    .await?;
    say!("server: stopped");
    Ok(())
}
// ANCHOR_END: body

async fn ctrl_c() -> Result<(), Cancelled> {
    cancel_on_ctrl_c(sleep_forever()).await.map(drop)
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    let Some(address) = env::args().nth(1) else { return demo().await };
    serve(TcpListener::bind(address.parse::<SocketAddr>()?)?, ctrl_c()).await
}

/// Says hello every 4 s, so many times, or until the server hangs up.
pub(crate) async fn client(
    name: &str,
    times: usize,
    stream: impl SendStream + ReceiveStream,
) -> anyhow::Result<()> {
    let mut buffer = [0; 100];
    for _ in 1..times {
        say_hello(name, &stream).await?;
        let more = async { io::Result::Ok(stream.receive_some(&mut buffer).await?) };
        if move_on_after(4 * SECOND, more).await?.is_some() {
            say!("{name}: the server has hung up");
            return Ok(());
        }
    }
    say_hello(name, &stream).await?;
    say!("{name}: that was all");
    Ok(())
}

async fn say_hello(name: &str, stream: &(impl SendStream + ReceiveStream)) -> anyhow::Result<()> {
    stream.send_all(b"hello").await?;
    let mut buffer = [0; 100];
    let n = stream.receive_some(&mut buffer).await?;
    say!("{name}: {}", String::from_utf8_lossy(&buffer[..n]));
    Ok(())
}

/// Ctrl-C comes after 3 s: one client gets done in time, another does not, and a third comes too late.
pub(crate) async fn demo() -> anyhow::Result<()> {
    let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
    let address = listener.local_addr()?;
    open_nursery(async |n| -> anyhow::Result<()> {
        n.start_soon(serve(listener, sleep(3 * SECOND)));
        sleep(SECOND).await?;
        n.start_soon(client("modest", 2, TcpStream::connect(address).await?));
        sleep(SECOND).await?;
        n.start_soon(client("greedy", 9, TcpStream::connect(address).await?));
        sleep(2 * SECOND).await?;
        let refused = TcpStream::connect(address).await.unwrap_err();
        say!("late: {:?}", refused.kind());
        Ok(())
    })
    .await
}
