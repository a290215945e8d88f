//! `#[nursery_testing::test]`: an `async fn` as a plain `#[test]`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Path, Result, parse_quote};

use crate::function::Function;
use crate::options::{Form, Grammar, Known};

const GRAMMAR: Grammar = Grammar {
    attribute: "nursery_testing::test",
    options: &[
        Known { key: "seed", method: "seed", form: Form::Value },
        Known { key: "budget", method: "checkpoint_budget", form: Form::Value },
        Known { key: "real_clock", method: "real_clock", form: Form::Flag },
        Known { key: "time_limit", method: "time_limit", form: Form::Value },
        Known { key: "clock", method: "clock", form: Form::Value },
        Known { key: "instrument", method: "instrument", form: Form::Repeated },
    ],
};

/// The test, or the errors.
pub(crate) fn expand(args: TokenStream, item: TokenStream) -> TokenStream {
    Function::under(GRAMMAR.attribute, item)
        .and_then(|function| build(args, &function))
        .unwrap_or_else(syn::Error::into_compile_error)
}

fn build(args: TokenStream, function: &Function) -> Result<TokenStream> {
    let mut refusals = function.refusals(GRAMMAR.attribute);
    for attr in function.attrs.iter().filter(|attr| attr.path().is_ident("test")) {
        let advice = "`#[nursery_testing::test]` already makes this a `#[test]`: remove this line";
        refusals.add(attr.span(), advice);
    }
    let options = refusals.take(GRAMMAR.parse(args)).unwrap_or_default();
    refusals.finish()?;

    let Function { attrs, vis, sig, body } = function;
    let (name, output) = (&sig.ident, &sig.output);
    let krate = options.krate.unwrap_or_else(|| parse_quote!(::nursery_testing));
    let calls = options.calls;
    let call = match function.output() {
        // What does not fit is the type the user returns, so the error shall point there.
        Some(returned) => {
            let run = quote_spanned!(returned.span()=> .run(#name()));
            quote!(#krate::Test::new() #calls #run)
        }
        None => run_unit(&krate, &calls, name),
    };
    Ok(quote! {
        #(#attrs)*
        #[::core::prelude::v1::test]
        #vis fn #name() #output {
            async fn #name() #output #body
            #call
        }
    })
}

/// A body that returns nothing cannot fail; the outer function returns nothing too, because
/// `#[should_panic]` asks that of a test.
fn run_unit(krate: &Path, calls: &TokenStream, name: &syn::Ident) -> TokenStream {
    quote! {
        ::core::result::Result::expect(
            #krate::Test::new() #calls .run(async {
                #name().await;
                ::core::result::Result::Ok::<(), #krate::__private::Cancelled>(())
            }),
            "the body returns nothing, so it cannot fail",
        )
    }
}

#[cfg(test)]
mod tests;
