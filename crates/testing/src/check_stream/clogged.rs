//! The chapters for one direction in which there is no room.

use std::future::Future;
use std::io;

use futures_lite::future::or;
use nursery_io::stream::{Interrupted, Resource, StreamError, aclose_forcefully};
use nursery_io::sync::Event;

use crate::check_stream::Maker;
use crate::check_stream::chapter::{Chapter, Kit};
use crate::check_stream::end::End;
use crate::check_stream::step::{Outcome, settled};

pub(super) async fn check(kit: &Kit, make: &Maker<'_>) -> io::Result<()> {
    kit.chapter("receiving makes room", make, receiving_makes_room).await?;
    for (title, blocked) in [
        ("the second task that sends is told so", Blocked::Sending),
        ("the second task that sends is told so, by one that waits for room", Blocked::Waiting),
    ] {
        kit.chapter(title, make, async |c, ends| second_sender(c, ends, blocked).await).await?;
    }
    for (title, blocked) in [
        ("a receiver that goes wakes a task that sends", Blocked::Sending),
        ("a receiver that goes wakes a task that waits for room", Blocked::Waiting),
    ] {
        kit.chapter(title, make, async |c, (s, r)| {
            receiver_goes(c, &s, blocked, async || drop(aclose_forcefully(&r).await)).await
        })
        .await?;
        kit.chapter(title, make, async |c, (s, r)| {
            receiver_goes(c, &s, blocked, async move || drop(r)).await
        })
        .await?;
    }
    for (title, blocked) in [
        ("closing wakes a task that sends", Blocked::Sending),
        ("closing wakes a task that waits for room", Blocked::Waiting),
    ] {
        kit.chapter(title, make, async |c, ends| closing_wakes(c, ends, blocked).await).await?;
    }
    kit.chapter("cancelled before there was room it sent nothing", make, given_up).await
}

/// What a task does that has to wait for room.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Blocked {
    Sending,
    Waiting,
}

impl Blocked {
    pub(super) async fn on(self, s: &End<'_>) -> Result<(), StreamError> {
        match self {
            Blocked::Sending => s.send_all(b"x").await,
            Blocked::Waiting => s.wait().await,
        }
    }
}

const BLOCKED: &str = "the operation that waits for room";

/// Does `op`, which waits for room, beside `meanwhile`; then receives until `op` is done.
pub(super) async fn then_make_room(
    c: &Chapter<'_>,
    r: &End<'_>,
    op: impl Future<Output = io::Result<()>>,
    meanwhile: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    let done = Event::new();
    let op = async {
        let result = op.await;
        done.set();
        result
    };
    c.together(op, async {
        settled().await?;
        meanwhile.await?;
        let mut buffer = vec![0; 1 << 16];
        while !done.is_set() {
            let receive = async {
                c.ok("`receive_some`, to make room", r.receive_some(&mut buffer)).await.map(drop)
            };
            or(receive, async { Ok(done.wait().await?) }).await?;
        }
        Ok(())
    })
    .await
}

async fn receiving_makes_room(c: &Chapter<'_>, (s, r): (End<'_>, End<'_>)) -> io::Result<()> {
    let wait = c.checkpoint("`wait_send_all_might_not_block`", s.wait());
    then_make_room(c, &r, wait, async { Ok(()) }).await?;
    then_make_room(c, &r, c.ok("`send_all`", s.send_all(b"x")), async { Ok(()) }).await
}

async fn second_sender(
    c: &Chapter<'_>,
    (s, r): (End<'_>, End<'_>),
    first: Blocked,
) -> io::Result<()> {
    const BUSY: &[Outcome; 1] = &[Outcome::Busy];
    then_make_room(c, &r, c.ok(BLOCKED, first.on(&s)), async {
        c.fails(BUSY, "`send_all`, while another task sends", s.send_all(b"x")).await?;
        c.fails(BUSY, "`send_all` of nothing, while another task sends", s.send_all(b"")).await?;
        let wait = s.wait();
        c.fails(BUSY, "`wait_send_all_might_not_block`, while another task sends", wait).await?;
        Ok(())
    })
    .await
}

async fn receiver_goes(
    c: &Chapter<'_>,
    s: &End<'_>,
    blocked: Blocked,
    go: impl AsyncFnOnce(),
) -> io::Result<()> {
    let outcomes: &[Outcome] = match blocked {
        Blocked::Sending => &[Outcome::Broken],
        Blocked::Waiting => &[Outcome::Ok, Outcome::Broken],
    };
    let woken = async { c.one_of(outcomes, BLOCKED, blocked.on(s)).await.map(drop) };
    c.together(woken, async {
        settled().await?;
        go().await;
        Ok(())
    })
    .await
}

async fn closing_wakes(
    c: &Chapter<'_>,
    (s, _r): (End<'_>, End<'_>),
    blocked: Blocked,
) -> io::Result<()> {
    let woken = async { c.fails(&[Outcome::Closed], BLOCKED, blocked.on(&s)).await.map(drop) };
    c.together(woken, async {
        settled().await?;
        c.one_of(&[Outcome::Ok, Outcome::Broken], "`aclose_forcefully`", aclose_forcefully(&s))
            .await
            .map(drop)
    })
    .await
}

/// What is never to be received.
const LOST: u8 = 0xEE;

async fn given_up(c: &Chapter<'_>, (s, r): (End<'_>, End<'_>)) -> io::Result<()> {
    c.interrupted("`send_all`, cancelled meanwhile", s.send_all(&[LOST])).await?;
    c.dropped("`send_all`, dropped meanwhile", s.send_all(&[LOST])).await?;
    let wait = s.wait();
    c.interrupted("`wait_send_all_might_not_block`, cancelled meanwhile", wait).await?;
    let wait = s.wait();
    c.dropped("`wait_send_all_might_not_block`, dropped meanwhile", wait).await?;
    let going_on = async {
        let outcomes = &[Outcome::Ok, Outcome::Broken];
        if let Err(error) = c.one_of(outcomes, "`send_all`, again", s.send_all(b"end")).await? {
            // What it has sent of the byte may be more than the byte: a record, say.
            let cause = io::Error::from(error).downcast::<Interrupted>();
            c.require(cause.is_ok(), "Ok, or an `Interrupted` as the cause", cause);
        }
        c.one_of(outcomes, "`aclose`", s.aclose()).await.map(drop)
    };
    c.together(going_on, async {
        let (all, end) = c.receive_all(&r).await?;
        if end == Outcome::Ok {
            let tail = &all[all.len().saturating_sub(10)..];
            c.require(!all.contains(&LOST) && all.ends_with(b"end"), "zeros, then b\"end\"", tail);
        }
        Ok(())
    })
    .await
}
