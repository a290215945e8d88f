//! Happy eyeballs (RFC 8305): of several addresses, the first that answers, without waiting long for those that do not.
//!
//! In asyncio, this is a module of 150 lines that starts tasks by hand, keeps them in a list, and has to see to it that none
//! of them leaks a socket. It is what trio became known for. Here the attempts are children: the next begins when the last
//! one has failed, or is slow; who wins cancels the nursery, and with it all others, whose sockets are closed.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use nursery::{ErrorGroup, TaskError, move_on_after, open_nursery};
use nursery_examples::say;
use nursery_io::net::{TcpListener, TcpStream};
use nursery_io::sync::Event;

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
/// Connects to the first of `targets` that lets itself be connected to. There has to be one at least.
pub(crate) async fn happy_eyeballs<A, S>(
    targets: impl IntoIterator<Item = A>,
    delay: Duration,
    connect: impl AsyncFn(A) -> io::Result<S>,
) -> io::Result<S> {
    let (winner, failures) = (RefCell::new(None), RefCell::new(vec![]));
    open_nursery(async |n| -> io::Result<()> {
        for target in targets {
            let failed = Rc::new(Event::new());
            let (connect, winner, failures, tell) = (&connect, &winner, &failures, failed.clone());
            n.start_soon(async move {
                match connect(target).await {
                    Ok(stream) => {
                        winner.replace(Some(stream));
                        n.cancel_scope().cancel(); // the others, and the loop
                    }
                    Err(error) if error.as_cancelled().is_some() => return Err(error),
                    Err(error) => {
                        failures.borrow_mut().push(error);
                        tell.set(); // no need to wait any longer
                    }
                }
                Ok(())
            });
            move_on_after(delay, failed.wait()).await?;
        }
        Ok(())
    })
    .or_none()
    .await?;
    winner.into_inner().ok_or_else(|| ErrorGroup::new(failures.into_inner()).into())
}
// ANCHOR_END: body

/// Connects, and tells about it.
async fn connect((name, address): (&str, SocketAddr)) -> io::Result<TcpStream> {
    say!("{name}: trying");
    let result = TcpStream::connect(address).await;
    match &result {
        Ok(_) => say!("{name}: connected"),
        Err(error) if error.as_cancelled().is_some() => {} // somebody else was faster
        Err(error) => say!("{name}: {:?}", error.kind()),
    }
    result
}

#[nursery::main]
async fn main() -> anyhow::Result<()> {
    demo().await
}

/// A listener that has no room for more connections: whoever tries is not even refused.
struct BlackHole {
    listener: TcpListener,
    _first: TcpStream,
}

impl BlackHole {
    async fn open() -> io::Result<Self> {
        let listener = TcpListener::bind_with_backlog(([127, 0, 0, 1], 0), 0)?;
        let first = TcpStream::connect(listener.local_addr()?).await?;
        Ok(BlackHole { listener, _first: first })
    }
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    let (one, other) = (BlackHole::open().await?, BlackHole::open().await?);
    let server = TcpListener::bind(([127, 0, 0, 1], 0))?;
    let targets = [
        ("black hole", one.listener.local_addr()?),
        ("another black hole", other.listener.local_addr()?),
        ("nobody at home", ([127, 0, 0, 1], 1).into()),
        ("server", server.local_addr()?),
        ("never tried", server.local_addr()?),
    ];
    let stream = happy_eyeballs(targets, SECOND, connect).await?;
    assert_eq!(stream.peer_addr()?, server.local_addr()?);
    say!("there is one connection, and no attempt is left");
    Ok(())
}
