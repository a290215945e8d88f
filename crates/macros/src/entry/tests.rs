//! What `#[nursery::main]` writes, token by token, and what it refuses.

use proc_macro2::TokenStream;
use quote::quote;

use super::expand;
use crate::refusals::messages;

#[track_caller]
fn writes(args: TokenStream, item: TokenStream, expected: TokenStream) {
    assert_eq!(expand(args, item).to_string(), expected.to_string());
}

/// The only refusal of these options on a function that has nothing wrong.
#[track_caller]
fn refused_options(args: TokenStream) -> String {
    refused(
        args,
        quote!(
            async fn main() -> R {}
        ),
    )
}

#[track_caller]
fn refused(args: TokenStream, item: TokenStream) -> String {
    let mut messages = messages(expand(args, item));
    assert_eq!(messages.len(), 1, "{messages:?}");
    messages.remove(0)
}

#[test]
fn the_body_becomes_an_inner_function_of_the_same_signature() {
    writes(
        quote!(),
        quote!(
            async fn main() -> anyhow::Result<()> {
                work().await
            }
        ),
        quote! {
            fn main() -> anyhow::Result<()> {
                async fn main() -> anyhow::Result<()> { work().await }
                ::nursery::Builder::new().run(main())
            }
        },
    );
}

#[test]
fn attributes_and_visibility_stay_outside() {
    writes(
        quote!(),
        quote!(
            #[doc = "Runs."]
            #[cold]
            pub(crate) async fn batch() -> R {
                1
            }
        ),
        quote! {
            #[doc = "Runs."]
            #[cold]
            pub(crate) fn batch() -> R {
                async fn batch() -> R { 1 }
                ::nursery::Builder::new().run(batch())
            }
        },
    );
}

#[test]
fn options_become_calls_in_the_order_written() {
    writes(
        quote!(
            name = "root",
            instrument = a,
            seed = 3 + 4,
            instrument = b(),
            clock = c,
            checkpoint_budget = 1,
            crate = my::nursery,
        ),
        quote!(
            async fn main() -> R {}
        ),
        quote! {
            fn main() -> R {
                async fn main() -> R {}
                my::nursery::Builder::new()
                    .name("root").instrument(a).seed(3 + 4).instrument(b()).clock(c)
                    .checkpoint_budget(1)
                    .run(main())
            }
        },
    );
}

#[test]
fn a_body_in_the_middle_of_being_typed_expands() {
    let expansion = expand(quote!(), quote!(async fn main() -> R { let x = x. }));
    assert!(messages(expansion.clone()).is_empty());
    assert!(expansion.to_string().contains("let x = x ."));
}

#[test]
fn options_are_refused_with_advice() {
    assert_eq!(
        refused_options(quote!(sede = 7)),
        "unknown option `sede`: `#[nursery::main]` knows `seed`, `checkpoint_budget`, `name`, \
         `clock`, `instrument`, `crate`",
    );
    assert_eq!(refused_options(quote!(seed = 1, seed = 2)), "`seed` is given twice: keep one");
    let two = quote!(crate = a, crate = b);
    assert_eq!(refused_options(two), "`crate` is given twice: keep one");
    assert_eq!(refused_options(quote!(seed)), "`seed` needs a value: write `seed = …`");
    assert_eq!(refused_options(quote!(seed(7))), "`seed` needs a value: write `seed = …`");
    assert_eq!(refused_options(quote!(crate)), "`crate` needs a value: write `crate = …`");
    assert_eq!(
        refused_options(quote!(crate = "nursery")),
        "write the path without quotes: `crate = path::to::it`",
    );
    assert_eq!(refused_options(quote!(seed = 7 name = "x")), "expected `,`");
}

#[test]
fn signatures_are_refused_with_advice() {
    let refused = |item| refused(quote!(), item);
    assert_eq!(
        refused(quote!(
            fn main() -> R {}
        )),
        "`#[nursery::main]` runs a future: write `async fn main`",
    );
    assert_eq!(
        refused(quote!(
            async fn main(n: u32) -> R {}
        )),
        "`main` takes no arguments: nobody could pass them. Read `std::env::args()` inside, or \
         call `nursery::run` where the values are known",
    );
    assert_eq!(
        refused(quote!(
            async fn main<T>() -> R {}
        )),
        "`main` cannot be generic: the run's start has no caller to choose types",
    );
    assert_eq!(
        refused(quote!(
            async unsafe fn main() -> R {}
        )),
        "`#[nursery::main]` takes a plain `async fn`: remove this qualifier",
    );
    assert_eq!(
        refused(quote!(
            struct Main;
        )),
        "`#[nursery::main]` goes on an `async fn` with a body: expected `fn`",
    );
    assert_eq!(
        refused(quote!(
            async fn main() -> R;
        )),
        "`#[nursery::main]` goes on an `async fn` with a body: expected `{`",
    );
}

#[test]
fn a_missing_return_type_is_refused_with_one_to_write() {
    for item in [
        quote!(
            async fn main() {}
        ),
        quote!(
            async fn main() -> () {}
        ),
    ] {
        assert_eq!(
            refused(quote!(), item),
            "`main` must return `Result<T, E>` where `E: TaskError`, for example \
             `anyhow::Result<()>`: an error is how a cancellation leaves a task",
        );
    }
}

#[test]
fn everything_wrong_is_said_at_once() {
    let expansion = expand(
        quote!(sede = 7),
        quote!(
            const extern "C" fn main<T>(t: T) {}
        ),
    );
    assert_eq!(messages(expansion).len(), 7);
}

#[test]
fn a_stand_in_keeps_the_name_so_that_nothing_else_is_reported() {
    let expansion = expand(
        quote!(),
        quote!(
            pub fn main<T>() -> R {}
        ),
    )
    .to_string();
    assert!(
        expansion.ends_with(
            &quote!(
                pub fn main() {}
            )
            .to_string()
        ),
        "{expansion}"
    );
    let expansion = expand(
        quote!(),
        quote!(
            async fn other(n: u32) -> R {}
        ),
    )
    .to_string();
    let stand_in = quote!(
        fn other(n: u32) -> R {
            ::core::unimplemented!()
        }
    )
    .to_string();
    assert!(expansion.ends_with(&stand_in), "{expansion}");
}
