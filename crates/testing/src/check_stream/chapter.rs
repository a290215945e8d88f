//! [`Kit`] and [`Chapter`]: tries the chapters one by one, and reports in which of them, and at which step, a stream breaks
//! the contract.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::{Future, pending};
use std::io;
use std::panic::Location;
use std::time::Duration;

use futures_lite::future::or;
use nursery::{Cancelled, Nursery, open_nursery, sleep};

use crate::check_stream::Maker;
use crate::check_stream::end::End;

/// So many times nothing may happen for a while in a chapter, until it is taken for one that waits for ever. A virtual clock
/// jumps; a wait for something of the system makes it hold back for a moment at each jump.
const PATIENCE: u32 = 50;
const WHILE: Duration = Duration::from_secs(1);

/// How much of a result the report shows.
const SHOWN: usize = 200;

/// Which check it is.
#[derive(Clone, Debug)]
pub(super) struct Kit {
    name: &'static str,
    place: &'static Location<'static>,
    is_flipped: bool,
}

impl Kit {
    #[track_caller]
    pub(super) fn new(name: &'static str) -> Self {
        Kit { name, place: Location::caller(), is_flipped: false }
    }

    pub(super) fn flipped(&self) -> Self {
        Kit { is_flipped: true, ..self.clone() }
    }

    /// Tries one chapter, with ends of its own.
    pub(super) async fn chapter<'a>(
        &self,
        title: &'static str,
        make: &Maker<'a>,
        body: impl AsyncFnOnce(&Chapter<'_>, (End<'a>, End<'a>)) -> io::Result<()>,
    ) -> io::Result<()> {
        let chapter =
            Chapter { kit: self, title, under_way: RefCell::default(), report: OnceCell::new() };
        let ends = make().await?;
        let result = Cell::new(None);
        // In a task of its own: the points that the patience passes do not count there.
        let run = open_nursery(async |n: &Nursery<'_, '_, Cancelled>| {
            n.start_soon(async {
                let body = Box::pin(body(&chapter, ends)); // they are large, and one after the other
                result.set(Some(body.await));
                Ok(())
            });
            Ok(())
        });
        let impatient = async {
            patience().await;
            chapter.hangs()
        };
        or(run, impatient).await?;
        result.take().expect("it has ended")
    }
}

async fn patience() {
    for _ in 0..PATIENCE {
        if sleep(WHILE).await.is_err() {
            return pending().await; // the chapter is cancelled, too, and ends
        }
    }
}

/// A chapter that is being tried.
pub(super) struct Chapter<'kit> {
    kit: &'kit Kit,
    title: &'static str,
    under_way: RefCell<Vec<Step>>,
    /// What went wrong first. What waits for ever after that is not worth a report.
    report: OnceCell<String>,
}

/// An operation, and what it is to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    what: &'static str,
    place: &'static Location<'static>,
    expected: String,
}

impl Step {
    pub(super) fn new(
        what: &'static str,
        place: &'static Location<'static>,
        expected: impl Into<String>,
    ) -> Self {
        Step { what, place, expected: expected.into() }
    }

    fn report(&self, got: &str) -> String {
        let Step { what, place, expected } = self;
        format!("the step     {what}, at {place}\nexpected     {expected}\ngot          {got}\n")
    }
}

impl Chapter<'_> {
    /// Awaits `op`, as a step that the report knows of should it wait for ever.
    pub(super) async fn watch<T>(&self, step: &Step, op: impl Future<Output = T>) -> T {
        let _under_way = UnderWay::new(&self.under_way, step);
        op.await
    }

    /// Reports that the stream breaks the contract.
    pub(super) fn fail(&self, step: &Step, got: &str) -> ! {
        self.report(&step.report(&cut(got)))
    }

    fn hangs(&self) -> ! {
        let steps = self.under_way.borrow();
        let waits = |step: &Step| step.report("nothing: it waits for ever");
        self.report(&steps.iter().map(waits).collect::<String>())
    }

    fn report(&self, steps: &str) -> ! {
        let Chapter { kit: Kit { name, place, is_flipped }, title, .. } = self;
        let side = if *is_flipped { ", from the second end to the first" } else { "" };
        let report = self.report.get_or_init(|| {
            format!(
                "{name}: the stream breaks the contract of `nursery_io::stream`\n\n\
                 the chapter  {title}{side}\n{steps}the check    {place}"
            )
        });
        panic!("{report}");
    }
}

/// The beginning of it.
fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text.to_owned(),
    }
}

/// Keeps a step in the list of those under way until it is dropped.
struct UnderWay<'a> {
    steps: &'a RefCell<Vec<Step>>,
    step: &'a Step,
}

impl<'a> UnderWay<'a> {
    fn new(steps: &'a RefCell<Vec<Step>>, step: &'a Step) -> Self {
        steps.borrow_mut().push(step.clone());
        UnderWay { steps, step }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut steps = self.steps.borrow_mut();
        if let Some(at) = steps.iter().position(|step| step == self.step) {
            steps.remove(at);
        }
    }
}
