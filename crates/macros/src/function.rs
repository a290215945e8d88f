//! The `async fn` under an attribute: its signature parsed and judged, its body left alone.

use proc_macro2::{Group, TokenStream};
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{Attribute, Error, Result, ReturnType, Signature, Token, Type, Visibility, token};

use crate::refusals::Refusals;

/// A function whose body is one opaque group, so that code in the middle of being typed expands too.
pub(crate) struct Function {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    pub(crate) body: Group,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        let sig = input.parse()?;
        if !input.peek(token::Brace) {
            return Err(input.error("expected `{`"));
        }
        let body = input.parse()?;
        Ok(Self { attrs, vis, sig, body })
    }
}

impl Function {
    /// Parses what stands under the attribute of that name.
    pub(crate) fn under(attribute: &str, item: TokenStream) -> Result<Self> {
        syn::parse2(item).map_err(|error| {
            let advice = format!("`#[{attribute}]` goes on an `async fn` with a body: {error}");
            Error::new(error.span(), advice)
        })
    }

    /// The type after `->`, unless that is missing or `()`.
    pub(crate) fn output(&self) -> Option<&Type> {
        match &self.sig.output {
            ReturnType::Type(_, ty) if !is_unit(ty) => Some(ty),
            _ => None,
        }
    }

    /// Everything wrong with the signature but its return type, which the attributes judge apart.
    pub(crate) fn refusals(&self, attribute: &str) -> Refusals {
        let sig = &self.sig;
        let name = &sig.ident;
        let mut refusals = Refusals::default();
        if sig.asyncness.is_none() {
            refusals.add(
                sig.fn_token.span,
                format!("`#[{attribute}]` runs a future: write `async fn {name}`"),
            );
        }
        for span in self.qualifiers() {
            let advice =
                format!("`#[{attribute}]` takes a plain `async fn`: remove this qualifier");
            refusals.add(span, advice);
        }
        if !sig.generics.params.is_empty() || sig.generics.where_clause.is_some() {
            refusals.add(
                sig.generics.span(),
                format!(
                    "`{name}` cannot be generic: the run's start has no caller to choose types"
                ),
            );
        }
        if !sig.inputs.is_empty() {
            refusals.add(
                sig.inputs.span(),
                format!(
                    "`{name}` takes no arguments: nobody could pass them. Read `std::env::args()` \
                     inside, or call `nursery::run` where the values are known"
                ),
            );
        }
        refusals
    }

    /// `const`, `unsafe`, `safe` and `extern`, as far as they are written.
    fn qualifiers(&self) -> Vec<proc_macro2::Span> {
        let sig = &self.sig;
        let safety = match &sig.safety {
            syn::Safety::Default => None,
            written => Some(written.span()),
        };
        sig.constness
            .map(|word| word.span)
            .into_iter()
            .chain(safety)
            .chain(sig.abi.as_ref().map(Spanned::span))
            .collect()
    }

    /// A function that callers of the refused one can still name, so that they add no errors.
    pub(crate) fn stand_in(&self) -> TokenStream {
        let Self { vis, sig, .. } = self;
        if sig.ident == "main" {
            return quote!(#vis fn main() {});
        }
        let sig = Signature { asyncness: None::<Token![async]>, ..sig.clone() };
        quote! {
            #[allow(unused_variables, reason = "the function was refused")]
            #vis #sig { ::core::unimplemented!() }
        }
    }
}

fn is_unit(ty: &Type) -> bool {
    matches!(ty, Type::Tuple(tuple) if tuple.elems.is_empty())
}
