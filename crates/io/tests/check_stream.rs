//! Our streams keep the contract of `nursery_io::stream`: what the conformance kit of `nursery-testing` says of them.

use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use futures_lite::{AsyncWrite, AsyncWriteExt};
use nursery::move_on_after;
use nursery_io::net::{TcpListener, TcpStream};
use nursery_io::stream::Listener;
use nursery_testing::{Test, check_half_closeable_stream, hostile};

const SECOND: Duration = Duration::from_secs(1);

/// Under some seeds, and under wakers that use the run.
fn keeps<F: Future<Output = io::Result<()>>>(check: impl Fn() -> F) -> io::Result<()> {
    for seed in 0..3 {
        Test::new().seed(seed).time_limit(SECOND * 60).run(check())?;
    }
    Test::new().time_limit(SECOND * 60).run(hostile(check()))
}

/// Sends zeros until there is no room for another.
async fn clog<S>(stream: S) -> io::Result<S>
where
    for<'a> &'a S: AsyncWrite,
{
    for size in [4096, 1] {
        let zeros = vec![0; size];
        while move_on_after(SECOND, async { (&stream).write(&zeros).await }).await?.is_some() {}
    }
    Ok(stream)
}

async fn tcp_pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    Ok((client, listener.accept().await?))
}

/// `SocketStream_generic`, `SocketStream_send_all`
#[test]
fn tcp_streams_keep_the_contract() -> io::Result<()> {
    keeps(async || {
        check_half_closeable_stream(tcp_pair)
            .clogged(async || {
                let (a, b) = tcp_pair().await?;
                Ok((clog(a).await?, clog(b).await?))
            })
            .await
    })
}

#[cfg(unix)]
mod unix {
    use nursery_io::net::UnixStream;
    use nursery_io::pipe::{self, PipeReceiver, PipeSender};
    use nursery_io::stream::Stapled;
    use nursery_testing::{check_one_way_stream, check_two_way_stream};

    use super::*;

    /// `SocketStream_generic`
    #[test]
    fn unix_streams_keep_the_contract() -> io::Result<()> {
        keeps(async || {
            check_half_closeable_stream(async || UnixStream::pair())
                .clogged(async || {
                    let (a, b) = UnixStream::pair()?;
                    Ok((clog(a).await?, clog(b).await?))
                })
                .await
        })
    }

    /// `pipe_fully`
    #[test]
    fn pipes_keep_the_contract() -> io::Result<()> {
        keeps(async || {
            check_one_way_stream(async || pipe::open())
                .clogged(async || {
                    let (sender, receiver) = pipe::open()?;
                    Ok((clog(sender).await?, receiver))
                })
                .await
        })
    }

    type Ends = (Stapled<PipeSender, PipeReceiver>, Stapled<PipeSender, PipeReceiver>);

    fn stapled() -> io::Result<Ends> {
        let (there, back) = (pipe::open()?, pipe::open()?);
        Ok((Stapled::new(there.0, back.1), Stapled::new(back.0, there.1)))
    }

    /// Not the chapters of a half-close without room: a pipe's is the same as to close it, which never conflicts.
    #[test]
    fn stapled_pipes_keep_the_contract() -> io::Result<()> {
        keeps(async || {
            check_half_closeable_stream(async || stapled()).await?;
            check_two_way_stream(async || stapled())
                .clogged(async || {
                    let (mut a, mut b) = stapled()?;
                    (a.send, b.send) = (clog(a.send).await?, clog(b.send).await?);
                    Ok((a, b))
                })
                .await
        })
    }
}
