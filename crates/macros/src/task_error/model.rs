//! What the derive knows of a type before it writes a token; every refusal is made here.

use proc_macro2::Ident;
use quote::ToTokens;
use syn::{
    Data, DataEnum, DeriveInput, Error, Fields, GenericArgument, Generics, Member, Path,
    PathArguments, Result, Type, Variant, parse_quote,
};

use super::marks::{Marks, Role, read_crate};
use crate::refusals::Refusals;

/// The type under the derive.
pub(super) struct Model<'a> {
    pub(super) name: &'a Ident,
    pub(super) generics: &'a Generics,
    /// Where `nursery` is.
    pub(super) krate: Path,
    pub(super) kind: Kind<'a>,
}

/// Its two shapes.
pub(super) enum Kind<'a> {
    Enum(Roles<'a>),
    /// A struct around an error that can hold any other.
    Wrapper(Member, &'a Type),
}

/// Which fields of an enum do what.
pub(super) struct Roles<'a> {
    pub(super) cancelled: Slot<'a>,
    pub(super) group: Slot<'a>,
    /// These may carry a cancellation inside.
    pub(super) nested: Vec<Slot<'a>>,
    /// These get a `From`.
    pub(super) from: Vec<Slot<'a>>,
}

/// A field of a variant.
#[derive(Clone)]
pub(super) struct Slot<'a> {
    pub(super) variant: &'a Ident,
    pub(super) member: Member,
    /// Its type, or what is in the box.
    pub(super) ty: &'a Type,
    pub(super) boxed: bool,
    /// The variant has no other field.
    alone: bool,
    marks: Marks,
}

impl<'a> Model<'a> {
    pub(super) fn read(input: &'a DeriveInput) -> Result<Self> {
        let krate = read_crate(&input.attrs)?.unwrap_or_else(|| parse_quote!(::nursery));
        let kind = match &input.data {
            Data::Enum(data) => Kind::Enum(Roles::read(&input.ident, &input.generics, data)?),
            Data::Struct(data) => read_wrapper(&input.ident, &data.fields)?,
            Data::Union(_) => {
                return Err(Error::new(
                    input.ident.span(),
                    "`TaskError` is derived for enums, and for structs around `anyhow::Error`",
                ));
            }
        };
        Ok(Self { name: &input.ident, generics: &input.generics, krate, kind })
    }
}

fn read_wrapper<'a>(name: &Ident, fields: &'a Fields) -> Result<Kind<'a>> {
    let mut members = fields.members().zip(fields);
    let (Some((member, field)), None) = (members.next(), members.next()) else {
        return Err(Error::new(
            name.span(),
            "a struct is a `TaskError` if its one field is an `anyhow::Error`, which can hold a \
             cancellation and a group: wrap that, or derive on an enum",
        ));
    };
    let (ty, boxed) = unbox(&field.ty);
    if boxed && matches!(ty, Type::TraitObject(_)) {
        return Err(Error::new_spanned(
            &field.ty,
            "a boxed error cannot say whether it carries a cancellation: wrap `anyhow::Error`",
        ));
    }
    let mut marks = Marks::default();
    marks.read(&field.attrs)?;
    if let Some(span) = marks.span {
        return Err(Error::new(span, "the field of a struct needs no mark: remove it"));
    }
    Ok(Kind::Wrapper(member, &field.ty))
}

impl<'a> Roles<'a> {
    fn read(name: &'a Ident, generics: &Generics, data: &'a DataEnum) -> Result<Self> {
        let mut refusals = Refusals::default();
        let mut slots = vec![];
        for variant in &data.variants {
            let read = refusals.take(Slot::read(variant));
            slots.extend(read.into_iter().flatten());
        }
        refusals.finish()?;

        let mut refusals = Refusals::default();
        let cancelled = find(&slots, Role::Cancelled, is_cancelled)
            .and_then(|found| found.ok_or_else(|| no_cancelled(name, data)));
        let cancelled = refusals.take(cancelled);
        let group = find(&slots, Role::Group, |ty| is_group_of(ty, name))
            .and_then(|found| found.ok_or_else(|| no_group(name, data, &slots)));
        let group = refusals.take(group);
        let nested = slots.iter().filter(|slot| slot.marks.role == Some(Role::Nested));
        let nested = nested.cloned().collect();
        let from = refusals.take(find_from(&slots, [&cancelled, &group], generics));
        refusals.finish()?;

        match (cancelled, group, from) {
            (Some(cancelled), Some(group), Some(from)) => {
                Ok(Self { cancelled, group, nested, from })
            }
            _ => unreachable!("what is missing was refused"),
        }
    }
}

impl<'a> Slot<'a> {
    /// The fields of a variant; marks on it count for its only field.
    fn read(variant: &'a Variant) -> Result<Vec<Self>> {
        let mut outer = Marks::default();
        outer.read(&variant.attrs)?;
        let alone = variant.fields.len() == 1;
        if let (false, Some(span)) = (alone, outer.span) {
            return Err(Error::new(
                span,
                "a mark on a variant speaks of its only field: put it on the field it is about",
            ));
        }
        let mut slots = vec![];
        for (member, field) in variant.fields.members().zip(&variant.fields) {
            let mut marks = outer;
            marks.read(&field.attrs)?;
            let constructs = marks.from || !matches!(marks.role, None | Some(Role::Nested));
            if let (false, true, Some(span)) = (alone, constructs, marks.span) {
                return Err(Error::new(
                    span,
                    "the variant is made from this field alone, so it can have no other field",
                ));
            }
            let (ty, boxed) = unbox(&field.ty);
            slots.push(Self { variant: &variant.ident, member, ty, boxed, alone, marks });
        }
        Ok(slots)
    }

    /// Whether a `From` for `ty` is ours to write: another derive writes it for the field's type,
    /// which a box makes a different one.
    pub(super) fn lacks_from(&self) -> bool {
        self.boxed || !self.marks.foreign_from
    }

    fn is_same_field(&self, other: &Self) -> bool {
        self.variant == other.variant && self.member == other.member
    }
}

/// The field in a role that one field has: the marked one, else the one of the right type.
fn find<'a>(
    slots: &[Slot<'a>],
    role: Role,
    fits: impl Fn(&Type) -> bool,
) -> Result<Option<Slot<'a>>> {
    let marked = |slot: &&Slot<'a>| slot.marks.role == Some(role);
    let typed = |slot: &&Slot<'a>| slot.alone && slot.marks.role.is_none() && fits(slot.ty);
    let word = if role == Role::Group { "group" } else { "cancelled" };
    let mut found: Vec<_> = slots.iter().filter(marked).collect();
    if let [_, second, ..] = found[..] {
        let advice = format!("two fields are marked `{word}`: keep one mark");
        return Err(Error::new(second.variant.span(), advice));
    }
    if found.is_empty() {
        found = slots.iter().filter(typed).collect();
    }
    if let [first, second, ..] = found[..] {
        let advice = format!(
            "`{}` and `{}` could both hold it: mark one of them `#[task_error({word})]`",
            first.variant, second.variant,
        );
        return Err(Error::new(second.variant.span(), advice));
    }
    Ok(found.first().copied().cloned())
}

/// The fields that get a `From` of their own: the marked ones, and a `TooSlow` that has none yet.
fn find_from<'a>(
    slots: &[Slot<'a>],
    taken: [&Option<Slot<'a>>; 2],
    generics: &Generics,
) -> Result<Vec<Slot<'a>>> {
    let is_taken =
        |slot: &Slot<'a>| taken.into_iter().flatten().any(|other| other.is_same_field(slot));
    let too_slow = |slot: &Slot<'a>| slot.alone && last_segment(slot.ty) == Some("TooSlow".into());
    let has_too_slow =
        slots.iter().any(|slot| too_slow(slot) && (slot.marks.from || !slot.lacks_from()));
    let wants = |slot: &&Slot<'a>| {
        let automatic = too_slow(slot) && slot.marks.role.is_none() && !has_too_slow;
        (slot.marks.from || automatic) && slot.lacks_from() && !is_taken(slot)
    };
    let from: Vec<_> = slots.iter().filter(wants).cloned().collect();

    let mut seen: Vec<(String, &Ident)> = vec![];
    for slot in &from {
        let name = last_segment(slot.ty);
        if generics.type_params().any(|param| name.as_ref().is_some_and(|name| param.ident == name))
        {
            return Err(Error::new_spanned(
                slot.ty,
                "`From` for a bare type parameter would cover `Cancelled` too: write a constructor",
            ));
        }
        let text = slot.ty.to_token_stream().to_string();
        if let Some((_, earlier)) = seen.iter().find(|(other, _)| *other == text) {
            let advice = format!(
                "`{earlier}` and `{}` would both be made from this type: let one of them have \
                 `#[task_error(from)]`",
                slot.variant,
            );
            return Err(Error::new(slot.variant.span(), advice));
        }
        seen.push((text, slot.variant));
    }
    Ok(from)
}

fn no_cancelled(name: &Ident, data: &DataEnum) -> Error {
    match data.variants.iter().find(|variant| variant.ident == "Cancelled") {
        Some(variant) => Error::new_spanned(
            variant,
            "this variant must hold the cancellation, and nothing else: \
             write `Cancelled(nursery::Cancelled)`",
        ),
        None => Error::new(
            name.span(),
            format!(
                "`{name}` has no place for a cancellation: add the variant\n\n    \
                 Cancelled(nursery::Cancelled),\n"
            ),
        ),
    }
}

fn no_group(name: &Ident, data: &DataEnum, slots: &[Slot<'_>]) -> Error {
    let near = slots.iter().find(|slot| {
        slot.marks.role.is_none() && last_segment(slot.ty) == Some("ErrorGroup".into())
    });
    if let Some(slot) = near {
        let advice = if slot.alone {
            "a nursery's group holds this type's own errors: write `ErrorGroup<Self>`"
        } else {
            "the group must be the only field of its variant"
        };
        return Error::new_spanned(slot.ty, advice);
    }
    match data.variants.iter().find(|variant| variant.ident == "Group") {
        Some(variant) => Error::new_spanned(
            variant,
            "this variant must hold the errors of a nursery's children, and nothing else: \
             write `Group(nursery::ErrorGroup<Self>)`",
        ),
        None => Error::new(
            name.span(),
            format!(
                "`{name}` has no place for the errors of a nursery's children: add the variant\n\n    \
                 Group(nursery::ErrorGroup<Self>),\n"
            ),
        ),
    }
}

fn is_cancelled(ty: &Type) -> bool {
    last_segment(ty) == Some("Cancelled".into())
}

/// Whether this is `ErrorGroup<Self>`, or the same with the type's name.
fn is_group_of(ty: &Type, name: &Ident) -> bool {
    last_segment(ty) == Some("ErrorGroup".into())
        && only_argument(ty).and_then(last_segment).is_some_and(|of| of == "Self" || *name == of)
}

/// The type, or what is in the box; and whether there was a box.
fn unbox(ty: &Type) -> (&Type, bool) {
    let content = only_argument(ty).filter(|_| last_segment(ty) == Some("Box".into()));
    (content.unwrap_or(ty), content.is_some())
}

/// The name a path ends in.
fn last_segment(ty: &Type) -> Option<String> {
    match ty {
        Type::Group(group) => last_segment(&group.elem),
        Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
        _ => None,
    }
}

/// The `T` of `path::to::Name<T>`.
fn only_argument(ty: &Type) -> Option<&Type> {
    let path = match ty {
        Type::Group(group) => return only_argument(&group.elem),
        Type::Path(path) => &path.path,
        _ => return None,
    };
    match &path.segments.last()?.arguments {
        PathArguments::AngleBracketed(arguments) if arguments.args.len() == 1 => {
            match arguments.args.first()? {
                GenericArgument::Type(ty) => Some(ty),
                _ => None,
            }
        }
        _ => None,
    }
}
