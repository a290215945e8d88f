//! What `#[nursery_testing::test]` writes, token by token, and what it refuses.

use proc_macro2::TokenStream;
use quote::quote;

use super::expand;
use crate::refusals::messages;

#[track_caller]
fn writes(args: TokenStream, item: TokenStream, expected: TokenStream) {
    assert_eq!(expand(args, item).to_string(), expected.to_string());
}

#[test]
fn a_result_is_handed_to_the_harness() {
    writes(
        quote!(),
        quote!(
            #[ignore]
            async fn adds() -> R {
                work().await
            }
        ),
        quote! {
            #[ignore]
            #[::core::prelude::v1::test]
            fn adds() -> R {
                async fn adds() -> R { work().await }
                ::nursery_testing::Test::new().run(adds())
            }
        },
    );
}

#[test]
fn a_body_that_returns_nothing_cannot_fail() {
    writes(
        quote!(),
        quote!(
            async fn adds() {
                return;
            }
        ),
        quote! {
            #[::core::prelude::v1::test]
            fn adds() {
                async fn adds() { return; }
                ::core::result::Result::expect(
                    ::nursery_testing::Test::new().run(async {
                        adds().await;
                        ::core::result::Result::Ok::<(), ::nursery_testing::__private::Cancelled>(())
                    }),
                    "the body returns nothing, so it cannot fail",
                )
            }
        },
    );
}

#[test]
fn options_become_calls_in_the_order_written() {
    writes(
        quote!(real_clock, seed = SEED, budget = 1, time_limit = SECOND, crate = kit),
        quote!(
            async fn adds() -> R {}
        ),
        quote! {
            #[::core::prelude::v1::test]
            fn adds() -> R {
                async fn adds() -> R {}
                kit::Test::new()
                    .real_clock()
                    .seed(SEED)
                    .checkpoint_budget(1)
                    .time_limit(SECOND)
                    .run(adds())
            }
        },
    );
}

#[test]
fn instruments_may_be_many() {
    writes(
        quote!(clock = &CLOCK, instrument = a(), instrument = b()),
        quote!(
            async fn adds() -> R {}
        ),
        quote! {
            #[::core::prelude::v1::test]
            fn adds() -> R {
                async fn adds() -> R {}
                ::nursery_testing::Test::new()
                    .clock(&CLOCK)
                    .instrument(a())
                    .instrument(b())
                    .run(adds())
            }
        },
    );
}

#[test]
fn mistakes_are_refused_with_advice() {
    let refused = |args, item| messages(expand(args, item));
    let fine = || {
        quote!(
            async fn adds() {}
        )
    };
    assert_eq!(
        refused(quote!(clocks = c), fine()),
        ["unknown option `clocks`: `#[nursery_testing::test]` knows `seed`, `budget`, \
             `real_clock`, `time_limit`, `clock`, `instrument`, `crate`"],
    );
    assert_eq!(
        refused(quote!(time_limit), fine()),
        ["`time_limit` needs a value: write `time_limit = …`"],
    );
    assert_eq!(refused(quote!(seed = 1, seed = 2), fine()), ["`seed` is given twice: keep one"],);
    assert_eq!(
        refused(quote!(real_clock = true), fine()),
        ["`real_clock` takes no value: write `real_clock` alone"],
    );
    assert_eq!(
        refused(
            quote!(),
            quote!(
                #[test]
                async fn adds() {}
            )
        ),
        ["`#[nursery_testing::test]` already makes this a `#[test]`: remove this line"],
    );
    assert_eq!(
        refused(
            quote!(),
            quote!(
                fn adds() {}
            )
        ),
        ["`#[nursery_testing::test]` runs a future: write `async fn adds`"],
    );
    assert_eq!(
        refused(
            quote!(),
            quote!(
                mod tests {}
            )
        ),
        ["`#[nursery_testing::test]` goes on an `async fn` with a body: expected `fn`"],
    );
}
