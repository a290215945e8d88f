//! A child may borrow what is outside the nursery, not what the body owns: that may go first.

use nursery::{Cancelled, open_nursery};

fn main() {
    let _ = nursery::run(async {
        open_nursery(async |n| {
            let words = vec!["gone", "before", "the", "child"];
            n.start_soon(async {
                println!("{words:?}");
                Ok(())
            });
            Ok::<_, Cancelled>(())
        })
        .await
    });
}
