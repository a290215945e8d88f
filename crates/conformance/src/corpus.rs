//! Files of programs, with the traces that are expected of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::Deserialize;
use serde_json::Value;

use crate::program::Program;
use crate::trace::Trace;

/// A program of a file, and the trace it is to have.
#[derive(Debug)]
pub struct Entry {
    /// What to run.
    pub program: Rc<Program>,
    /// `None` if the file holds the bare program.
    pub expected: Option<Trace>,
}

/// Reads the entries of a file, or of all `.json` files below a directory, in the order of their paths.
///
/// Each is an entry, or the reason why there is none.
#[must_use]
pub fn load(path: &Path) -> Vec<Result<Entry, String>> {
    let files = match files(path) {
        Ok(files) if files.is_empty() => {
            return vec![Err(format!("{}: no .json files", path.display()))];
        }
        Ok(files) => files,
        Err(error) => return vec![Err(error)],
    };
    files.iter().flat_map(|file| load_file(file)).collect()
}

fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let error = |error| format!("{}: {error}", path.display());
    let mut paths = vec![];
    for entry in fs::read_dir(path).map_err(error)? {
        paths.push(entry.map_err(error)?.path());
    }
    paths.sort();
    let mut found = vec![];
    for path in paths {
        if path.is_dir() {
            found.append(&mut files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "json") {
            found.push(path);
        }
    }
    Ok(found)
}

fn load_file(path: &Path) -> Vec<Result<Entry, String>> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string());
    let json = text.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()));
    match json {
        Ok(Value::Array(entries)) => {
            let at = |i, error| format!("{}[{i}]: {error}", path.display());
            let entries = entries.iter().enumerate();
            entries.map(|(i, entry)| parse(entry).map_err(|error| at(i, error))).collect()
        }
        Ok(entry) => vec![parse(&entry).map_err(|error| format!("{}: {error}", path.display()))],
        Err(error) => vec![Err(format!("{}: {error}", path.display()))],
    }
}

fn parse(json: &Value) -> Result<Entry, String> {
    let Some(object) = json.as_object() else {
        return Err("neither an entry of a corpus nor a program".into());
    };
    let program = object.get("program").unwrap_or(json);
    let name = program["name"].as_str().unwrap_or("without a name");
    let wrong = |what: String| format!("program {name}: {what}");
    let parsed = Program::parse(program).map_err(wrong)?;
    let expected = match object.get("expected") {
        Some(trace) => {
            let trace = Trace::deserialize(trace);
            Some(trace.map_err(|error| wrong(format!("in `expected`: {error}")))?.canonical())
        }
        None if object.contains_key("program") => return Err(wrong("no `expected`".into())),
        None => None,
    };
    Ok(Entry { program: Rc::new(parsed), expected })
}
