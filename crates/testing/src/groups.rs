//! Asserts what is in an [`ErrorGroup`](nursery::ErrorGroup), in one line, and tells in two columns what is not.
//!
//! What comes out of a nursery is a group, often of groups. Tests care which errors it holds, seldom in which order or
//! how deep:
//!
//! | to say | write |
//! |---|---|
//! | one error came out, a `Refused`; what is in it? | [`assert_leaf`]`::<Refused>(&error)` |
//! | these came out, in any order, however deep | [`assert_leaves`]`(&error, [leaf::<Refused>(), …])` |
//! | they came out in groups like these | [`assert_errors`]`(&error, group([leaf::<Refused>(), group([…])]))` |
//! | … with this text | [`leaf::<Refused>()`](leaf)[`.text("port 80")`](Expected::text) |
//! | … for which this holds | [`leaf::<Refused>()`](leaf)[`.that("is fatal", \|e: &Refused\| e.fatal)`](Expected::that) |
//! | any error; one with this text; a cancellation | [`error()`]; `error().text("…")`; [`cancelled()`] |
//! | a group, or else the bare error | [`group([…])`](group)[`.or_bare()`](Expected::or_bare) |
//!
//! An error is a `Refused` if it is one or was caused by one: in an `anyhow::Error` with context, in an `io::Error`.
//!
//! # Examples
//!
//! ```
//! use std::io;
//! use nursery::open_nursery;
//! use nursery_testing::groups::{assert_errors, error, group, leaf};
//!
//! # nursery_testing::run(async {
//! let failed = open_nursery(async |n| -> anyhow::Result<()> {
//!     n.start_soon(async { Err::<(), _>(io::Error::other("disk full").into()) });
//!     n.start_soon(async {
//!         open_nursery(async |_| anyhow::bail!("no such host") as anyhow::Result<()>).await
//!     });
//!     Ok(())
//! })
//! .await
//! .unwrap_err();
//! assert_errors(&failed, group([leaf::<io::Error>(), group([error().text("host")])]));
//! # Ok::<(), nursery::Cancelled>(())
//! # }).unwrap();
//! ```

mod partners;
mod report;
mod view;

use std::error::Error;
use std::fmt::{self, Debug};

use nursery::{Cancelled, TaskError};

use crate::groups::view::View;

/// What a test expects of an error: made by [`leaf`], [`error()`], [`cancelled`] and [`group`].
#[must_use = "it does nothing until it is given to `assert_errors`"]
pub struct Expected(Kind);

enum Kind {
    Leaf(Vec<Check>),
    Group { members: Vec<Expected>, is_flattened: bool, or_bare: bool },
}

/// A demand on a leaf.
struct Check {
    what: String,
    holds: Box<dyn Fn(&View<'_>) -> bool>,
}

/// Expects an error, no group, that is or was caused by an `X`.
pub fn leaf<X: Error + 'static>() -> Expected {
    let name = std::any::type_name::<X>();
    let name = name.split('<').next().and_then(|path| path.rsplit("::").next()).unwrap_or(name);
    error().and(format!("`{name}`"), |view| view.find::<X>().is_some())
}

/// Expects any error that is no group.
pub fn error() -> Expected {
    Expected(Kind::Leaf(Vec::new()))
}

/// Expects a cancellation.
pub fn cancelled() -> Expected {
    leaf::<Cancelled>()
}

/// Expects a group with exactly these members, in any order.
///
/// # Panics
///
/// If there are none: a group is never empty.
#[track_caller]
pub fn group(members: impl IntoIterator<Item = Expected>) -> Expected {
    let members: Vec<Expected> = members.into_iter().collect();
    assert!(!members.is_empty(), "a group has at least one error");
    Expected(Kind::Group { members, is_flattened: false, or_bare: false })
}

impl Expected {
    /// Demands that the error's text, or that of a cause of it, contains this.
    ///
    /// # Panics
    ///
    /// If a group is expected: groups have no text of their own.
    #[track_caller]
    pub fn text(self, text: impl Into<String>) -> Self {
        let text = text.into();
        self.and(format!("with text {text:?}"), move |view| view.text.contains(&text))
    }

    /// Demands that the error is or was caused by an `X` for which `holds` holds. `what` tells of it when it does not.
    ///
    /// # Panics
    ///
    /// If a group is expected.
    #[track_caller]
    pub fn that<X: Error + 'static>(
        self,
        what: &str,
        holds: impl Fn(&X) -> bool + 'static,
    ) -> Self {
        self.and(format!("that {what}"), move |view| view.find::<X>().is_some_and(&holds))
    }

    /// Demands something of the task's own error, of type `E`, for those types that do not implement [`Error`].
    ///
    /// # Panics
    ///
    /// If a group is expected.
    #[track_caller]
    pub fn which<E: TaskError + 'static>(
        self,
        what: &str,
        holds: impl Fn(&E) -> bool + 'static,
    ) -> Self {
        self.and(format!("which {what}"), move |view| view.own::<E>().is_some_and(&holds))
    }

    /// Makes no difference between members and members of members: what is expected are the leaves.
    ///
    /// # Panics
    ///
    /// If no group is expected, or one with groups in it.
    #[track_caller]
    pub fn flattened(mut self) -> Self {
        match &mut self.0 {
            Kind::Group { members, is_flattened, .. }
                if members.iter().all(|member| matches!(member.0, Kind::Leaf(_))) =>
            {
                *is_flattened = true;
            }
            _ => panic!("only a group of leaves can be expected flattened"),
        }
        self
    }

    /// Accepts the only member alone, in no group.
    ///
    /// # Panics
    ///
    /// If no group, or one of several, is expected.
    #[track_caller]
    pub fn or_bare(mut self) -> Self {
        match &mut self.0 {
            Kind::Group { members, or_bare, .. } if members.len() == 1 => *or_bare = true,
            _ => panic!("only a group of one can be expected bare"),
        }
        self
    }

    /// Returns whether an error is as expected.
    pub fn matches(&self, error: &(impl TaskError + Debug + 'static)) -> bool {
        partners::fits(self, &View::of(error))
    }

    #[track_caller]
    fn and(mut self, what: String, holds: impl Fn(&View<'_>) -> bool + 'static) -> Self {
        match &mut self.0 {
            Kind::Leaf(checks) => checks.push(Check { what, holds: Box::new(holds) }),
            Kind::Group { .. } => panic!("{what}: ask that of the members, not of the group"),
        }
        self
    }
}

impl fmt::Debug for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&report::tree(self).join("\n"))
    }
}

/// Asserts that an error is as expected.
///
/// # Panics
///
/// If it is not: with what is expected beside what there is, and marks at what has no partner.
#[track_caller]
pub fn assert_errors(error: &(impl TaskError + Debug + 'static), expected: Expected) {
    let view = View::of(error);
    assert!(partners::fits(&expected, &view), "{}", report::report(&expected, &view));
}

/// Asserts that these are the leaves, in any order, of a group, or groups of groups; or that the only one is the error
/// itself.
///
/// # Panics
///
/// If they are not, as [`assert_errors`]; if an expected one is a group, or there is none.
#[track_caller]
pub fn assert_leaves(
    error: &(impl TaskError + Debug + 'static),
    leaves: impl IntoIterator<Item = Expected>,
) {
    let mut expected = group(leaves).flattened();
    if let Kind::Group { members, or_bare, .. } = &mut expected.0 {
        *or_bare = members.len() == 1;
    }
    assert_errors(error, expected);
}

/// Asserts that there is only one leaf, that it is or was caused by an `X`, and returns that.
///
/// # Panics
///
/// If it is not so, as [`assert_errors`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use nursery::{TooSlow, fail_after, open_nursery, sleep_forever};
/// use nursery_testing::groups::assert_leaf;
///
/// # nursery_testing::run(async {
/// let limit = Duration::from_secs(3);
/// let failed = open_nursery(async |_| -> anyhow::Result<()> {
///     fail_after(limit, async { Ok(sleep_forever().await?) }).await
/// })
/// .await
/// .unwrap_err();
/// assert_eq!(assert_leaf::<TooSlow>(&failed).limit(), Some(limit));
/// # Ok::<(), nursery::Cancelled>(())
/// # }).unwrap();
/// ```
#[track_caller]
pub fn assert_leaf<X: Error + 'static>(error: &(impl TaskError + Debug + 'static)) -> &X {
    assert_leaves(error, [leaf::<X>()]);
    let only = View::of(error).leaves()[0].find::<X>();
    only.expect("it has just been found")
}
