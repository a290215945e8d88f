//! Thousands of connections in one run, of which a third is killed by its clients and a third by the server, at random
//! moments: the others notice nothing, and nothing is left behind. `just stress` runs it; it takes a while.
#![cfg(target_os = "linux")]

use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::time::Duration;

use fastrand::Rng;
use nursery::lowlevel::statistics;
use nursery::{CancelScope, Cancelled, fail_after, move_on_after, open_nursery};
use nursery_io::net::{TcpListener, TcpStream, serve_listeners};
use nursery_io::stream::{HalfClose, ReceiveStream, SendStream, StreamError};
use nursery_testing::Test;
use rustix::process::{Resource, getrlimit};
use socket2::SockRef;

const CONNECTIONS: usize = 2000;
const ROUNDS: usize = 50;
const LONGEST_MESSAGE: usize = 5000;
const LONG: Duration = Duration::from_secs(600);

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// All its rounds are answered.
    Lives,
    /// Its client is cancelled, and breaks off.
    Killed,
    /// Its handler is cancelled.
    Struck,
}

fn fate(number: usize) -> Fate {
    [Fate::Lives, Fate::Killed, Fate::Struck][number % 3]
}

/// Who is cancelled when: after so many rounds of all connections together.
struct Storm {
    rounds: Cell<usize>,
    /// The last comes first.
    kills: RefCell<Vec<(usize, usize)>>,
    strike_at: usize,
    clients: Vec<CancelScope>,
    handlers: Vec<CancelScope>,
}

impl Storm {
    fn new(connections: usize, rng: &mut Rng) -> Self {
        let scopes = || (0..connections).map(|_| CancelScope::new()).collect();
        let third = connections * ROUNDS / 3; // those who live do as many rounds
        let killed = (0..connections).filter(|&number| fate(number) == Fate::Killed);
        let mut kills: Vec<_> = killed.map(|number| (rng.usize(..third), number)).collect();
        kills.sort_unstable_by(|a, b| b.cmp(a));
        Storm {
            rounds: Cell::new(0),
            kills: RefCell::new(kills),
            strike_at: third / 2,
            clients: scopes(),
            handlers: scopes(),
        }
    }

    fn round_is_over(&self) {
        let rounds = self.rounds.get() + 1;
        self.rounds.set(rounds);
        if rounds == self.strike_at {
            let struck = self.handlers.iter().enumerate().filter(|(i, _)| fate(*i) == Fate::Struck);
            struck.for_each(|(_, scope)| scope.cancel());
        }
        let due = |&mut (at, _): &mut (usize, usize)| at < rounds;
        while let Some((_, number)) = self.kills.borrow_mut().pop_if(due) {
            self.clients[number].cancel();
        }
    }
}

async fn receive_exactly(stream: &TcpStream, buffer: &mut [u8]) -> Result<bool, StreamError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.receive_some(&mut buffer[filled..]).await? {
            0 => return Ok(false),
            n => filled += n,
        }
    }
    Ok(true)
}

/// The number of a connection or the length of a message; `None` at the end.
async fn receive_number(stream: &TcpStream) -> Result<Option<usize>, StreamError> {
    let mut bytes = [0; 4];
    let is_there = receive_exactly(stream, &mut bytes).await?;
    Ok(is_there.then(|| u32::from_le_bytes(bytes) as usize))
}

fn message(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("a message is short");
    [&length.to_le_bytes(), bytes].concat()
}

/// Sends back what comes, until the client has had enough or the handler is struck.
async fn handle(stream: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; LONGEST_MESSAGE];
    while let Some(length) = receive_number(stream).await? {
        let message_in = &mut buffer[..length];
        if !receive_exactly(stream, message_in).await? {
            break;
        }
        fail_after(LONG, async { io::Result::Ok(stream.send_all(&message(message_in)).await?) })
            .await?;
    }
    Ok(())
}

/// Returns how many rounds were answered. What was answered is checked; the end may come at any time.
async fn rounds(stream: &TcpStream, storm: &Storm, rng: &mut Rng) -> Result<usize, StreamError> {
    for round in 0..ROUNDS {
        let sent: Vec<u8> = (0..rng.usize(1..LONGEST_MESSAGE)).map(|_| rng.u8(..)).collect();
        stream.send_all(&message(&sent)).await?;
        let mut answer = vec![0; sent.len()];
        let answered = async {
            let length = receive_number(stream).await?;
            let is_there = length.is_some() && receive_exactly(stream, &mut answer).await?;
            assert!(length.is_none_or(|length| length == sent.len()));
            io::Result::Ok(is_there)
        };
        if move_on_after(LONG, answered).await? != Some(true) {
            return Ok(round);
        }
        assert!(answer == sent, "another answer");
        storm.round_is_over();
    }
    Ok(ROUNDS)
}

/// One client, from its connecting to its end. Returns how many rounds it did.
async fn client(number: usize, port: u16, storm: &Storm, mut rng: Rng) -> Result<usize, Cancelled> {
    let done = Cell::new(0);
    let life = async {
        let stream = TcpStream::connect(([127, 0, 0, 1], port)).await?;
        let number = u32::try_from(number).expect("a small number");
        stream.send_all(&number.to_le_bytes()).await?;
        if rng.bool() {
            // It will break off by a reset, not by an end.
            stream.with(|io| SockRef::from(io).set_linger(Some(Duration::ZERO)))??;
        }
        done.set(rounds(&stream, storm, &mut rng).await?);
        if done.get() == ROUNDS {
            stream.with(|io| SockRef::from(io).set_linger(None))??;
            stream.send_eof().await?;
            assert_eq!(stream.receive_some(&mut [0]).await?, 0);
        }
        io::Result::Ok(())
    };
    let ended = storm.clients[number].enter(life).await;
    match (fate(number), ended) {
        (_, Ok(Some(()))) if done.get() == ROUNDS => {}
        (Fate::Killed, Ok(None)) => {}
        (Fate::Struck, Ok(Some(())) | Err(_)) if storm.handlers[number].cancel_called() => {}
        (fate, ended) => panic!("client {number}, {fate:?}: {ended:?} after {} rounds", done.get()),
    }
    Ok(done.get())
}

async fn storm(connections: usize, seed: u64) -> anyhow::Result<()> {
    let mut rng = Rng::with_seed(seed);
    let storm = Storm::new(connections, &mut rng);
    let before = statistics();
    let handler = async |stream: TcpStream| {
        let Some(number) = receive_number(&stream).await? else { return Ok(()) };
        let ended = storm.handlers[number].enter(handle(&stream)).await;
        match (fate(number), ended) {
            (_, Ok(Some(()))) | (Fate::Struck, Ok(None)) | (Fate::Killed, Err(_)) => Ok(()),
            (fate, ended) => panic!("handler {number}, {fate:?}: {ended:?}"),
        }
    };
    let finished = Cell::new(0);
    open_nursery(async |n| -> anyhow::Result<()> {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
        let port = listener.local_addr()?.port();
        n.start(async |status| {
            let server = serve_listeners([listener], &handler).on_error(|error: io::Error| {
                // Killed before it had said its number.
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                Ok(())
            });
            Ok(server.started(status).await?)
        })
        .await?;
        open_nursery(async |clients| -> anyhow::Result<()> {
            for number in 0..connections {
                let rng = rng.fork();
                let (storm, finished) = (&storm, &finished);
                clients.start_soon(async move {
                    let rounds = client(number, port, storm, rng).await?;
                    finished.set(finished.get() + usize::from(rounds == ROUNDS));
                    Ok(())
                });
            }
            Ok(())
        })
        .await?;
        n.cancel_scope().cancel();
        Ok(())
    })
    .await?;
    assert_eq!(statistics(), before, "tasks, waits, scopes or deadlines are left");
    let (finished, rounds) = (finished.get(), storm.rounds.get());
    eprintln!("{connections} connections, {finished} of them to their end; {rounds} rounds");
    // A client that was lucky may have been done before it was its turn.
    assert!(finished < connections / 2, "the storm missed most of them");
    Ok(())
}

fn descriptors() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}

/// As many connections as there are descriptors for: two each.
fn connections() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let limit = usize::try_from(limit.saturating_sub(100) / 2).unwrap_or(usize::MAX);
    if limit < CONNECTIONS {
        eprintln!("only {limit} connections: raise the limit (`ulimit -n`)");
    }
    limit.min(CONNECTIONS)
}

#[test]
#[ignore = "it takes a while: `just stress`"]
fn a_storm_hits_two_thirds_of_the_connections_and_the_others_notice_nothing() -> anyhow::Result<()>
{
    let run = |connections, seed, budget| {
        let test = Test::new().seed(seed).checkpoint_budget(budget).real_clock();
        test.time_limit(LONG).run(storm(connections, seed))
    };
    run(10, 0, 1)?; // the reactor opens its own descriptors
    let before = descriptors()?;
    for (seed, budget) in [(1, 1), (2, 32)] {
        run(connections(), seed, budget)?;
        assert_eq!(descriptors()?, before);
    }
    Ok(())
}
