//! An echo server that hangs up on those who say nothing for a minute.

use std::io;
use std::time::Duration;

use nursery::{move_on_after, open_nursery, sleep};
use nursery_examples::say;
use nursery_io::stream::{ReceiveStream, SendStream};
use nursery_testing::memory_stream_pair;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
async fn echo(stream: impl SendStream + ReceiveStream) -> io::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        let more = async { io::Result::Ok(stream.receive_some(&mut buffer).await?) };
        match move_on_after(60 * SECOND, more).await? {
            None | Some(0) => return Ok(()),
            Some(n) => stream.send_all(&buffer[..n]).await?,
        }
    }
}
// ANCHOR_END: body

pub(crate) async fn demo() -> anyhow::Result<()> {
    let (stream, client) = memory_stream_pair();
    open_nursery(async |n| -> anyhow::Result<()> {
        n.start_soon(async { Ok(echo(stream).await?) });
        sleep(40 * SECOND).await?;
        client.send_all(b"hello").await?;
        let mut buffer = [0; 100];
        while client.receive_some(&mut buffer).await? > 0 {
            say!("client: is answered");
        }
        say!("client: the server has hung up");
        Ok(())
    })
    .await
}
