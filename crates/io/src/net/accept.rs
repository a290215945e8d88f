//! Accepting, and which of its errors mean what.

use std::future::Future;
use std::io;

use crate::net::turns::Turns;
use crate::source::Interest;
use crate::stream::StreamError;

const WHAT: &str = "a connection";

/// Accepts a connection. Those that failed while they waited to be accepted are passed over.
#[track_caller]
pub(crate) fn accept<T, S>(
    socket: &Turns<T>,
    accept: fn(&T) -> io::Result<S>,
) -> impl Future<Output = Result<S, StreamError>> {
    let mut first = Some(socket.run(Interest::Read, WHAT, accept));
    async move {
        loop {
            let accepted = match first.take() {
                Some(first) => first.await,
                None => socket.run(Interest::Read, WHAT, accept).await,
            };
            match accepted {
                Err(StreamError::Broken(error)) if concerns_one_connection(&error) => {}
                result => return result,
            }
        }
    }
}

/// Returns whether an error says that the process or the system has run out of descriptors or memory.
///
/// It passes when connections are closed. Meanwhile a server may go on serving those that it has:
/// [`serve_listeners`](crate::net::serve_listeners) tries again after a while.
#[must_use]
pub fn is_out_of_resources(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory || errno::is_one_of(error, errno::RESOURCES)
}

fn concerns_one_connection(error: &io::Error) -> bool {
    let kinds = [
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::TimedOut,
        io::ErrorKind::HostUnreachable,
        io::ErrorKind::NetworkUnreachable,
        io::ErrorKind::NetworkDown,
    ];
    kinds.contains(&error.kind()) || errno::is_one_of(error, errno::CONNECTION)
}

/// The numbers of errors that have no [`io::ErrorKind`].
#[cfg(unix)]
mod errno {
    use std::io;

    use rustix::io::Errno;

    pub(super) const RESOURCES: &[Errno] = &[Errno::MFILE, Errno::NFILE, Errno::NOBUFS];

    /// What `accept` reports of the new connection, or of the network on which it came.
    pub(super) const CONNECTION: &[Errno] = &[
        Errno::PERM,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::OPNOTSUPP,
        Errno::PROTONOSUPPORT,
        #[cfg(target_os = "linux")]
        Errno::NONET,
        #[cfg(target_os = "linux")]
        Errno::NOSR,
        #[cfg(target_os = "linux")]
        Errno::SOCKTNOSUPPORT,
    ];

    pub(super) fn is_one_of(error: &io::Error, list: &[Errno]) -> bool {
        Errno::from_io_error(error).is_some_and(|errno| list.contains(&errno))
    }
}

#[cfg(not(unix))]
mod errno {
    use std::io;

    pub(super) const RESOURCES: &[i32] = &[10024, 10055]; // WSAEMFILE, WSAENOBUFS
    pub(super) const CONNECTION: &[i32] = &[];

    pub(super) fn is_one_of(error: &io::Error, list: &[i32]) -> bool {
        error.raw_os_error().is_some_and(|number| list.contains(&number))
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::cell::Cell;

    use rustix::io::Errno;

    use super::*;

    /// The errors with which the next calls of `accept_with_errors` fail, and the number of calls.
    struct Errors {
        list: Vec<Errno>,
        calls: Cell<usize>,
    }

    thread_local! {
        static ERRORS: Cell<Option<Errors>> = const { Cell::new(None) };
    }

    fn accept_with_errors(_: &std::os::unix::net::UnixStream) -> io::Result<&'static str> {
        let mut errors = ERRORS.take().expect("set by the test");
        errors.calls.set(errors.calls.get() + 1);
        let result = errors.list.pop().map_or(Ok("accepted"), |errno| Err(errno.into()));
        ERRORS.set(Some(errors));
        result
    }

    async fn accept_after(list: &[Errno]) -> (Result<&'static str, StreamError>, usize) {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let socket = Turns::new(one).unwrap();
        ERRORS.set(Some(Errors { list: list.to_vec(), calls: Cell::new(0) }));
        let result = accept(&socket, accept_with_errors).await;
        (result, ERRORS.take().unwrap().calls.get())
    }

    /// `SocketListener_accept_errors`
    #[test]
    fn errors_of_one_connection_are_passed_over_and_others_are_not() {
        nursery_testing::run(async {
            let passed = [Errno::CONNABORTED, Errno::PERM, Errno::PROTO, Errno::TIMEDOUT];
            let passed =
                [&passed[..], &[Errno::CONNRESET, Errno::NETDOWN, Errno::HOSTUNREACH]].concat();
            let (result, calls) = accept_after(&passed).await;
            assert_eq!((result.unwrap(), calls), ("accepted", passed.len() + 1));
            for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::INVAL] {
                let (result, calls) = accept_after(&[Errno::PERM, errno, Errno::PERM]).await;
                let StreamError::Broken(cause) = result.unwrap_err() else { panic!("{errno:?}") };
                assert_eq!((cause.raw_os_error(), calls), (Some(errno.raw_os_error()), 2));
            }
            Ok::<_, nursery::Cancelled>(())
        })
        .unwrap();
    }
}
