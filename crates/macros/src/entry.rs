//! `#[nursery::main]`: the root task of a run.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Result, parse_quote};

use crate::function::Function;
use crate::options::{Form, Grammar, Known};

const GRAMMAR: Grammar = Grammar {
    attribute: "nursery::main",
    options: &[
        Known { key: "seed", method: "seed", form: Form::Value },
        Known { key: "checkpoint_budget", method: "checkpoint_budget", form: Form::Value },
        Known { key: "name", method: "name", form: Form::Value },
        Known { key: "clock", method: "clock", form: Form::Value },
        Known { key: "instrument", method: "instrument", form: Form::Repeated },
    ],
};

/// The function that blocks, or the errors and a stand-in for it.
pub(crate) fn expand(args: TokenStream, item: TokenStream) -> TokenStream {
    let function = match Function::under(GRAMMAR.attribute, item.clone()) {
        Ok(function) => function,
        Err(error) => return [error.into_compile_error(), item].into_iter().collect(),
    };
    build(args, &function).unwrap_or_else(|error| {
        [error.into_compile_error(), function.stand_in()].into_iter().collect()
    })
}

fn build(args: TokenStream, function: &Function) -> Result<TokenStream> {
    let mut refusals = function.refusals(GRAMMAR.attribute);
    let returned = function.output();
    if returned.is_none() {
        let name = &function.sig.ident;
        refusals.add(
            name.span(),
            format!(
                "`{name}` must return `Result<T, E>` where `E: TaskError`, for example \
                 `anyhow::Result<()>`: an error is how a cancellation leaves a task"
            ),
        );
    }
    let options = refusals.take(GRAMMAR.parse(args)).unwrap_or_default();
    refusals.finish()?;

    let Function { attrs, vis, sig, body } = function;
    let (name, output) = (&sig.ident, &sig.output);
    let krate = options.krate.unwrap_or_else(|| parse_quote!(::nursery));
    let calls = options.calls;
    // What does not fit the run is the type the user returns, so the error shall point there.
    let run = quote_spanned!(returned.span()=> .run(#name()));
    // An inner function, not an `async` block: `?` knows its error type, and messages show the
    // signature that the user wrote.
    Ok(quote! {
        #(#attrs)*
        #vis fn #name() #output {
            async fn #name() #output #body
            #krate::Builder::new() #calls #run
        }
    })
}

#[cfg(test)]
mod tests;
