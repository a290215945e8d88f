//! A server that lets its connections finish, however long they take.

use std::io;
use std::time::Duration;

use nursery::{CancelScope, Cancelled, open_nursery, sleep};
use nursery_examples::say;
use nursery_io::net::{TcpListener, TcpStream, serve_listeners};
use nursery_io::stream::{Listener, ReceiveStream, SendStream};

const SECOND: Duration = Duration::from_secs(1);

async fn echo(stream: impl SendStream + ReceiveStream) -> io::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        match stream.receive_some(&mut buffer).await? {
            0 => return Ok(()),
            n => stream.send_all(&buffer[..n]).await?,
        }
    }
}

async fn serve<L>(
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
        // ANCHOR: body
        stop.await?;
        say!("server: stopping");
        accepting.cancel();
        // ANCHOR_END: body
        Ok(())
    })
    .await?;
    say!("server: stopped");
    Ok(())
}

/// A client says nothing for an hour.
pub(crate) async fn demo() -> anyhow::Result<()> {
    let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
    let address = listener.local_addr()?;
    open_nursery(async |n| -> anyhow::Result<()> {
        n.start_soon(serve(listener, sleep(3 * SECOND)));
        let _silent = TcpStream::connect(address).await?;
        Ok(sleep(3600 * SECOND).await?)
    })
    .await
}
