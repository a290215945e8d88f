//! The corpus of `tests/conformance/`: programs that must do here what they do in trio.

use std::path::Path;

use nursery_conformance::{Settings, check, load};

/// Runs the whole corpus, and fails with all that differs.
fn run_corpus(settings: Settings) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/corpus");
    let entries = load(&corpus);
    let count = entries.len();
    let mut failures = vec![];
    for entry in entries {
        let entry = entry.unwrap_or_else(|error| panic!("{error}"));
        assert!(entry.expected.is_some(), "{}: nothing is expected", entry.program.name);
        let verdict = check(&entry, settings);
        if !verdict.passed() {
            failures.push(format!("{}\n{verdict}", entry.program.name));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {count} differ:\n\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(count >= 682, "only {count} programs");
}

#[test]
fn the_corpus_passes_with_trios_rule_of_yielding() {
    run_corpus(Settings { seeds: 4, budget: 1 });
}

#[test]
fn the_corpus_passes_with_the_default_budget() {
    run_corpus(Settings { seeds: 4, budget: 64 });
}
