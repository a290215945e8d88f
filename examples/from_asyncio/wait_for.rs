//! A time limit is around code, not on a task: who gives up waiting cancels the wait.

use std::time::Duration;

use nursery::{move_on_after, open_nursery, sleep};
use nursery_examples::println;
use nursery_io::sync::{Event, OnceCell};

const SECOND: Duration = Duration::from_secs(1);

// ANCHOR: body
#[derive(Default)]
struct Page {
    text: OnceCell<&'static str>,
    is_here: Event,
}

impl Page {
    async fn fetch(&self) -> anyhow::Result<()> {
        sleep(5 * SECOND).await?;
        let _ = self.text.set("the page");
        self.is_here.set();
        Ok(())
    }
}

async fn client(name: &str, page: &Page, patience: Duration) -> anyhow::Result<()> {
    match move_on_after(patience, page.is_here.wait()).await? {
        Some(()) => println!("{name}: {:?}", page.text.get()),
        None => println!("{name}: gives up"),
    }
    Ok(())
}

pub(crate) async fn demo() -> anyhow::Result<()> {
    let page = Page::default();
    open_nursery(async |n| {
        n.start_soon(page.fetch());
        n.start_soon(client("hurried", &page, SECOND));
        n.start_soon(client("patient", &page, 60 * SECOND));
        anyhow::Ok(())
    })
    .await
}
// ANCHOR_END: body
