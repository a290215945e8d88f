//! [`resolve`]: names to addresses, in a thread, or by a resolver of the program's choice.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::rc::Rc;

use nursery::{RunLocal, checkpoint};

use crate::net::error::AddressError;
use crate::thread::to_thread;

/// Turns the name of a host into addresses.
///
/// For programs that bring a DNS client of their own, and for tests, which fake one: see [`set_resolver`].
pub trait Resolver {
    /// Returns the addresses of `host`, the best first, each with `port`.
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + 'a>>;
}

static RESOLVER: RunLocal<Rc<dyn Resolver>> = RunLocal::new();

/// Makes `resolver` answer for this run, instead of the system's. Returns the one before, if there was one.
///
/// Hosts that are addresses already do not get to it.
///
/// # Panics
///
/// Outside a run.
///
/// # Examples
///
/// ```
/// use std::future::{Future, ready};
/// use std::io;
/// use std::net::{Ipv4Addr, SocketAddr};
/// use std::pin::Pin;
/// use std::rc::Rc;
/// use nursery_io::net::{Resolver, resolve, set_resolver};
///
/// struct AllLocal;
///
/// impl Resolver for AllLocal {
///     fn resolve<'a>(
///         &'a self,
///         _: &'a str,
///         port: u16,
///     ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + 'a>> {
///         Box::pin(ready(Ok(vec![(Ipv4Addr::LOCALHOST, port).into()])))
///     }
/// }
///
/// # nursery_testing::run(async {
/// set_resolver(Rc::new(AllLocal));
/// assert_eq!(resolve("example.org", 80).await?, ["127.0.0.1:80".parse().unwrap()]);
/// # Ok::<(), io::Error>(())
/// # }).unwrap();
/// ```
pub fn set_resolver(resolver: Rc<dyn Resolver>) -> Option<Rc<dyn Resolver>> {
    let before = RESOLVER.get();
    RESOLVER.set(resolver);
    before
}

/// Returns the addresses of `host`, the best first, each with `port`.
///
/// An address is taken as it is. A name goes to the run's [resolver](set_resolver), or else to the system's, which blocks,
/// and is asked in a thread.
///
/// # Cancellation
///
/// A checkpoint, always. Cancelled or dropped, it did nothing; a thread that has asked the system is left to itself.
///
/// # Errors
///
/// [`Cancelled`](nursery::Cancelled), held by the [`io::Error`]; an [`AddressError`] if the name is not known, and also
/// ([`InvalidInput`](io::ErrorKind::InvalidInput)) if it is empty or has letters that are not ASCII: a name such as `bücher.example`
/// has to be given as `xn--bcher-kva.example`.
///
/// # Panics
///
/// Outside a run.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    checkpoint().await?;
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let found = match check_name(host) {
        Err(error) => Err(error),
        Ok(()) => ask(host, port).await,
    };
    found.map_err(|error| AddressError::wrap("resolve", format_args!("{host:?}"), error))
}

fn check_name(host: &str) -> io::Result<()> {
    let why = if host.is_empty() {
        "it is empty"
    } else if !host.is_ascii() {
        "it is not ASCII; give its `xn--` form"
    } else if host.contains('\0') {
        "it contains a zero byte"
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

async fn ask(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found = match RESOLVER.get() {
        Some(resolver) => resolver.resolve(host, port).await?,
        None => {
            let host = host.to_owned();
            let ask = move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
            let call = to_thread::run_sync::<io::Result<Vec<_>>, _>(ask);
            call.name("resolve").abandon_on_cancel(true).await??
        }
    };
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "it has no addresses"));
    }
    Ok(found)
}
