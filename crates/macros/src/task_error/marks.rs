//! `#[task_error(…)]`, and thiserror's `#[from]`, as written on a type, a variant or a field.

use proc_macro2::Span;
use syn::{Attribute, Path, Result};

/// What the marks on a field, or on the variant around it, say.
#[derive(Clone, Copy, Default)]
pub(super) struct Marks {
    /// `cancelled`, `group` or `nested`, of which one is allowed.
    pub(super) role: Option<Role>,
    /// `from`.
    pub(super) from: bool,
    /// `#[from]`: another derive writes `From`.
    pub(super) foreign_from: bool,
    /// Where the last of ours stands, if there is any.
    pub(super) span: Option<Span>,
}

/// What a field is to the error.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Role {
    Cancelled,
    Group,
    Nested,
}

impl Marks {
    /// Adds what these attributes say.
    pub(super) fn read(&mut self, attrs: &[Attribute]) -> Result<()> {
        for attr in attrs {
            if attr.path().is_ident("from") {
                self.foreign_from = true;
            }
            if !attr.path().is_ident("task_error") {
                continue;
            }
            attr.parse_nested_meta(|meta| {
                self.span = meta.path.segments.last().map(|segment| segment.ident.span());
                let role = match () {
                    () if meta.path.is_ident("from") => {
                        self.from = true;
                        return Ok(());
                    }
                    () if meta.path.is_ident("cancelled") => Role::Cancelled,
                    () if meta.path.is_ident("group") => Role::Group,
                    () if meta.path.is_ident("nested") => Role::Nested,
                    () if meta.path.is_ident("crate") => {
                        return Err(meta.error("`crate = path` belongs on the type itself"));
                    }
                    () => {
                        return Err(meta.error(
                            "unknown mark: there are `cancelled`, `group`, `from` and `nested`",
                        ));
                    }
                };
                if self.role.is_some_and(|earlier| earlier != role) {
                    return Err(
                        meta.error("a field is one of `cancelled`, `group` and `nested`: keep one")
                    );
                }
                self.role = Some(role);
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// The path in `#[task_error(crate = path)]` on the type.
pub(super) fn read_crate(attrs: &[Attribute]) -> Result<Option<Path>> {
    let mut krate = None;
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("task_error")) {
        attr.parse_nested_meta(|meta| {
            if !meta.path.is_ident("crate") {
                return Err(meta.error(
                    "on the type itself there is only `crate = path`: other marks belong on a field",
                ));
            }
            krate = Some(meta.value()?.call(Path::parse_mod_style)?);
            Ok(())
        })?;
    }
    Ok(krate)
}
