//! The report of a deadlock: who waits for what and where, who holds it, and who waits for each other in a circle.
//!
//! A place is shown by the mark in its line or, where a block begins, in the one below: `‹child›` is at `// @child`.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nursery::lowlevel::{ParkingLot, current_task};
use nursery::{TaskStatus, open_nursery};
use nursery_io::channel;
use nursery_io::sync::{Event, Lock};
use nursery_testing::wait_all_tasks_blocked;

const SOON: std::time::Duration = std::time::Duration::ZERO;

/// The tree in the report of a run that gets stuck, and what comes between it and the advice.
fn deadlock(main: impl Future<Output = anyhow::Result<()>>) -> String {
    let run = AssertUnwindSafe(|| nursery_testing::run(main)); // @run
    let panic = catch_unwind(run).expect_err("it ends with a deadlock");
    let report = panic.downcast::<String>().expect("a text");
    let first = "deadlock: every task waits for something that only another task could bring\n\n";
    let report = report.strip_prefix(first).expect("it says what it is");
    let (tree, advice) = report.split_once("\nNothing is ready, ").expect("the tree first");
    assert!(advice.contains("- two tasks that each hold what the other waits for"), "{advice}");
    with_marks(tree)
}

fn with_marks(text: &str) -> String {
    let lines: Vec<&str> = include_str!("deadlock.rs").lines().collect();
    let mut parts = text.split(concat!(file!(), ":"));
    let mut marked = parts.next().expect("there is a first").to_owned();
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let line: usize = part[..digits].parse().expect("a number");
        let mut here = lines[line - 1..].iter().take(2);
        let mark =
            here.find_map(|line| line.split_once("// @")).map_or("no mark", |(_, mark)| mark);
        marked += &format!("‹{mark}›{}", &part[digits..]);
    }
    marked
}

#[test]
fn two_locks_that_are_taken_in_opposite_order() {
    let report = deadlock(async {
        let locks = [Lock::new(), Lock::new()];
        open_nursery(async |n| -> anyhow::Result<()> {
            // @nursery
            for (name, first) in [("a", 0), ("b", 1)] {
                let locks = &locks;
                let task = async move {
                    let _first = locks[first].lock().await?;
                    wait_all_tasks_blocked(SOON).await?;
                    let _second = locks[1 - first].lock().await?; // @the second lock
                    anyhow::Ok(())
                };
                n.start_soon(task).set_name(name); // @starts both
            }
            Ok(())
        })
        .await
    });
    let expected = r#"run
├─ nursery "system" (‹run›)
└─ task "main" (‹run›)
   └─ nursery (‹nursery›)
      ├─ task "a" (‹starts both›), waits for a lock (‹the second lock›), held by task "b"
      └─ task "b" (‹starts both›), waits for a lock (‹the second lock›), held by task "a"

These wait for each other:
- task "a" waits for a lock (‹the second lock›), held by task "b"
- task "b" waits for a lock (‹the second lock›), held by task "a"
"#;
    assert_eq!(report, expected);
}

/// It has the only sender, so the end that it waits for cannot come. Who has a sender, nobody knows: no circle is shown.
#[test]
fn a_task_that_joins_itself_through_a_channel() {
    let report = deadlock(async {
        let (_sender, receiver) = channel::open::<()>(1);
        while receiver.next().await?.is_some() {} // @waits for the end
        Ok(())
    });
    let expected = r#"run
├─ nursery "system" (‹run›)
└─ task "main" (‹run›), waits for a value from a channel (‹waits for the end›)
"#;
    assert_eq!(report, expected);
}

#[test]
fn a_nursery_that_waits_for_a_child_that_waits_for_the_parents_event() {
    let report = deadlock(async {
        let event = Event::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            // @nursery
            n.start_soon(async { anyhow::Ok(event.wait().await?) }).set_name("child"); // @child
            Ok(())
        })
        .await?;
        event.set();
        Ok(())
    });
    let expected = r#"run
├─ nursery "system" (‹run›)
└─ task "main" (‹run›)
   └─ nursery (‹nursery›)
      └─ task "child" (‹child›), waits for an event (‹child›)
"#;
    assert_eq!(report, expected);
}

#[test]
fn a_lock_that_is_held_around_a_nursery_whose_child_needs_it() {
    let report = deadlock(async {
        let lock = Lock::new();
        let _guard = lock.lock().await?;
        open_nursery(async |n| -> anyhow::Result<()> {
            // @nursery
            n.start_soon(async {
                // @child
                let _guard = lock.lock().await?; // @in the child
                anyhow::Ok(())
            });
            Ok(())
        })
        .await
    });
    let circle = r#"
These wait for each other:
- task "main" waits for its children (‹nursery›), among them task (‹child›)
- task (‹child›) waits for a lock (‹in the child›), held by task "main"
"#;
    assert!(report.ends_with(circle), "{report}");
}

#[test]
fn a_task_that_joins_a_child_that_needs_its_lock() {
    let report = deadlock(async {
        let lock = Lock::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            let _guard = lock.lock().await?;
            let needs_it = async { anyhow::Ok(lock.acquire().await?) }; // @needs it
            n.start_soon(needs_it).named("child").await?; // @child
            Ok(())
        })
        .await
    });
    let circle = r#"
These wait for each other:
- task "main" waits for the end of task "child"
- task "child" waits for a lock (‹needs it›), held by task "main"
"#;
    assert!(report.ends_with(circle), "{report}");
}

#[test]
fn a_child_that_cannot_start_without_its_parents_lock() {
    let report = deadlock(async {
        let lock = Lock::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            let _guard = lock.lock().await?;
            n.start(async |status: TaskStatus<()>| {
                // @start
                let _guard = lock.lock().await?; // @needs it
                status.started(());
                Ok(())
            })
            .await
        })
        .await
    });
    let circle = r#"
These wait for each other:
- task "main" waits for the start of task (‹start›)
- task (‹start›) waits for a lock (‹needs it›), held by task "main"
"#;
    assert!(report.ends_with(circle), "{report}");
}

/// Whoever waits for tasks in a circle is not in it, and tasks in two circles are told of once.
#[test]
fn each_knot_is_told_of_once() {
    let report = deadlock(async {
        let lots = ["a", "b", "c", "a2", "b2"].map(|_| ParkingLot::<()>::new());
        open_nursery(async |n| -> anyhow::Result<()> {
            // a and b hold each other up, c waits for a, and so do a2 and b2 among themselves.
            for (i, waits_for) in [1, 0, 0, 4, 3].into_iter().enumerate() {
                let lots = &lots;
                let task = async move {
                    lots[i].add_breaker(current_task())?;
                    wait_all_tasks_blocked(SOON).await?;
                    anyhow::Ok(lots[waits_for].park().await?) // @parks
                };
                n.start_soon(task).set_name(["a", "b", "c", "a2", "b2"][i]); // @starts
            }
            Ok(())
        })
        .await
    });
    let circles = report.split_once("\n\n").expect("two parts").1;
    let expected = r#"These wait for each other:
- task "a" waits for a parking lot (‹parks›), held by task "b"
- task "b" waits for a parking lot (‹parks›), held by task "a"

These wait for each other:
- task "a2" waits for a parking lot (‹parks›), held by task "b2"
- task "b2" waits for a parking lot (‹parks›), held by task "a2"
"#;
    assert_eq!(circles, expected);
}

/// Two children started at one place: it may be either that is waited for, so neither is accused.
#[test]
fn a_child_that_cannot_be_told_from_another_is_not_accused() {
    let report = deadlock(async {
        let lock = Lock::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            let _guard = lock.lock().await?;
            let needs_it = async || anyhow::Ok(lock.acquire().await?);
            let [one, _other] = [(); 2].map(|()| n.start_soon(needs_it()));
            Ok(one.await?)
        })
        .await
    });
    assert!(report.contains("waits for a child"), "{report}");
    assert!(!report.contains("wait for each other"), "{report}");
}
