//! Takes a thing out of one list before a checkpoint, and puts it into the other after it.

use std::cell::RefCell;
use std::time::Duration;

use nursery::{Cancelled, sleep};
use nursery_testing::CancelEverywhere;

const HOUR: Duration = Duration::from_secs(3600);

struct Workshop {
    waiting: RefCell<Vec<&'static str>>,
    mended: RefCell<Vec<&'static str>>,
}

impl Workshop {
    fn new() -> Self {
        Workshop { waiting: RefCell::new(vec!["radio", "kettle"]), mended: RefCell::default() }
    }

    // ANCHOR: body
    async fn mend(&self) -> Result<(), Cancelled> {
        loop {
            let Some(thing) = self.waiting.borrow_mut().pop() else { return Ok(()) };
            sleep(HOUR).await?; // cancelled here, the thing is in no list
            self.mended.borrow_mut().push(thing);
        }
    }
    // ANCHOR_END: body
}

pub(crate) fn nothing_is_lost_wherever_it_is_cancelled() {
    CancelEverywhere::new().run_with(Workshop::new, Workshop::mend, async |workshop, _| {
        let things = workshop.waiting.borrow().len() + workshop.mended.borrow().len();
        assert_eq!(things, 2, "something is lost");
        Ok(())
    });
}
