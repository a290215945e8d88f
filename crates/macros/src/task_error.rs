//! `#[derive(TaskError)]`: read the type into a model, refuse with advice, write the impls.

mod expand;
mod marks;
mod model;
#[cfg(test)]
mod tests;

use proc_macro2::TokenStream;

use self::model::Model;

/// The impls, or the errors.
pub(crate) fn expand(item: TokenStream) -> TokenStream {
    syn::parse2(item)
        .and_then(|input| Model::read(&input).map(|model| expand::impls(&model)))
        .unwrap_or_else(syn::Error::into_compile_error)
}
