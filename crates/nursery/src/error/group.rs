//! [`ErrorGroup`]: all the errors that left a nursery, first cause first.

use std::error::Error;
use std::fmt;

use crate::error::TaskError;
use crate::error::impls::next_cause;

/// All the errors with which the body and the children of a nursery failed, in the order in which they failed.
///
/// A nursery always groups, even a single error, so that the shape of what you catch does not depend on
/// how many tasks happened to fail; nested nurseries make nested groups. [`into_single`](Self::into_single)
/// takes the only error out, [`find`](Self::find) and [`leaves`](Self::leaves) look through all levels.
///
/// Its `Display` is a tree:
///
/// ```text
/// 2 errors
/// ├─ connection refused
/// └─ 1 error
///    └─ disk full
/// ```
///
/// # Examples
///
/// ```
/// use nursery::{ErrorGroup, open_nursery};
///
/// # nursery::run(async {
/// let failed = open_nursery(async |n| -> anyhow::Result<()> {
///     n.start_soon(async { anyhow::bail!("disk full") as anyhow::Result<()> });
///     Ok(())
/// })
/// .await
/// .unwrap_err();
/// let group = failed.downcast::<ErrorGroup<anyhow::Error>>()?;
/// assert_eq!(group.len(), 1);
/// assert_eq!(group.into_single().unwrap().to_string(), "disk full");
/// # Ok::<(), anyhow::Error>(())
/// # }).unwrap();
/// ```
pub struct ErrorGroup<E> {
    errors: Vec<E>,
}

impl<E> ErrorGroup<E> {
    /// Makes a group of `errors`, as a nursery does with those of its children.
    ///
    /// # Panics
    ///
    /// If there are none: a group of no errors is no error.
    #[must_use]
    pub fn new(errors: Vec<E>) -> Self {
        assert!(!errors.is_empty(), "an `ErrorGroup` needs at least one error");
        ErrorGroup { errors }
    }

    /// Returns the errors of this level, in the order in which they happened.
    pub fn iter(&self) -> std::slice::Iter<'_, E> {
        self.errors.iter()
    }

    /// Returns the number of errors of this level.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a group is never empty")]
    pub fn len(&self) -> usize {
        self.errors.len()
    }

    /// Takes the only error out, or gives the group back if there are several.
    ///
    /// # Errors
    ///
    /// The group itself, unless it has exactly one member.
    pub fn into_single(mut self) -> Result<E, Self> {
        match self.errors.pop() {
            Some(only) if self.errors.is_empty() => Ok(only),
            Some(last) => {
                self.errors.push(last);
                Err(self)
            }
            None => Err(self),
        }
    }

    pub(crate) fn errors_mut(&mut self) -> &mut Vec<E> {
        &mut self.errors
    }
}

impl<E: TaskError> ErrorGroup<E> {
    /// Returns every error that is not itself a group, depth first.
    #[must_use]
    pub fn leaves(&self) -> Leaves<'_, E> {
        Leaves { levels: vec![self.errors.iter()] }
    }

    /// Finds the first leaf that is, or was caused by, an error of type `X`.
    ///
    /// Searches those error types that give [`TaskError::as_error`]: `anyhow::Error`, `io::Error`, and
    /// your own if they implement it.
    #[must_use]
    pub fn find<X: Error + 'static>(&self) -> Option<&X> {
        self.leaves().find_map(|leaf| {
            let mut cause = leaf.as_error();
            while let Some(error) = cause {
                if let Some(found) = error.downcast_ref::<X>() {
                    return Some(found);
                }
                cause = next_cause(error);
            }
            None
        })
    }
}

/// Iterator over the leaves of an [`ErrorGroup`], from [`ErrorGroup::leaves`].
pub struct Leaves<'a, E> {
    levels: Vec<std::slice::Iter<'a, E>>,
}

impl<'a, E: TaskError> Iterator for Leaves<'a, E> {
    type Item = &'a E;

    fn next(&mut self) -> Option<&'a E> {
        loop {
            match self.levels.last_mut()?.next() {
                None => drop(self.levels.pop()),
                Some(error) => match error.as_group() {
                    None => return Some(error),
                    Some(inner) => self.levels.push(inner.errors.iter()),
                },
            }
        }
    }
}

impl<E> fmt::Debug for Leaves<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaves").finish_non_exhaustive()
    }
}

impl<E> IntoIterator for ErrorGroup<E> {
    type Item = E;
    type IntoIter = std::vec::IntoIter<E>;

    fn into_iter(self) -> Self::IntoIter {
        self.errors.into_iter()
    }
}

impl<'a, E> IntoIterator for &'a ErrorGroup<E> {
    type Item = &'a E;
    type IntoIter = std::slice::Iter<'a, E>;

    fn into_iter(self) -> Self::IntoIter {
        self.errors.iter()
    }
}

impl<E: fmt::Debug> fmt::Debug for ErrorGroup<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ErrorGroup")?;
        f.debug_list().entries(&self.errors).finish()
    }
}

impl<E: fmt::Display> fmt::Display for ErrorGroup<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.errors.len() == 1 { "" } else { "s" };
        write!(f, "{} error{plural}", self.errors.len())?;
        let last = self.errors.len() - 1;
        for (i, error) in self.errors.iter().enumerate() {
            // `{:#}` makes anyhow print the causes too.
            let text = format!("{error:#}");
            let mut lines = text.lines();
            let (branch, indent) =
                if i == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            write!(f, "\n{branch}{}", lines.next().unwrap_or_default())?;
            for line in lines {
                write!(f, "\n{indent}{line}")?;
            }
        }
        Ok(())
    }
}

// No `source()`: a group has several, and naming one would hide the others.
impl<E: fmt::Debug + fmt::Display> Error for ErrorGroup<E> {}
