//! A test on the virtual clock, which cancels the code at each point where it can be cancelled.
//!
//! In asyncio, a test of a timeout takes as long as the timeout, and a test of a cancellation hits one `await` out of
//! many. Here an hour takes no time, and `cancel_everywhere` hits them all, one after the other.

use std::cell::RefCell;
use std::time::Duration;

use nursery::{Cancelled, move_on_after, sleep};
use nursery_examples::say;

const HOUR: Duration = Duration::from_secs(3600);

// ANCHOR: body
struct Workshop {
    waiting: RefCell<Vec<&'static str>>,
    mended: RefCell<Vec<&'static str>>,
}

impl Workshop {
    fn new() -> Self {
        Workshop { waiting: RefCell::new(vec!["radio", "kettle"]), mended: RefCell::default() }
    }

    async fn mend(&self) -> Result<(), Cancelled> {
        loop {
            let Some(thing) = self.waiting.borrow().last().copied() else { return Ok(()) };
            sleep(HOUR).await?; // cancelled here, the thing is still among those that wait
            self.waiting.borrow_mut().pop();
            self.mended.borrow_mut().push(thing);
            say!("workshop: the {thing} is mended");
        }
    }
}

pub(crate) async fn demo() -> Result<(), Cancelled> {
    let workshop = Workshop::new();
    say!("morning: waiting: {:?}", workshop.waiting.borrow());
    let done = move_on_after(HOUR + HOUR / 2, workshop.mend()).await?;
    say!("evening: {done:?}, waiting: {:?}", workshop.waiting.borrow());
    Ok(())
}

#[nursery::main]
async fn main() -> Result<(), Cancelled> {
    demo().await
}
// ANCHOR_END: body

#[cfg(test)]
mod tests {
    // ANCHOR: test
    use nursery_testing::CancelEverywhere;

    use super::Workshop;

    #[test]
    fn nothing_is_lost_wherever_it_is_cancelled() {
        let explored =
            CancelEverywhere::new().run_with(Workshop::new, Workshop::mend, async |workshop, _| {
                let things = workshop.waiting.borrow().len() + workshop.mended.borrow().len();
                assert_eq!(things, 2, "something is lost");
                Ok(())
            });
        assert_eq!(explored.points, 5);
    }
    // ANCHOR_END: test
}
