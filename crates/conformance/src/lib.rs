//! Runs programs of a small language of structured concurrency, and compares what they do with what trio does.
//!
//! The language, the events and the traces are defined in `tests/conformance/SPEC.md`, beside a corpus of programs with
//! the traces that trio gives for them. [`load`] reads it, [`run()`] interprets a program over nursery's public
//! API, [`check()`] does so under several seeds and says what differs.
//!
//! The interpreter is also an example of driving nurseries dynamically: see `src/interp.rs`.
#![forbid(unsafe_code)]

mod check;
mod corpus;
mod failure;
mod interp;
mod program;
mod run;
mod trace;

pub use crate::check::{Settings, Verdict, check};
pub use crate::corpus::{Entry, load};
pub use crate::program::Program;
pub use crate::run::{host, interpret, run};
pub use crate::trace::{TaskTrace, Trace};
