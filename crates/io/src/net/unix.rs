//! The local sockets of Unix: [`UnixStream`], [`UnixListener`], [`UnixDatagram`].
//!
//! Their addresses are paths of files. On Linux, a path that begins with a zero byte is a name in the *abstract*
//! name space, which no file belongs to.

mod datagram;
mod file;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::Shutdown;
use std::os::unix::net;
use std::path::Path;

use nursery::{Cancelled, cancellable, checkpoint, sleep};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

pub use crate::net::unix::datagram::UnixDatagram;

use crate::net::accept::accept;
use crate::net::call;
use crate::net::error::AddressError;
use crate::net::socket_stream::{Calls, SocketStream};
use crate::net::tcp::DEFAULT_BACKLOG;
use crate::net::turns::Turns;
use crate::net::unix::file::SocketFile;
use crate::source::half::Drains;
use crate::source::{RETRY, Source};
use crate::stream::{Listener, Resource, StreamError};

/// A connection between processes of this machine, from [`connect`](Self::connect), [`pair`](Self::pair) or a
/// [`UnixListener`].
pub type UnixStream = SocketStream<net::UnixStream>;

const CALLS: Calls<net::UnixStream> = Calls {
    read: call::read,
    write: call::write,
    shutdown: |io| io.shutdown(Shutdown::Write),
    drains: Drains::Unknown,
};

impl UnixStream {
    /// Connects to the listener at `path`. If too many wait there already, it waits, too.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, no socket is left.
    ///
    /// # Errors
    ///
    /// [`Cancelled`], held by the [`io::Error`]; otherwise an [`AddressError`].
    ///
    /// # Panics
    ///
    /// Outside a run.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<UnixStream> {
        let path = path.as_ref();
        checkpoint().await?;
        let name_it = |error| AddressError::wrap("connect to", path.display(), error);
        let address = SockAddr::unix(path).map_err(name_it)?;
        loop {
            match try_connect(&address).await? {
                // Nothing tells when the listener's queue has room again.
                Err(error) if is_queue_full(&error) => sleep(RETRY).await?,
                Err(error) => return Err(name_it(error)),
                Ok(source) => return Ok(UnixStream::from_source(source)),
            }
        }
    }

    /// Makes two ends of a connection.
    ///
    /// # Errors
    ///
    /// Those of the system, which may have no room for them.
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (one, other) = net::UnixStream::pair()?;
        Ok((UnixStream::from_std(one)?, UnixStream::from_std(other)?))
    }

    /// Takes over a connection of the standard library.
    ///
    /// # Errors
    ///
    /// Those of the system, which may have no room for it.
    pub fn from_std(stream: net::UnixStream) -> io::Result<UnixStream> {
        Ok(UnixStream::from_source(Source::new(stream)?))
    }

    fn from_source(source: Source<net::UnixStream>) -> UnixStream {
        SocketStream::new(source, CALLS)
    }

    /// Gives the connection back to the standard library, as one that blocks.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`], held by the [`io::Error`]; those of the system.
    pub fn into_std(self) -> io::Result<net::UnixStream> {
        let stream = self.into_inner()?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    /// Returns the address of the other end, which has none unless it listens.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`], held by the [`io::Error`]; those of the system: it may be gone.
    pub fn peer_addr(&self) -> io::Result<net::SocketAddr> {
        self.with(net::UnixStream::peer_addr)?
    }
}

fn is_queue_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

async fn try_connect(address: &SockAddr) -> Result<io::Result<Source<net::UnixStream>>, Cancelled> {
    let connected = async {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        let source = Source::new(net::UnixStream::from(socket))?;
        // Done at once, or refused at once.
        source.with(|io| SockRef::from(io).connect(address))??;
        Ok(source)
    };
    cancellable(connected).waiting_for("a connection").await
}

/// Listens for connections of processes of this machine.
///
/// Several tasks may [`accept`](Listener::accept): they take turns. When it is closed or dropped, its file is removed, if it is
/// still its own; when the process is killed, the file stays, and has to be removed before the next listener.
pub struct UnixListener {
    socket: Turns<net::UnixListener>,
    file: SocketFile,
}

impl UnixListener {
    /// Listens at `path`, where there must be no file yet.
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    ///
    /// # Errors
    ///
    /// An [`AddressError`], held by the [`io::Error`].
    ///
    /// # Examples
    ///
    /// ```
    /// use nursery_io::net::{UnixListener, UnixStream};
    /// use nursery_io::stream::Listener;
    ///
    /// # nursery_testing::run(async {
    /// let path = std::env::temp_dir().join(format!("nursery-example-{}", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// let stream = UnixStream::connect(&path).await?;
    /// let accepted = listener.accept().await?;
    /// drop(listener);
    /// assert!(!path.exists());
    /// # drop((stream, accepted));
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixListener> {
        bind(path.as_ref(), None)
    }

    /// The same, with the permissions of the file, such as `0o600`: who may not write it may not connect.
    ///
    /// # Errors
    ///
    /// An [`AddressError`], held by the [`io::Error`].
    pub fn bind_with_mode(path: impl AsRef<Path>, mode: u32) -> io::Result<UnixListener> {
        bind(path.as_ref(), Some(mode))
    }

    /// Takes over a listener of the standard library, whose file stays.
    ///
    /// # Errors
    ///
    /// Those of the system, which may have no room for it.
    pub fn from_std(listener: net::UnixListener) -> io::Result<UnixListener> {
        let socket = Turns::new(listener)?;
        Ok(UnixListener { socket, file: SocketFile::default() })
    }

    /// Returns the address at which it listens.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`], held by the [`io::Error`]; those of the system.
    pub fn local_addr(&self) -> io::Result<net::SocketAddr> {
        self.with(net::UnixListener::local_addr)?
    }

    /// Closes the socket, now, and removes its file. Tasks that wait for connections get [`Closed`](StreamError::Closed).
    ///
    /// # Cancellation
    ///
    /// Not a checkpoint.
    pub fn close(&self) {
        self.file.remove();
        self.socket.source.close();
    }

    /// Calls `f` with the socket of the standard library, for what has no method here. It does not block.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`].
    pub fn with<R>(&self, f: impl FnOnce(&net::UnixListener) -> R) -> Result<R, StreamError> {
        self.socket.source.with(f)
    }
}

fn bind(path: &Path, mode: Option<u32>) -> io::Result<UnixListener> {
    listen(path, mode).map_err(|error| AddressError::wrap("listen at", path.display(), error))
}

fn listen(path: &Path, mode: Option<u32>) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::of(path)?;
    if let Some(mode) = mode {
        file.set_mode(mode)?; // nobody can connect yet
    }
    socket.listen(DEFAULT_BACKLOG as i32)?;
    let mut listener = UnixListener::from_std(socket.into())?;
    listener.file = file;
    Ok(listener)
}

impl Resource for UnixListener {
    async fn aclose(&self) -> Result<(), StreamError> {
        self.close();
        Ok(checkpoint().await?)
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    #[track_caller]
    fn accept(&self) -> impl Future<Output = Result<UnixStream, StreamError>> {
        accept(&self.socket, |io| UnixStream::from_std(io.accept()?.0))
    }
}

impl fmt::Debug for UnixListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UnixListener").field(&self.socket).finish()
    }
}
