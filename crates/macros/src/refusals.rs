//! Refusals: everything wrong with what the user wrote, shown at once and with advice.

use proc_macro2::Span;
use syn::{Error, Result};

/// Errors collected, to show all of them at once.
#[derive(Default)]
pub(crate) struct Refusals(Option<Error>);

impl Refusals {
    /// One more refusal, at a place in the user's code.
    pub(crate) fn add(&mut self, span: Span, advice: impl std::fmt::Display) {
        self.absorb(Error::new(span, advice));
    }

    /// All that another error says.
    pub(crate) fn absorb(&mut self, error: Error) {
        match &mut self.0 {
            Some(all) => all.combine(error),
            None => self.0 = Some(error),
        }
    }

    /// The value, or the error's refusals and nothing.
    pub(crate) fn take<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.absorb(error)).ok()
    }

    /// `Ok` if there was nothing to refuse.
    pub(crate) fn finish(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

/// What the `compile_error!`s among the tokens say, in their order.
#[cfg(test)]
pub(crate) fn messages(tokens: proc_macro2::TokenStream) -> Vec<String> {
    use proc_macro2::TokenTree;
    let mut found = vec![];
    let mut tokens = tokens.into_iter();
    while let Some(token) = tokens.next() {
        if matches!(&token, TokenTree::Ident(name) if name == "compile_error") {
            let Some(TokenTree::Group(argument)) = tokens.nth(1) else {
                panic!("`compile_error!` without an argument");
            };
            let text: syn::LitStr = syn::parse2(argument.stream()).expect("a string");
            found.push(text.value());
        }
    }
    found
}
