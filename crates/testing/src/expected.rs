//! [`assert_expected`]: compares a text with the file that says what it should be.

use std::fs;
use std::path::Path;

/// Asserts that a text is what a file says. `BLESS=1 cargo test` writes the file, to be looked at before it is committed.
///
/// The path is relative to the folder of the package that is tested.
///
/// # Panics
///
/// If the text differs from the file: with the first lines that do. If the file cannot be read, or written.
///
/// # Examples
///
/// ```
/// use nursery::checkpoint;
/// use nursery_testing::{Test, Trace, assert_expected};
///
/// let trace = Trace::new();
/// Test::new().seed(7).builder().instrument(trace.clone()).run(async { checkpoint().await })?;
/// # let folder = std::env::temp_dir().join("nursery-testing-assert-expected");
/// # std::fs::create_dir_all(&folder)?;
/// # std::fs::write(folder.join("checkpoint.svg"), trace.svg("A checkpoint"))?;
/// # let expected = |file: &str| folder.join(file);
/// assert_expected(expected("checkpoint.svg"), &trace.svg("A checkpoint"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[track_caller]
pub fn assert_expected(path: impl AsRef<Path>, actual: &str) {
    let path = path.as_ref();
    if std::env::var_os("BLESS").is_some_and(|bless| bless == "1") {
        return write(path, actual);
    }
    match fs::read_to_string(path) {
        Ok(expected) if expected == actual => {}
        Ok(expected) => panic!("{}", difference(path, &expected, actual)),
        Err(error) => panic!(
            "{}: {error}\n\nIf it is to be made: `BLESS=1 cargo test`. It would be:\n{actual}",
            path.display()
        ),
    }
}

#[track_caller]
fn write(path: &Path, text: &str) {
    let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
    if let Err(error) = folder.and_then(|()| fs::write(path, text)) {
        panic!("{}: {error}", path.display());
    }
}

fn difference(path: &Path, expected: &str, actual: &str) -> String {
    let mut lines = [expected.lines(), actual.lines()];
    let mut number = 1;
    let [expected, actual] = loop {
        let [expected, actual] = lines.each_mut().map(Iterator::next);
        if expected != actual || expected.is_none() {
            break [expected, actual].map(|line| line.unwrap_or("(no such line)"));
        }
        number += 1;
    };
    format!(
        "not what {} says, from line {number} on; after a look: `BLESS=1 cargo test`\n\
         expected: {expected}\n  actual: {actual}",
        path.display()
    )
}
