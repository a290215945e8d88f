//! A run as a guest of tokio: tokio's channels, timers and sockets inside, through `cancellable`, beside sockets of ours.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use nursery::{Builder, CancelScope, TaskError, cancellable, move_on_after, open_nursery};
use nursery_io::net::{TcpListener, TcpStream};
use nursery_io::stream::{HalfClose, Listener, ReceiveStream, SendStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
const SOON: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

/// Runs `main` as a guest of a tokio runtime with one thread.
fn guest<T, E: TaskError>(main: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Builder::new().seed(0).guest(main))
}

#[test]
fn values_go_through_tokios_channels_both_ways() -> anyhow::Result<()> {
    guest(async {
        let (to_tokio, mut from_nursery) = mpsc::channel::<u32>(1);
        let (to_nursery, mut from_tokio) = mpsc::channel::<u32>(1);
        let doubler = tokio::spawn(async move {
            while let Some(number) = from_nursery.recv().await {
                to_nursery.send(2 * number).await.unwrap();
            }
        });
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                let to_tokio = to_tokio; // dropped at the end of the task
                for number in 0..1000 {
                    cancellable(to_tokio.send(number)).await??;
                }
                Ok(())
            });
            for number in 0..1000 {
                assert_eq!(cancellable(from_tokio.recv()).await?, Some(2 * number));
            }
            assert_eq!(cancellable(from_tokio.recv()).await?, None);
            Ok(())
        })
        .await?;
        cancellable(doubler).await??;
        Ok(())
    })
}

#[test]
fn a_stream_of_tokio_talks_to_one_of_ours_in_the_same_task_tree() -> anyhow::Result<()> {
    guest(async {
        let listener = tokio::net::TcpListener::bind(ANY).await?;
        let address = listener.local_addr()?;
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                let (mut stream, _) = cancellable(listener.accept()).await??;
                let mut buffer = vec![0; 4096];
                loop {
                    match cancellable(stream.read(&mut buffer)).await?? {
                        0 => return Ok(()),
                        n => cancellable(stream.write_all(&buffer[..n])).await??,
                    }
                }
            });
            let ours = TcpStream::connect(address).await?;
            let sent: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
            let mut received = Vec::new();
            open_nursery(async |n| -> anyhow::Result<()> {
                n.start_soon(async {
                    ours.send_all(&sent).await?;
                    Ok(ours.send_eof().await?)
                });
                let mut buffer = vec![0; 65536];
                loop {
                    match ours.receive_some(&mut buffer).await? {
                        0 => return Ok(()),
                        n => received.extend_from_slice(&buffer[..n]),
                    }
                }
            })
            .await?;
            assert!(sent == received);
            Ok(())
        })
        .await
    })
}

async fn receive(stream: &mut tokio::net::TcpStream) -> io::Result<usize> {
    cancellable(stream.read(&mut [0; 10])).await?
}

#[test]
fn a_read_of_tokio_that_is_cut_off_took_nothing() -> anyhow::Result<()> {
    guest(async {
        let listener = TcpListener::bind(ANY)?;
        let mut theirs =
            cancellable(tokio::net::TcpStream::connect(listener.local_addr()?)).await??;
        let ours = listener.accept().await?;
        let read = move_on_after(SOON, receive(&mut theirs));
        assert_eq!(read.await?, None);

        ours.send_all(b"x").await?;
        let scope = CancelScope::new();
        scope.cancel();
        // Cancelled at once, although there is something to read.
        let read = scope.enter(receive(&mut theirs));
        assert_eq!(read.await?, None);
        assert_eq!(receive(&mut theirs).await?, 1);
        Ok(())
    })
}

#[test]
fn a_task_of_tokio_cancels_a_scope_of_ours() -> anyhow::Result<()> {
    guest(async {
        let scope = CancelScope::new().with_timeout(LONG);
        let remote = scope.remote();
        let (answer, question) = oneshot::channel::<()>();
        tokio::spawn(async move {
            tokio::task::yield_now().await;
            remote.cancel();
        });
        let asked = scope.enter(async { anyhow::Ok(cancellable(question).await?) }).await?;
        assert!(asked.is_none());
        assert!(answer.is_closed(), "what was waited for is dropped");
        Ok(())
    })
}

#[test]
fn several_guests_share_a_runtime() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let set = tokio::task::LocalSet::new();
    set.block_on(&runtime, async {
        let (sender, mut receiver) = mpsc::channel::<u32>(1);
        let first = tokio::task::spawn_local(Builder::new().guest(async move {
            for number in 0..100 {
                cancellable(sender.send(number)).await??;
            }
            anyhow::Ok(())
        }));
        let second = tokio::task::spawn_local(Builder::new().guest(async move {
            let mut sum = 0;
            while let Some(number) = cancellable(receiver.recv()).await? {
                sum += number;
            }
            anyhow::Ok(sum)
        }));
        first.await??;
        assert_eq!(second.await??, 4950);
        Ok(())
    })
}
