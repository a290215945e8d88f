//! A `NurseryHandle` may be kept anywhere, so what it starts must borrow nothing.

use nursery::{Cancelled, open_nursery};

fn main() {
    let _ = nursery::run(async {
        let name = String::from("borrowed");
        open_nursery(async |n| {
            let handle = n.handle();
            let _ = handle.start_soon(async {
                println!("{name}");
                Ok(())
            });
            Ok::<_, Cancelled>(())
        })
        .await
    });
}
