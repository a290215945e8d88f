//! Each example, on a virtual clock and under 20 seeds, says what is in `examples/expected`. `BLESS=1` rewrites that.
//! The examples that wait for a signal are also run as processes of their own, and sent real ones.
#![cfg(unix)]

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nursery::{TaskError, move_on_after, now, sleep};
use nursery_examples::recorded;
use nursery_testing::Test;

/// Includes an example as a module, by the number and the name of its file.
macro_rules! examples {
    ($($name:ident: $path:literal,)*) => {
        $(
            #[path = $path]
            #[allow(dead_code, reason = "its `main` is called when it is run by hand")]
            mod $name;
        )*

        const INCLUDED: &[&str] = &[$($path),*];
    };
}

examples! {
    hello_nursery: "../examples/01_hello_nursery.rs",
    cancel_a_task: "../examples/02_cancel_a_task.rs",
    cleanup: "../examples/03_cleanup.rs",
    worker_states: "../examples/04_worker_states.rs",
    timeouts: "../examples/05_timeouts.rs",
    failing_child: "../examples/06_failing_child.rs",
    shield: "../examples/07_shield.rs",
    graceful_shutdown: "../examples/08_graceful_shutdown.rs",
    application: "../examples/09_application.rs",
    gather: "../examples/10_gather.rs",
    swallowed_cancel: "../examples/11_swallowed_cancel.rs",
    cpu_bound: "../examples/12_cpu_bound.rs",
    tree: "../examples/13_tree.rs",
    echo_server: "../examples/14_echo_server.rs",
    echo_client: "../examples/15_echo_client.rs",
    happy_eyeballs: "../examples/16_happy_eyeballs.rs",
    chat: "../examples/17_chat.rs",
    proxy: "../examples/18_proxy.rs",
    borrowing: "../examples/20_borrowing.rs",
    one_fails: "../examples/21_one_fails.rs",
    deadlines: "../examples/22_deadlines.rs",
    start: "../examples/23_start.rs",
    channel: "../examples/24_channel.rs",
    workshop: "../examples/25_workshop.rs",
    http: "../examples/19_http.rs",
    pages: "../examples/26_pages.rs",
}

const SECOND: Duration = Duration::from_secs(1);

/// Runs an example under many seeds, and compares what it says with the file that says what it should.
fn check<E: TaskError + Debug, F: Future<Output = Result<(), E>>>(
    name: &str,
    seconds: u32,
    example: impl Fn() -> F,
) {
    let path = folder().join("expected").join(name).with_extension("txt");
    for seed in 0..20 {
        let (said, took) = Test::new()
            .seed(seed)
            .run(async {
                let start = now();
                let (result, said) = recorded(example()).await;
                result.map(|()| (said, now() - start))
            })
            .unwrap();
        let said = without_places(&said);
        if seed == 0 && std::env::var_os("BLESS").is_some() {
            fs::write(&path, &said).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(said, expected, "{name}, seed {seed}; after a look: `BLESS=1 cargo test`");
        assert_eq!(took, seconds * SECOND, "{name}, seed {seed}");
    }
}

/// Places in the examples as they are when run by hand; the others, which are those of this test, left out.
fn without_places(said: &str) -> String {
    let mut text = String::new();
    for part in said.replace("tests/../examples/", "examples/").split_inclusive('(') {
        match part.split_once(')') {
            Some((place, rest)) if place.contains(".rs:") && !place.starts_with("examples/") => {
                text += &format!("…){rest}");
            }
            _ => text += part,
        }
    }
    text
}

#[test]
fn example_01_hello_nursery() {
    check("01_hello_nursery", 2, hello_nursery::demo);
}

#[test]
fn example_02_cancel_a_task() {
    check("02_cancel_a_task", 2, cancel_a_task::demo);
}

#[test]
fn example_03_cleanup() {
    check("03_cleanup", 5, cleanup::demo);
}

#[test]
fn example_04_worker_states() {
    check("04_worker_states", 6, worker_states::demo);
}

#[test]
fn example_05_timeouts() {
    check("05_timeouts", 8, timeouts::demo);
}

#[test]
fn example_06_failing_child() {
    check("06_failing_child", 7, failing_child::demo);
}

#[test]
fn example_07_shield() {
    check("07_shield", 3, shield::demo);
}

/// A second takes the place of Ctrl-C.
#[test]
fn example_08_graceful_shutdown() {
    check("08_graceful_shutdown", 10, async || {
        let done = move_on_after(SECOND, graceful_shutdown::six_workers()).await?;
        graceful_shutdown::report(done);
        Ok::<(), nursery::Cancelled>(())
    });
}

#[test]
fn without_ctrl_c_the_six_workers_get_done() {
    let (result, said) = Test::new()
        .run(async {
            Ok::<_, nursery::Cancelled>(recorded(graceful_shutdown::six_workers()).await)
        })
        .unwrap();
    assert!(result.is_ok());
    assert_eq!(said, "Task done!\n".repeat(6));
}

#[test]
fn example_09_application() {
    check("09_application", 9, || {
        application::application(async {
            sleep(7 * SECOND).await?;
            Ok(nursery_io::signal::Signal::Term)
        })
    });
}

#[test]
fn example_10_gather() {
    check("10_gather", 8, gather::demo);
}

#[test]
fn example_11_swallowed_cancel() {
    check("11_swallowed_cancel", 4, swallowed_cancel::demo);
}

#[test]
fn example_12_cpu_bound() {
    check("12_cpu_bound", 1, cpu_bound::demo);
}

#[test]
fn example_13_tree() {
    check("13_tree", 5, tree::demo);
}

#[test]
fn example_14_echo_server() {
    check("14_echo_server", 8, echo_server::demo);
}

#[test]
fn example_15_echo_client() {
    check("15_echo_client", 3, echo_client::demo);
}

#[test]
fn example_16_happy_eyeballs() {
    check("16_happy_eyeballs", 2, happy_eyeballs::demo);
}

#[test]
fn example_17_chat() {
    check("17_chat", 0, chat::demo);
}

#[test]
fn example_18_proxy() {
    check("18_proxy", 2, proxy::demo);
}

#[test]
fn example_20_borrowing() {
    check("20_borrowing", 3, borrowing::demo);
}

#[test]
fn example_21_one_fails() {
    check("21_one_fails", 3, one_fails::demo);
}

#[test]
fn example_22_deadlines() {
    check("22_deadlines", 8, deadlines::demo);
}

#[test]
fn example_23_start() {
    check("23_start", 3, start::demo);
}

#[test]
fn example_24_channel() {
    check("24_channel", 5, channel::demo);
}

#[test]
fn example_25_workshop() {
    check("25_workshop", 5400, workshop::demo);
}

#[test]
fn example_19_http() {
    check("19_http", 2, http::demo);
}

#[test]
fn example_26_pages() {
    check("26_pages", 3, pages::demo);
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// The names, without their ends, of the files with this end.
fn names(folder: &Path, end: &str) -> BTreeSet<String> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|found| found == end));
    files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn every_example_is_run_here_and_has_a_file_that_says_what_it_says() {
    let examples = names(&folder(), "rs");
    let included: BTreeSet<String> = INCLUDED
        .iter()
        .map(|path| Path::new(path).file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(examples, included);
    assert_eq!(examples, names(&folder().join("expected"), "txt"));
}

#[test]
fn every_example_says_what_it_is_for_and_which_part_the_book_shows() {
    for name in names(&folder(), "rs") {
        let text = fs::read_to_string(folder().join(&name).with_extension("rs")).unwrap();
        assert!(text.starts_with("//! "), "{name}");
        assert!(text.contains("In asyncio, "), "{name} says what goes wrong there");
        for mark in ["// ANCHOR: body\n", "// ANCHOR_END: body\n"] {
            assert_eq!(text.matches(mark).count(), 1, "{name}: {mark}");
        }
    }
}

mod real_signals {
    //! The same test, called again as a process of its own, is the program that gets the signals.

    use std::env;
    use std::io::{BufRead, BufReader};
    use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

    use nursery_io::signal::{self, Signal, cancel_on_ctrl_c};
    use rustix::process::{Pid, Signal as Raw, kill_process};

    use super::{application, graceful_shutdown};

    const ROLE: &str = "NURSERY_EXAMPLES_TEST_CHILD";

    struct Program {
        child: Child,
        says: BufReader<ChildStdout>,
    }

    impl Program {
        fn start(test: &str) -> Self {
            let mut child = Command::new(env::current_exe().unwrap())
                .args(["--exact", test, "--nocapture", "--test-threads=1"])
                .env(ROLE, "child")
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let says = BufReader::new(child.stdout.take().unwrap());
            Program { child, says }
        }

        fn send(&self, signal: Raw) {
            kill_process(Pid::from_child(&self.child), signal).unwrap();
        }

        /// Waits until it prints a line that ends with `text`.
        fn wait_for(&mut self, text: &str) {
            let mut line = String::new();
            while !line.trim_end().ends_with(text) {
                line.clear();
                assert!(self.says.read_line(&mut line).unwrap() > 0, "never said {text:?}");
            }
        }

        fn end(mut self) -> ExitStatus {
            self.child.wait().unwrap()
        }
    }

    impl Drop for Program {
        fn drop(&mut self) {
            let _ = self.child.kill(); // a test that failed leaves nobody behind
        }
    }

    #[test]
    fn the_second_ctrl_c_ends_the_six_workers_at_once() {
        if env::var_os(ROLE).is_some() {
            let ended = nursery::run(cancel_on_ctrl_c(async {
                println!("listening");
                graceful_shutdown::six_workers().await
            }));
            unreachable!("{ended:?}");
        }
        let mut program =
            Program::start("real_signals::the_second_ctrl_c_ends_the_six_workers_at_once");
        program.wait_for("listening");
        program.send(Raw::INT);
        for _ in 0..3 {
            program.wait_for("Canceled!");
        }
        program.send(Raw::INT);
        assert_eq!(program.end().code(), Some(130));
    }

    #[test]
    fn sigterm_stops_the_application() {
        if env::var_os(ROLE).is_some() {
            // Real signals, virtual time: it waits for one, so it holds back 10 ms before it jumps.
            let mut signals = signal::receiver(&[Signal::Term, Signal::Int]).unwrap();
            let stop = async {
                println!("listening");
                signals.recv().await
            };
            nursery_testing::run(application::application(stop)).unwrap();
            return;
        }
        let mut program = Program::start("real_signals::sigterm_stops_the_application");
        program.wait_for("listening");
        program.send(Raw::TERM);
        program.wait_for("application: Term, stopping");
        program.wait_for("application: has closed the database");
        assert!(program.end().success());
    }
}
