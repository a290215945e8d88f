//! [`Place`]: where in the user's program a checkpoint is, also if it is inside an operation of a library.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::panic::Location;

/// The crates whose functions are not the user's program.
const LIBRARIES: [&str; 3] = ["nursery::", "nursery_io::", "nursery_testing::"];

/// A place in the source. What it takes long to find out is found out when it is printed.
pub(super) struct Place {
    known: Option<&'static Location<'static>>,
    trace: Option<Backtrace>,
}

impl Place {
    /// The place itself, without looking who called.
    pub(super) fn only(known: &'static Location<'static>) -> Self {
        Place { known: Some(known), trace: None }
    }

    /// Where the program is now; `known` is the checkpoint.
    pub(super) fn here(known: &'static Location<'static>) -> Self {
        Place { known: Some(known), trace: Some(Backtrace::force_capture()) }
    }

    /// Where the program is now.
    pub(super) fn unknown() -> Self {
        Place { known: None, trace: Some(Backtrace::force_capture()) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trace = self.trace.as_ref().filter(|trace| trace.status() == BacktraceStatus::Captured);
        match (trace.and_then(|trace| in_program(&trace.to_string())), self.known) {
            (Some(place), _) => f.write_str(&place),
            (None, Some(known)) => write!(f, "{}:{}", known.file(), known.line()),
            (None, None) => f.write_str("a place unknown"),
        }
    }
}

/// The innermost frame that is neither the standard library's nor any other library's.
fn in_program(trace: &str) -> Option<String> {
    let mut lines = trace.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((number, symbol)) = line.trim_start().split_once(": ") else { continue };
        if number.parse::<u32>().is_err() {
            continue;
        }
        let place = lines.next_if(|next| next.trim_start().starts_with("at "));
        let Some(place) = place.and_then(|place| place.trim_start().strip_prefix("at ")) else {
            continue;
        };
        let symbol = symbol.trim_start_matches(['<', '&']);
        let is_library = LIBRARIES.iter().any(|library| symbol.starts_with(library))
            || place.contains("/rustc/")
            || place.contains("/registry/");
        if !is_library {
            let line = place.rsplit_once(':').map_or(place, |(line, _column)| line);
            return Some(line.strip_prefix("./").unwrap_or(line).to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::in_program;

    #[test]
    fn libraries_are_passed_over() {
        let trace = "   0: std::backtrace::Backtrace::force_capture\n\
                     \x20            at /rustc/0f0/library/std/src/backtrace.rs:312:9\n\
                     \x20  1: <nursery::checkpoint::Checkpoint as core::future::Future>::poll\n\
                     \x20            at ./crates/nursery/src/checkpoint.rs:60:1\n\
                     \x20  2: <futures_util::future::Join<A> as core::future::Future>::poll\n\
                     \x20            at /home/.cargo/registry/src/futures-util-0.3/src/lib.rs:1:1\n\
                     \x20  3: a_frame_without_a_place\n\
                     \x20  4: shop::sell::{{closure}}\n\
                     \x20            at ./src/shop.rs:41:30\n\
                     \x20  5: shop::main\n\
                     \x20            at ./src/main.rs:7:5\n";
        assert_eq!(in_program(trace).as_deref(), Some("src/shop.rs:41"));
        assert_eq!(in_program(""), None);
    }
}
