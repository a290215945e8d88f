//! `Trace`: what it records, and how it shows that. The pictures are in `tests/pictures`.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::pin;
use std::process::Command;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use nursery::lowlevel::{self, ParkingLot};
use nursery::{
    Cancelled, TaskError, TaskStatus, checkpoint, fail_after, move_on_after, open_nursery, shield,
    sleep, sleep_forever,
};
use nursery_testing::{Test, Trace, assert_expected};

const SECOND: Duration = Duration::from_secs(1);

fn traced<E: TaskError>(seed: u64, main: impl Future<Output = Result<(), E>>) -> Rc<Trace> {
    let trace = Trace::new();
    let _result = Test::new().seed(seed).builder().instrument(trace.clone()).run(main);
    trace
}

/// The lines, without the places.
fn lines(trace: &Trace) -> Vec<String> {
    let line = |line: &str| {
        let mut parts = line.split(" (");
        let mut without = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            match part.split_once(')') {
                Some((place, rest)) if place.contains(".rs:") => without += rest,
                _ => without += &format!(" ({part}"),
            }
        }
        without.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    trace.text().lines().map(line).collect()
}

/// A bit of everything: a task that fails, one that is slow to end, time that is up, a hand-off.
async fn program() -> anyhow::Result<()> {
    let lot = ParkingLot::<()>::new();
    open_nursery(async |n| -> anyhow::Result<()> {
        n.start_soon(async {
            lot.park_as("its turn").await?;
            fail_after(SECOND, async { anyhow::Ok(sleep_forever().await?) }).await
        })
        .set_name("slow");
        n.start_soon(async {
            open_nursery(async |n| -> anyhow::Result<()> {
                n.start_soon(async { Ok(shield(sleep(4 * SECOND)).await?) }).set_name("careful");
                n.start_soon(async { Ok(sleep_forever().await?) }).set_name("idle");
                Ok(())
            })
            .await
        })
        .set_name("service");
        sleep(SECOND).await?;
        lot.unpark_all();
        Ok(())
    })
    .await
}

#[test]
fn a_program_as_text() {
    let trace = traced(0, program());
    let expected = "\
0 s main starts
0 s main opens a nursery
0 s main starts slow
0 s main starts service
0 s main waits for a sleep
0 s service opens a nursery
0 s service starts careful
0 s service starts idle
0 s service waits for its children
0 s slow waits for its turn
0 s idle waits for its cancellation (`sleep_forever`)
0 s careful opens a shield
0 s careful waits for a sleep
1 s main waits for its children
1 s slow opens a scope
1 s slow waits for its cancellation (`sleep_forever`)
2 s (time) cancels the scope of slow: deadline
2 s slow leaves the scope
2 s slow fails
2 s slow cancels the nursery of main: nursery with reason \"a child failed\" from task \"slow\"
2 s slow ends
2 s idle ends
4 s careful leaves the shield
4 s careful ends
4 s service leaves the nursery
4 s service ends
4 s main leaves the nursery
4 s main ends
";
    let lines = lines(&trace);
    assert_eq!(lines.join("\n") + "\n", expected);
}

/// The parent is woken with its children, but its own code does not go on.
#[test]
fn a_step_in_which_a_task_only_polls_its_children_is_not_shown() {
    let trace = traced(0, async {
        open_nursery(async |n| {
            n.start_soon(async {
                checkpoint().await?;
                checkpoint().await
            })
            .set_name("child");
            sleep(SECOND).await
        })
        .await
    });
    let lines = lines(&trace);
    let of_main = lines.iter().filter(|line| line.starts_with("0 s main"));
    let expected = ["starts", "opens a nursery", "starts child", "waits for a sleep"];
    assert_eq!(
        of_main.collect::<Vec<_>>(),
        expected.map(|what| format!("0 s main {what}")).each_ref()
    );
    assert_eq!(lines.iter().filter(|line| *line == "0 s child runs").count(), 2);
}

#[test]
fn the_same_seed_gives_the_same_trace_byte_for_byte() {
    let mut orders = BTreeSet::new();
    for seed in 0..20 {
        let [one, other] = [(); 2].map(|()| traced(seed, program()));
        assert_eq!(one.text(), other.text(), "seed {seed}");
        assert_eq!(one.svg("x"), other.svg("x"), "seed {seed}");
        assert_eq!(one.perfetto(), other.perfetto(), "seed {seed}");
        orders.insert(one.text());
    }
    assert!(orders.len() > 1, "and another seed another");
}

#[test]
fn a_picture_of_a_program_that_fails() {
    picture("failing", "A deadline passes, and the rest is cancelled", &traced(0, program()));
}

#[test]
fn a_picture_of_tasks_that_move_and_of_tasks_that_are_dropped() {
    let trace = traced(0, async {
        open_nursery(async |n| -> anyhow::Result<()> {
            let server = async |status: TaskStatus<()>| {
                sleep(SECOND).await?;
                status.started(());
                Ok(sleep_forever().await?)
            };
            n.start(server).await?;
            {
                let mut doomed = pin!(open_nursery(async |n| -> anyhow::Result<()> {
                    n.start_soon(async { Ok(sleep_forever().await?) }).set_name("doomed");
                    Ok(sleep_forever().await?)
                }));
                let mut polls = 0;
                poll_fn(|cx| {
                    polls += 1;
                    assert!(doomed.as_mut().poll(cx).is_pending());
                    cx.waker().wake_by_ref();
                    if polls == 3 { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }
            checkpoint().await?;
            n.cancel_scope().cancel();
            Ok(())
        })
        .await
    });
    picture("moving", "A task that starts, and one that is dropped", &trace);
}

/// Compares a picture with its file, and with what pictures promise.
fn picture(name: &str, title: &str, trace: &Trace) {
    let svg = trace.svg(title);
    assert!(svg.len() <= 8 * 1024, "{name}: {} bytes", svg.len());
    assert!(svg.contains(&format!("<title>{title}</title>\n<desc>0 s: main starts.\n")));
    assert!(svg.contains("role=\"img\"") && svg.contains("viewBox=\"0 0 700 "));
    assert!(svg.lines().all(|line| !line.trim().is_empty()), "a blank line ends HTML in Markdown");
    assert_expected(format!("tests/pictures/{name}.svg"), &svg);
}

#[test]
fn what_is_written_into_a_picture_is_escaped() {
    let trace = traced(0, async {
        open_nursery(async |n| {
            n.start_soon(checkpoint()).set_name("a < b\n\n& c");
            Ok::<_, Cancelled>(())
        })
        .await
    });
    let svg = trace.svg("<script>");
    assert!(svg.contains("<title>&lt;script&gt;</title>"), "{svg}");
    assert!(svg.contains(">a &lt; b\n&amp; c</text>"), "{svg}");
}

#[test]
fn what_a_trace_viewer_gets_is_well_formed() {
    let json: serde_json::Value = serde_json::from_str(&traced(0, program()).perfetto()).unwrap();
    let events = json["traceEvents"].as_array().unwrap();
    let of = |phase: &'static str| events.iter().filter(move |event| event["ph"] == phase);
    let names = of("M").filter(|event| event["name"] == "thread_name");
    let names: Vec<&str> = names.map(|event| event["args"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["main", "slow", "service", "careful", "idle"]);
    let times: Vec<u64> = events.iter().filter_map(|event| event["ts"].as_u64()).collect();
    assert!(times.is_sorted_by(|a, b| a < b));
    assert!(times.last() > Some(&2_000_000));
    // On each track, steps that follow each other; everything that begins ends.
    let mut running: BTreeMap<u64, i32> = BTreeMap::new();
    for event in events.iter().filter(|event| event["ph"] == "B" || event["ph"] == "E") {
        let depth = running.entry(event["tid"].as_u64().unwrap()).or_default();
        *depth += if event["ph"] == "B" { 1 } else { -1 };
        assert!((0..=1).contains(depth), "{event}");
    }
    assert_eq!(running.len(), names.len());
    let ids = |phase| of(phase).map(|event| event["id"].as_u64().unwrap()).collect::<BTreeSet<_>>();
    assert!(running.values().all(|&depth| depth == 0));
    assert_eq!(ids("b"), ids("e"));
    assert_eq!(of("b").count(), ids("b").len());
    for name in ["fails", "cancelled", "is woken"] {
        assert!(of("i").any(|event| event["name"] == name), "{name}");
    }
}

#[test]
fn a_trace_that_comes_late_or_goes_early_shows_what_it_sees() {
    let trace = Trace::new();
    nursery_testing::run(async {
        lowlevel::add_instrument(trace.clone());
        move_on_after(SECOND, sleep_forever()).await?;
        let it: Rc<dyn lowlevel::Instrument> = trace.clone();
        assert!(lowlevel::remove_instrument(&it));
        checkpoint().await
    })
    .unwrap();
    let lines = lines(&trace);
    assert_eq!(lines[0], "0 s main starts");
    assert!(lines.contains(&"1 s (time) cancels the scope of main: deadline".to_owned()));
    assert_eq!(lines.last().unwrap(), "1 s main runs");
}

#[test]
fn a_second_run_takes_the_place_of_the_first() {
    let trace = Trace::new();
    for name in ["first", "second"] {
        let builder = Test::new().builder().instrument(trace.clone());
        builder
            .run(async {
                open_nursery(async |n| {
                    n.start_soon(checkpoint()).set_name(name);
                    Ok::<_, Cancelled>(())
                })
                .await
            })
            .unwrap();
        assert!(lines(&trace).contains(&format!("0 s main starts {name}")));
    }
    assert!(!trace.text().contains("first"));
}

#[test]
fn a_text_that_is_not_what_the_file_says() {
    const ROLE: &str = "NURSERY_TESTING_EXPECTED";
    if let Some(path) = std::env::var_os(ROLE) {
        return assert_expected(path, "one\n2\nthree\n"); // in the process below
    }
    let folder = std::env::temp_dir().join(format!("nursery-expected-{}", std::process::id()));
    let path = folder.join("new").join("file.txt");
    let run = |bless: &str| {
        let name = "a_text_that_is_not_what_the_file_says";
        let mut command = Command::new(std::env::current_exe().unwrap());
        let command = command.args(["--exact", name, "--nocapture"]).env(ROLE, &path);
        let output = command.env("BLESS", bless).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (is_right, why) = run("0");
    assert!(!is_right && why.contains("If it is to be made: `BLESS=1 cargo test`"), "{why}");
    assert!(run("1").0);
    assert!(run("0").0);
    std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
    let (is_right, why) = run("0");
    assert!(!is_right && why.contains("from line 2 on"), "{why}");
    assert!(why.contains("expected: two\n  actual: 2\n"), "{why}");
    std::fs::remove_dir_all(folder).unwrap();
}
