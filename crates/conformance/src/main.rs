//! Runs files of conformance programs: `nursery-conformance [--seeds N] [--budget B] [--emit FILE] PATH…`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use nursery_conformance::{Settings, check, load};
use serde_json::{Value, json};

const USAGE: &str = "\
usage: nursery-conformance [--seeds N] [--budget B] [--emit FILE] PATH…

Runs the programs of each PATH, a file of a corpus or a directory that is searched for them, and compares their traces
with the expected ones. A file may also hold a bare program; then its traces are compared with each other.

  --seeds N     run each program under the seeds 0 to N-1 of the scheduler (default 5)
  --budget B    operations that may succeed without waiting before one yields (default 1: each yields)
  --emit FILE   write the traces under the first seed, by the program's name

The last line is `N passed, M failed`; the exit status is 1 if any failed.";

struct Options {
    settings: Settings,
    emit: Option<PathBuf>,
    paths: Vec<PathBuf>,
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let settings = Settings { seeds: 5, budget: 1 };
    let mut options = Options { settings, emit: None, paths: vec![] };
    while let Some(arg) = args.next() {
        let (name, given) = match arg.split_once('=') {
            Some((name, value)) if name.starts_with("--") => {
                (name.to_owned(), Some(value.to_owned()))
            }
            _ => (arg.clone(), None),
        };
        let mut value =
            || given.clone().or_else(|| args.next()).ok_or(format!("{name} needs a value"));
        match name.as_str() {
            "--seeds" => options.settings.seeds = number(&name, &value()?)?.into(),
            "--budget" => options.settings.budget = number(&name, &value()?)?,
            "--emit" => options.emit = Some(value()?.into()),
            _ if name.starts_with('-') => return Err(format!("unknown option {name}")),
            _ => options.paths.push(arg.into()),
        }
    }
    if options.paths.is_empty() { Err("no PATH".into()) } else { Ok(options) }
}

fn number(name: &str, text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{name} is to be a number from 1 on, not {text:?}")),
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match options(args.into_iter()) {
        Ok(options) => run(&options),
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> ExitCode {
    let (mut passed, mut failed) = (0, 0);
    let mut traces: BTreeMap<String, Value> = BTreeMap::new();
    for entry in options.paths.iter().flat_map(|path| load(path)) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                println!("FAIL {error}\n");
                failed += 1;
                continue;
            }
        };
        let verdict = check(&entry, options.settings);
        if verdict.passed() {
            passed += 1;
        } else {
            println!("FAIL {}  {}\n{verdict}", entry.program.name, entry.program.about);
            failed += 1;
        }
        let trace = verdict.first.map_or_else(Value::String, |trace| json!(trace));
        traces.insert(entry.program.name.clone(), trace);
    }
    if let Some(file) = &options.emit
        && let Err(error) = fs::write(file, json!(traces).to_string())
    {
        println!("FAIL {}: {error}\n", file.display());
        failed += 1;
    }
    println!("{passed} passed, {failed} failed");
    ExitCode::from(u8::from(failed > 0))
}
