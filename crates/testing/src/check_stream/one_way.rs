//! The chapters for one direction.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use nursery::{checkpoint, sleep};
use nursery_io::stream::{Resource, aclose_forcefully};

use crate::check_stream::Maker;
use crate::check_stream::chapter::{Chapter, Kit};
use crate::check_stream::end::End;
use crate::check_stream::step::{Outcome, settled};

/// So often something may be sent to a receiver that has gone: it takes a while until the news is there.
const INTO_THE_VOID: u32 = 1000;

pub(super) async fn check(kit: &Kit, make: &Maker<'_>) -> io::Result<()> {
    kit.chapter("bytes arrive, in order", make, bytes_arrive_in_order).await?;
    kit.chapter("the second task that receives is told so", make, second_receiver).await?;
    kit.chapter("waiting for room ends when there is room", make, there_is_room).await?;
    kit.chapter("the end comes after what was sent, and stays", make, the_end).await?;
    kit.chapter("a sender that is dropped has gone", make, dropped_sender).await?;
    kit.chapter("a receiver that is closed is gone for its peer", make, async |c, (s, r)| {
        c.checkpoint("`aclose` of the receiver", r.aclose()).await?;
        the_receiver_has_gone(c, &s).await
    })
    .await?;
    kit.chapter("a receiver that is dropped is gone for its peer", make, async |c, (s, r)| {
        drop(r);
        the_receiver_has_gone(c, &s).await
    })
    .await?;
    kit.chapter("a sender is closed although that is cancelled", make, cancelled_sender).await?;
    kit.chapter("a receiver is closed although that is cancelled", make, cancelled_receiver)
        .await?;
    kit.chapter("a sender that is closed says so", make, closed_sender).await?;
    kit.chapter("a receiver that is closed says so", make, closed_receiver).await?;
    kit.chapter("closing wakes a task that receives", make, closing_wakes).await?;
    kit.chapter("cancelled before it began it did nothing", make, cancelled_before).await?;
    kit.chapter("cancelled while it receives it took nothing", make, cancelled_while).await?;
    kit.chapter("the waker that counts is that of the last poll", make, last_waker).await
}

async fn bytes_arrive_in_order(c: &Chapter<'_>, (s, r): (End<'_>, End<'_>)) -> io::Result<()> {
    let sending = async {
        c.checkpoint("`send_all` of a byte", s.send_all(b"x")).await?;
        c.checkpoint("`send_all` of nothing", s.send_all(b"")).await?;
        c.checkpoint("`send_all` of two bytes", s.send_all(b"yz")).await
    };
    let receiving = async {
        let mut byte = [0];
        let count = c.checkpoint("`receive_some`", r.receive_some(&mut byte)).await?;
        c.require((count, byte) == (1, *b"x"), "the byte that was sent first", (count, byte));
        c.receive(&r, b"yz").await?;
        let nowhere = r.receive_some(&mut []);
        c.fails(&[Outcome::EmptyBuffer], "`receive_some` into no room", nowhere).await?;
        Ok(())
    };
    c.together(sending, receiving).await
}

async fn second_receiver(c: &Chapter<'_>, (s, r): (End<'_>, End<'_>)) -> io::Result<()> {
    c.together(c.receive(&r, b"!"), async {
        settled().await?;
        let mut buffer = [0; 10];
        let second = r.receive_some(&mut buffer);
        c.fails(&[Outcome::Busy], "`receive_some`, while another task does", second).await?;
        c.ok("`send_all`", s.send_all(b"!")).await
    })
    .await?;
    // It is over for both.
    c.together(c.receive(&r, b"?"), c.ok("`send_all`", s.send_all(b"?"))).await
}

async fn there_is_room(c: &Chapter<'_>, (s, r): (End<'_>, End<'_>)) -> io::Result<()> {
    c.together(c.receive(&r, b"!"), async {
        settled().await?;
        let wait = s.wait();
        c.checkpoint("`wait_send_all_might_not_block`", wait).await?;
        c.ok("`send_all`", s.send_all(b"!")).await
    })
    .await
}

async fn the_end(c: &Chapter<'_>, (s, r): (End<'_>, End<'_>)) -> io::Result<()> {
    let sending = async {
        c.ok("`send_all`", s.send_all(b"last words")).await?;
        c.checkpoint("`aclose`", s.aclose()).await?;
        c.checkpoint("`aclose`, again", s.aclose()).await
    };
    c.together(sending, async {
        c.receive(&r, b"last words").await?;
        for _ in 0..2 {
            let mut buffer = [0; 10];
            let end = c.checkpoint("`receive_some` at the end", r.receive_some(&mut buffer));
            let end = end.await?;
            c.require(end == 0, "the end", end);
        }
        Ok(())
    })
    .await
}

async fn dropped_sender(c: &Chapter<'_>, (s, r): (End<'_>, End<'_>)) -> io::Result<()> {
    let sending = async move {
        c.ok("`send_all`", s.send_all(b"x")).await?;
        drop(s);
        Ok(())
    };
    c.together(sending, async {
        c.receive(&r, b"x").await?;
        // Without a goodbye it may not be the end for all protocols.
        let (rest, _) = c.receive_all(&r).await?;
        c.require(rest.is_empty(), "nothing more", rest);
        Ok(())
    })
    .await
}

async fn closed_sender(c: &Chapter<'_>, (s, _r): (End<'_>, End<'_>)) -> io::Result<()> {
    let close = aclose_forcefully(&s);
    c.one_of(&[Outcome::Ok, Outcome::Broken], "`aclose_forcefully`", close).await?.ok();
    c.fails(&[Outcome::Closed], "`send_all`, when closed", s.send_all(b"x")).await?;
    c.fails(&[Outcome::Closed], "`send_all` of nothing, when closed", s.send_all(b"")).await?;
    let wait = s.wait();
    c.fails(&[Outcome::Closed], "`wait_send_all_might_not_block`, when closed", wait).await?;
    c.checkpoint("`aclose`, again", s.aclose()).await
}

async fn closed_receiver(c: &Chapter<'_>, (s, r): (End<'_>, End<'_>)) -> io::Result<()> {
    let unread = async {
        let sent = c.one_of(&[Outcome::Ok, Outcome::Broken], "`send_all`", s.send_all(b"unread"));
        sent.await.map(drop)
    };
    c.together(unread, async {
        settled().await?;
        let close = aclose_forcefully(&r);
        c.one_of(&[Outcome::Ok, Outcome::Broken], "`aclose_forcefully`", close).await?.ok();
        let mut buffer = [0; 10];
        let late = r.receive_some(&mut buffer);
        c.fails(&[Outcome::Closed], "`receive_some`, when closed", late).await?;
        c.checkpoint("`aclose`, again", r.aclose()).await
    })
    .await
}

async fn the_receiver_has_gone(c: &Chapter<'_>, s: &End<'_>) -> io::Result<()> {
    const OUTCOMES: &[Outcome] = &[Outcome::Ok, Outcome::Broken];
    let mut sent = 0;
    while c.one_of(OUTCOMES, "`send_all` to nobody", s.send_all(b"x")).await?.is_ok() {
        sent += 1;
        c.require(
            sent < INTO_THE_VOID,
            "Broken, sooner or later",
            format_args!("Ok(()), for ever"),
        );
        sleep(Duration::from_millis(1)).await?;
    }
    c.fails(&[Outcome::Broken], "`send_all` to nobody, again", s.send_all(b"x")).await?;
    let wait = s.wait();
    c.one_of(OUTCOMES, "`wait_send_all_might_not_block`, to nobody", wait).await?.ok();
    c.one_of(OUTCOMES, "`aclose`, to nobody", s.aclose()).await?.ok();
    Ok(())
}

async fn cancelled_sender(c: &Chapter<'_>, (s, r): (End<'_>, End<'_>)) -> io::Result<()> {
    c.cancelled("`aclose` when cancelled", s.aclose()).await?;
    c.fails(&[Outcome::Closed], "`send_all`, when closed", s.send_all(b"x")).await?;
    let (rest, _) = c.receive_all(&r).await?;
    c.require(rest.is_empty(), "nothing", rest);
    Ok(())
}

async fn cancelled_receiver(c: &Chapter<'_>, (s, r): (End<'_>, End<'_>)) -> io::Result<()> {
    c.cancelled("`aclose` when cancelled", r.aclose()).await?;
    the_receiver_has_gone(c, &s).await
}

async fn closing_wakes(c: &Chapter<'_>, (_s, r): (End<'_>, End<'_>)) -> io::Result<()> {
    let waiting = async {
        let mut buffer = [0; 10];
        let received = r.receive_some(&mut buffer);
        c.fails(&[Outcome::Closed], "`receive_some`, while it is closed", received).await.map(drop)
    };
    c.together(waiting, async {
        settled().await?;
        c.one_of(&[Outcome::Ok, Outcome::Broken], "`aclose_forcefully`", aclose_forcefully(&r))
            .await
            .map(drop)
    })
    .await
}

async fn cancelled_before(c: &Chapter<'_>, (s, r): (End<'_>, End<'_>)) -> io::Result<()> {
    c.cancelled("`send_all` when cancelled", s.send_all(b"lost")).await?;
    drop(s.send_all(b"lost"));
    let wait = s.wait();
    c.cancelled("`wait_send_all_might_not_block` when cancelled", wait).await?;
    c.together(c.ok("`send_all`", s.send_all(b"kept")), async {
        settled().await?;
        let mut buffer = [0; 10];
        c.cancelled("`receive_some` when cancelled", r.receive_some(&mut buffer)).await?;
        drop(r.receive_some(&mut buffer));
        c.receive(&r, b"kept").await
    })
    .await
}

async fn cancelled_while(c: &Chapter<'_>, (s, r): (End<'_>, End<'_>)) -> io::Result<()> {
    let mut buffer = [0; 10];
    c.interrupted("`receive_some`, cancelled meanwhile", r.receive_some(&mut buffer)).await?;
    c.dropped("`receive_some`, dropped meanwhile", r.receive_some(&mut buffer)).await?;
    c.together(c.ok("`send_all`", s.send_all(b"after")), c.receive(&r, b"after")).await
}

async fn last_waker(c: &Chapter<'_>, (s, r): (End<'_>, End<'_>)) -> io::Result<()> {
    let receiving = async {
        let mut buffer = [0; 10];
        let mut received = Box::pin(r.receive_some(&mut buffer));
        // By somebody who is never woken, as an executor within a task, and for nothing.
        for _ in 0..3 {
            poll_for_nobody(received.as_mut());
            checkpoint().await?;
        }
        let count = c.ok("`receive_some`, which others polled before", received).await?;
        c.require(buffer[..count] == *b"!", "what was sent", &buffer[..count]);
        Ok(())
    };
    c.together(receiving, async {
        settled().await?;
        c.ok("`send_all`", s.send_all(b"!")).await
    })
    .await
}

fn poll_for_nobody<F: Future>(future: Pin<&mut F>) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(future.poll(&mut cx).is_pending(), "there was nothing to receive");
}
