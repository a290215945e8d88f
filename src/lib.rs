//! What the examples print with, and the doctests of the pages that belong to no crate: the README, the book.

use std::cell::RefCell;
use std::fmt::Arguments;
use std::future::Future;
use std::time::Instant;

use nursery::{RunLocal, now};

/// Prints a line that begins with the time: `[ 1s] …` is one second, and less than two, after the first such line of
/// the run. Further lines of the text are indented.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => { $crate::__say(::std::format_args!($($text)*)) };
}

/// `std::println!`, whose lines [`recorded`] can get hold of.
#[macro_export]
macro_rules! println {
    ($($text:tt)*) => { $crate::__println(::std::format_args!($($text)*)) };
}

/// Runs a program, and returns what it said instead of printing it.
pub async fn recorded<T>(program: impl Future<Output = T>) -> (T, String) {
    let before = PAPER.set(RefCell::default());
    let result = program.await;
    let said = PAPER.get_shared().map(|paper| paper.take()).unwrap_or_default();
    PAPER.reset(before);
    (result, said)
}

static PAPER: RunLocal<RefCell<String>> = RunLocal::new();
static START: RunLocal<Instant> = RunLocal::with_default(|| now());

#[doc(hidden)]
pub fn __say(text: Arguments<'_>) {
    let start = START.get().expect("it has a default");
    let seconds = (now() - start).as_secs();
    let text = text.to_string().replace('\n', "\n      ");
    __println(format_args!("[{seconds:2}s] {text}"));
}

#[doc(hidden)]
pub fn __println(text: Arguments<'_>) {
    match PAPER.get_shared() {
        Some(paper) => *paper.borrow_mut() += &format!("{text}\n"),
        None => std::println!("{text}"),
    }
}

/// The pages whose examples must compile, and run.
macro_rules! pages {
    ($($name:ident: $path:literal,)*) => {
        $(
            #[cfg(doctest)]
            #[doc = include_str!($path)]
            mod $name {}
        )*
    };
}

pages! {
    readme: "../README.md",
    introduction: "../book/src/introduction.md",
    hello_nursery: "../book/src/hello-nursery.md",
    borrowing: "../book/src/borrowing.md",
    failure: "../book/src/failure.md",
    deadlines: "../book/src/deadlines.md",
    checkpoints: "../book/src/checkpoints.md",
    cleanup: "../book/src/cleanup.md",
    start: "../book/src/start.md",
    channels: "../book/src/channels.md",
    echo_server: "../book/src/echo-server.md",
    happy_eyeballs: "../book/src/happy-eyeballs.md",
    testing: "../book/src/testing.md",
    from_asyncio: "../book/src/from-asyncio.md",
    from_tokio: "../book/src/from-tokio.md",
    programs: "../book/src/programs.md",
    legend: "../book/src/legend.md",
    glossary: "../book/src/glossary.md",
    checked: "../book/src/checked.md",
    benchmarks: "../book/src/benchmarks.md",
}
