//! `nursery_testing::groups`: what matches, and what is said when nothing does. Trio's tests of `RaisesGroup`, adapted.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::anyhow;
use nursery::{Cancelled, ErrorGroup, TaskError, TooSlow, fail_after, open_nursery, sleep_forever};
use nursery_testing::groups::{
    Expected, assert_errors, assert_leaf, assert_leaves, cancelled, error, group, leaf,
};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("refused with code {code}")]
struct Refused {
    code: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("lost")]
struct Lost;

type Any = anyhow::Error;

fn refused(code: u32) -> Any {
    Refused { code }.into()
}

fn lost() -> Any {
    Lost.into()
}

fn grouped<E: TaskError>(errors: impl IntoIterator<Item = E>) -> E {
    ErrorGroup::new(errors.into_iter().collect()).into()
}

/// What an assertion says when it fails.
fn said(assertion: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(assertion)).expect_err("it fails");
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().expect("a text")).to_owned(),
    }
}

fn why(error: &Any, expected: Expected) -> String {
    said(|| assert_errors(error, expected))
}

/// `raises_group`: types, numbers, levels, any order.
#[test]
fn a_group_matches_one_with_the_same_members_in_any_order() {
    let failed = grouped([refused(1), grouped([lost()])]);
    let matches = |expected: Expected| expected.matches(&failed);
    assert!(matches(group([leaf::<Refused>(), group([leaf::<Lost>()])])));
    assert!(matches(group([group([leaf::<Lost>()]), leaf::<Refused>()])));
    assert!(matches(group([group([error()]), error()])));
    assert!(!matches(group([leaf::<Lost>(), group([leaf::<Refused>()])])));
    assert!(!matches(group([leaf::<Refused>(), leaf::<Lost>()])), "one level deeper");
    assert!(!matches(group([error(), error()])), "a group is no leaf");
    assert!(!matches(group([leaf::<Refused>()])));
    assert!(!matches(leaf::<Refused>()));
    assert!(!group([leaf::<Refused>()]).matches(&refused(1)));
    assert_errors(&failed, group([leaf::<Refused>(), group([leaf::<Lost>()])]));
}

/// `incorrect_number_exceptions`, and its cases in which the first partner at hand is the wrong one.
#[test]
fn each_expected_error_needs_a_partner_of_its_own() {
    let two = grouped([refused(1), lost()]);
    assert!(group([error(), leaf::<Refused>()]).matches(&two), "`error()` has to leave it");
    assert!(group([leaf::<Refused>(), error()]).matches(&two));
    assert!(!group([leaf::<Refused>(), leaf::<Refused>()]).matches(&two));
    assert!(!group([error(), error(), error()]).matches(&two));
    assert!(!group([error()]).matches(&two));
    let three = grouped([refused(1), refused(2), lost()]);
    let second = || leaf::<Refused>().text("code 2");
    assert!(group([error(), leaf::<Refused>(), second()]).matches(&three));
    assert!(!group([second(), second(), error()]).matches(&three));
}

/// `flatten_subgroups`
#[test]
fn flattened_makes_no_difference_between_levels() {
    let deep = grouped([grouped([grouped([refused(1)]), lost()])]);
    let both = || group([leaf::<Lost>(), leaf::<Refused>()]);
    assert!(!both().matches(&deep));
    assert!(both().flattened().matches(&deep));
    assert!(both().flattened().matches(&grouped([refused(1), lost()])));
    assert!(!group([leaf::<Lost>()]).flattened().matches(&deep));
    assert_leaves(&deep, [leaf::<Refused>(), leaf::<Lost>()]);
    assert_eq!(
        said(|| drop(group([group([error()])]).flattened())),
        "only a group of leaves can be expected flattened"
    );
}

/// `allow_unwrapped`
#[test]
fn a_bare_error_may_stand_for_a_group_of_one() {
    let one = || group([leaf::<Lost>()]);
    assert!(one().or_bare().matches(&lost()));
    assert!(one().or_bare().matches(&grouped([lost()])));
    assert!(!one().or_bare().matches(&refused(1)));
    assert!(!one().or_bare().matches(&grouped([grouped([lost()])])));
    assert!(one().flattened().or_bare().matches(&grouped([grouped([lost()])])));
    assert_leaves(&lost(), [leaf::<Lost>()]);
    let several = || group([error(), error()]).or_bare();
    assert_eq!(said(|| drop(several())), "only a group of one can be expected bare");
}

/// `match`
#[test]
fn a_text_may_be_the_errors_own_or_that_of_a_cause() {
    let failed = grouped([refused(7).context("opening the door"), anyhow!("no such host: x")]);
    let text = |text: &str| error().text(text);
    assert!(group([text("opening"), text("no such host")]).matches(&failed));
    assert!(group([leaf::<Refused>().text("code 7"), error()]).matches(&failed));
    assert!(group([text("opening").text("code 7"), error()]).matches(&failed), "both");
    assert!(!group([text("code 8"), error()]).matches(&failed));
    assert!(!group([text("opening").text("host"), error()]).matches(&failed));
    assert_eq!(
        said(|| drop(group([error()]).text("x"))),
        "with text \"x\": ask that of the members, not of the group"
    );
}

/// `check`
#[test]
fn a_predicate_sees_the_error_itself() {
    let failed = grouped([refused(7), io::Error::other(Refused { code: 8 }).into()]);
    let code = |code| leaf::<Refused>().that("has that code", move |e: &Refused| e.code == code);
    assert!(group([code(8), code(7)]).matches(&failed), "an `io::Error` is seen through");
    assert!(!group([code(8), code(8)]).matches(&failed));
    assert!(!group([error().that("is lost", |_: &Lost| true), error()]).matches(&failed));
}

/// Any `TaskError`: an enum without `Display`, `io::Error`, `Cancelled`.
#[test]
fn errors_of_every_type_can_be_expected() {
    #[derive(Debug, TaskError)]
    enum AppError {
        Cancelled(Cancelled),
        Several(ErrorGroup<AppError>),
        DiskFull { at: u64 },
    }
    let failed = grouped([AppError::DiskFull { at: 3 }, grouped([AppError::DiskFull { at: 4 }])]);
    let full = |place| {
        error().which(
            "is full there",
            move |e: &AppError| matches!(e, AppError::DiskFull { at } if *at == place),
        )
    };
    assert_errors(&failed, group([full(3), group([full(4)])]));
    assert_leaves(&failed, [error().text("at: 4"), error().text("at: 3")]);
    let text = said(|| assert_errors(&failed, group([full(3), full(4)])));
    assert!(text.contains("├─ DiskFull { at: 3 }\n"), "{text}");

    let failed: io::Error = grouped([io::ErrorKind::NotFound.into(), io::Error::other(Lost)]);
    assert_leaves(&failed, [leaf::<Lost>(), error().text("not found")]);
    let not_found = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
    assert_errors(&failed, group([leaf::<io::Error>().that("is not found", not_found), error()]));
}

#[test]
fn what_comes_out_of_a_nursery() {
    let failed = nursery_testing::run(async {
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                let forever = async { anyhow::Ok(sleep_forever().await?) };
                fail_after(std::time::Duration::from_secs(3), forever).await
            });
            n.start_soon(async {
                let ended = sleep_forever().await;
                ended.map_err(|cancelled| refused(1).context(cancelled))
            });
            Ok(sleep_forever().await?)
        })
        .await
    })
    .unwrap_err();
    assert_leaves(&failed, [leaf::<TooSlow>(), leaf::<Refused>()]);
    let cancel = nursery_testing::run(async {
        let scope = nursery::CancelScope::new();
        scope.cancel();
        let ended = scope.enter(async { Ok::<_, Any>(sleep_forever().await.unwrap_err()) });
        Ok::<_, Any>(ended.await?.expect("it returned it"))
    });
    assert_errors(&Any::from(cancel.unwrap()), cancelled());
}

#[test]
fn the_only_leaf_is_returned() {
    let deep = grouped([grouped([refused(7).context("on the way")])]);
    assert_eq!(assert_leaf::<Refused>(&deep), &Refused { code: 7 });
    assert_eq!(assert_leaf::<Lost>(&lost()), &Lost);
    said(|| drop(assert_leaf::<Lost>(&deep).clone()));
    said(|| drop(assert_leaf::<Lost>(&grouped([lost(), lost()])).clone()));
}

/// `assert_message`, `message`
#[test]
fn the_report_shows_both_trees_and_marks_what_has_no_partner() {
    let failed = grouped([lost(), refused(7), grouped([lost(), anyhow!("no such host")])]);
    let inner = group([leaf::<Lost>(), leaf::<Refused>().text("code 9")]);
    let expected = group([inner, error().text("code 7"), leaf::<Lost>()]);
    let report = "\
these are not the expected errors

expected                               found
group of 3                             group of 3
├─ group of 2                          ├─ lost (Lost)
│  ├─ `Lost`                           ├─ refused with code 7 (Refused { code: 7 })
│  └─ ✗ `Refused` with text \"code 9\"   └─ group of 2
├─ any error with text \"code 7\"           ├─ lost (Lost)
└─ `Lost`                                 └─ ✗ no such host
";
    assert_eq!(why(&failed, expected), report);
}

#[test]
fn the_report_of_a_wrong_number() {
    let report = "\
these are not the expected errors

expected         found
group of 2       group of 1
├─ `Lost`        └─ lost (Lost)
└─ ✗ any error
";
    assert_eq!(why(&grouped([lost()]), group([leaf::<Lost>(), error()])), report);
    let report = "\
these are not the expected errors

expected     found
group of 1   group of 2
└─ `Lost`    ├─ lost (Lost)
             └─ ✗ refused with code 1 (Refused { code: 1 })
";
    assert_eq!(why(&grouped([lost(), refused(1)]), group([leaf::<Lost>()])), report);
}

#[test]
fn the_report_of_a_leaf_that_is_none_and_of_no_group() {
    let report = "\
these are not the expected errors

expected   found
✗ `Lost`   ✗ group of 1
           └─ lost (Lost)

It is there, in a group: expect `group([…])`, or use `assert_leaves`.";
    assert_eq!(why(&grouped([lost()]), leaf::<Lost>()), report);
    let report = "\
these are not the expected errors

expected       found
✗ group of 1   ✗ lost (Lost)
└─ `Lost`

It is there, but in no group: `.or_bare()` accepts that.";
    assert_eq!(why(&lost(), group([leaf::<Lost>()])), report);
}

#[test]
fn the_report_of_errors_that_are_grouped_otherwise() {
    let failed = grouped([grouped([lost()]), grouped([refused(1)])]);
    let report = "\
these are not the expected errors

expected         found
group of 2       group of 2
├─ ✗ `Lost`      ├─ ✗ group of 1
└─ ✗ `Refused`   │  └─ lost (Lost)
                 └─ ✗ group of 1
                    └─ refused with code 1 (Refused { code: 1 })

They are there, but grouped otherwise: `.flattened()` accepts that.";
    assert_eq!(why(&failed, group([leaf::<Lost>(), leaf::<Refused>()])), report);
    let report = "\
these are not the expected errors

expected                found
group of 2, flattened   group of 2
├─ `Lost`               ├─ group of 1
└─ ✗ `Lost`             │  └─ lost (Lost)
                        └─ group of 1
                           └─ ✗ refused with code 1 (Refused { code: 1 })
";
    let expected = group([leaf::<Lost>(), leaf::<Lost>()]).flattened();
    assert_eq!(why(&failed, expected), report);
}

#[test]
fn long_texts_are_cut_in_the_report() {
    let text = why(&anyhow!("one\ntwo"), leaf::<Lost>());
    assert!(text.contains("✗ one…\n"), "{text}");
    let text = why(&anyhow!("x".repeat(100)), leaf::<Lost>());
    assert!(text.contains(&format!("✗ {}…\n", "x".repeat(72))), "{text}");
}

#[test]
fn expectations_can_be_looked_at() {
    let expected = group([leaf::<Lost>().that("is in a hurry", |_: &Lost| true), error()]);
    assert_eq!(format!("{expected:?}"), "group of 2\n├─ `Lost` that is in a hurry\n└─ any error");
}
