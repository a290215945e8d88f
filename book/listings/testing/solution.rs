//! A transfer that is done whole or not at all, and the test that shows it.

// ANCHOR: body
use std::cell::Cell;
use std::time::Duration;

use nursery::{Cancelled, checkpoint, shield, sleep};
use nursery_testing::CancelEverywhere;

struct Accounts {
    savings: Cell<i64>,
    other: Cell<i64>,
}

async fn transfer(accounts: &Accounts) -> Result<(), Cancelled> {
    checkpoint().await?; // the last moment to change one's mind
    shield(async {
        accounts.savings.set(accounts.savings.get() - 10);
        sleep(Duration::from_secs(60)).await?; // the other bank is far away
        accounts.other.set(accounts.other.get() + 10);
        Ok(())
    })
    .await
}

#[test]
fn no_money_is_lost_wherever_the_transfer_is_cancelled() {
    let make = || Accounts { savings: Cell::new(100), other: Cell::new(0) };
    // A shield keeps cancellation off. A drop it cannot keep off: nothing async can.
    CancelEverywhere::new().only_cancel().run_with(make, transfer, async |accounts, _| {
        assert_eq!(accounts.savings.get() + accounts.other.get(), 100);
        Ok(())
    });
}
// ANCHOR_END: body
