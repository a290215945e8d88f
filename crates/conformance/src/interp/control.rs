//! Loops and errors: `repeat`, `retry`, `try`.

use std::rc::Rc;

use nursery::CancelSource;
use serde_json::json;

use super::{Interp, Result, Task};
use crate::failure::Failure;
use crate::program::{Block, Names, Retry, Try};

fn is_one_of(names: &Names) -> impl Fn(&Failure) -> bool {
    move |leaf| leaf.name().is_some_and(|name| names.contain(name))
}

impl Interp {
    pub(super) async fn sleep_until(&self, at: f64) -> Result {
        match self.instant(at) {
            Some(at) => Ok(nursery::sleep_until(at).await?),
            None if at > 0.0 => Ok(nursery::sleep_forever().await?),
            None => Ok(nursery::checkpoint().await?),
        }
    }

    pub(super) async fn repeat(self: &Rc<Self>, me: &Task, n: u64, body: &Block) -> Result {
        for _ in 0..n {
            self.count_step();
            self.block(me, body).await?;
        }
        Ok(())
    }

    pub(super) async fn retry(self: &Rc<Self>, me: &Task, retry: &Retry) -> Result {
        for attempt in 1..=retry.n {
            self.count_step();
            let Err(failure) = self.block(me, &retry.body).await else { return Ok(()) };
            if !failure.leaves().into_iter().all(is_one_of(&retry.catch)) {
                return Err(failure);
            }
            let fields = json!({ "attempt": attempt, "errors": failure.names() });
            self.log(me, "retry", fields);
            if attempt == retry.n {
                return Err(failure);
            }
            if !retry.delay.0.is_zero() {
                nursery::sleep(retry.delay.0).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn try_block(self: &Rc<Self>, me: &Task, block: &Try) -> Result {
        let result = match self.block(me, &block.body).await {
            Ok(()) => Ok(()),
            Err(failure) => self.handle(me, block, failure).await,
        };
        // What leaves `finally` replaces what was pending.
        self.block(me, &block.finally).await?;
        result
    }

    /// Runs the handlers of a `try`; what is left of the failure goes on.
    async fn handle(self: &Rc<Self>, me: &Task, block: &Try, failure: Failure) -> Result {
        let mut rest = Some(failure);
        if let Some(names) = &block.catch {
            let (caught, others) = split(rest, &is_one_of(names));
            rest = others;
            if let Some(caught) = caught {
                self.log(me, "caught", json!({ "errors": caught.names() }));
                self.block(me, &block.on_error).await?;
            }
        }
        let cancelled = rest.as_ref().and_then(|rest| rest.cancellation().cloned());
        if let Some(cancelled) = cancelled
            && (block.on_cancel.is_some() || block.swallow_cancel)
        {
            let reason = cancelled.reason();
            let text = reason.text().filter(|_| reason.source() == CancelSource::Explicit);
            let why = json!({ "source": reason.source().to_string(), "reason": text });
            self.log(me, "cancelled", if block.log_reason { why } else { json!({}) });
            if let Some(on_cancel) = &block.on_cancel {
                self.block(me, on_cancel).await?;
            }
            if block.swallow_cancel {
                rest = split(rest, &|leaf| leaf.name().is_some()).0;
            }
        }
        rest.map_or(Ok(()), Err)
    }
}

fn split(
    failure: Option<Failure>,
    matches: &dyn Fn(&Failure) -> bool,
) -> (Option<Failure>, Option<Failure>) {
    failure.map_or((None, None), |failure| failure.split(matches))
}
