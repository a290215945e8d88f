//! Options in an attribute's parentheses: `seed = 7, real_clock, crate = path`.

use proc_macro2::{Ident, TokenStream};
use quote::quote;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Error, Expr, LitStr, Path, Result, Token};

/// One attribute's name and what may stand in its parentheses.
pub(crate) struct Grammar {
    pub(crate) attribute: &'static str,
    pub(crate) options: &'static [Known],
}

/// An option that calls a builder's method.
pub(crate) struct Known {
    pub(crate) key: &'static str,
    pub(crate) method: &'static str,
    pub(crate) form: Form,
}

/// How an option is written.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Form {
    /// `key`
    Flag,
    /// `key = expr`
    Value,
    /// `key = expr`, as often as wanted
    Repeated,
}

/// What the user wrote.
#[derive(Default)]
pub(crate) struct Options {
    /// The value of `crate = path`.
    pub(crate) krate: Option<Path>,
    /// `.seed(7)` and so on, in the order written.
    pub(crate) calls: TokenStream,
}

impl Grammar {
    pub(crate) fn parse(&self, args: TokenStream) -> Result<Options> {
        let parser = |input: ParseStream<'_>| {
            let mut options = Options::default();
            let mut seen: Vec<String> = vec![];
            while !input.is_empty() {
                self.parse_one(input, &mut seen, &mut options)?;
                if !input.is_empty() {
                    input.parse::<Token![,]>()?;
                }
            }
            Ok(options)
        };
        parser.parse2(args)
    }

    fn parse_one(
        &self,
        input: ParseStream<'_>,
        seen: &mut Vec<String>,
        options: &mut Options,
    ) -> Result<()> {
        let key = input.call(Ident::parse_any)?;
        let name = key.to_string();
        let known = self.options.iter().find(|known| known.key == name);
        if known.is_none() && name != "crate" {
            return Err(self.unknown(&key));
        }
        if seen.contains(&name) && !known.is_some_and(|known| known.form == Form::Repeated) {
            return Err(Error::new(key.span(), format!("`{name}` is given twice: keep one")));
        }
        seen.push(name);
        let Some(known) = known else {
            options.krate = Some(parse_crate(&key, input)?);
            return Ok(());
        };
        let argument = known.parse_argument(&key, input)?;
        let method = Ident::new(known.method, key.span());
        options.calls.extend(quote!(.#method(#argument)));
        Ok(())
    }

    fn unknown(&self, key: &Ident) -> Error {
        let known: Vec<_> = self.options.iter().map(|known| format!("`{}`", known.key)).collect();
        let advice = format!(
            "unknown option `{key}`: `#[{}]` knows {}, `crate`",
            self.attribute,
            known.join(", "),
        );
        Error::new(key.span(), advice)
    }
}

impl Known {
    fn parse_argument(&self, key: &Ident, input: ParseStream<'_>) -> Result<Option<Expr>> {
        let written = input.peek(Token![=]);
        match self.form {
            Form::Flag if written => {
                Err(Error::new(key.span(), format!("`{key}` takes no value: write `{key}` alone")))
            }
            Form::Flag => Ok(None),
            Form::Value | Form::Repeated => {
                parse_equals(key, input)?;
                input.parse().map(Some)
            }
        }
    }
}

fn parse_crate(key: &Ident, input: ParseStream<'_>) -> Result<Path> {
    parse_equals(key, input)?;
    if input.peek(LitStr) {
        return Err(input.error("write the path without quotes: `crate = path::to::it`"));
    }
    input.call(Path::parse_mod_style)
}

fn parse_equals(key: &Ident, input: ParseStream<'_>) -> Result<()> {
    if input.peek(Token![=]) {
        return input.parse::<Token![=]>().map(drop);
    }
    Err(Error::new(key.span(), format!("`{key}` needs a value: write `{key} = …`")))
}
