//! The pairs of the page "Coming from asyncio": the program in Python fails as the page says, the one in Rust does not.
//! `BLESS=1` rewrites what they say.
#![cfg(unix)]

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nursery::{TaskError, open_nursery, sleep, sleep_forever};
use nursery_examples::recorded;
use nursery_testing::{Test, assert_expected};

const SECOND: Duration = Duration::from_secs(1);

/// For each pair a module, which is the program in Rust, and a test of the program in Python.
macro_rules! pairs {
    ($($name:ident: $path:literal,)*) => {
        $(
            #[path = $path]
            mod $name;
        )*

        const PAIRS: &[&str] = &[$(stringify!($name)),*];

        mod in_python {
            $(
                #[test]
                fn $name() {
                    super::check_python(stringify!($name));
                }
            )*
        }
    };
}

pairs! {
    await_cancelled: "../examples/from_asyncio/await_cancelled.rs",
    cancel: "../examples/from_asyncio/cancel.rs",
    ctrl_c: "../examples/from_asyncio/ctrl_c.rs",
    debug_mode: "../examples/from_asyncio/debug_mode.rs",
    destroyed: "../examples/from_asyncio/destroyed.rs",
    gather: "../examples/from_asyncio/gather.rs",
    message: "../examples/from_asyncio/message.rs",
    shield: "../examples/from_asyncio/shield.rs",
    swallowed: "../examples/from_asyncio/swallowed.rs",
    task_group: "../examples/from_asyncio/task_group.rs",
    timeout: "../examples/from_asyncio/timeout.rs",
    uncancel: "../examples/from_asyncio/uncancel.rs",
    wait_for: "../examples/from_asyncio/wait_for.rs",
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/from_asyncio")
}

fn expected(file: &str) -> PathBuf {
    folder().join("expected").join(file)
}

fn python() -> Command {
    let mut python = Command::new("python3");
    python.env_remove("PYTHONASYNCIODEBUG").env_remove("PYTHONPATH").current_dir(folder());
    python
}

/// Runs the program on a clock that jumps, if there is a Python that knows `asyncio.timeout` and `TaskGroup`.
fn check_python(name: &str) {
    let check = "import sys; sys.exit(sys.version_info < (3, 11))";
    if !python().args(["-c", check]).output().is_ok_and(|check| check.status.success()) {
        eprintln!("skipped: there is no python3 of 3.11 or later");
        return;
    }
    let clock = "../../tests/from_asyncio/virtual_clock.py";
    let output = python().args([clock, &format!("{name}.py")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_expected(expected(&format!("{name}.py.txt")), &String::from_utf8_lossy(&output.stdout));
}

/// Runs the program under many seeds.
fn check<E: TaskError + Debug, F: Future<Output = Result<(), E>>>(
    name: &str,
    demo: impl Fn() -> F,
) {
    for seed in 0..20 {
        let run = Test::new().seed(seed).run(async {
            let (result, said) = recorded(demo()).await;
            result.map(|()| said)
        });
        assert_expected(expected(&format!("{name}.rs.txt")), &run.unwrap());
    }
}

#[test]
fn one_who_waits_for_a_cancelled_task_is_told_of_its_own_time_limit() {
    check("await_cancelled", await_cancelled::demo);
}

#[test]
fn a_worker_has_cleaned_up_when_the_database_is_closed() {
    check("cancel", cancel::demo);
}

#[test]
fn ctrl_c_ends_the_workers_before_the_database_is_closed() {
    check("ctrl_c", ctrl_c::demo);
}

#[test]
fn tasks_that_wait_for_each_other_fail_the_test_with_the_tree() {
    let panic = catch_unwind(debug_mode::test_transfers).unwrap_err();
    let says = panic.downcast_ref::<String>().unwrap().replace("tests/../", "");
    assert_expected(expected("debug_mode.rs.txt"), &(says + "\n"));
}

#[test]
fn a_child_whose_handle_is_dropped_runs_to_its_end() {
    check("destroyed", destroyed::demo);
}

#[test]
fn nothing_runs_on_after_gather_has_failed() {
    check("gather", gather::demo);
}

#[test]
fn the_reason_crosses_nurseries() {
    check("message", message::demo);
}

#[test]
fn what_is_shielded_is_waited_for() {
    check("shield", shield::demo);
}

#[test]
fn a_worker_that_swallows_its_cancellation_ends_all_the_same() {
    check("swallowed", swallowed::demo);
}

#[test]
fn a_scope_that_was_cancelled_says_so_and_what_that_means_is_an_error() {
    check("task_group", task_group::demo);
}

/// What the page warns of.
#[test]
fn one_who_awaits_a_child_that_was_cancelled_alone_ends_its_nursery_without_an_error() {
    let photo_is_here = Cell::new(false);
    nursery_testing::run(open_nursery(async |n| {
        let connection = n.start_soon(async { anyhow::Ok(sleep_forever().await?) });
        connection.cancel();
        n.start_soon(async { anyhow::Ok(connection.await?) });
        n.start_soon(async {
            sleep(SECOND).await?;
            photo_is_here.set(true);
            anyhow::Ok(())
        });
        anyhow::Ok(())
    }))
    .unwrap();
    assert!(!photo_is_here.get());
}

#[test]
fn an_error_of_the_system_is_not_taken_for_ones_own_time_limit() {
    check("timeout", timeout::demo);
}

#[test]
fn a_cancellation_that_was_absorbed_leaves_nothing_behind() {
    check("uncancel", uncancel::demo);
}

#[test]
fn a_client_that_gives_up_does_not_cancel_what_others_wait_for() {
    check("wait_for", wait_for::demo);
}

/// The names, without their ends, of the files with this end.
fn names(folder: &Path, end: &str) -> BTreeSet<String> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    files.filter_map(|file| file.to_str()?.strip_suffix(end).map(str::to_owned)).collect()
}

#[test]
fn each_pair_is_whole_and_is_shown_by_the_page() {
    let pairs: BTreeSet<String> = PAIRS.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(names(&folder(), ".py"), pairs);
    assert_eq!(names(&folder(), ".rs"), pairs);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("book/src/from-asyncio.md");
    let page = fs::read_to_string(page).unwrap();
    for name in pairs {
        for shown in [
            format!("{{{{#include ../../examples/from_asyncio/{name}.py}}}}"),
            format!("{{{{#include ../../examples/from_asyncio/expected/{name}.py.txt}}}}"),
            format!("{{{{#rustdoc_include ../../examples/from_asyncio/{name}.rs:body}}}}"),
            format!("{{{{#include ../../examples/from_asyncio/expected/{name}.rs.txt}}}}"),
        ] {
            assert!(page.contains(&shown), "the page does not show {shown}");
        }
    }
}
