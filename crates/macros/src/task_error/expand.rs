//! The impls the derive writes; nothing here can fail.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Generics, Member, Type, parse_quote};

use super::model::{Kind, Model, Roles, Slot};

/// Everything the derive adds.
pub(super) fn impls(model: &Model<'_>) -> TokenStream {
    match &model.kind {
        Kind::Enum(roles) => enum_impls(model, roles),
        Kind::Wrapper(member, ty) => wrapper_impls(model, member, ty),
    }
}

/// The bodies of the trait's methods.
struct Bodies {
    as_cancelled: TokenStream,
    as_group: TokenStream,
    as_group_mut: TokenStream,
    /// Without it the trait's own stays, which gives `None`.
    as_error: Option<TokenStream>,
}

fn enum_impls(model: &Model<'_>, roles: &Roles<'_>) -> TokenStream {
    let krate = &model.krate;
    let Roles { cancelled, group, nested, from } = roles;
    let cancelled_arm = borrow_arm(cancelled, &quote!());
    let nested_arms = nested_arms(model, nested);
    let group_arm = borrow_arm(group, &quote!());
    let group_mut_arm = borrow_arm(group, &quote!(mut));
    let otherwise = quote!(_ => ::core::option::Option::None);
    let bodies = Bodies {
        as_cancelled: quote!(match self { #cancelled_arm #nested_arms #otherwise }),
        as_group: quote!(match self { #group_arm #otherwise }),
        as_group_mut: quote!(match self { #group_mut_arm #otherwise }),
        as_error: model.generics.params.is_empty().then(if_error),
    };
    let task_error = task_error_impl(model, &with_nested_bounds(model, nested), &bodies);
    let cancelled_from = from_if_lacking(model, &quote!(#krate::Cancelled), cancelled);
    let group_from = from_if_lacking(model, &quote!(#krate::ErrorGroup<Self>), group);
    let other_froms = from.iter().map(|slot| from_impl(model, &slot.ty.to_token_stream(), slot));
    quote!(#task_error #cancelled_from #group_from #(#other_froms)*)
}

/// `Self::Cancelled { 0: field } => Some(field),`
fn borrow_arm(slot: &Slot<'_>, mutable: &TokenStream) -> TokenStream {
    let Slot { variant, member, ty, boxed, .. } = slot;
    let field = Ident::new("field", place(ty));
    let borrow =
        if *boxed { quote_spanned!(place(ty)=> &#mutable **#field) } else { quote!(#field) };
    quote!(Self::#variant { #member: #field } => ::core::option::Option::Some(#borrow),)
}

/// One arm for each variant, asking its fields in their order.
fn nested_arms(model: &Model<'_>, nested: &[Slot<'_>]) -> TokenStream {
    let krate = &model.krate;
    let arms = nested.chunk_by(|one, next| one.variant == next.variant).map(|slots| {
        let variant = slots[0].variant;
        let members = slots.iter().map(|slot| &slot.member);
        let fields: Vec<_> = (0..)
            .zip(slots)
            .map(|(i, slot)| Ident::new(&format!("field{i}"), place(slot.ty)))
            .collect();
        let mut answers = slots.iter().zip(&fields).map(|(slot, field)| {
            let ty = slot.ty;
            let borrow = if slot.boxed { quote!(&**#field) } else { quote!(#field) };
            quote_spanned!(place(ty)=> <#ty as #krate::TaskError>::as_cancelled(#borrow))
        });
        let first = answers.next();
        quote!(Self::#variant { #(#members: #fields,)* .. } => #first #(.or_else(|| #answers))*,)
    });
    arms.collect()
}

/// The error as a `std::error::Error`, if it is one: the method found is the inherent one where its
/// bound holds, else the trait's. The underscore: one of the two is never called. Generic types go
/// without, as they may not be `'static`.
fn if_error() -> TokenStream {
    quote! {
        type Found<'a> = ::core::option::Option<&'a (dyn ::core::error::Error + 'static)>;
        struct Probe<'a, T>(&'a T);
        impl<'a, T: ::core::error::Error + 'static> Probe<'a, T> {
            fn _find(&self) -> Found<'a> {
                ::core::option::Option::Some(self.0)
            }
        }
        trait Otherwise<'a> {
            fn _find(&self) -> Found<'a> {
                ::core::option::Option::None
            }
        }
        impl<'a, T> Otherwise<'a> for Probe<'a, T> {}
        Probe(self)._find()
    }
}

fn wrapper_impls(model: &Model<'_>, member: &Member, ty: &Type) -> TokenStream {
    let krate = &model.krate;
    let group = quote!(#krate::ErrorGroup<Self>);
    let field = Ident::new("field", place(ty));
    let ask = |call: TokenStream| quote!(let Self { #member: #field } = self; #call);
    let bodies = Bodies {
        as_cancelled: ask(
            quote_spanned!(place(ty)=> <#ty as #krate::TaskError>::as_cancelled(#field)),
        ),
        as_group: ask(quote_spanned!(place(ty)=> #field.downcast_ref::<#group>())),
        as_group_mut: ask(quote_spanned!(place(ty)=> #field.downcast_mut::<#group>())),
        as_error: Some(ask(
            quote_spanned!(place(ty)=> <#ty as #krate::TaskError>::as_error(#field)),
        )),
    };
    let task_error = task_error_impl(model, model.generics, &bodies);
    let sources = [quote!(#krate::Cancelled), group, quote!(#krate::TooSlow)];
    let froms = sources.iter().map(|source| {
        let value = Ident::new("value", place(ty));
        let made = quote_spanned! {place(ty)=>
            <#ty as ::core::convert::From<#source>>::from(#value)
        };
        from_impl_with(model, source, &value, &quote!(Self { #member: #made }))
    });
    quote!(#task_error #(#froms)*)
}

fn task_error_impl(model: &Model<'_>, generics: &Generics, bodies: &Bodies) -> TokenStream {
    let Model { name, krate, .. } = model;
    let Bodies { as_cancelled, as_group, as_group_mut, as_error } = bodies;
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    let option = quote!(::core::option::Option);
    let as_error = as_error.as_ref().map(|body| {
        quote! {
            fn as_error(&self) -> #option<&(dyn ::core::error::Error + 'static)> {
                #body
            }
        }
    });
    quote! {
        #[automatically_derived]
        impl #impl_generics #krate::TaskError for #name #ty_generics #where_clause {
            fn as_cancelled(&self) -> #option<&#krate::Cancelled> {
                #as_cancelled
            }
            fn as_group(&self) -> #option<&#krate::ErrorGroup<Self>> {
                #as_group
            }
            fn as_group_mut(&mut self) -> #option<&mut #krate::ErrorGroup<Self>> {
                #as_group_mut
            }
            #as_error
        }
    }
}

fn from_if_lacking(model: &Model<'_>, source: &TokenStream, slot: &Slot<'_>) -> TokenStream {
    if slot.lacks_from() { from_impl(model, source, slot) } else { TokenStream::new() }
}

fn from_impl(model: &Model<'_>, source: &TokenStream, slot: &Slot<'_>) -> TokenStream {
    let Slot { variant, member, ty, boxed, .. } = slot;
    let value = Ident::new("value", place(ty));
    let made = if *boxed { quote!(::std::boxed::Box::new(#value)) } else { quote!(#value) };
    from_impl_with(model, source, &value, &quote!(Self::#variant { #member: #made }))
}

fn from_impl_with(
    model: &Model<'_>,
    source: &TokenStream,
    value: &Ident,
    made: &TokenStream,
) -> TokenStream {
    let Model { name, generics, .. } = model;
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #impl_generics ::core::convert::From<#source> for #name #ty_generics #where_clause {
            fn from(#value: #source) -> Self {
                #made
            }
        }
    }
}

/// The type's generics, and `TaskError` for each nested field whose type depends on them.
fn with_nested_bounds(model: &Model<'_>, nested: &[Slot<'_>]) -> Generics {
    let krate = &model.krate;
    let mut generics = model.generics.clone();
    for slot in nested {
        let ty = slot.ty;
        if model.generics.type_params().any(|param| mentions(ty.to_token_stream(), &param.ident)) {
            generics.make_where_clause().predicates.push(parse_quote!(#ty: #krate::TaskError));
        }
    }
    generics
}

/// Where the user wrote this type, which is where an error about it shall point. Names placed
/// there have the hygiene of the type, so their binding and their uses all must be.
fn place(ty: &Type) -> proc_macro2::Span {
    ty.span()
}

fn mentions(tokens: TokenStream, name: &Ident) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == *name,
        TokenTree::Group(group) => mentions(group.stream(), name),
        _ => false,
    })
}
