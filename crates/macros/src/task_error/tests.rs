//! What `#[derive(TaskError)]` writes, token by token, and what it refuses.

use proc_macro2::TokenStream;
use quote::quote;

use super::expand;
use crate::refusals::messages;

/// The tokens as text; parsing changes only the spaces between them.
fn text(tokens: TokenStream) -> String {
    tokens.to_string().replace(' ', "")
}

/// Every `impl` of the expansion, its attributes apart.
fn impls(item: TokenStream) -> Vec<String> {
    let file: syn::File = syn::parse2(expand(item)).expect("items");
    let body = |item: &syn::Item| match item {
        syn::Item::Impl(block) => {
            let block = syn::ItemImpl { attrs: vec![], ..block.clone() };
            text(quote!(#block))
        }
        other => panic!("no `impl`: {}", quote!(#other)),
    };
    file.items.iter().map(body).collect()
}

/// The heads of those `impl`s, up to their braces.
fn heads(item: TokenStream) -> Vec<String> {
    let head = |body: String| body.split('{').next().unwrap_or_default().to_owned();
    impls(item).into_iter().map(head).collect()
}

#[track_caller]
fn has(item: TokenStream, expected: TokenStream) {
    let impls = impls(item);
    let expected = text(expected);
    assert!(impls.iter().any(|body| body.contains(&expected)), "{expected}\nin\n{impls:#?}");
}

fn sample(more: TokenStream) -> TokenStream {
    quote!(enum E { Cancelled(Cancelled), Group(ErrorGroup<Self>), #more })
}

const CORE: [&str; 3] = [
    "impl::nursery::TaskErrorforE",
    "impl::core::convert::From<::nursery::Cancelled>forE",
    "impl::core::convert::From<::nursery::ErrorGroup<Self>>forE",
];

#[test]
fn an_enum_gets_the_trait_and_its_two_conversions() {
    assert_eq!(heads(sample(quote!(Other))), CORE);
    let some = quote!(::core::option::Option::Some);
    let none = quote!(::core::option::Option::None);
    let method = quote! {
        fn as_cancelled(&self) -> ::core::option::Option<&::nursery::Cancelled> {
            match self { Self::Cancelled { 0: field } => #some(field), _ => #none }
        }
        fn as_group(&self) -> ::core::option::Option<&::nursery::ErrorGroup<Self>> {
            match self { Self::Group { 0: field } => #some(field), _ => #none }
        }
        fn as_group_mut(&mut self) -> ::core::option::Option<&mut ::nursery::ErrorGroup<Self>> {
            match self { Self::Group { 0: field } => #some(field), _ => #none }
        }
    };
    has(sample(quote!()), method);
    let from = quote! {
        fn from(value: ::nursery::Cancelled) -> Self { Self::Cancelled { 0: value } }
    };
    has(sample(quote!()), from);
}

#[test]
fn variants_are_found_by_type_name_or_box_or_mark() {
    let named = quote! {
        enum E { Stop { why: nursery::Cancelled }, Several { all: Box<nursery::ErrorGroup<E>> } }
    };
    assert_eq!(heads(named.clone()), CORE);
    has(named.clone(), quote!(Self::Several { all: ::std::boxed::Box::new(value) }));
    has(
        named.clone(),
        quote!(Self::Several { all: field } => ::core::option::Option::Some(&**field)),
    );
    has(named, quote!(Self::Several { all: field } => ::core::option::Option::Some(&mut **field)));
    let marked = quote! {
        enum E {
            #[task_error(cancelled)] A(Alias),
            B(#[task_error(group)] Many),
            Cancelled(#[task_error(nested)] Cancelled),
            Kept(Cancelled),
        }
    };
    assert_eq!(heads(marked.clone()), CORE);
    has(marked.clone(), quote!(Self::A { 0: value }));
    has(marked, quote!(Self::B { 0: value }));
}

#[test]
fn too_slow_and_marked_variants_get_a_conversion() {
    let more = quote! {
        Late(nursery::TooSlow),
        #[task_error(from)] Io(io::Error),
        Parse { #[task_error(from)] source: Box<ParseIntError> },
        Other(fmt::Error),
    };
    let heads = heads(sample(more));
    assert_eq!(heads[..3], CORE);
    assert_eq!(
        heads[3..],
        [
            "impl::core::convert::From<nursery::TooSlow>forE",
            "impl::core::convert::From<io::Error>forE",
            "impl::core::convert::From<ParseIntError>forE",
        ],
    );
}

#[test]
fn a_marked_too_slow_is_the_one_that_converts() {
    let more = quote!(
        Connect(TooSlow),
        #[task_error(from)]
        Read(TooSlow)
    );
    has(sample(more.clone()), quote!(Self::Read { 0: value }));
    assert_eq!(heads(sample(more)).len(), 4);
}

#[test]
fn conversions_of_another_derive_are_not_written_twice() {
    let item = quote! {
        enum E {
            Cancelled(#[from] Cancelled),
            Group(#[from] ErrorGroup<Self>),
            Late(#[from] TooSlow),
            #[task_error(from, nested)] Io(#[from] io::Error),
        }
    };
    assert_eq!(heads(item), CORE[..1]);
    // Theirs is for the box, ours for what is in it.
    let boxed = quote!(
        enum E {
            Cancelled(Cancelled),
            Group(#[from] Box<ErrorGroup<Self>>),
        }
    );
    assert_eq!(heads(boxed), CORE);
}

#[test]
fn nested_fields_are_asked_for_a_cancellation() {
    let more = quote! {
        #[task_error(nested)] Io(io::Error),
        Step { name: String, #[task_error(nested)] a: Box<Inner>, #[task_error(nested)] b: Inner },
    };
    has(
        sample(more),
        quote! {
            Self::Io { 0: field0, .. } => <io::Error as ::nursery::TaskError>::as_cancelled(field0),
            Self::Step { a: field0, b: field1, .. } =>
                <Inner as ::nursery::TaskError>::as_cancelled(&**field0)
                    .or_else(|| <Inner as ::nursery::TaskError>::as_cancelled(field1)),
        },
    );
}

#[test]
fn generics_and_where_clauses_are_kept() {
    let item = quote! {
        enum E<'a, T: Debug, const N: usize> where T: Clone {
            Cancelled(Cancelled), Group(ErrorGroup<E<'a, T, N>>),
            #[task_error(nested)] Inner(Wrap<T>), Text(&'a str),
        }
    };
    let heads = heads(item);
    let generics = "<'a,T:Debug,constN:usize>";
    let inner = "whereT:Clone,Wrap<T>:::nursery::TaskError";
    assert_eq!(heads[0], format!("impl{generics}::nursery::TaskErrorforE<'a,T,N>{inner}"));
    let from = "::core::convert::From<::nursery::Cancelled>forE<'a,T,N>whereT:Clone";
    assert_eq!(heads[1], format!("impl{generics}{from}"));
}

#[test]
fn only_types_without_generics_look_for_their_error_impl() {
    has(sample(quote!()), quote!(Probe(self)._find()));
    let generic = quote!(
        enum E<T> {
            Cancelled(Cancelled),
            Group(ErrorGroup<Self>),
            Other(T),
        }
    );
    assert!(!impls(generic)[0].contains("as_error"));
}

#[test]
fn a_struct_leaves_everything_to_the_error_it_wraps() {
    let item = quote!(
        struct E {
            source: anyhow::Error,
        }
    );
    let mut expected = CORE.to_vec();
    expected.push("impl::core::convert::From<::nursery::TooSlow>forE");
    assert_eq!(heads(item.clone()), expected);
    has(item.clone(), quote!(<anyhow::Error as ::nursery::TaskError>::as_cancelled(field)));
    has(item.clone(), quote!(field.downcast_mut::<::nursery::ErrorGroup<Self>>()));
    let from = quote! {
        <anyhow::Error as ::core::convert::From<::nursery::Cancelled>>::from(value)
    };
    has(item, quote!(Self { source: #from }));
}

#[test]
fn a_renamed_crate_is_found() {
    let item = quote! {
        #[task_error(crate = crate::deps::n)]
        enum E { Cancelled(Cancelled), Group(ErrorGroup<Self>) }
    };
    assert_eq!(heads(item)[0], "implcrate::deps::n::TaskErrorforE");
}

mod refusals {
    //! Each refusal says what to write.

    use super::*;

    #[track_caller]
    fn refused(item: TokenStream, expected: &str) {
        assert_eq!(messages(expand(item)), [expected]);
    }

    #[test]
    fn a_missing_variant_is_shown() {
        let messages = messages(expand(quote!(
            enum E {
                Broken,
            }
        )));
        let [cancelled, group] = &messages[..] else { panic!("{messages:?}") };
        assert!(cancelled.starts_with("`E` has no place for a cancellation: add the variant\n"));
        assert!(cancelled.contains("\n    Cancelled(nursery::Cancelled),\n"));
        assert!(group.starts_with("`E` has no place for the errors of a nursery's children: add"));
        assert!(group.contains("\n    Group(nursery::ErrorGroup<Self>),\n"));
    }

    #[test]
    fn an_empty_or_crowded_variant_of_the_name_is_corrected() {
        let cancelled = "this variant must hold the cancellation, and nothing else: \
                         write `Cancelled(nursery::Cancelled)`";
        refused(
            quote!(
                enum E {
                    Cancelled,
                    Group(ErrorGroup<E>),
                }
            ),
            cancelled,
        );
        refused(
            quote!(
                enum E {
                    Cancelled(Cancelled, u8),
                    Group(ErrorGroup<E>),
                }
            ),
            cancelled,
        );
        refused(
            quote!(
                enum E {
                    Cancelled(Cancelled),
                    Group,
                }
            ),
            "this variant must hold the errors of a nursery's children, and nothing else: \
             write `Group(nursery::ErrorGroup<Self>)`",
        );
        refused(
            quote!(
                enum E {
                    Cancelled(Cancelled),
                    Group(ErrorGroup<Self>, u8),
                }
            ),
            "the group must be the only field of its variant",
        );
    }

    #[test]
    fn a_group_of_other_errors_is_corrected() {
        let advice = "a nursery's group holds this type's own errors: write `ErrorGroup<Self>`";
        for group in [quote!(ErrorGroup<Other>), quote!(ErrorGroup), quote!(Box<ErrorGroup<u8>>)] {
            refused(quote!(enum E { Cancelled(Cancelled), Group(#group) }), advice);
        }
    }

    #[test]
    fn two_candidates_are_not_chosen_from() {
        refused(
            sample(quote!(Stopped(Cancelled))),
            "`Cancelled` and `Stopped` could both hold it: mark one of them \
             `#[task_error(cancelled)]`",
        );
        refused(
            sample(quote!(Several(Box<ErrorGroup<E>>))),
            "`Group` and `Several` could both hold it: mark one of them `#[task_error(group)]`",
        );
        refused(
            sample(quote!(
                #[task_error(group)]
                A(A),
                #[task_error(group)]
                B(B)
            )),
            "two fields are marked `group`: keep one mark",
        );
        refused(
            sample(quote!(Connect(TooSlow), Read(TooSlow))),
            "`Connect` and `Read` would both be made from this type: let one of them have \
             `#[task_error(from)]`",
        );
    }

    #[test]
    fn a_bare_type_parameter_gets_no_conversion() {
        let item = quote! {
            enum E<T> { Cancelled(Cancelled), Group(ErrorGroup<Self>), #[task_error(from)] Any(T) }
        };
        let advice =
            "`From` for a bare type parameter would cover `Cancelled` too: write a constructor";
        refused(item, advice);
    }

    #[test]
    fn marks_stand_where_they_mean_something() {
        refused(
            sample(quote!(
                #[task_error(form)]
                Io(Io)
            )),
            "unknown mark: there are `cancelled`, `group`, `from` and `nested`",
        );
        refused(
            sample(quote!(
                #[task_error(nested, group)]
                Io(Io)
            )),
            "a field is one of `cancelled`, `group` and `nested`: keep one",
        );
        refused(
            sample(quote!(
                #[task_error(crate = n)]
                Io(Io)
            )),
            "`crate = path` belongs on the type itself",
        );
        let item = sample(quote!());
        refused(
            quote!(#[task_error(nested)] #item),
            "on the type itself there is only `crate = path`: other marks belong on a field",
        );
        let advice =
            "a mark on a variant speaks of its only field: put it on the field it is about";
        refused(
            sample(quote!(
                #[task_error(nested)]
                Io(String, Io)
            )),
            advice,
        );
        refused(
            sample(quote!(
                #[task_error(from)]
                Io
            )),
            advice,
        );
        refused(
            sample(quote!(Io(
                String,
                #[task_error(from)]
                Io
            ))),
            "the variant is made from this field alone, so it can have no other field",
        );
    }

    #[test]
    fn other_shapes_are_refused() {
        let one = "a struct is a `TaskError` if its one field is an `anyhow::Error`, which can hold \
                   a cancellation and a group: wrap that, or derive on an enum";
        refused(
            quote!(
                struct E;
            ),
            one,
        );
        refused(
            quote!(
                struct E(Cancelled, ErrorGroup<E>);
            ),
            one,
        );
        refused(
            quote!(
                struct E(Box<dyn Error + Send + Sync>);
            ),
            "a boxed error cannot say whether it carries a cancellation: wrap `anyhow::Error`",
        );
        refused(
            quote!(
                struct E(#[task_error(nested)] anyhow::Error);
            ),
            "the field of a struct needs no mark: remove it",
        );
        refused(
            quote!(union E { word: u32 }),
            "`TaskError` is derived for enums, and for structs around `anyhow::Error`",
        );
    }
}
