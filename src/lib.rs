//! The doctests of the pages that belong to no crate: the README, later the book.

/// The README's example must compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
