//! Judges an [`Attempt`], and says in words what is wrong with it.

use std::fmt::Debug;

use crate::cancel_everywhere::attempt::Attempt;
use crate::cancel_everywhere::plan::{Blow, How};
use crate::cancel_everywhere::{Allowed, Outcome};
use crate::orders::repeat;

/// Panics if something is wrong.
#[track_caller]
pub(super) fn check<E: Debug>(
    attempt: &Attempt<E>,
    blow: Option<(Blow, u32)>,
    seed: u64,
    allowed: Allowed,
) {
    let Some(wrong) = wrong(attempt, blow.map(|(blow, _)| blow), allowed) else { return };
    let mut text = format!("cancel_everywhere: {wrong}\n\n");
    let mut line = |head: &str, what: &str| text.push_str(&format!("{head:<13}{what}\n"));
    line("the run", &run(blow, seed));
    if blow.is_some() {
        line("the point", &attempt.plan.scene());
    }
    if let Some(place) = attempt.plan.raised_at() {
        line("the raise", &place);
    }
    line("the outcome", &outcome(attempt));
    line("to repeat", &repeat(seed));
    if let Some((_, tree)) = &attempt.left {
        text.push_str(&format!("\nWhat is left, below the main task:\n\n{tree}"));
    }
    panic!("{text}");
}

/// What is wrong, in a sentence.
fn wrong<E: Debug>(attempt: &Attempt<E>, blow: Option<Blow>, allowed: Allowed) -> Option<String> {
    if attempt.plan.is_endless() {
        return Some("the body goes on for ever: it was dropped in the end".to_owned());
    }
    if let Some(panic) = &attempt.panic {
        return Some(match attempt.outcome {
            None => format!("the body panicked: {panic}"),
            Some(_) => format!("the check does not hold: it panicked: {panic}"),
        });
    }
    match (&attempt.outcome, blow) {
        (Some(Outcome::Failed(error)), None) => {
            return Some(format!("the body fails undisturbed: {error:?}"));
        }
        (Some(Outcome::Failed(error)), Some(_)) if !allowed.fail => {
            return Some(format!("the body failed when it was disturbed: {error:?}"));
        }
        _ => {}
    }
    if !allowed.swallow && has_swallowed(attempt, blow) {
        let advice = "return it with `?`, or allow this with `may_swallow`";
        return Some(format!("the body swallowed a `Cancelled`, and returned `Ok`: {advice}"));
    }
    if let Some((left, _)) = &attempt.left {
        return Some(format!("something is left: {left}"));
    }
    match &attempt.checked {
        Some(Err(error)) => Some(format!("the check does not hold: {error:?}")),
        Some(Ok(())) => None,
        None => Some("the run ended before the check".to_owned()),
    }
}

fn has_swallowed<E>(attempt: &Attempt<E>, blow: Option<Blow>) -> bool {
    blow.is_some_and(|blow| {
        blow.how == How::Cancelled
            && attempt.plan.has_raised()
            && attempt.plan.has_finished(blow.victim)
    })
}

fn run(blow: Option<(Blow, u32)>, seed: u64) -> String {
    let Some((blow, points)) = blow else {
        return format!("it was not disturbed, under seed {seed}");
    };
    let victim = match blow.victim {
        0 => "it".to_owned(),
        n => format!("victim {n}"),
    };
    let how = match blow.how {
        How::Cancelled => "cancelled",
        How::Dropped => "dropped",
    };
    let then = match blow.then_dropped {
        Some(then) => format!(", then dropped at point {then}"),
        None => String::new(),
    };
    let point = blow.point;
    format!("{victim} was {how} at point {point} of {points}{then}, under seed {seed}")
}

fn outcome<E: Debug>(attempt: &Attempt<E>) -> String {
    match &attempt.outcome {
        None => "none".to_owned(),
        Some(Outcome::Done) => "done".to_owned(),
        Some(Outcome::Cancelled) => "cancelled".to_owned(),
        Some(Outcome::Dropped) => "dropped".to_owned(),
        Some(Outcome::Failed(error)) => format!("failed: {error:?}"),
    }
}
