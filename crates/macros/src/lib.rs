//! The macros of `nursery`; use them as `nursery::main`, `nursery::TaskError` and `nursery_testing::test`.
//!
//! - **[`main`](macro@main)** makes an `async fn` the root task of a run.
//! - **[`macro@test`]** runs an `async fn` as a plain `#[test]`, with a seed and on a virtual clock.
//! - **[`TaskError`](derive@TaskError)** makes your enum an error that tasks may fail with.
//!
//! What sets them apart: each option is the method of that name on a builder, and what is refused is refused at the place
//! it is written, with advice.
//!
//! # Example
//!
//! ```
//! use nursery::{Cancelled, ErrorGroup, TaskError, checkpoint};
//!
//! #[derive(Debug, TaskError)]
//! enum Error {
//!     Empty,
//!     Cancelled(Cancelled),
//!     Several(ErrorGroup<Error>),
//! }
//!
//! #[nursery::main(seed = 7)]
//! async fn first() -> Result<&'static str, Error> {
//!     checkpoint().await?; // a `Cancelled` becomes an `Error`
//!     ["one", "two"].first().copied().ok_or(Error::Empty)
//! }
//!
//! assert_eq!(first().unwrap(), "one");
//! ```
//!
//! # How it is made
//!
//! ```text
//!  tokens ──▶ function, options │ task_error/model ──▶ entry, test │ task_error/expand ──▶ tokens
//!             read, and refuse with advice              write, cannot fail
//! ```
//!
//! What the macros make is explained in `nursery`, and in the folder `book` of the repository.
#![forbid(unsafe_code)]
#![doc(test(attr(deny(warnings))))]

mod entry;
mod function;
mod options;
mod refusals;
mod task_error;
mod test;

use proc_macro::TokenStream;

/// Makes an `async fn` the root task of a run, and the function itself an ordinary one that blocks.
///
/// The function takes no arguments, has no generics and returns `Result<T, E>` with an `E` that is a
/// `nursery::TaskError`: an error is how a cancellation leaves a task.
///
/// # Options
///
/// Each is a call to the method of that name on `nursery::Builder`, in the order written. The
/// values are evaluated before the run starts, outside of any task.
///
/// | option | meaning |
/// |---|---|
/// | `seed = expr` | the order in which ready tasks run |
/// | `checkpoint_budget = expr` | successes without waiting after which a checkpoint yields |
/// | `name = expr` | the root task's name |
/// | `clock = expr` | the run's only source of time |
/// | `instrument = expr` | hooks; may be given more than once |
/// | `crate = path` | where `nursery` is, if it was renamed or is re-exported |
///
/// # Examples
///
/// ```
/// #[nursery::main]
/// async fn main() -> anyhow::Result<()> {
///     println!("hello from the root task");
///     Ok(())
/// }
/// ```
///
/// ```
/// # use nursery::Cancelled;
/// #[nursery::main(seed = 7, name = "batch")]
/// async fn batch() -> Result<u32, Cancelled> {
///     Ok(6 * 7)
/// }
///
/// assert_eq!(batch().unwrap(), 42);
/// ```
// The harness of this crate's own tests would take it for the program's `main`.
#[cfg(not(test))]
#[proc_macro_attribute]
pub fn main(args: TokenStream, item: TokenStream) -> TokenStream {
    entry::expand(args.into(), item.into()).into()
}

/// Runs an `async fn` as a plain `#[test]`, inside `nursery_testing::Test`, of which the options call the methods.
///
/// The function takes no arguments and has no generics. It returns `Result<T, E>` with an `E` that
/// is a `nursery::TaskError`, or nothing. Other attributes, such as `#[ignore]`, are kept;
/// `#[should_panic]` works where nothing is returned, as with `#[test]`.
///
/// # Options
///
/// | option | meaning |
/// |---|---|
/// | `seed = expr` | the order in which ready tasks run |
/// | `budget = expr` | successes without waiting after which a checkpoint yields |
/// | `real_clock` | the system's clock, in place of the virtual one |
/// | `time_limit = expr` | a limit in real time: a test that hangs fails, with the tree of its tasks |
/// | `clock = expr` | a reference to the virtual clock to use |
/// | `instrument = expr` | hooks; may be given more than once |
/// | `crate = path` | where `nursery_testing` is, if it was renamed or is re-exported |
///
/// # Examples
///
/// ```
/// #[nursery_testing::test]
/// async fn adds() {
///     assert_eq!(1 + 1, 2);
/// }
///
/// #[nursery_testing::test(seed = 7, budget = 1, time_limit = std::time::Duration::from_secs(10))]
/// async fn parses() -> anyhow::Result<()> {
///     let port: u16 = "80".parse()?;
///     assert_eq!(port, 80);
///     Ok(())
/// }
/// ```
#[cfg(not(test))]
#[proc_macro_attribute]
pub fn test(args: TokenStream, item: TokenStream) -> TokenStream {
    test::expand(args.into(), item.into()).into()
}

/// Makes an enum, or a struct around `anyhow::Error`, an error that tasks may fail with.
///
/// # Enums
///
/// One variant holds a `Cancelled` and one an `ErrorGroup<Self>`, each alone, by position or by
/// name, boxed or not. They are found by the types' names. The derive writes `TaskError`,
/// `From<Cancelled>` and `From<ErrorGroup<Self>>`, and `From<TooSlow>` if a variant holds a
/// `TooSlow` alone. Marks say the rest, on a field or on a variant with one field:
///
/// | mark | meaning |
/// |---|---|
/// | `#[task_error(cancelled)]` | this holds the cancellation: for an alias, or if several fields could |
/// | `#[task_error(group)]` | the same for the group |
/// | `#[task_error(from)]` | write `From` for the type of this field, or for what is in its box |
/// | `#[task_error(nested)]` | this may carry a cancellation inside, as `std::io::Error` does: look there too |
///
/// Nothing is `nested` without the mark. A field that carries `#[from]`, the mark of thiserror's
/// derive, gets no second `From`. If the enum is a `std::error::Error` and has no generics,
/// `TaskError::as_error` gives it. On the enum itself, `#[task_error(crate = path)]` says where
/// `nursery` is, if it was renamed or is re-exported.
///
/// # Structs
///
/// A struct with one field of type `anyhow::Error` can hold anything, so it has no marks. It gets
/// `TaskError`, `From<Cancelled>`, `From<ErrorGroup<Self>>` and `From<TooSlow>`; it must be
/// `Debug` and `Display`, as what `anyhow::Error` holds must be.
///
/// # Examples
///
/// ```
/// use nursery::{Cancelled, ErrorGroup, TaskError, TooSlow};
///
/// #[derive(Debug, TaskError)]
/// enum FetchError {
///     Cancelled(Cancelled),
///     Several(ErrorGroup<Self>),
///     TooSlow(TooSlow),
///     #[task_error(from, nested)]
///     Io(std::io::Error),
///     NotFound,
/// }
///
/// let error = FetchError::from(std::io::Error::other("cable cut"));
/// assert!(error.as_cancelled().is_none());
/// assert!(FetchError::NotFound.as_group().is_none());
/// match error {
///     FetchError::TooSlow(too_slow) => eprintln!("after {:?}", too_slow.limit()),
///     FetchError::NotFound => eprintln!("no such page"),
///     other => eprintln!("{other:?}"),
/// }
/// ```
#[proc_macro_derive(TaskError, attributes(task_error))]
pub fn derive_task_error(item: TokenStream) -> TokenStream {
    task_error::expand(item.into()).into()
}
