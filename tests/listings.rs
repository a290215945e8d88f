//! The book's listings: what breaks breaks with the words that the book shows, and each solution of an exercise runs.
//!
//! `BLESS=1` rewrites what they say, `TRYBUILD=overwrite` what the compiler says.

use std::any::Any;
use std::fmt::Debug;
use std::fs;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use nursery::TaskError;
use nursery_examples::recorded;
use nursery_testing::{Test, assert_expected};
use serde_json::Value;

/// Includes a listing as a module, by the page and the name of its file.
macro_rules! listings {
    ($($name:ident: $path:literal,)*) => {
        $(#[path = $path] mod $name;)*
    };
}

listings! {
    hello_nursery_solution: "../book/listings/hello-nursery/solution.rs",
    borrowing_solution: "../book/listings/borrowing/solution.rs",
    failure_broken: "../book/listings/failure/broken.rs",
    failure_solution: "../book/listings/failure/solution.rs",
    deadlines_solution: "../book/listings/deadlines/solution.rs",
    checkpoints_solution: "../book/listings/checkpoints/solution.rs",
    cleanup_broken: "../book/listings/cleanup/broken.rs",
    cleanup_solution: "../book/listings/cleanup/solution.rs",
    start_broken: "../book/listings/start/broken.rs",
    start_solution: "../book/listings/start/solution.rs",
    channels_broken: "../book/listings/channels/broken.rs",
    channels_solution: "../book/listings/channels/solution.rs",
    echo_server_broken: "../book/listings/echo-server/broken.rs",
    echo_server_solution: "../book/listings/echo-server/solution.rs",
    happy_eyeballs_broken: "../book/listings/happy-eyeballs/broken.rs",
    happy_eyeballs_solution: "../book/listings/happy-eyeballs/solution.rs",
    testing_broken: "../book/listings/testing/broken.rs",
    testing_solution: "../book/listings/testing/solution.rs",
}

/// Runs a listing under many seeds, and compares what it says with the file beside it.
fn says<E: TaskError + Debug, F: Future<Output = Result<(), E>>>(
    listing: &str,
    program: impl Fn() -> F,
) {
    for seed in 0..20 {
        let run = Test::new().seed(seed);
        let said = run.run(async {
            let (result, said) = recorded(program()).await;
            result.map(|()| said)
        });
        assert_expected(format!("book/listings/{listing}.txt"), &said.unwrap());
    }
}

/// The same for a program that panics.
fn panics(listing: &str, program: impl FnOnce()) {
    let panic = catch_unwind(AssertUnwindSafe(program)).expect_err("it should have panicked");
    let text = without_places(&text_of(&*panic));
    assert_expected(format!("book/listings/{listing}.txt"), &format!("{}\n", text.trim_end()));
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let literal = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    literal.or_else(|| panic.downcast_ref::<String>().cloned()).expect("a text")
}

/// Places in the listing by the name of its file; those in this test left out.
fn without_places(said: &str) -> String {
    let mut text = String::new();
    for part in said.split_inclusive('(') {
        match part.split_once(')') {
            Some((place, rest)) if place.contains(".rs:") && !place.contains("broken.rs:") => {
                text += &format!("…){rest}");
            }
            _ => text += part,
        }
    }
    let is_separator = |c: char| c.is_whitespace() || c == '(';
    let words = text.split_inclusive(is_separator);
    words.map(|word| word.rsplit_once("/broken.rs").map_or(word.to_owned(), broken)).collect()
}

fn broken((_, line): (&str, &str)) -> String {
    format!("broken.rs{line}")
}

#[test]
fn what_must_not_compile_does_not() {
    let cases = trybuild::TestCases::new();
    for page in ["hello-nursery", "borrowing", "deadlines", "checkpoints"] {
        cases.compile_fail(format!("book/listings/{page}/broken.rs"));
    }
}

#[test]
fn hello_nursery() {
    says("hello-nursery/solution", hello_nursery_solution::demo);
}

#[test]
fn borrowing() {
    says("borrowing/solution", borrowing_solution::demo);
}

#[test]
fn failure() {
    says("failure/broken", failure_broken::demo);
    says("failure/solution", failure_solution::demo);
}

#[test]
fn deadlines() {
    says("deadlines/solution", deadlines_solution::demo);
}

#[test]
fn checkpoints() {
    says("checkpoints/solution", checkpoints_solution::demo);
}

#[test]
fn cleanup() {
    says("cleanup/broken", cleanup_broken::demo);
    says("cleanup/solution", cleanup_solution::demo);
}

#[test]
fn start() {
    panics("start/broken", || drop(Test::new().seed(0).run(start_broken::demo())));
    says("start/solution", start_solution::demo);
}

#[test]
fn channels() {
    panics("channels/broken", || drop(Test::new().seed(0).run(channels_broken::demo())));
    says("channels/solution", channels_solution::demo);
}

#[test]
fn echo_server() {
    says("echo-server/broken", echo_server_broken::demo);
    says("echo-server/solution", echo_server_solution::demo);
}

#[test]
fn happy_eyeballs() {
    says("happy-eyeballs/broken", happy_eyeballs_broken::demo);
    says("happy-eyeballs/solution", happy_eyeballs_solution::demo);
}

#[test]
fn testing() {
    let test = testing_broken::nothing_is_lost_wherever_it_is_cancelled;
    panics("testing/broken", || {
        // The report names the test by its thread, as the test harness does.
        let thread = thread::Builder::new().name("nothing_is_lost".to_owned()).spawn(test);
        if let Err(panic) = thread.unwrap().join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// One program of the corpus that `tests/conformance.rs` runs, with the trace that trio gave for it.
#[test]
fn checked() {
    let corpus = fs::read_to_string("tests/conformance/corpus/handwritten/deadline.json").unwrap();
    let entries: Vec<Value> = serde_json::from_str(&corpus).unwrap();
    let entry = entries.iter().find(|entry| entry["program"]["name"] == "deadline-fires");
    for part in ["program", "expected"] {
        let text = serde_json::to_string_pretty(&entry.expect("in the corpus")[part]).unwrap();
        assert_expected(format!("book/listings/checked/{part}.json"), &format!("{text}\n"));
    }
}
