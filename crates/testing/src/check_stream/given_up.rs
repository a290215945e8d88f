//! The chapters for operations that are given up: cancelled or dropped, at any poll, or half-way.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;

use futures_lite::future::or;
use nursery::CancelScope;
use nursery_io::stream::{Interrupted, Resource, StreamError};
use nursery_io::sync::Event;

use crate::check_stream::Maker;
use crate::check_stream::chapter::{Chapter, Kit};
use crate::check_stream::end::End;
use crate::check_stream::step::{Outcome, settled};

/// More than any system takes that nobody receives.
const HUGE: usize = 16 << 20;

/// At each of so many polls an operation is given up.
const POLLS: u8 = 8;

pub(super) async fn check(kit: &Kit, make: &Maker<'_>) -> io::Result<()> {
    kit.chapter("given up at any poll, receiving took nothing", make, receiving_at_any_poll)
        .await?;
    kit.chapter("cancelled at any poll, sending did nothing", make, sending_at_any_poll).await?;
    kit.chapter("sending that was cancelled half-way is over", make, async |c, ends| {
        half_way(c, ends, How::Cancelled).await
    })
    .await?;
    kit.chapter("sending that was dropped half-way is over", make, async |c, ends| {
        half_way(c, ends, How::Dropped).await
    })
    .await
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Cancelled,
    Dropped,
}

/// Gives up `op` at a poll: cancels it before, or drops it instead. `None` if it was dropped.
async fn give_up<T>(op: impl Future<Output = T>, poll: u8, how: How) -> io::Result<Option<T>> {
    let scope = CancelScope::new();
    let result = Cell::new(None);
    let mut op = pin!(op);
    let mut polls = 0;
    let polled = poll_fn(|cx| {
        if polls == poll {
            match how {
                How::Cancelled => scope.cancel(),
                How::Dropped => return Poll::Ready(None),
            }
        }
        polls += 1;
        op.as_mut().poll(cx).map(Some)
    });
    let entered = scope.enter(async {
        result.set(polled.await);
        io::Result::Ok(())
    });
    entered.await?;
    Ok(result.take())
}

async fn receiving_at_any_poll(c: &Chapter<'_>, (s, r): (End<'_>, End<'_>)) -> io::Result<()> {
    let bytes: Vec<u8> = (0..=255).collect();
    let sending = async {
        c.ok("`send_all`", s.send_all(&bytes)).await?;
        c.ok("`aclose`", s.aclose()).await
    };
    c.together(sending, async {
        let mut received = vec![];
        for poll in 0..POLLS {
            for how in [How::Cancelled, How::Dropped] {
                let mut buffer = [0; 3];
                let some = r.receive_some(&mut buffer);
                let outcomes = &[Outcome::Ok, Outcome::Cancelled];
                let some = c.one_of(outcomes, "`receive_some`, given up at some poll", some);
                if let Some(Ok(count)) = give_up(some, poll, how).await?.transpose()? {
                    received.extend(&buffer[..count]);
                }
            }
        }
        let (rest, _) = c.receive_all(&r).await?;
        received.extend(rest);
        c.require(received == bytes, "all bytes from 0 to 255", received);
        Ok(())
    })
    .await
}

async fn sending_at_any_poll(c: &Chapter<'_>, (s, r): (End<'_>, End<'_>)) -> io::Result<()> {
    let sent = RefCell::new(vec![]);
    let sending = async {
        for poll in 0..POLLS {
            let outcomes = &[Outcome::Ok, Outcome::Cancelled];
            let byte = [poll];
            let op = c.one_of(outcomes, "`send_all`, cancelled at some poll", s.send_all(&byte));
            if let Some(Ok(())) = give_up(op, poll, How::Cancelled).await?.transpose()? {
                sent.borrow_mut().push(poll);
            }
        }
        c.ok("`aclose`", s.aclose()).await
    };
    c.together(sending, async {
        let (received, _) = c.receive_all(&r).await?;
        settled().await?;
        let sent = sent.take();
        c.require(received == sent, format_args!("{sent:?}"), &received);
        Ok(())
    })
    .await
}

async fn half_way(c: &Chapter<'_>, (s, r): (End<'_>, End<'_>), how: How) -> io::Result<()> {
    let Some(received) = send_half_way(c, &s, &r, how).await? else {
        return Ok(()); // it has room for everything: nothing can be cut
    };
    let interrupted = refusal(c, c.fails(BROKEN, AFTER, s.send_all(b"x")).await?);
    let Interrupted { sent, of, .. } = interrupted;
    let is_so = of == HUGE && (received..HUGE).contains(&sent);
    c.require(is_so, format_args!("{received} bytes or more, of {HUGE}"), interrupted);
    for refused in
        [c.fails(BROKEN, AFTER, s.send_all(b"")).await?, c.fails(BROKEN, AFTER, s.wait()).await?]
    {
        let again = refusal(c, refused);
        c.require(again == interrupted, format_args!("{interrupted:?}"), again);
    }
    // Closing goes, and what had gone arrives.
    let close = c.one_of(&[Outcome::Ok, Outcome::Broken], "`aclose`, half-way", s.aclose());
    c.together(async { close.await.map(drop) }, async {
        let (rest, end) = c.receive_all(&r).await?;
        let total = received + rest.len();
        let is_so = if end == Outcome::Ok { total == sent } else { total <= sent };
        c.require(is_so, format_args!("{sent} bytes"), format_args!("{total} bytes"));
        Ok(())
    })
    .await
}

const BROKEN: &[Outcome; 1] = &[Outcome::Broken];
const AFTER: &str = "sending after a `send_all` that ended half-way";

/// Begins to send very much, and gives up when some has been received. Returns how much; `None` if all was sent.
async fn send_half_way(
    c: &Chapter<'_>,
    s: &End<'_>,
    r: &End<'_>,
    how: How,
) -> io::Result<Option<usize>> {
    let huge = vec![0; HUGE];
    let (scope, stop) = (CancelScope::new(), Event::new());
    let (is_sent, received) = (Cell::new(false), Cell::new(0));
    let sending = async {
        let send = async {
            let outcomes = &[Outcome::Ok, Outcome::Cancelled];
            let sent = c.one_of(outcomes, "`send_all` of very much", s.send_all(&huge)).await?;
            is_sent.set(sent.is_ok());
            Ok(sent?)
        };
        let stopped = async { Ok(stop.wait().await?) };
        let sent = scope.enter(or(send, stopped)).await;
        sent.map(drop)
    };
    c.together(sending, async {
        let mut byte = [0];
        received.set(c.ok("`receive_some`", r.receive_some(&mut byte)).await?);
        settled().await?;
        match how {
            How::Cancelled => scope.cancel(),
            How::Dropped => stop.set(),
        }
        Ok(())
    })
    .await?;
    Ok((!is_sent.get()).then_some(received.get()))
}

/// The `Interrupted` with which a stream refuses to send more.
fn refusal(c: &Chapter<'_>, error: StreamError) -> Interrupted {
    let cause = io::Error::from(error).downcast::<Interrupted>();
    let expected = "Broken, with an `Interrupted` as the cause";
    c.require(cause.is_ok(), expected, format_args!("Broken({cause:?})"));
    cause.expect("it is required")
}
