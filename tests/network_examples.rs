//! The logic of the examples 14 to 16, which does not know what carries its bytes: in memory, and over real sockets.
#![cfg(unix)]

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use nursery::{Cancelled, lowlevel, now, open_nursery, sleep, sleep_forever};
use nursery_examples::recorded;
use nursery_io::net::{TcpListener, TcpStream};
use nursery_io::stream::{HalfClose, Listener, ReceiveStream, SendStream, StreamError};
use nursery_testing::{
    BoundedStream, Test, lockstep_stream_pair, memory_stream_pair, open_stream_to_listener,
    wait_all_tasks_blocked,
};

#[path = "../examples/15_echo_client.rs"]
#[allow(dead_code, reason = "its `main` is called when it is run by hand")]
mod echo_client;
#[path = "../examples/14_echo_server.rs"]
#[allow(dead_code, reason = "its `main` is called when it is run by hand")]
mod echo_server;
#[path = "../examples/16_happy_eyeballs.rs"]
#[allow(dead_code, reason = "its `main` is called when it is run by hand")]
mod happy_eyeballs;

mod memory;

use memory::memory_listener;

const SECOND: Duration = Duration::from_secs(1);

async fn settled() -> Result<(), Cancelled> {
    wait_all_tasks_blocked(Duration::ZERO).await
}

fn seeds(main: impl AsyncFn() -> anyhow::Result<()>) {
    Test::new().time_limit(60 * SECOND).orders(20, main);
}

/// Sends, and receives what comes back.
async fn round_trip(stream: &(impl SendStream + ReceiveStream)) -> Result<usize, StreamError> {
    stream.send_all(b"ping").await?;
    stream.receive_some(&mut [0; 100]).await
}

/// `connect` connects to the server; `serve` is it.
async fn stops_in_good_order<S: HalfClose + ReceiveStream, L>(
    listener: L,
    connect: impl AsyncFn() -> io::Result<S>,
) -> anyhow::Result<()>
where
    L: Listener<Stream: SendStream + ReceiveStream>,
{
    let stop = nursery_io::sync::Event::new();
    open_nursery(async |n| -> anyhow::Result<()> {
        let server = n.start_soon(echo_server::serve(listener, stop.wait()));
        let (modest, greedy) = (connect().await?, connect().await?);
        for client in [&modest, &greedy] {
            assert_eq!(round_trip(client).await?, 4);
        }
        settled().await?;
        let start = now();
        stop.set();
        settled().await?;
        assert!(connect().await.is_err(), "it accepts no more");
        assert_eq!(round_trip(&modest).await?, 4, "those it has go on");
        modest.send_eof().await?;
        assert_eq!(modest.receive_some(&mut [0]).await?, 0);
        server.await?;
        assert_eq!(now() - start, 5 * SECOND, "as long as one of them goes on");
        assert_eq!(greedy.receive_some(&mut [0]).await?, 0, "it was ended");
        Ok(())
    })
    .await
}

#[test]
fn the_echo_server_stops_in_good_order() {
    seeds(async || {
        let (clients, listener) = memory_listener();
        let connect = async || {
            let (client, server) = lockstep_stream_pair();
            clients.send(server).await.map_err(io::Error::from)?;
            Ok(client)
        };
        recorded(stops_in_good_order(listener, connect)).await.0
    });
}

#[test]
fn the_echo_server_stops_in_good_order_over_sockets() {
    seeds(async || {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
        let address = listener.local_addr()?;
        let connect = async || TcpStream::connect(address).await;
        recorded(stops_in_good_order(listener, connect)).await.0
    });
}

#[test]
fn an_echo_server_without_connections_stops_at_once() {
    seeds(async || {
        let (_clients, listener) = memory_listener();
        let start = now();
        let (served, said) = recorded(echo_server::serve(listener, sleep(SECOND))).await;
        served?;
        assert_eq!(
            said,
            "[ 0s] server: listening\n[ 1s] server: stopping\n[ 1s] server: stopped\n"
        );
        assert_eq!(now() - start, SECOND);
        Ok(())
    });
}

/// Runs the client against an echo that is as fast as it can be.
async fn client_hears_its_lines(
    here: impl HalfClose + ReceiveStream,
    there: impl HalfClose + ReceiveStream,
) -> anyhow::Result<()> {
    let (result, said) = recorded(open_nursery(async |n| -> anyhow::Result<()> {
        n.start_soon(async { Ok(echo_client::echo(there).await?) });
        echo_client::client(here, &["one", "two"]).await
    }))
    .await;
    result?;
    let expected = [
        "[ 0s] receiver: one",
        "[ 1s] receiver: two",
        "[ 2s] sender: no more",
        "[ 2s] receiver: the end",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    Ok(())
}

#[test]
fn the_echo_client_hears_all_it_has_said() {
    seeds(async || {
        let (here, there) = lockstep_stream_pair();
        client_hears_its_lines(here, there).await
    });
    seeds(async || {
        let (here, there) = memory_stream_pair();
        client_hears_its_lines(here, there).await
    });
}

#[test]
fn the_echo_client_hears_all_it_has_said_over_sockets() {
    seeds(async || {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
        let here = open_stream_to_listener(&listener).await?;
        client_hears_its_lines(here, listener.accept().await?).await
    });
}

/// What an address does, how many seconds after it was asked.
#[derive(Clone, Copy)]
enum Does {
    Answer(u32),
    Refuse(u32),
    Nothing,
}

/// The race, with who was asked when.
async fn race(targets: &[Does]) -> (io::Result<(usize, BoundedStream)>, Vec<(usize, Duration)>) {
    let (start, asked) = (now(), RefCell::new(vec![]));
    let targets = targets.iter().copied().enumerate();
    let won = happy_eyeballs::happy_eyeballs(targets, SECOND, async |(target, does)| {
        asked.borrow_mut().push((target, now() - start));
        match does {
            Does::Answer(after) => sleep(after * SECOND).await?,
            Does::Refuse(after) => {
                sleep(after * SECOND).await?;
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            Does::Nothing => sleep_forever().await.map(drop)?,
        }
        Ok((target, lockstep_stream_pair().0))
    });
    let won = won.await;
    (won, asked.take())
}

#[test]
fn happy_eyeballs_takes_the_first_that_answers() {
    use Does::{Answer, Nothing, Refuse};
    seeds(async || {
        let (won, asked) = race(&[Nothing, Refuse(0), Answer(9), Answer(0), Answer(0)]).await;
        assert_eq!(won?.0, 3);
        let times = [0, 1, 1, 2].map(|second| second * SECOND);
        assert_eq!(asked, Vec::from_iter((0..).zip(times)));

        let (won, asked) = race(&[Refuse(0), Refuse(5)]).await;
        let error = won.map(drop).expect_err("both refuse").to_string();
        assert_eq!(error.lines().next(), Some("2 errors"));
        assert_eq!(asked.len(), 2);
        Ok(())
    });
}

#[test]
fn happy_eyeballs_gives_up_all_when_it_is_cancelled() {
    seeds(async || {
        let tasks = lowlevel::tasks().len();
        let raced = nursery::move_on_after(90 * SECOND, async {
            anyhow::Ok(race(&[Does::Nothing, Does::Nothing]).await.0.map(drop)?)
        });
        assert!(raced.await?.is_none());
        assert_eq!(lowlevel::tasks().len(), tasks, "none is left");
        Ok(())
    });
}

#[test]
fn happy_eyeballs_over_sockets() {
    seeds(async || {
        let server = TcpListener::bind(([127, 0, 0, 1], 0))?;
        let targets = [([127, 0, 0, 1], 1).into(), server.local_addr()?];
        let connect = async |address: std::net::SocketAddr| TcpStream::connect(address).await;
        let start = now();
        let stream = happy_eyeballs::happy_eyeballs(targets, SECOND, connect).await?;
        assert_eq!(stream.peer_addr()?, targets[1]);
        assert_eq!(now() - start, Duration::ZERO, "refused, it does not wait");
        Ok(())
    });
}
