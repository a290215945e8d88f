//! The chapters for streams that can say that they will send no more.

use std::io;

use nursery_io::stream::Resource;

use crate::check_stream::Maker;
use crate::check_stream::chapter::{Chapter, Kit};
use crate::check_stream::clogged::{Blocked, then_make_room};
use crate::check_stream::end::End;
use crate::check_stream::step::Outcome;

pub(super) async fn check(kit: &Kit, make: &Maker<'_>) -> io::Result<()> {
    kit.chapter("after the end of one direction the other goes on", make, the_other_goes_on)
        .await?;
    kit.chapter("the end can be said again when that was cancelled", make, said_again).await
}

pub(super) async fn check_clogged(kit: &Kit, make: &Maker<'_>) -> io::Result<()> {
    for (title, blocked) in [
        ("the end is not said in the middle of sending", Blocked::Sending),
        ("the end is not said while a task waits for room", Blocked::Waiting),
    ] {
        kit.chapter(title, make, async |c, ends| not_in_the_middle(c, ends, blocked).await).await?;
    }
    Ok(())
}

async fn the_other_goes_on(c: &Chapter<'_>, (a, b): (End<'_>, End<'_>)) -> io::Result<()> {
    const CLOSED: &[Outcome; 1] = &[Outcome::Closed];
    let asking = async {
        c.ok("`send_all`", a.send_all(b"question")).await?;
        c.checkpoint("`send_eof`", a.send_eof()).await?;
        c.checkpoint("`send_eof`, again", a.send_eof()).await?;
        c.fails(CLOSED, "`send_all` after the end", a.send_all(b"x")).await?;
        c.fails(CLOSED, "`send_all` of nothing after the end", a.send_all(b"")).await?;
        let wait = a.wait();
        c.fails(CLOSED, "`wait_send_all_might_not_block` after the end", wait).await?;
        let (answer, end) = c.receive_all(&a).await?;
        c.require((&*answer, end) == (b"answer", Outcome::Ok), "b\"answer\"", (&answer, end));
        c.checkpoint("`aclose` after the end", a.aclose()).await?;
        c.ok("`send_eof`, when closed: it had been said", a.send_eof()).await
    };
    c.together(asking, async {
        let (question, end) = c.receive_all(&b).await?;
        c.require(
            (&*question, end) == (b"question", Outcome::Ok),
            "b\"question\"",
            (&question, end),
        );
        c.ok("`send_all`", b.send_all(b"answer")).await?;
        c.ok("`aclose`", b.aclose()).await
    })
    .await
}

async fn said_again(c: &Chapter<'_>, (a, b): (End<'_>, End<'_>)) -> io::Result<()> {
    c.cancelled("`send_eof` when cancelled", a.send_eof()).await?;
    drop(a.send_eof());
    c.together(c.ok("`send_eof`", a.send_eof()), async {
        let (rest, end) = c.receive_all(&b).await?;
        c.require(rest.is_empty() && end == Outcome::Ok, "the end", (&rest, end));
        Ok(())
    })
    .await
}

async fn not_in_the_middle(
    c: &Chapter<'_>,
    (a, b): (End<'_>, End<'_>),
    blocked: Blocked,
) -> io::Result<()> {
    let first = c.ok("the operation that waits for room", blocked.on(&a));
    then_make_room(c, &b, first, async {
        c.fails(&[Outcome::Busy], "`send_eof`, while another task sends", a.send_eof()).await?;
        Ok(())
    })
    .await
}
