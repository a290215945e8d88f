//! The logic of the examples 17 and 18, which does not know what carries its bytes: in memory, and over real sockets.
#![cfg(unix)]

use std::cell::Cell;
use std::future::pending;
use std::io;
use std::time::Duration;

use nursery::{cancellable, checkpoint, now, open_nursery, sleep};
use nursery_examples::recorded;
use nursery_io::channel::{self, Receiver, Sender};
use nursery_io::net::{TcpListener, TcpStream};
use nursery_io::stream::{
    BufferedReceive, HalfClose, Listener, ReceiveStream, Resource, SendStream, StreamError,
};
use nursery_testing::{
    BoundedStream, CancelEverywhere, Test, bounded_stream_pair, cancel_everywhere,
    lockstep_stream_pair, wait_all_tasks_blocked,
};

#[path = "../examples/17_chat.rs"]
#[allow(dead_code, reason = "its `main` is called when it is run by hand")]
mod chat;
#[path = "../examples/18_proxy.rs"]
#[allow(dead_code, reason = "its `main` is called when it is run by hand")]
mod proxy;

use chat::{BACKLOG, Client, GRACE, serve_chat};
use proxy::{CONNECT, End, Relay, serve_proxy};

const SECOND: Duration = Duration::from_secs(1);

/// Accepts the ends of memory streams that a test sends it.
struct MemoryListener {
    incoming: Receiver<BoundedStream>,
}

fn memory_listener() -> (Sender<BoundedStream>, MemoryListener) {
    let (clients, incoming) = channel::open(channel::UNBOUNDED);
    (clients, MemoryListener { incoming })
}

impl Resource for MemoryListener {
    async fn aclose(&self) -> Result<(), StreamError> {
        self.incoming.close();
        Ok(checkpoint().await?)
    }
}

impl Listener for MemoryListener {
    type Stream = BoundedStream;

    async fn accept(&self) -> Result<BoundedStream, StreamError> {
        Ok(self.incoming.recv().await.map_err(io::Error::from)?)
    }
}

/// Connects to a [`MemoryListener`], by a stream that has room for `capacity` bytes each way.
fn dial(clients: &Sender<BoundedStream>, capacity: usize) -> io::Result<BoundedStream> {
    let (client, server) = bounded_stream_pair(capacity);
    clients.try_send(server).map_err(io::Error::from)?;
    Ok(client)
}

/// In 20 orders. What is said is thrown away.
fn seeds(main: impl AsyncFn() -> anyhow::Result<()>) {
    Test::new().time_limit(60 * SECOND).orders(20, async || recorded(main()).await.0);
}

/// Serves a chat in memory while `visit` goes on, in 20 orders.
fn chatting(visit: impl AsyncFn(&Sender<BoundedStream>) -> anyhow::Result<()>) {
    seeds(async || {
        let (clients, listener) = memory_listener();
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(serve_chat(listener));
            visit(&clients).await?;
            n.cancel_scope().cancel();
            Ok(())
        })
        .await
    });
}

/// Two talk, a third hears both in the same order, and nobody hears himself.
async fn converse<S, L>(listener: L, connect: impl AsyncFn() -> io::Result<S>) -> anyhow::Result<()>
where
    S: HalfClose + ReceiveStream,
    L: Listener<Stream: SendStream + ReceiveStream>,
{
    open_nursery(async |n| -> anyhow::Result<()> {
        n.start_soon(serve_chat(listener));
        let mut ann = Client::enter(connect().await?, "ann").await?;
        let mut bob = Client::enter(connect().await?, "bob").await?;
        let mut eve = Client::enter(connect().await?, "eve").await?;
        ann.tell("1").await?;
        assert_eq!(bob.hear().await?, "* eve is here");
        assert_eq!(bob.hear().await?, "ann: 1");
        bob.tell("2").await?;
        for line in ["ann: 1", "bob: 2"] {
            assert_eq!(eve.hear().await?, line);
        }
        for line in ["* bob is here", "* eve is here", "bob: 2"] {
            assert_eq!(ann.hear().await?, line);
        }

        ann.tell("3").await?;
        ann.lines.get_ref().send_eof().await?;
        for line in ["ann: 3", "* ann has left"] {
            assert_eq!(bob.hear().await?, line);
            assert_eq!(eve.hear().await?, line);
        }
        assert!(ann.hear().await.is_err(), "that was all");
        n.cancel_scope().cancel();
        Ok(())
    })
    .await
}

#[test]
fn what_one_says_all_others_hear() {
    seeds(async || {
        let (clients, listener) = memory_listener();
        converse(listener, async || dial(&clients, 0)).await
    });
}

#[test]
fn what_one_says_all_others_hear_over_sockets() {
    seeds(async || {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
        let address = listener.local_addr()?;
        converse(listener, async || TcpStream::connect(address).await).await
    });
}

#[test]
fn who_does_not_listen_holds_up_nobody_is_told_so_and_is_cut_off() {
    chatting(async |clients| {
        let mut ann = Client::enter(dial(clients, 100)?, "ann").await?;
        let mut bob = Client::enter(dial(clients, 100)?, "bob").await?;
        let mut eve = Client::enter(dial(clients, 100)?, "eve").await?; // hears in the end
        let mut mum = Client::enter(dial(clients, 100)?, "mum").await?; // never does
        for _ in 0..3 {
            ann.hear().await?;
        }
        for _ in 0..2 {
            bob.hear().await?;
        }

        let start = now();
        let mut thrown_out = vec![];
        for line in 0..3 * BACKLOG {
            ann.tell(&line.to_string()).await?;
            loop {
                match bob.hear().await? {
                    news if news.starts_with('*') => thrown_out.push(news),
                    heard => break assert_eq!(heard, format!("ann: {line}")),
                }
            }
        }
        assert_eq!(now() - start, Duration::ZERO, "nobody waits for them");
        thrown_out.sort();
        assert_eq!(thrown_out, ["* eve was too slow", "* mum was too slow"]);

        let mut heard = vec![];
        while let Ok(line) = eve.hear().await {
            heard.push(line);
        }
        assert_eq!(now() - start, Duration::ZERO, "she was in time");
        assert_eq!(heard.last().unwrap(), "* you are too slow: goodbye");
        assert!(heard.len() >= BACKLOG, "all until then: {heard:?}");

        sleep(GRACE).await?;
        wait_all_tasks_blocked(Duration::ZERO).await?;
        let mut last = String::new();
        while let Ok(line) = mum.hear().await {
            last = line;
        }
        assert_ne!(last, "* you are too slow: goodbye", "too late");
        assert!(mum.tell("hello?").await.is_err(), "nobody there");
        Ok(())
    });
}

#[test]
fn many_lines_at_once_make_nobody_slow_who_listens() {
    chatting(async |clients| {
        let ann = Client::enter(dial(clients, 100)?, "ann").await?;
        let mut bob = Client::enter(dial(clients, 100)?, "bob").await?;
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async { ann.tell(&"x\n".repeat(10 * BACKLOG)).await });
            for _ in 0..10 * BACKLOG {
                assert_eq!(bob.hear().await?, "ann: x");
            }
            Ok(())
        })
        .await
    });
}

#[test]
fn a_name_is_for_one_until_he_has_left() {
    chatting(async |clients| {
        let ann = Client::enter(dial(clients, 100)?, "ann").await?;
        let mut other = Client { lines: BufferedReceive::new(dial(clients, 100)?) };
        other.tell("ann").await?;
        assert_eq!(other.hear().await?, "* your name?");
        assert_eq!(other.hear().await?, "* this name is taken: goodbye");
        assert!(other.hear().await.is_err());

        drop(ann); // without a word
        wait_all_tasks_blocked(Duration::ZERO).await?;
        let mut other = Client { lines: BufferedReceive::new(dial(clients, 100)?) };
        other.tell("ann").await?;
        assert_eq!(other.hear().await?, "* your name?");
        assert_eq!(other.hear().await?, "* welcome, ann");
        Ok(())
    });
}

/// A client may notice that the server has gone before it notices that it is cancelled itself.
#[test]
fn a_chat_may_be_cancelled_or_dropped_anywhere() {
    CancelEverywhere::new().may_fail().run(async || {
        let (clients, listener) = memory_listener();
        recorded(converse(listener, async || dial(&clients, 0))).await.0
    });
}

/// The client ends its way, and gets all of the answer, which the upstream begins only then.
async fn both_ends_are_passed_on<C, U>(
    client: C,
    (near, far): (impl HalfClose + ReceiveStream, impl HalfClose + ReceiveStream),
    upstream: U,
) -> anyhow::Result<Relay>
where
    C: HalfClose + ReceiveStream,
    U: HalfClose + ReceiveStream,
{
    let relay = Relay::new((60 * SECOND, 60 * SECOND));
    open_nursery(async |n| -> anyhow::Result<()> {
        n.start_soon(async { Ok(relay.run(&near, &far).await?) });
        n.start_soon(async {
            let mut question = BufferedReceive::new(&upstream);
            while question.fill().await? > 0 {}
            assert_eq!(question.buffer(), vec![b'?'; 50_000]);
            upstream.send_all(&[b'!'; 70_000]).await?;
            Ok(upstream.send_eof().await?)
        });
        client.send_all(&[b'?'; 50_000]).await?;
        client.send_eof().await?;
        let mut answer = BufferedReceive::new(&client);
        while answer.fill().await? > 0 {}
        assert_eq!(answer.buffer(), vec![b'!'; 70_000]);
        Ok(())
    })
    .await?;
    Ok(relay)
}

fn assert_all_passed(relay: &Relay) {
    assert_eq!((relay.up.bytes.get(), relay.up.end.get()), (50_000, End::Passed));
    assert_eq!((relay.down.bytes.get(), relay.down.end.get()), (70_000, End::Passed));
}

#[test]
fn each_end_is_passed_on_by_itself() {
    seeds(async || {
        let ((client, near), (far, upstream)) = (lockstep_stream_pair(), lockstep_stream_pair());
        assert_all_passed(&both_ends_are_passed_on(client, (near, far), upstream).await?);
        Ok(())
    });
}

#[test]
fn each_end_is_passed_on_by_itself_over_sockets() {
    seeds(async || {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
        let connect = async || -> anyhow::Result<(TcpStream, TcpStream)> {
            let client = TcpStream::connect(listener.local_addr()?).await?;
            Ok((client, listener.accept().await?))
        };
        let ((client, near), (far, upstream)) = (connect().await?, connect().await?);
        assert_all_passed(&both_ends_are_passed_on(client, (near, far), upstream).await?);
        Ok(())
    });
}

/// Runs a relay with limits of 2 s and 9 s, while `peers` has the client's end and the upstream's.
async fn relayed(
    peers: impl AsyncFnOnce(&BoundedStream, &BoundedStream) -> anyhow::Result<()>,
) -> anyhow::Result<(Relay, Option<io::ErrorKind>, Duration)> {
    let ((client, near), (far, upstream)) = (bounded_stream_pair(10), bounded_stream_pair(10));
    let relay = Relay::new((2 * SECOND, 9 * SECOND));
    let (start, both) = (now(), &relay);
    let (failed, took) = open_nursery(async |n| -> anyhow::Result<_> {
        let relayed = n.start_soon(async move {
            let failed = match both.run(&near, &far).await {
                Ok(()) => None,
                Err(error) => Some(only_one(error)?.kind()),
            };
            anyhow::Ok((failed, now() - start))
        });
        peers(&client, &upstream).await?;
        Ok(relayed.await?)
    })
    .await?;
    Ok((relay, failed, took))
}

/// What is in a group of one.
fn only_one(error: io::Error) -> anyhow::Result<io::Error> {
    let group = error.downcast::<nursery::ErrorGroup<io::Error>>()?;
    Ok(group.into_single()?)
}

#[test]
fn each_way_has_a_limit_of_its_own_that_begins_anew_with_every_byte() {
    seeds(async || {
        let (relay, failed, took) = relayed(async |client, _| {
            for _ in 0..3 {
                sleep(SECOND).await?;
                client.send_all(b"x").await?;
            }
            Ok(())
        })
        .await?;
        assert_eq!((failed, took), (Some(io::ErrorKind::TimedOut), 5 * SECOND));
        assert_eq!((relay.up.bytes.get(), relay.up.end.get()), (3, End::Idle(2 * SECOND)));
        assert_eq!((relay.down.bytes.get(), relay.down.end.get()), (0, End::CutOff));
        Ok(())
    });
}

#[test]
fn a_way_that_has_ended_is_not_idle() {
    seeds(async || {
        let (relay, failed, took) = relayed(async |client, _| Ok(client.send_eof().await?)).await?;
        assert_eq!((failed, took), (Some(io::ErrorKind::TimedOut), 9 * SECOND));
        assert_eq!(relay.up.end.get(), End::Passed);
        assert_eq!(relay.down.end.get(), End::Idle(9 * SECOND));
        Ok(())
    });
}

#[test]
fn an_upstream_that_takes_nothing_is_idle() {
    seeds(async || {
        let (relay, failed, took) = relayed(async |client, _| {
            let refused = client.send_all(&[0; 100_000]).await.unwrap_err();
            assert!(matches!(refused, StreamError::Broken(_)), "{refused}");
            Ok(())
        })
        .await?;
        assert_eq!((failed, took), (Some(io::ErrorKind::TimedOut), 2 * SECOND));
        assert_eq!(relay.up.end.get(), End::Idle(2 * SECOND));
        Ok(())
    });
}

#[test]
fn a_way_that_fails_cuts_the_other_off() {
    seeds(async || {
        let (relay, failed, took) = relayed(async |client, upstream| {
            upstream.receive.close();
            Ok(client.send_all(b"is anybody there?").await?)
        })
        .await?;
        assert_eq!((failed, took), (Some(io::ErrorKind::BrokenPipe), Duration::ZERO));
        assert_eq!(relay.up.end.get(), End::Failed(io::ErrorKind::BrokenPipe));
        assert_eq!(relay.down.end.get(), End::CutOff);
        Ok(())
    });
}

#[test]
fn a_relay_may_be_cancelled_or_dropped_anywhere() {
    cancel_everywhere(async || {
        let relay = Relay::new((2 * SECOND, 9 * SECOND));
        let ((client, near), (far, upstream)) = (bounded_stream_pair(10), bounded_stream_pair(10));
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async { Ok(relay.run(&near, &far).await?) });
            client.send_all(b"question").await?;
            client.send_eof().await?;
            while upstream.receive_some(&mut [0; 10]).await? > 0 {}
            upstream.send_all(b"answer").await?;
            upstream.send_eof().await?;
            while client.receive_some(&mut [0; 10]).await? > 0 {}
            Ok(())
        })
        .await
    });
}

/// The first client finds that the upstream refuses, the second that it does not answer; the third is served.
#[test]
fn an_upstream_that_cannot_be_reached_ends_one_client_only() {
    Test::new().time_limit(60 * SECOND).orders(20, async || {
        let (clients, listener) = memory_listener();
        let (far, upstream) = bounded_stream_pair(10);
        let (calls, far) = (Cell::new(0), Cell::new(Some(far)));
        let connect = async || {
            calls.set(calls.get() + 1);
            match calls.get() {
                1 => Err(io::ErrorKind::ConnectionRefused.into()),
                2 => Ok(cancellable(pending()).await?),
                _ => Ok(far.take().expect("one upstream")),
            }
        };
        let serve = open_nursery(async |n| -> io::Result<()> {
            n.start_soon(serve_proxy(listener, &connect, (2 * SECOND, 2 * SECOND)));
            let start = now();
            for took in [Duration::ZERO, CONNECT] {
                assert_eq!(dial(&clients, 10)?.receive_some(&mut [0]).await?, 0);
                assert_eq!(now() - start, took);
            }
            let third = dial(&clients, 10)?;
            upstream.send_all(b"welcome").await?;
            assert_eq!(third.receive_some(&mut [0; 10]).await?, 7);
            n.cancel_scope().cancel();
            Ok(())
        });
        let (served, said) = recorded(serve).await;
        let said: Vec<_> = said.lines().map(|line| &line[6..]).collect();
        assert_eq!(
            said,
            [
                "client 1: no upstream: connection refused",
                "client 2: no upstream: timed out",
                "client 3: to the upstream 0 bytes, cut off; from the upstream 7 bytes, cut off",
            ]
        );
        served
    });
}
