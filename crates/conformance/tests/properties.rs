//! What must hold for any program, whatever it does: shown on those of the corpus.
//!
//! The ignored tests go through everything (`just soak`); the others take a part of it.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use nursery::lowlevel::{self, Instrument, RunStatistics, TaskId};
use nursery::{Builder, CancelScope, Cancelled, now, sleep};
use nursery_conformance::{Program, Trace, host, interpret, run};
use serde_json::{Value, json};

const BLOCKS: [&str; 7] = ["body", "on_error", "on_cancel", "finally", "then", "else", "root"];

/// The programs of the corpus, as JSON.
fn programs() -> Vec<Value> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance/corpus");
    let mut found = vec![];
    for area in ["handwritten", "random"] {
        let mut files: Vec<_> =
            fs::read_dir(corpus.join(area)).unwrap().map(|f| f.unwrap().path()).collect();
        files.sort();
        for file in files {
            let entries: Vec<Value> =
                serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
            found.extend(entries.into_iter().map(|mut entry| entry["program"].take()));
        }
    }
    assert!(found.len() > 600, "only {} programs", found.len());
    found
}

fn parse(program: &Value) -> Rc<Program> {
    Rc::new(Program::parse(program).unwrap())
}

/// Every so many, so that a test is quick.
fn some<T>(all: Vec<T>) -> impl Iterator<Item = T> {
    all.into_iter().step_by(7)
}

/// Calls `f` for every block of the program, innermost first.
fn each_block(statement: &mut Value, f: &mut impl FnMut(&mut Value)) {
    for key in BLOCKS {
        if let Some(block) = statement.get_mut(key) {
            block.as_array_mut().unwrap().iter_mut().for_each(|inner| each_block(inner, f));
            f(block);
        }
    }
}

/// Whether some statement of the program satisfies `f`.
fn any_statement(program: &Value, f: impl Fn(&Value) -> bool) -> bool {
    let mut found = false;
    each_block(&mut program.clone(), &mut |block| {
        found |= block.as_array().unwrap().iter().any(&f)
    });
    found
}

/// Writes down every step of every task.
#[derive(Default)]
struct Steps(RefCell<Vec<String>>);

impl Steps {
    fn note(&self, what: &str, task: TaskId) {
        self.0.borrow_mut().push(format!("{what} {task:?} at {:?}", lowlevel::statistics()));
    }
}

impl Instrument for Steps {
    fn task_spawned(&self, task: TaskId) {
        self.note("spawned", task);
    }
    fn task_scheduled(&self, task: TaskId) {
        self.note("scheduled", task);
    }
    fn before_task_step(&self, task: TaskId) {
        self.note("step", task);
    }
    fn task_exited(&self, task: TaskId) {
        self.note("exited", task);
    }
}

fn steps(program: &Rc<Program>, seed: u64) -> Vec<String> {
    let steps = Rc::new(Steps::default());
    let builder = Builder::new().seed(seed).checkpoint_budget(1).instrument(steps.clone());
    host(builder, interpret(program.clone())).unwrap();
    steps.0.take()
}

fn check_that_a_seed_repeats(programs: impl Iterator<Item = Value>) {
    let mut differing_orders = 0;
    for program in programs.map(|program| parse(&program)) {
        let first = steps(&program, 1);
        assert_eq!(first, steps(&program, 1), "{}", program.name);
        differing_orders += usize::from(first != steps(&program, 2));
    }
    assert!(differing_orders > 10, "the seed makes no difference");
}

#[test]
fn the_same_seed_makes_the_same_steps() {
    check_that_a_seed_repeats(some(programs()));
}

#[test]
#[ignore = "goes through everything"]
fn all_programs_the_same_seed_makes_the_same_steps() {
    check_that_a_seed_repeats(programs().into_iter());
}

/// The trace without the events of scopes that were put in.
fn without_added_scopes(mut trace: Trace) -> Trace {
    for task in trace.tasks.values_mut() {
        task.events.retain(|event| event["id"] != "added");
    }
    trace
}

fn check_that_scopes_change_nothing(programs: impl Iterator<Item = Value>, seeds: u64) {
    for program in programs {
        let mut wrapped = program.clone();
        each_block(&mut wrapped, &mut |block| {
            *block = json!([{ "op": "scope", "id": "added", "body": block.take() }]);
        });
        compare(&program, &wrapped, seeds);
    }
}

fn compare(program: &Value, changed: &Value, seeds: u64) {
    let (before, after) = (parse(program), parse(changed));
    for seed in 0..seeds {
        let trace = run(&after, seed, 1).unwrap_or_else(|why| panic!("{}: {why}", before.name));
        let differences = without_added_scopes(trace).differences(&run(&before, seed, 1).unwrap());
        assert_eq!(differences, Vec::<String>::new(), "{}: {changed}", before.name);
    }
}

#[test]
fn a_scope_that_is_not_cancelled_changes_nothing() {
    check_that_scopes_change_nothing(some(programs()), 2);
}

#[test]
#[ignore = "goes through everything"]
fn all_programs_a_scope_that_is_not_cancelled_changes_nothing() {
    check_that_scopes_change_nothing(programs().into_iter(), 20);
}

/// Splits at half a second, when nothing else happens: all other times are whole.
fn check_that_sleeps_can_be_split(programs: impl Iterator<Item = Value>, seeds: u64) {
    let mut split = 0;
    for program in programs {
        let mut changed = program.clone();
        each_block(&mut changed, &mut |block| {
            let statements = block.as_array_mut().unwrap();
            *statements = std::mem::take(statements)
                .into_iter()
                .flat_map(|statement| match statement["dur"].as_f64() {
                    Some(dur) if statement["op"] == "sleep" && dur >= 1.0 => {
                        split += 1;
                        let part = |dur: f64| json!({ "op": "sleep", "dur": dur });
                        vec![part(0.5), part(dur - 0.5)]
                    }
                    _ => vec![statement],
                })
                .collect();
        });
        compare(&program, &changed, seeds);
    }
    assert!(split > 100, "only {split} sleeps");
}

#[test]
fn a_sleep_split_in_two_changes_nothing() {
    check_that_sleeps_can_be_split(some(programs()), 2);
}

#[test]
#[ignore = "goes through everything"]
fn all_programs_a_sleep_split_in_two_changes_nothing() {
    check_that_sleeps_can_be_split(programs().into_iter(), 20);
}

/// How a program is ended from outside.
#[derive(Clone, Copy, Debug)]
enum End {
    Cancel,
    Drop,
}

/// Ends a program at an instant; returns what was there before, and what is left of it.
fn end_at(
    program: &Rc<Program>,
    how: End,
    at: Duration,
    seed: u64,
) -> Result<(RunStatistics, RunStatistics), String> {
    host(Builder::new().seed(seed).checkpoint_budget(1), async {
        let before = lowlevel::statistics();
        let inside = interpret(program.clone());
        match how {
            End::Cancel => {
                let scope = CancelScope::new().with_deadline(now() + at);
                let inside = async { Ok::<_, Cancelled>(inside.await) };
                drop(scope.enter(inside).await.expect("a trace, whatever happens"));
            }
            End::Drop => {
                let time_is_up = async { sleep(at).await.expect("not cancelled") };
                futures_lite::future::or(async { drop(inside.await) }, time_is_up).await;
            }
        }
        (before, lowlevel::statistics())
    })
}

fn is_shield(statement: &Value) -> bool {
    statement["shield"] == true || statement["op"] == "set_shield"
}

fn check_that_nothing_is_left(
    programs: impl Iterator<Item = Value>,
    instants: impl Fn(u32) -> Vec<u32>,
) {
    for json in programs {
        let program = parse(&json);
        let time = run(&program, 0, 1).unwrap().time.as_u64().unwrap();
        for half in instants(u32::try_from(time).unwrap() * 2) {
            let at = Duration::from_millis(500) * half;
            for how in [End::Cancel, End::Drop] {
                let what = format!("{}: {how:?} at {at:?}", program.name);
                match end_at(&program, how, at, u64::from(half)) {
                    Ok((before, after)) => assert_eq!(before, after, "{what}"),
                    // What a shield protects may wait for somebody who was not protected.
                    Err(why) => assert!(
                        why.starts_with("deadlock") && any_statement(&json, is_shield),
                        "{what}: {why}"
                    ),
                }
            }
        }
    }
}

#[test]
fn ended_half_way_a_program_leaves_nothing() {
    check_that_nothing_is_left(some(programs()), |end| vec![0, end / 3, end / 2]);
}

#[test]
#[ignore = "goes through everything"]
fn all_programs_ended_at_any_instant_leave_nothing() {
    check_that_nothing_is_left(programs().into_iter(), |end| (0..=end).collect());
}
