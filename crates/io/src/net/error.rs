//! [`AddressError`] and [`ConnectError`]: errors of sockets that name the address.

use std::error::Error;
use std::fmt;
use std::io;

use nursery::{ErrorGroup, TaskError};

/// Something that was to be done with an address failed.
///
/// An [`io::Error`] holds it, of the same kind as the cause:
///
/// ```
/// use nursery_io::net::{AddressError, TcpStream};
///
/// # nursery_testing::run(async {
/// let error = TcpStream::connect(([127, 0, 0, 1], 1)).await.unwrap_err(); // nobody listens there
/// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
/// assert!(error.to_string().starts_with("cannot connect to 127.0.0.1:1: "));
/// let error: AddressError = error.downcast().unwrap();
/// assert!(error.cause.raw_os_error().is_some());
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct AddressError {
    /// What was to be done: `"connect to"`, `"listen at"`, `"resolve"`.
    pub action: &'static str,
    /// The address: of a socket, of a file, or a name.
    pub address: String,
    /// Why it could not be done.
    pub cause: io::Error,
}

impl AddressError {
    /// Puts the address into an error, unless it is a cancellation.
    pub(crate) fn wrap(
        action: &'static str,
        address: impl fmt::Display,
        cause: io::Error,
    ) -> io::Error {
        if cause.as_cancelled().is_some() {
            return cause;
        }
        let address = address.to_string();
        io::Error::new(cause.kind(), AddressError { action, address, cause })
    }
}

// The text holds that of the cause, so `source` does not give it once more.
impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AddressError { action, address, cause } = self;
        write!(f, "cannot {action} {address}: {cause}")
    }
}

impl Error for AddressError {}

/// No address of a host could be connected to.
///
/// An [`io::Error`] holds it; its kind is that of the attempts, if they all failed in the same way.
#[derive(Debug)]
#[non_exhaustive]
pub struct ConnectError {
    /// The host and the port.
    pub target: String,
    /// How each attempt failed, in the order in which they did; also if there was only one.
    pub attempts: ErrorGroup<io::Error>,
}

impl ConnectError {
    pub(crate) fn wrap(target: String, attempts: Vec<io::Error>) -> io::Error {
        let first = attempts[0].kind();
        let all_alike = attempts.iter().all(|error| error.kind() == first);
        let kind = if all_alike { first } else { io::ErrorKind::Other };
        io::Error::new(kind, ConnectError { target, attempts: ErrorGroup::new(attempts) })
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot connect to {}: {}", self.target, self.attempts)
    }
}

impl Error for ConnectError {}

/// A host and a port, with brackets if the host is an IPv6 address.
pub(crate) fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_host_port() {
        assert_eq!(host_and_port("127.0.0.1", 80), "127.0.0.1:80");
        assert_eq!(host_and_port("example.com", 443), "example.com:443");
        assert_eq!(host_and_port("::1", 22), "[::1]:22");
    }
}
