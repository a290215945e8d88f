//! An echo client: one task sends a line every second, another prints what comes back; when all has come, both are done.
//!
//! In asyncio, a stream is a reader and a writer, each with its own way to be closed; the task that reads is cancelled when the
//! one that writes is done, and with luck nothing was on its way any more. Here the sender says that there will be no more,
//! and goes on receiving until the server has said the same. Run it with the address at which `14_echo_server`
//! listens.

use std::env;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nursery::{open_nursery, sleep};
use nursery_examples::say;
use nursery_io::net::{TcpListener, TcpStream};
use nursery_io::stream::{BufferedReceive, HalfClose, Listener, ReceiveStream};

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
async fn send(stream: &impl HalfClose, lines: &[&str]) -> anyhow::Result<()> {
    for line in lines {
        stream.send_all(format!("{line}\n").as_bytes()).await?;
        sleep(SECOND).await?;
    }
    say!("sender: no more");
    Ok(stream.send_eof().await?)
}

async fn receive(stream: &impl ReceiveStream) -> anyhow::Result<()> {
    let mut received = BufferedReceive::new(stream);
    while let Some(line) = received.read_line(1000).await? {
        say!("receiver: {line}");
    }
    say!("receiver: the end");
    Ok(())
}

pub(crate) async fn client(
    stream: impl HalfClose + ReceiveStream,
    lines: &[&str],
) -> anyhow::Result<()> {
    open_nursery(async |n| -> anyhow::Result<()> {
        n.start_soon(send(&stream, lines));
        n.start_soon(receive(&stream));
        Ok(())
    })
    .await
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    let Some(address) = env::args().nth(1) else { return demo().await };
    let stream = TcpStream::connect(address.parse::<SocketAddr>()?).await?;
    client(stream, &["What comes back", "is what was sent,", "in order."]).await
}
// ANCHOR_END: body

/// Answers with what it receives, as fast as it can.
pub(crate) async fn echo(stream: impl HalfClose + ReceiveStream) -> io::Result<()> {
    let mut buffer = [0; 100];
    loop {
        match stream.receive_some(&mut buffer).await? {
            0 => return Ok(stream.send_eof().await?),
            n => stream.send_all(&buffer[..n]).await?,
        }
    }
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
    let stream = TcpStream::connect(listener.local_addr()?).await?;
    open_nursery(async |n| -> anyhow::Result<()> {
        let server = listener.accept().await?;
        n.start_soon(async { Ok(echo(server).await?) });
        client(stream, &["What comes back", "is what was sent,", "in order."]).await
    })
    .await
}
