//! [`serve_tcp`] and [`serve_listeners`]: a task for each connection.

use std::fmt;
use std::future::{Future, IntoFuture, ready};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use nursery::{CancelScope, Nursery, TaskError, TaskStatus, open_nursery, sleep};

use crate::net::accept::is_out_of_resources;
use crate::net::tcp::{TcpListener, TcpStream, open_tcp_listeners};
use crate::stream::{Listener, StreamError, aclose_forcefully};

/// How long a server waits that has no resources for another connection.
const BREATHER: Duration = Duration::from_millis(100);

/// Listens at all addresses of `host` (`None`: of the machine), and serves each connection by a call of `handler`.
///
/// See [`serve_listeners`].
///
/// # Errors
///
/// As [`serve_listeners`]; those of [`open_tcp_listeners`].
///
/// # Examples
///
/// ```
/// use std::io;
/// use nursery::open_nursery;
/// use nursery_io::net::{TcpStream, open_tcp_stream, serve_tcp};
/// use nursery_io::stream::{ReceiveStream, SendStream};
///
/// async fn greet(stream: TcpStream) -> io::Result<()> {
///     Ok(stream.send_all(b"hello").await?)
/// }
///
/// # nursery_testing::run(async {
/// open_nursery(async |n| -> io::Result<()> {
///     // Returns when it listens.
///     let listeners =
///         n.start(async |status| serve_tcp("127.0.0.1", 0, greet).started(status).await).await?;
///     let client = open_tcp_stream("127.0.0.1", listeners[0].local_addr()?.port()).await?;
///     let mut buffer = [0; 100];
///     assert_eq!(client.receive_some(&mut buffer).await?, 5);
///     n.cancel_scope().cancel();
///     Ok(())
/// })
/// .await
/// # }).unwrap();
/// ```
pub fn serve_tcp<'a, H, E>(
    host: impl Into<Option<&'a str>>,
    port: u16,
    handler: H,
) -> Serve<'a, TcpListener, H, E>
where
    H: AsyncFn(TcpStream) -> Result<(), E>,
    E: TaskError + From<io::Error> + fmt::Display,
{
    let host = host.into();
    Serve::new(Box::pin(open_tcp_listeners(host, port)), handler)
}

/// Accepts connections of all `listeners`, and serves each by a call of `handler`, all at the same time.
///
/// It goes on until it is cancelled, or one of the listeners fails; then the calls of `handler` that go on are cancelled,
/// and waited for, and the listeners are closed. A connection is closed when `handler` lets go of it.
///
/// **A connection that fails does not end the server.** If `handler` returns an error, it is written to standard error;
/// [`on_error`](Serve::on_error) changes that. Two things do end it: a [`Cancelled`](nursery::Cancelled), which
/// belongs to a scope further out, and a panic, which is a mistake in the program.
///
/// Without resources for another connection (see [`is_out_of_resources`]) it says so, waits for 100 ms, and tries again,
/// while it goes on serving the connections that it has.
///
/// # Cancellation
///
/// A checkpoint. Cancelled, it waits for the calls of `handler`, which are cancelled too. Dropped, it drops them.
///
/// # Errors
///
/// [`Cancelled`](nursery::Cancelled); those of the listeners, and of `handler` if [`on_error`](Serve::on_error) says so: in a
/// group, as from every nursery.
///
/// # Panics
///
/// With a panic of `handler`; outside a run.
pub fn serve_listeners<'a, L, H, E>(
    listeners: impl IntoIterator<Item = L>,
    handler: H,
) -> Serve<'a, L, H, E>
where
    L: Listener + 'a,
    H: AsyncFn(L::Stream) -> Result<(), E>,
    E: TaskError + From<io::Error> + fmt::Display,
{
    let listeners = listeners.into_iter().collect();
    Serve::new(Box::pin(ready(Ok(listeners))), handler)
}

/// A server that is to run, from [`serve_tcp`] or [`serve_listeners`]: await it.
#[must_use = "nothing is served unless it is awaited"]
pub struct Serve<'a, L, H, E> {
    open: Pin<Box<dyn Future<Output = io::Result<Vec<L>>> + 'a>>,
    handler: H,
    on_error: Box<dyn Fn(E) -> Result<(), E> + 'a>,
    on_exhaustion: Box<dyn Fn(&io::Error) + 'a>,
    accepting: CancelScope,
    status: TaskStatus<Rc<[L]>>,
}

impl<'a, L, H, E> Serve<'a, L, H, E>
where
    L: Listener,
    H: AsyncFn(L::Stream) -> Result<(), E>,
    E: TaskError + From<io::Error> + fmt::Display,
{
    fn new(open: Pin<Box<dyn Future<Output = io::Result<Vec<L>>> + 'a>>, handler: H) -> Self {
        Serve {
            open,
            handler,
            on_error: Box::new(|error| {
                eprintln!("nursery: a connection failed: {error:#}");
                Ok(())
            }),
            on_exhaustion: Box::new(|error| {
                eprintln!("nursery: no connection can be accepted for a while: {error}");
            }),
            accepting: CancelScope::new(),
            status: TaskStatus::ignored(),
        }
    }

    /// Sets what is done with an error of `handler`: `Ok` goes on, `Err` ends the server with it.
    ///
    /// So `on_error(Err)` ends it with the first. Default: write it to standard error, and go on.
    pub fn on_error(mut self, on_error: impl Fn(E) -> Result<(), E> + 'a) -> Self {
        self.on_error = Box::new(on_error);
        self
    }

    /// Sets what is done, besides waiting, when there are no resources for another connection. Default: write it to standard
    /// error.
    pub fn on_exhaustion(mut self, on_exhaustion: impl Fn(&io::Error) + 'a) -> Self {
        self.on_exhaustion = Box::new(on_exhaustion);
        self
    }

    /// Ends the server gently when `scope` is cancelled: it closes the listeners, serves the connections that it has to their
    /// end, and returns `Ok`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use nursery::{CancelScope, open_nursery, sleep};
    /// use nursery_io::net::serve_tcp;
    ///
    /// # nursery_testing::run(async {
    /// let accepting = CancelScope::new();
    /// open_nursery(async |n| -> io::Result<()> {
    ///     let server = serve_tcp("127.0.0.1", 0, async |_| Ok(())).accepting_in(&accepting);
    ///     let server = n.start_soon(server.into_future());
    ///     sleep(std::time::Duration::from_secs(1)).await?;
    ///     accepting.cancel();
    ///     Ok(server.await?)
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    pub fn accepting_in(mut self, scope: &CancelScope) -> Self {
        self.accepting = scope.clone();
        self
    }

    /// Tells `status` when it listens, and gives it the listeners: for [`Nursery::start`].
    ///
    /// They are shared: whoever has them may look at their addresses, and also close them, with which the server ends.
    pub fn started(mut self, status: TaskStatus<Rc<[L]>>) -> Self {
        self.status = status;
        self
    }

    async fn run(self) -> Result<(), E> {
        let Serve { open, handler, on_error, on_exhaustion, accepting, status } = self;
        let listeners: Rc<[L]> = open.await?.into();
        let server = Server { handler, on_error, on_exhaustion };
        status.started(listeners.clone());
        let served = open_nursery(async |connections| -> Result<(), E> {
            let accept = server.accept_at_all(&listeners, connections);
            let accepted = accepting.enter(accept).await;
            close_all(&listeners).await;
            accepted.map(drop)
        });
        served.await
    }
}

impl<'a, L, H, E> IntoFuture for Serve<'a, L, H, E>
where
    L: Listener + 'a,
    H: AsyncFn(L::Stream) -> Result<(), E> + 'a,
    E: TaskError + From<io::Error> + fmt::Display + 'a,
{
    type Output = Result<(), E>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<(), E>> + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<L, H, E> fmt::Debug for Serve<'_, L, H, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").finish_non_exhaustive()
    }
}

/// Closes them also for those that share them. An error cannot be helped.
async fn close_all<L: Listener>(listeners: &[L]) {
    for listener in listeners {
        let _ = aclose_forcefully(listener).await;
    }
}

struct Server<'a, H, E> {
    handler: H,
    on_error: Box<dyn Fn(E) -> Result<(), E> + 'a>,
    on_exhaustion: Box<dyn Fn(&io::Error) + 'a>,
}

impl<H, E: TaskError + From<io::Error>> Server<'_, H, E> {
    async fn accept_at_all<'scope, L>(
        &'scope self,
        listeners: &[L],
        connections: &'scope Nursery<'scope, '_, E>,
    ) -> Result<(), E>
    where
        L: Listener,
        L::Stream: 'scope,
        H: AsyncFn(L::Stream) -> Result<(), E>,
    {
        open_nursery(async |n| -> Result<(), E> {
            for listener in listeners {
                n.start_soon(self.accept_at(listener, connections));
            }
            Ok(())
        })
        .await
    }

    async fn accept_at<'scope, L>(
        &'scope self,
        listener: &L,
        connections: &'scope Nursery<'scope, '_, E>,
    ) -> Result<(), E>
    where
        L: Listener,
        L::Stream: 'scope,
        H: AsyncFn(L::Stream) -> Result<(), E>,
    {
        loop {
            match listener.accept().await {
                Ok(stream) => drop(connections.start_soon(self.serve(stream))),
                Err(StreamError::Broken(error)) if is_out_of_resources(&error) => {
                    (self.on_exhaustion)(&error);
                    sleep(BREATHER).await?;
                }
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
    }

    async fn serve<S>(&self, stream: S) -> Result<(), E>
    where
        H: AsyncFn(S) -> Result<(), E>,
    {
        match (self.handler)(stream).await {
            Err(error) if error.as_cancelled().is_none() => (self.on_error)(error),
            result => result,
        }
    }
}
