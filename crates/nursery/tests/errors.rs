//! How errors leave a nursery: all of them, in a group, first cause first; and which cancellations are taken out.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use nursery::{
    CancelScope, CancelSource, Cancelled, ErrorGroup, Nursery, OpenNursery, TaskError, TooSlow,
    checkpoint, fail_after, move_on_after, open_nursery, shield, sleep, sleep_forever,
};
use nursery_testing::{run, wait_all_tasks_blocked};

const SECOND: Duration = Duration::from_secs(1);

type Result<T = ()> = anyhow::Result<T>;

/// [`open_nursery`] with an error type.
fn open<'env, T, B>(
    body: B,
) -> OpenNursery<impl Future<Output = Result<std::result::Result<T, Cancelled>>>>
where
    B: for<'scope> AsyncFnOnce(&'scope Nursery<'scope, 'env, anyhow::Error>) -> Result<T>,
{
    open_nursery(body)
}

async fn fails(text: &'static str) -> Result {
    Err(anyhow!(text))
}

async fn forever() -> Result {
    Ok(sleep_forever().await?)
}

async fn all_blocked() -> Result {
    Ok(wait_all_tasks_blocked(Duration::ZERO).await?)
}

/// The shape of an error: `[a, [b, Cancelled]]`.
fn shape<E: TaskError + fmt::Display>(error: &E) -> String {
    match (error.as_group(), error.as_cancelled()) {
        (Some(group), _) => {
            let members: Vec<_> = group.iter().map(shape).collect();
            format!("[{}]", members.join(", "))
        }
        (None, Some(_)) => "Cancelled".to_owned(),
        (None, None) => error.to_string(),
    }
}

fn group(error: anyhow::Error) -> ErrorGroup<anyhow::Error> {
    error.downcast().expect("a group")
}

// All errors leave, in order.

#[test]
fn nursery_main_block_error_basic() -> Result {
    run(async {
        let error = open(async |_| fails("body").await).await.unwrap_err();
        assert_eq!(shape(&error), "[body]");
        Ok(())
    })
}

#[test]
fn child_crash_basic() -> Result {
    run(async {
        let error = open(async |n| {
            n.start_soon(fails("child"));
            Ok(())
        })
        .await
        .unwrap_err();
        assert_eq!(shape(&error), "[child]");
        Ok(())
    })
}

/// trio: `nursery_explicit_exception`
#[test]
fn an_error_of_the_body_after_it_has_started_children_is_grouped() -> Result {
    run(async {
        let error = open(async |n| {
            n.start_soon(forever());
            fails("body").await
        })
        .await
        .unwrap_err();
        assert_eq!(shape(&error), "[body]");
        Ok(())
    })
}

/// trio: `task_crash_propagation`
#[test]
fn task_crash_propagation_cancels_a_sibling_and_is_reported_alone() -> Result {
    run(async {
        let looper_cancelled = Cell::new(false);
        let error = open(async |n| {
            n.start_soon(async {
                loop {
                    if let Err(cancelled) = checkpoint().await {
                        looper_cancelled.set(true);
                        return Err(cancelled.into());
                    }
                }
                #[expect(unreachable_code, reason = "gives the child's type")]
                Ok(())
            });
            n.start_soon(fails("argh"));
            Ok(())
        })
        .await
        .unwrap_err();
        assert!(looper_cancelled.get());
        assert_eq!(shape(&error), "[argh]");
        Ok(())
    })
}

#[test]
fn main_and_task_both_crash() -> Result {
    run(async {
        let error = open(async |n| {
            n.start_soon(fails("child"));
            fails("body").await
        })
        .await
        .unwrap_err();
        assert_eq!(shape(&error), "[body, child]");
        Ok(())
    })
}

#[test]
fn two_child_crashes() -> Result {
    run(async {
        let error = open(async |n| {
            n.start_soon(fails("first"));
            n.start_soon(async {
                // B18: an error of the clean-up joins the group.
                forever().await.map_err(|_| anyhow!("in clean-up"))
            });
            Ok(())
        })
        .await
        .unwrap_err();
        assert_eq!(shape(&error), "[first, in clean-up]");
        Ok(())
    })
}

#[test]
fn child_crash_wakes_parent() -> Result {
    run(async {
        let woken = Cell::new(false);
        let error = open(async |n| {
            n.start_soon(fails("child"));
            let result = forever().await;
            woken.set(true);
            result
        })
        .await
        .unwrap_err();
        assert!(woken.get());
        assert_eq!(shape(&error), "[child]", "the body's cancellation is absorbed");
        Ok(())
    })
}

/// B13
#[test]
fn the_first_cause_comes_first_whoever_it_was() -> Result {
    run(async {
        let late = async |text: &'static str, seconds| -> Result {
            nursery::shield(sleep(seconds * SECOND)).await?;
            fails(text).await
        };
        let error = open(async |n| {
            n.start_soon(late("third", 3));
            n.start_soon(late("first", 1));
            n.start_soon(late("fourth", 4));
            late("second", 2).await
        })
        .await
        .unwrap_err();
        assert_eq!(shape(&error), "[first, second, third, fourth]");
        Ok(())
    })
}

/// B19
#[test]
fn the_bodys_value_is_lost_when_a_child_fails() -> Result {
    run(async {
        let error = open(async |n| {
            n.start_soon(fails("child"));
            Ok("value")
        })
        .await
        .unwrap_err();
        assert_eq!(shape(&error), "[child]");
        Ok(())
    })
}

/// trio: `setting_strict_exception_groups`, `nursery_collapse`. B15.
#[test]
fn nested_nurseries_make_nested_groups_also_of_single_errors() -> Result {
    run(async {
        let error = open(async |outer| {
            outer.start_soon(async {
                open(async |middle| {
                    middle.start_soon(async { open(async |_| fails("deep").await).await });
                    Ok(())
                })
                .await
            });
            open(async |inner| {
                inner.start_soon(async {
                    sleep(SECOND).await?;
                    Ok(())
                });
                Ok(())
            })
            .await
        })
        .await
        .unwrap_err();
        assert_eq!(shape(&error), "[[[deep]]]");
        Ok(())
    })
}

#[test]
fn a_group_of_the_users_own_stays_a_group() -> Result {
    run(async {
        let error = open(async |n| {
            n.start_soon(async {
                Err::<(), _>(ErrorGroup::new(vec![anyhow!("a"), anyhow!("b")]).into())
            });
            Ok(())
        })
        .await
        .unwrap_err();
        assert_eq!(shape(&error), "[[a, b]]");
        Ok(())
    })
}

// Reasons. B14, A51.

#[test]
fn the_reason_names_the_child_that_failed() -> Result {
    run(async {
        let seen = RefCell::new(String::new());
        let error = open(async |n| {
            n.start_soon(fails("child")).set_name("culprit");
            let cancelled = sleep_forever().await.unwrap_err();
            assert_eq!(cancelled.reason().source(), CancelSource::Nursery);
            assert_eq!(cancelled.reason().task(), Some("culprit"));
            seen.replace(cancelled.to_string());
            Err::<(), _>(cancelled.into())
        })
        .await
        .unwrap_err();
        assert_eq!(shape(&error), "[child]");
        assert_eq!(
            *seen.borrow(),
            "cancelled due to nursery with reason \"a child failed\" from task \"culprit\""
        );
        Ok(())
    })
}

#[test]
fn the_reason_tells_that_the_body_failed() -> Result {
    run(async {
        let seen = RefCell::new(String::new());
        open(async |n| {
            n.start_soon(async {
                let cancelled = sleep_forever().await.unwrap_err();
                seen.replace(cancelled.to_string());
                Err::<(), _>(cancelled.into())
            });
            all_blocked().await?;
            fails("body").await
        })
        .await
        .unwrap_err();
        assert_eq!(
            *seen.borrow(),
            "cancelled due to nursery with reason \"the body failed\" from task \"main\""
        );
        Ok(())
    })
}

#[test]
fn the_first_failure_gives_the_reason() -> Result {
    run(async {
        let scope = RefCell::new(None);
        let error = open(async |n| {
            scope.replace(Some(n.cancel_scope().clone()));
            n.start_soon(async { fails("one").await }).set_name("one");
            n.start_soon(async {
                shield(sleep(SECOND)).await?;
                fails("two").await
            })
            .set_name("two");
            Ok(())
        })
        .await
        .unwrap_err();
        assert_eq!(shape(&error), "[one, two]");
        let scope = scope.take().unwrap();
        assert_eq!(scope.reason().unwrap().task(), Some("one"));
        assert!(!scope.cancelled_caught(), "nobody was cancelled at a checkpoint");
        Ok(())
    })
}

// What is absorbed. B17, A20, A26.

#[test]
fn cancelled_scope_and_no_other_error_is_no_error() -> Result {
    run(async {
        let value = open(async |n| {
            n.start_soon(forever());
            n.start_soon(forever());
            all_blocked().await?;
            n.cancel_scope().cancel();
            Ok(1)
        })
        .await?;
        assert_eq!(value, 1);
        Ok(())
    })
}

#[test]
fn only_cancellations_become_one_bare_cancellation() -> Result {
    run(async {
        let scope = CancelScope::new();
        let shape_inside = RefCell::new(String::new());
        let absorbed = scope
            .enter(async {
                let error = open(async |n| {
                    n.start_soon(forever());
                    n.start_soon(async {
                        open(async |nested| {
                            nested.start_soon(forever());
                            forever().await
                        })
                        .await
                    });
                    all_blocked().await?;
                    scope.cancel();
                    forever().await
                })
                .await
                .unwrap_err();
                shape_inside.replace(shape(&error));
                Err::<(), _>(error)
            })
            .await?;
        assert_eq!(absorbed, None);
        assert_eq!(*shape_inside.borrow(), "Cancelled");
        assert!(scope.cancelled_caught());
        Ok(())
    })
}

/// trio: `cancel_scope_exceptiongroup_filtering`
#[test]
fn cancel_scope_exceptiongroup_filtering() -> Result {
    run(async {
        let outer = CancelScope::new();
        let inside = RefCell::new(String::new());
        let error = outer
            .enter(async {
                let error = open(async |n| {
                    // Two children that are cancelled by the nursery's scope,
                    n.start_soon(forever());
                    n.start_soon(forever());
                    n.cancel_scope().cancel();
                    shield(all_blocked()).await?;
                    // one that is cancelled by the outer scope,
                    n.start_soon(forever());
                    outer.cancel();
                    // one that fails otherwise,
                    n.start_soon(fails("key"));
                    // and the body.
                    forever().await
                })
                .await
                .unwrap_err();
                inside.replace(shape(&error));
                Err::<(), _>(error)
            })
            .await
            .unwrap_err();
        let mut members: Vec<_> =
            inside.borrow()[1..inside.borrow().len() - 1].split(", ").map(str::to_owned).collect();
        members.sort();
        assert_eq!(members, ["Cancelled", "Cancelled", "Cancelled", "Cancelled", "key"]);
        assert_eq!(shape(&error), "[key]");
        assert!(outer.cancelled_caught());
        Ok(())
    })
}

/// trio: `cancel_scope_no_cancellederror`. A24.
#[test]
fn cancel_scope_no_cancellederror_has_caught_nothing() -> Result {
    run(async {
        let scope = CancelScope::new();
        let error = scope
            .enter(async {
                scope.cancel();
                Err::<(), anyhow::Error>(ErrorGroup::new(vec![anyhow!("a"), anyhow!("b")]).into())
            })
            .await
            .unwrap_err();
        assert_eq!(shape(&error), "[a, b]");
        assert!(scope.cancel_called() && !scope.cancelled_caught());
        Ok(())
    })
}

#[test]
fn absorption_leaves_other_errors_and_takes_out_groups_that_become_empty() -> Result {
    run(async {
        let scope = CancelScope::new();
        let error = scope
            .enter(async {
                scope.cancel();
                let cancelled = || async { checkpoint().await.unwrap_err().into() };
                let empty = ErrorGroup::new(vec![cancelled().await, cancelled().await]);
                let mixed = ErrorGroup::new(vec![anyhow!("kept"), cancelled().await]);
                let all: Vec<anyhow::Error> =
                    vec![empty.into(), cancelled().await, mixed.into(), anyhow!("last")];
                Err::<(), anyhow::Error>(ErrorGroup::new(all).into())
            })
            .await
            .unwrap_err();
        assert_eq!(shape(&error), "[[kept], last]");
        assert!(scope.cancelled_caught());
        Ok(())
    })
}

#[test]
fn a_group_of_cancellations_only_is_absorbed_whole() -> Result {
    run(async {
        let scope = CancelScope::new();
        let absorbed = scope
            .enter(async {
                scope.cancel();
                let cancelled = checkpoint().await.unwrap_err();
                let inner = ErrorGroup::new(vec![anyhow::Error::from(cancelled)]);
                Err::<(), anyhow::Error>(ErrorGroup::new(vec![anyhow::Error::from(inner)]).into())
            })
            .await?;
        assert_eq!(absorbed, None);
        assert!(scope.cancelled_caught());
        Ok(())
    })
}

/// A27
#[test]
fn a_scope_that_was_not_cancelled_takes_nothing_out() -> Result {
    run(async {
        let (outer, inner) = (CancelScope::new(), CancelScope::new());
        outer
            .enter(async {
                outer.cancel();
                let error = inner
                    .enter(async {
                        let cancelled = checkpoint().await.unwrap_err();
                        Err::<(), anyhow::Error>(
                            ErrorGroup::new(vec![cancelled.into(), anyhow!("x")]).into(),
                        )
                    })
                    .await
                    .unwrap_err();
                assert_eq!(shape(&error), "[Cancelled, x]");
                assert!(!inner.cancelled_caught());
                Ok::<_, anyhow::Error>(())
            })
            .await?;
        Ok(())
    })
}

/// A23, B14
#[test]
fn a_stray_cancellation_that_leaves_a_child_cancels_the_nursery_which_absorbs_it() -> Result {
    run(async {
        let stray = RefCell::new(None);
        let scope = CancelScope::new();
        scope.cancel();
        scope
            .enter(async {
                stray.replace(checkpoint().await.err());
                Ok::<_, anyhow::Error>(())
            })
            .await?;
        let sibling = Cell::new(false);
        let value = open(async |n| {
            n.start_soon(async {
                sibling.set(sleep_forever().await.is_err());
                Ok(())
            });
            all_blocked().await?;
            n.start_soon(async { Err::<(), _>(stray.take().unwrap().into()) });
            Ok("body")
        })
        .await?;
        assert!(sibling.get());
        assert_eq!(value, "body");
        Ok(())
    })
}

#[test]
fn a_child_that_is_cancelled_alone_keeps_its_other_errors() -> Result {
    run(async {
        let error = open(async |n| {
            let child = n.start_soon(async {
                open(async |nested| {
                    nested
                        .start_soon(async { forever().await.map_err(|_| anyhow!("in clean-up")) });
                    forever().await
                })
                .await
            });
            all_blocked().await?;
            child.cancel();
            Ok(())
        })
        .await
        .unwrap_err();
        assert_eq!(shape(&error), "[[in clean-up]]");
        Ok(())
    })
}

/// L11: neither a cancellation nor an error of a clean-up hides another error.
#[test]
fn an_error_survives_the_cancellation_that_follows_it() -> Result {
    run(async {
        let error = move_on_after(SECOND, async {
            open(async |n| {
                n.start_soon(async {
                    let _ = forever().await;
                    fails("while cancelled").await
                });
                forever().await
            })
            .await
        })
        .await
        .unwrap_err();
        assert_eq!(shape(&error), "[while cancelled]");
        Ok(())
    })
}

#[test]
fn fail_after_leaves_other_errors_in_place_of_too_slow() -> Result {
    run(async {
        let error = fail_after(SECOND, async {
            open(async |n| {
                n.start_soon(async { forever().await.map_err(|_| anyhow!("other")) });
                forever().await
            })
            .await
        })
        .await
        .unwrap_err();
        assert_eq!(shape(&error), "[other]");
        let error = fail_after(SECOND, open(async |_| forever().await)).await.unwrap_err();
        assert!(error.is::<TooSlow>());
        Ok(())
    })
}

// Error types.

#[test]
fn an_io_error_carries_a_cancellation_through_a_nursery() -> io::Result<()> {
    run(async {
        let value = open_nursery(async |n| -> io::Result<&str> {
            n.start_soon(async { io::Result::Ok(sleep_forever().await?) });
            n.start_soon(async {
                // As a stream would, that knows only `io::Error`.
                let error: io::Error = sleep_forever().await.unwrap_err().into();
                assert_eq!(error.kind(), io::ErrorKind::Other);
                assert!(error.as_cancelled().is_some());
                Err::<(), _>(error)
            });
            wait_all_tasks_blocked(Duration::ZERO).await?;
            n.cancel_scope().cancel();
            Ok("absorbed")
        })
        .await?;
        assert_eq!(value, "absorbed");
        Ok(())
    })
}

#[test]
fn io_errors_are_grouped_and_keep_their_kind() -> io::Result<()> {
    run(async {
        let error = open_nursery(async |n| -> io::Result<()> {
            n.start_soon(async { Err::<(), _>(io::Error::from(io::ErrorKind::NotFound)) });
            n.start_soon(async { io::Result::Ok(sleep_forever().await?) });
            Ok(())
        })
        .await
        .unwrap_err();
        let group = error.as_group().unwrap();
        assert_eq!(group.len(), 1);
        assert_eq!(group.iter().next().unwrap().kind(), io::ErrorKind::NotFound);
        Ok(())
    })
}

#[test]
fn anyhow_with_context_still_is_a_cancellation() -> Result {
    run(async {
        let scope = CancelScope::new();
        let absorbed = scope
            .enter(async {
                open(async |n| {
                    n.start_soon(async {
                        forever().await.context("reading the header").context("serving")
                    });
                    n.start_soon(async {
                        let io: io::Result<()> = sleep_forever().await.map_err(io::Error::from);
                        io.context("in an io::Error")
                    });
                    all_blocked().await?;
                    scope.cancel();
                    Ok(())
                })
                .await
                .context("around the nursery")
            })
            .await?;
        assert_eq!(absorbed, None);
        Ok(())
    })
}

#[test]
fn a_group_with_context_is_still_taken_apart() -> Result {
    run(async {
        let scope = CancelScope::new();
        let error = scope
            .enter(async {
                open(async |n| {
                    n.start_soon(async { forever().await.map_err(|_| anyhow!("kept")) });
                    n.start_soon(forever());
                    all_blocked().await?;
                    scope.cancel();
                    forever().await
                })
                .await
                .context("serving")
            })
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "serving");
        assert_eq!(shape(&error), "[kept]");
        Ok(())
    })
}

#[derive(Debug, nursery::TaskError)]
enum AppError {
    Cancelled(Cancelled),
    Several(ErrorGroup<AppError>),
    Io(io::Error),
    Full(u32),
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppError::Cancelled(error) => error.fmt(f),
            AppError::Several(group) => group.fmt(f),
            AppError::Io(error) => error.fmt(f),
            AppError::Full(size) => write!(f, "full at {size}"),
        }
    }
}

#[test]
fn an_enum_of_the_users_own_works_like_the_others() {
    let error = run(async {
        move_on_after(SECOND, async {
            open_nursery(async |n| -> std::result::Result<(), AppError> {
                n.start_soon(async { Ok(sleep_forever().await?) });
                n.start_soon(async {
                    let _ = sleep_forever().await;
                    Err::<(), _>(AppError::Full(3))
                });
                n.start_soon(async {
                    let _ = sleep_forever().await;
                    Err::<(), _>(AppError::Io(io::ErrorKind::BrokenPipe.into()))
                });
                Ok(())
            })
            .await
        })
        .await
    })
    .unwrap_err();
    let AppError::Several(group) = error else { panic!("{error}") };
    assert_eq!(group.len(), 2);
    assert!(group.iter().any(|error| matches!(error, AppError::Full(3))));
    assert!(group.iter().any(|error| matches!(error, AppError::Io(_))));
}

// Groups as values.

#[derive(Debug)]
struct Broken {
    source: io::Error,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the pump is broken")
    }
}

impl Error for Broken {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

fn broken() -> Broken {
    Broken { source: io::Error::new(io::ErrorKind::TimedOut, "no water") }
}

/// trio: `nursery_exception_chaining_doesnt_make_context_loops`. B22.
#[test]
fn the_source_chain_of_an_error_passes_a_nursery_unchanged() -> Result {
    run(async {
        let error = open(async |n| {
            n.start_soon(async { Err::<(), _>(anyhow::Error::new(broken()).context("watering")) });
            n.start_soon(async { forever().await.map_err(|_| anyhow!("unrelated")) });
            Ok(())
        })
        .await
        .unwrap_err();
        assert!(error.source().is_none(), "a group has no single cause");
        let members: Vec<_> = group(error).into_iter().collect();
        let chain: Vec<_> = members[0].chain().map(ToString::to_string).collect();
        assert_eq!(chain, ["watering", "the pump is broken", "no water"]);
        let chain: Vec<_> = members[1].chain().map(ToString::to_string).collect();
        assert_eq!(chain, ["unrelated"]);
        Ok(())
    })
}

#[test]
fn into_single_takes_the_only_error_out() {
    let error = ErrorGroup::new(vec!["only"]).into_single().unwrap();
    assert_eq!(error, "only");
}

#[test]
fn into_single_gives_a_group_of_several_back_unchanged() {
    let group = ErrorGroup::new(vec![1, 2, 3]).into_single().unwrap_err();
    assert_eq!(group.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
#[should_panic(expected = "an `ErrorGroup` needs at least one error")]
fn a_group_of_no_errors_is_refused() {
    drop(ErrorGroup::<anyhow::Error>::new(vec![]));
}

fn sample() -> ErrorGroup<anyhow::Error> {
    let inner = ErrorGroup::new(vec![anyhow!("disk full"), anyhow::Error::new(broken())]);
    let deeper = ErrorGroup::new(vec![anyhow::Error::from(inner)]);
    ErrorGroup::new(vec![
        anyhow!("connection refused").context("connecting"),
        deeper.into(),
        anyhow!("last"),
    ])
}

#[test]
fn leaves_are_all_errors_that_are_no_groups_depth_first() {
    let group = sample();
    let leaves: Vec<_> = group.leaves().map(ToString::to_string).collect();
    assert_eq!(leaves, ["connecting", "disk full", "the pump is broken", "last"]);
    assert_eq!(group.len(), 3);
    assert_eq!((&group).into_iter().count(), 3);
}

#[test]
fn find_looks_through_all_levels_and_causes() {
    let group = sample();
    assert_eq!(group.find::<Broken>().unwrap().to_string(), "the pump is broken");
    assert_eq!(group.find::<io::Error>().unwrap().kind(), io::ErrorKind::TimedOut);
    assert!(group.find::<TooSlow>().is_none());
    // An `io::Error` hides what it holds from `source`.
    let held = io::Error::other(Broken { source: io::Error::other("no water") });
    assert!(ErrorGroup::new(vec![held]).find::<Broken>().is_some());
}

#[test]
fn display_is_a_tree() {
    assert_eq!(
        sample().to_string(),
        "\
3 errors
├─ connecting: connection refused
├─ 1 error
│  └─ 2 errors
│     ├─ disk full
│     └─ the pump is broken: no water
└─ last"
    );
}

#[test]
fn display_indents_errors_of_several_lines() {
    let group = ErrorGroup::new(vec!["one\ntwo", "three\nfour"]);
    assert_eq!(group.to_string(), "2 errors\n├─ one\n│  two\n└─ three\n   four");
}

#[test]
fn debug_shows_the_members() {
    assert_eq!(format!("{:?}", ErrorGroup::new(vec![1, 2])), "ErrorGroup[1, 2]");
}

#[test]
fn a_nurserys_error_displays_as_that_tree() -> Result {
    run(async {
        let error = open(async |n| {
            n.start_soon(fails("disk full"));
            Ok(())
        })
        .await
        .unwrap_err();
        assert_eq!(error.to_string(), "1 error\n└─ disk full");
        Ok(())
    })
}
