//! The runner finds what is wrong: with traces, with programs that do not end, with files that hold no programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use nursery_conformance::{Program, load, run};
use serde_json::{Value, json};

fn program(root: &Value) -> Rc<Program> {
    let json = json!({
        "name": "p",
        "events": ["e"],
        "locks": ["l"],
        "channels": { "c": { "buffer": 0 } },
        "root": root,
    });
    Rc::new(Program::parse(&json).unwrap())
}

/// A directory for the files of one test, empty.
fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// What the runner prints, and whether it succeeds.
fn runner(args: &[&str]) -> (String, bool) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_nursery-conformance")).args(args).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    (String::from_utf8(output.stdout).unwrap(), output.status.success())
}

fn entry(name: &str) -> Value {
    json!({
        "program": { "name": name, "root": [{ "op": "sleep", "dur": 2 }, { "op": "log", "id": "a" }] },
        "expected": {
            "tasks": { "main": { "events": [{ "t": 2, "ev": "log", "id": "a" }], "end": "ok", "end_t": 2 } },
            "outcome": "ok",
            "leaves": [],
            "time": 2,
        },
    })
}

#[test]
fn a_deadlock_is_an_error_that_shows_who_waits() {
    let stuck = json!([{ "op": "nursery", "id": "n", "body": [
        { "op": "spawn", "nursery": "n", "task": "a", "body": [{ "op": "event_wait", "event": "e" }] },
    ] }]);
    let why = run(&program(&stuck), 0, 1).unwrap_err();
    assert!(why.starts_with("deadlock"), "{why}");
    assert!(why.contains("\"a\""), "{why}");
}

/// The owner of `inner` waits for a child that is not below it yet.
#[test]
fn a_deadlock_is_recognised_while_a_child_is_starting() {
    let stuck = json!([{ "op": "nursery", "id": "outer", "body": [
        { "op": "nursery", "id": "inner", "body": [
            { "op": "spawn", "nursery": "outer", "task": "a", "body": [
                { "op": "start", "nursery": "inner", "task": "b", "body": [{ "op": "sleep_forever" }] },
            ] },
            { "op": "sleep", "dur": 1 },
        ] },
    ] }]);
    let why = run(&program(&stuck), 0, 1).unwrap_err();
    assert!(why.starts_with("deadlock"), "{why}");
}

#[test]
fn a_program_that_runs_for_ever_is_stopped() {
    let spins = [
        json!([{ "op": "repeat", "n": 1_000_000_000, "body": [] }]),
        json!([{ "op": "repeat", "n": 1_000_000_000, "body": [{ "op": "sleep", "dur": 1 }] }]),
        json!([{ "op": "nursery", "id": "n", "body": [
            { "op": "cancel", "scope": "n" },
            { "op": "spawn", "nursery": "n", "task": "a", "body": [
                { "op": "retry", "n": 1_000_000_000, "catch": "*", "body": [{ "op": "raise", "err": "A" }] },
            ] },
            { "op": "sleep_forever" },
        ] }]),
        json!([{ "op": "sleep", "dur": 2e9 }, { "op": "log", "id": "a" }]),
    ];
    for root in spins {
        let why = run(&program(&root), 0, 64).unwrap_err();
        assert!(why.starts_with("runs for ever"), "{why}");
    }
}

#[test]
fn the_names_of_all_errors_of_misuse_are_known() {
    let misuse = [
        ("Unbound", json!([{ "op": "cancel", "scope": "s" }])),
        ("Unbound", json!([{ "op": "send", "ch": "other", "value": 1 }])),
        (
            "ScopeReused",
            json!([
                { "op": "new_scope", "id": "s" },
                { "op": "enter", "scope": "s", "body": [] },
                { "op": "enter", "scope": "s", "body": [] },
            ]),
        ),
        (
            "NurseryClosed",
            json!([
                { "op": "nursery", "id": "n", "body": [] },
                { "op": "start", "nursery": "n", "task": "a", "body": [] },
            ]),
        ),
        (
            "AlreadyHeld",
            json!([
                { "op": "lock", "lock": "l", "body": [{ "op": "lock", "lock": "l", "body": [] }] },
            ]),
        ),
    ];
    for (name, root) in misuse {
        let trace = run(&program(&root), 0, 1).unwrap();
        assert_eq!(trace.outcome, json!(name));
    }
}

#[test]
fn a_program_is_refused_with_the_place_of_what_is_wrong() {
    let refused = [
        (json!([{ "op": "sleep" }]), "statement 0 (sleep): missing field `dur`"),
        (json!([{ "op": "sleep", "dur": -1 }]), "statement 0 (sleep): -1 is no duration"),
        (
            json!([{ "op": "checkpoint", "dur": 1 }]),
            "statement 0 (checkpoint): unknown field `dur`",
        ),
        (
            json!([{ "op": "scope", "id": "s", "body": [{ "op": "jump" }] }]),
            "statement 0 (scope): statement 0 (jump): unknown variant `jump`",
        ),
        (
            json!([{ "op": "repeat", "n": 1, "body": [{ "op": "event_set", "event": "x" }] }]),
            "statement 0: statement 0: event `x` is not declared",
        ),
        (json!({}), "expected a sequence"),
    ];
    for (root, text) in refused {
        let error = Program::parse(&json!({ "name": "p", "root": root })).unwrap_err();
        assert!(error.contains(text), "{error}");
    }
    let error = Program::parse(&json!({ "name": "p", "root": [], "color": "red" })).unwrap_err();
    assert!(error.contains("unknown field `color`"), "{error}");
}

#[test]
fn the_runner_counts_and_describes_what_differs() {
    let dir = directory("differs");
    let mut wrong = entry("wrong");
    wrong["expected"]["tasks"]["main"]["events"][0]["t"] = json!(1);
    wrong["expected"]["tasks"]["ghost"] = json!({ "events": [], "end": "ok", "end_t": 0 });
    fs::write(dir.join("right.json"), entry("right").to_string()).unwrap();
    fs::create_dir(dir.join("deeper")).unwrap();
    fs::write(dir.join("deeper/both.json"), json!([entry("right2"), wrong]).to_string()).unwrap();
    let (said, ok) = runner(&["--seeds", "3", dir.to_str().unwrap()]);
    assert_eq!(
        said,
        "FAIL wrong  \n\
        \x20 seeds 0, 1, 2, budget 1:\n\
        \x20   task ghost: missing\n\
        \x20   task main:\n\
        \x20     - expected t=1 log id=\"a\"\n\
        \x20     - expected t=2 end \"ok\"\n\
        \x20     + got      t=2 log id=\"a\"\n\
        \x20     + got      t=2 end \"ok\"\n\
        \n\
        2 passed, 1 failed\n"
    );
    assert!(!ok);
    let (said, ok) = runner(&[dir.join("right.json").to_str().unwrap()]);
    assert_eq!(said, "1 passed, 0 failed\n");
    assert!(ok);
}

#[test]
fn what_is_no_program_is_counted_and_does_not_stop_the_others() {
    let dir = directory("broken");
    let endless = json!({ "op": "repeat", "n": 1_000_000_000, "body": [{ "op": "checkpoint" }] });
    let mut stuck = entry("stuck");
    stuck["program"]["root"] = json!([{ "op": "sleep_forever" }]);
    let mut spins = entry("spins");
    spins["program"]["root"] = json!([endless]);
    fs::write(dir.join("a.json"), "{\"program\": ").unwrap();
    fs::write(dir.join("b.json"), json!([stuck, 7, spins, { "program": {} }]).to_string()).unwrap();
    fs::write(dir.join("c.json"), entry("good").to_string()).unwrap();
    fs::write(dir.join("d.txt"), "not looked at").unwrap();
    let (said, ok) = runner(&["--seeds", "1", dir.to_str().unwrap()]);
    assert!(said.ends_with("\n1 passed, 5 failed\n"), "{said}");
    for part in [
        "a.json: EOF",
        "FAIL stuck",
        "deadlock",
        "b.json[1]: neither",
        "runs for ever",
        "missing field `name`",
    ] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    assert!(!ok);
    let (said, ok) = runner(&[dir.join("none.json").to_str().unwrap()]);
    assert!(said.ends_with("0 passed, 1 failed\n") && !ok, "{said}");
}

#[test]
fn emitted_traces_are_by_program_name() {
    let dir = directory("emit");
    let (entries, traces) = (dir.join("entries.json"), dir.join("traces"));
    let mut stuck = entry("stuck");
    stuck["program"]["root"] = json!([{ "op": "sleep_forever" }]);
    fs::write(&entries, json!([entry("right"), stuck]).to_string()).unwrap();
    runner(&["--emit", traces.to_str().unwrap(), entries.to_str().unwrap()]);
    let emitted: Value = serde_json::from_str(&fs::read_to_string(traces).unwrap()).unwrap();
    assert_eq!(emitted["right"], entry("right")["expected"]);
    assert!(emitted["stuck"].as_str().unwrap().starts_with("deadlock"));
}

#[test]
fn a_bare_program_is_run_and_compared_with_itself() {
    let dir = directory("bare");
    let file = dir.join("bare.json");
    fs::write(&file, entry("bare")["program"].to_string()).unwrap();
    let entries = load(&file);
    assert!(matches!(&entries[..], [Ok(entry)] if entry.expected.is_none()));
    assert_eq!(runner(&[file.to_str().unwrap()]), ("1 passed, 0 failed\n".to_owned(), true));
}
