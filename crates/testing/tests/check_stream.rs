//! The conformance kit: our memory streams pass it, and for each of its chapters a stream that breaks it does not.

mod faulty;

use std::future::{Future, IntoFuture};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nursery::{CancelScope, Cancelled};
use nursery_io::stream::Stapled;
use nursery_testing::{
    bounded_stream_one_way_pair, bounded_stream_pair, check_half_closeable_stream,
    check_one_way_stream, check_two_way_stream, lockstep_stream_one_way_pair, lockstep_stream_pair,
    memory_stream_one_way_pair, memory_stream_pair, orders,
};

use faulty::Fault::{self, *};
use faulty::{Faulty, faulty_pair};

/// `memory_streams_with_generic_tests`
#[test]
fn memory_streams_keep_the_contract() {
    orders(5, async || {
        check_one_way_stream(async || Ok(memory_stream_one_way_pair())).await?;
        check_half_closeable_stream(async || Ok(memory_stream_pair())).await
    });
}

/// `lockstep_streams_with_generic_tests`
#[test]
fn lockstep_streams_keep_the_contract() {
    orders(5, async || {
        check_one_way_stream(async || Ok(lockstep_stream_one_way_pair()))
            .clogged(async || Ok(lockstep_stream_one_way_pair()))
            .await?;
        check_two_way_stream(async || Ok(lockstep_stream_pair()))
            .clogged(async || Ok(lockstep_stream_pair()))
            .await?;
        check_half_closeable_stream(async || Ok(lockstep_stream_pair()))
            .clogged(async || Ok(lockstep_stream_pair()))
            .await
    });
}

#[test]
fn bounded_streams_keep_the_contract() {
    use nursery_io::stream::SendStream;
    orders(5, async || {
        check_half_closeable_stream(async || Ok(bounded_stream_pair(3)))
            .clogged(async || {
                let (a, b) = bounded_stream_pair(3);
                a.send_all(&[0; 3]).await?;
                b.send_all(&[0; 3]).await?;
                Ok((a, b))
            })
            .await
    });
}

/// Without faults, what breaks the rules in the other tests keeps them.
#[test]
fn a_stream_that_is_delegated_to_keeps_the_contract() {
    orders(3, async || {
        check_one_way_stream(async || Ok(faulty_pair(None, None)))
            .clogged(async || Ok(faulty_pair(None, None)))
            .await?;
        check_half_closeable_stream(async || Ok(two_way(None)))
            .clogged(async || Ok(two_way(None)))
            .await
    });
}

type OneWay =
    (Faulty<nursery_testing::BoundedSendStream>, Faulty<nursery_testing::BoundedReceiveStream>);
type TwoWay = Faulty<nursery_testing::BoundedStream>;

fn two_way(fault: Option<Fault>) -> (TwoWay, TwoWay) {
    let (a, b) = lockstep_stream_pair();
    (Faulty::new(a, fault), Faulty::new(b, None))
}

/// What the kit says of a stream: it has to say something.
#[track_caller]
fn report(fault: Fault, check: impl Future<Output = io::Result<()>>) -> String {
    let checked = catch_unwind(AssertUnwindSafe(|| nursery_testing::run(check)));
    let Err(panic) = checked else { panic!("the kit did not notice {fault:?}") };
    *panic.downcast::<String>().expect("a report")
}

/// It is this chapter that is broken, in which this came instead of what was expected.
#[track_caller]
fn assert_broken(report: &str, chapter: &str, expected: &str, got: &str) {
    let lines = |name: &'static str| report.lines().filter_map(move |line| line.strip_prefix(name));
    assert_eq!(lines("the chapter  ").next(), Some(chapter), "{report}");
    // Of steps that wait for ever there may be several.
    let mut steps = lines("expected     ").zip(lines("got          "));
    let is_there = steps.any(|step| step.0 == expected && step.1.starts_with(got));
    assert!(is_there, "not {got}, where {expected} is expected, but:\n{report}");
    assert!(lines("the step     ").all(|step| step.contains("src/check_stream/")), "{report}");
    let place = lines("the check    ").next().expect("where the check is");
    assert!(place.starts_with("crates/testing/tests/check_stream.rs:"), "{report}");
}

const FOR_EVER: &str = "nothing: it waits for ever";

#[test]
fn senders_that_break_the_contract() {
    for (fault, chapter, expected, got) in [
        (Reverses, "bytes arrive, in order", "[121, 122]", "[122, 121]"),
        (SendsNothingAtOnce, "bytes arrive, in order", "to be a checkpoint", "no cancel point"),
        (WaitsForRoomForEver, "waiting for room ends when there is room", "Ok", FOR_EVER),
        (ClosesOnce, "the end comes after what was sent, and stays", "Ok", "Err(Closed)"),
        (
            ClosesAtOnce,
            "the end comes after what was sent, and stays",
            "to be a checkpoint",
            "no cancel",
        ),
        (IsKeptWhenDropped, "a sender that is dropped has gone", "Ok or Broken", FOR_EVER),
        (TakesNothingWhenClosed, "a sender that is closed says so", "Closed", "Ok(())"),
        (
            SaysClosedForBroken,
            "a receiver that is closed is gone for its peer",
            "Ok or Broken",
            "Err(Closed)",
        ),
        (RecoversFromBroken, "a receiver that is closed is gone for its peer", "Broken", "Ok(())"),
        (
            NeverNotices,
            "a receiver that is closed is gone for its peer",
            "Broken, sooner or later",
            "Ok(()), for ever",
        ),
        (
            ClosesWhenNotCancelled,
            "a sender is closed although that is cancelled",
            "Closed",
            FOR_EVER,
        ),
        (SendsAlthoughCancelled, "cancelled before it began it did nothing", "Cancelled", FOR_EVER),
        (
            SendsBeforeItLooks,
            "cancelled at any poll, sending did nothing",
            "[5, 6, 7]",
            "[2, 3, 4, 5, 6, 7]",
        ),
        (ForgetsTheHalf, "sending that was cancelled half-way is over", "Broken", "Ok(())"),
        (ForgetsTheDroppedHalf, "sending that was dropped half-way is over", "Broken", "Ok(())"),
        (
            SaysBrokenWithoutACause,
            "sending that was cancelled half-way is over",
            "Broken, with an `Interrupted` as the cause",
            "Broken(",
        ),
        (Miscounts, "sending that was cancelled half-way is over", "2 bytes", "1 bytes"),
    ] {
        let said = report(fault, async {
            check_one_way_stream(async || Ok(faulty_pair(Some(fault), None))).await
        });
        assert_broken(&said, chapter, expected, got);
    }
}

#[test]
fn receivers_that_break_the_contract() {
    for (fault, chapter, expected, got) in [
        (TakesAnyBuffer, "bytes arrive, in order", "EmptyBuffer", "Ok(0)"),
        (LetsTheSecondWait, "the second task that receives is told so", "Busy", FOR_EVER),
        (EndsOnce, "the end comes after what was sent, and stays", "Ok", "Err(Broken"),
        (EndsWhenClosed, "a receiver that is closed says so", "Closed", "Ok(0)"),
        (
            ClosesWhenNotCancelled,
            "a receiver is closed although that is cancelled",
            "Ok or Broken",
            FOR_EVER,
        ),
        (ClosesQuietly, "closing wakes a task that receives", "Closed", FOR_EVER),
        (ReceivesAlthoughCancelled, "cancelled before it began it did nothing", "Cancelled", "Ok("),
        (IsNotInterrupted, "cancelled while it receives it took nothing", "Cancelled", FOR_EVER),
        (KeepsTheFirstWaker, "the waker that counts is that of the last poll", "Ok", FOR_EVER),
        (
            TakesTooEarly,
            "given up at any poll, receiving took nothing",
            "all bytes from 0 to 255",
            "[",
        ),
        (
            IsKeptWhenDropped,
            "a receiver that is dropped is gone for its peer",
            "Ok or Broken",
            FOR_EVER,
        ),
    ] {
        let said = report(fault, async {
            check_one_way_stream(async || Ok(faulty_pair(None, Some(fault)))).await
        });
        assert_broken(&said, chapter, expected, got);
    }
}

#[test]
fn clogged_streams_that_break_the_contract() {
    for (fault, chapter, expected, got) in [
        (WaitsForRoomForEver, "receiving makes room", "Ok", FOR_EVER),
        (LetsTheSecondSend, "the second task that sends is told so", "Busy", "Ok(())"),
        (LetsTheSecondWait, "the second task that sends is told so", "Busy", FOR_EVER),
        (IsNotWokenByThePeer, "a receiver that goes wakes a task that sends", "Broken", FOR_EVER),
        (
            IsNotWokenWaiting,
            "a receiver that goes wakes a task that waits for room",
            "Ok or Broken",
            FOR_EVER,
        ),
        (ClosesQuietly, "closing wakes a task that sends", "Closed", FOR_EVER),
        (
            SendsLater,
            "cancelled before there was room it sent nothing",
            "zeros, then b\"end\"",
            "[238",
        ),
        (
            LetsASecondSendBesideAWait,
            "the second task that sends is told so, by one that waits for room",
            "Busy",
            "Ok(())",
        ),
        (ClosesQuietlyForAWait, "closing wakes a task that waits for room", "Closed", FOR_EVER),
    ] {
        let said = report(fault, async {
            check_one_way_stream(async || Ok(faulty_pair(None, None)))
                .clogged(async || Ok(faulty_pair(Some(fault), None)))
                .await
        });
        assert_broken(&said, chapter, expected, got);
    }
}

#[test]
fn two_way_streams_that_break_the_contract() {
    let said = report(DirectionsConflict, async {
        check_two_way_stream(async || Ok(two_way(Some(DirectionsConflict)))).await
    });
    assert_broken(&said, "much goes both ways at once", "Ok", "Err(Busy)");

    // What only the second end does wrong.
    let said = report(TakesNothingWhenClosed, async {
        check_two_way_stream(async || {
            let (a, b) = two_way(Some(TakesNothingWhenClosed));
            Ok((b, a))
        })
        .await
    });
    let chapter = "a sender that is closed says so, from the second end to the first";
    assert_broken(&said, chapter, "Closed", "Ok(())");
}

#[test]
fn half_closeable_streams_that_break_the_contract() {
    let other_goes_on = "after the end of one direction the other goes on";
    for (fault, chapter, expected, got) in [
        (EndsBothDirections, other_goes_on, "Ok", "Err(Broken"),
        (SaysTheEndOnce, other_goes_on, "Ok", "Err(Closed)"),
        (
            EndsBeforeItIsSaid,
            "the end can be said again when that was cancelled",
            "Ok or Broken",
            FOR_EVER,
        ),
        (EndsInTheMiddle, "the end is not said in the middle of sending", "Busy", "Ok(())"),
        (EndsBesideAWait, "the end is not said while a task waits for room", "Busy", "Ok(())"),
    ] {
        let said = report(fault, async {
            check_half_closeable_stream(async || Ok(two_way(Some(fault))))
                .clogged(async || Ok(two_way(Some(fault))))
                .await
        });
        assert_broken(&said, chapter, expected, got);
    }
}

#[test]
fn the_report_says_where_it_happened() {
    let line = line!() + 2;
    let said = report(ClosesQuietly, async {
        check_one_way_stream(async || Ok(faulty_pair(None, Some(ClosesQuietly)))).await
    });
    let place = "crates/testing/src/check_stream/one_way.rs:";
    let (before, after) = said.split_once(place).expect("the place of the step");
    assert_eq!(
        before,
        "check_one_way_stream: the stream breaks the contract of `nursery_io::stream`\n\n\
         the chapter  closing wakes a task that receives\n\
         the step     `receive_some`, while it is closed, at "
    );
    let (_, after) = after.split_once('\n').expect("more lines");
    assert_eq!(
        after,
        format!(
            "expected     Closed\ngot          nothing: it waits for ever\n\
             the check    crates/testing/tests/check_stream.rs:{line}:9"
        )
    );
}

#[nursery_testing::test]
async fn an_error_of_the_maker_is_passed_on() -> Result<(), Cancelled> {
    let made =
        check_one_way_stream(async || Err::<OneWay, _>(io::Error::other("no stream to be had")));
    assert_eq!(made.await.unwrap_err().to_string(), "no stream to be had");
    Ok(())
}

/// A cancellation from outside is no fault of the stream.
#[nursery_testing::test]
async fn a_check_can_be_cancelled() -> io::Result<()> {
    for made in 0..20 {
        let scope = CancelScope::new();
        let count = std::cell::Cell::new(0);
        let check = check_half_closeable_stream(async || {
            count.set(count.get() + 1);
            if count.get() > made {
                scope.cancel();
            }
            Ok(lockstep_stream_pair())
        });
        assert_eq!(scope.enter(check.into_future()).await?, None);
    }
    Ok(())
}

#[test]
fn the_parts_of_a_stapled_stream_may_be_of_different_kinds() {
    orders(3, async || {
        check_half_closeable_stream(async || {
            let (there, back) = (memory_stream_one_way_pair(), bounded_stream_one_way_pair(1));
            Ok((Stapled::new(there.0, back.1), Stapled::new(back.0, there.1)))
        })
        .await
    });
}
