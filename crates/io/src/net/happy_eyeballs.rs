//! Happy eyeballs (RFC 8305): of several addresses, the first that answers, without waiting long for those that do not.
//!
//! ```text
//!  attempt 1 ────────────────────────────────╴ cancelled: 3 won
//!            delay ├ attempt 2 ───✗ failed
//!                                 ├ attempt 3 ─────✓
//! ```
//! The next attempt begins when the last one has failed, or is slow; all go on at the same time. The first that succeeds is
//! taken, the others are cancelled, and whatever they have opened is closed by being dropped.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nursery::{Cancelled, ErrorGroup, TaskError, move_on_after, open_nursery};

use crate::sync::Event;

/// How long an attempt may take before the next one begins, unless another time is asked for.
pub const DEFAULT_DELAY: Duration = Duration::from_millis(250);

/// Connects to the first of `targets` that lets itself be connected to.
///
/// For transports of your own; [`open_tcp_stream`](crate::net::open_tcp_stream) is made of it.
///
/// # Cancellation
///
/// A checkpoint if `connect` is one. Cancelled or dropped, all attempts have ended, and nothing is left open.
///
/// # Errors
///
/// If all attempts failed: their errors, in the order in which they came, as an [`ErrorGroup`] held by the [`io::Error`].
/// [`NotFound`](io::ErrorKind::NotFound) if there are no targets.
///
/// # Examples
///
/// ```
/// use std::io;
/// use std::time::Duration;
/// use nursery::{now, sleep};
/// use nursery_io::net::happy_eyeballs::{DEFAULT_DELAY, connect_first};
///
/// # nursery_testing::run(async {
/// let start = now();
/// let won = connect_first(["silent", "quick"], DEFAULT_DELAY, async |name| {
///     sleep(Duration::from_secs(if name == "silent" { 60 } else { 1 })).await?;
///     Ok(name)
/// });
/// assert_eq!(won.await?, "quick");
/// assert_eq!(now() - start, DEFAULT_DELAY + Duration::from_secs(1));
/// # Ok::<(), io::Error>(())
/// # }).unwrap();
/// ```
pub async fn connect_first<A, S>(
    targets: impl IntoIterator<Item = A>,
    delay: Duration,
    connect: impl AsyncFn(A) -> io::Result<S>,
) -> io::Result<S> {
    let targets = targets.into_iter().collect();
    let failures = match attempt_all(targets, delay, connect).await? {
        Ok(stream) => return Ok(stream),
        Err(failures) => failures,
    };
    Err(if failures.is_empty() {
        io::Error::new(io::ErrorKind::NotFound, "there is no address to connect to")
    } else {
        ErrorGroup::new(failures).into()
    })
}

/// The same, with all failures if there is no success.
pub(crate) async fn attempt_all<A, S>(
    targets: Vec<A>,
    delay: Duration,
    connect: impl AsyncFn(A) -> io::Result<S>,
) -> Result<Result<S, Vec<io::Error>>, Cancelled> {
    let winner = RefCell::new(None);
    let failures = RefCell::new(Vec::new());
    let failed: Vec<Event> = targets.iter().map(|_| Event::new()).collect();
    open_nursery(async |n| -> Result<(), Cancelled> {
        for (target, failed) in targets.into_iter().zip(&failed) {
            let (connect, winner, failures) = (&connect, &winner, &failures);
            n.start_soon(async move {
                match connect(target).await {
                    Ok(stream) => {
                        // The first counts. One that comes at the same moment is dropped, which closes it.
                        let surplus = keep_first(winner, stream);
                        drop(surplus);
                        n.cancel_scope().cancel();
                    }
                    Err(error) => {
                        if let Some(cancelled) = error.as_cancelled() {
                            return Err(cancelled.clone());
                        }
                        failures.borrow_mut().push(error);
                        failed.set();
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
    Ok(winner.into_inner().ok_or(failures.into_inner()))
}

/// Puts `value` into `place`, or gives it back if there is one already.
fn keep_first<S>(place: &RefCell<Option<S>>, value: S) -> Option<S> {
    let mut place = place.borrow_mut();
    if place.is_some() {
        return Some(value);
    }
    *place = Some(value);
    None
}

/// Moves the first address that is of another family than the first of all to the second place: if one family does not
/// work at all, the other is tried next.
pub(crate) fn alternate(targets: &mut [SocketAddr]) {
    let is_ipv4 = targets.first().is_some_and(SocketAddr::is_ipv4);
    if let Some(other) = targets.iter().position(|target| target.is_ipv4() != is_ipv4) {
        targets[1..=other].rotate_right(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reorder_for_rfc_6555_section_5_4() {
        let cases = [
            ("", ""),
            ("4a", "4a"),
            ("4a 4b", "4a 4b"),
            ("4a 6a 4b", "4a 6a 4b"),
            ("4a 4b 4c 6a 6b", "4a 6a 4b 4c 6b"),
            ("6a 6b 4a", "6a 4a 6b"),
        ];
        for (before, after) in cases {
            let mut targets: Vec<SocketAddr> = before.split_whitespace().map(address).collect();
            alternate(&mut targets);
            let expected: Vec<SocketAddr> = after.split_whitespace().map(address).collect();
            assert_eq!(targets, expected, "{before}");
        }
    }

    fn address(name: &str) -> SocketAddr {
        let text = match name.split_at(1) {
            ("4", last) => format!("192.0.2.{}:80", u8::from_str_radix(last, 16).unwrap()),
            (_, last) => format!("[2001:db8::{last}]:80"),
        };
        text.parse().unwrap()
    }
}
