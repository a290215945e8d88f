//! Every cancellation says why, and which task caused it: trio's `test_cancelled`.

use std::cell::RefCell;
use std::future::Future;
use std::time::Duration;

use anyhow::bail;
use nursery::lowlevel::{spawn_system_task, wait_all_tasks_blocked};
use nursery::{
    CancelReason, CancelScope, CancelSource, Cancelled, ErrorGroup, TaskError, checkpoint,
    move_on_after, now, open_nursery, shield, sleep, sleep_forever,
};

const SECOND: Duration = Duration::from_secs(1);

fn run<T>(main: impl Future<Output = anyhow::Result<T>>) -> T {
    nursery_testing::run(main).unwrap()
}

async fn settled() -> anyhow::Result<()> {
    Ok(wait_all_tasks_blocked(Duration::ZERO).await?)
}

/// What a checkpoint says here.
async fn raised() -> Cancelled {
    checkpoint().await.expect_err("not cancelled")
}

async fn text() -> String {
    raised().await.to_string()
}

fn group(error: &anyhow::Error) -> Vec<String> {
    let group = error.downcast_ref::<ErrorGroup<anyhow::Error>>().expect("a group");
    group.iter().map(ToString::to_string).collect()
}

/// The text of the cancellation of a child that waits for ever.
async fn told(by: &RefCell<Vec<String>>) -> anyhow::Result<()> {
    let cancelled = sleep_forever().await.unwrap_err();
    by.borrow_mut().push(cancelled.to_string());
    Ok(())
}

#[test]
fn cancelled_str() {
    let source = CancelReason::new(CancelSource::Explicit);
    assert_eq!(source.to_string(), "explicit");
    let with_text = CancelReason::new(CancelSource::Nursery).with_text("pigs flying");
    assert_eq!(with_text.to_string(), "nursery with reason \"pigs flying\"");
    run(async {
        let scope = CancelScope::new();
        scope.cancel_because(with_text);
        let body = async { Ok::<_, Cancelled>((text().await, format!("{:?}", raised().await))) };
        let (display, debug) = scope.enter(body).await?.unwrap();
        let reason = "nursery with reason \"pigs flying\" from task \"main\"";
        assert_eq!(display, format!("cancelled due to {reason}"));
        assert_eq!(debug, format!("Cancelled({reason})"));
        Ok(())
    });
}

#[test]
fn each_source_has_a_name() {
    let names = [
        (CancelSource::Explicit, "explicit"),
        (CancelSource::Deadline, "deadline"),
        (CancelSource::Nursery, "nursery"),
        (CancelSource::Shutdown, "shutdown"),
        (CancelSource::KeyboardInterrupt, "keyboard interrupt"),
        (CancelSource::Terminated, "terminated"),
        (CancelSource::Unknown, "unknown"),
    ];
    for (source, name) in names {
        assert_eq!(source.to_string(), name);
        assert_eq!(CancelReason::from(source), CancelReason::new(source));
    }
}

#[test]
fn cancel_reason() {
    run(async {
        let scope = CancelScope::new();
        scope
            .enter(async {
                scope.cancel_because("hello");
                let error = raised().await;
                let expected = "cancelled due to explicit with reason \"hello\" from task \"main\"";
                assert_eq!(error.to_string(), expected);
                assert_eq!(error.reason().source(), CancelSource::Explicit);
                assert_eq!(error.reason().text(), Some("hello"));
                assert_eq!(error.reason().task(), Some("main"));
                assert_eq!(scope.reason().as_ref(), Some(error.reason()));
                anyhow::Ok(())
            })
            .await?;
        // Deadlines: passed before the entry, and while inside.
        let scope = CancelScope::new().with_deadline(now());
        let at_entry = scope.enter(async { anyhow::Ok(text().await) }).await?.unwrap();
        assert_eq!(at_entry, "cancelled due to deadline");
        let scope = CancelScope::new();
        let body = async {
            scope.set_deadline(Some(now()));
            anyhow::Ok(text().await)
        };
        assert_eq!(scope.enter(body).await?.unwrap(), "cancelled due to deadline");
        let slept = move_on_after(SECOND, async {
            anyhow::Ok(sleep_forever().await.unwrap_err().reason().clone())
        });
        assert_eq!(slept.await?, Some(CancelSource::Deadline.into()));
        Ok(())
    });
}

#[test]
fn a_reason_can_be_a_text_a_string_or_a_source() {
    run(async {
        let reasons: [CancelReason; 3] =
            ["a".into(), String::from("a").into(), CancelSource::KeyboardInterrupt.into()];
        let texts: Vec<_> = reasons.iter().map(CancelReason::to_string).collect();
        let a = "explicit with reason \"a\"";
        assert_eq!(texts, [a, a, "keyboard interrupt"]);
        Ok(())
    });
}

#[test]
fn a_scope_that_was_not_cancelled_has_no_reason() {
    run(async {
        let (outer, inner) = (CancelScope::new(), CancelScope::new());
        outer.cancel_because("outer");
        outer
            .enter(async {
                inner
                    .enter(async {
                        assert_eq!(inner.reason(), None);
                        assert_eq!(raised().await.reason().text(), Some("outer"));
                        anyhow::Ok(())
                    })
                    .await
            })
            .await?;
        assert_eq!(inner.reason(), None);
        assert_eq!(outer.reason().unwrap().text(), Some("outer"));
        Ok(())
    });
}

/// The child fails before the other is started.
#[test]
fn cancel_reason_nursery() {
    const REASON: &str =
        "cancelled due to nursery with reason \"a child failed\" from task \"fails\"";
    run(async {
        let by = RefCell::new(vec![]);
        let failed = open_nursery(async |n| -> anyhow::Result<()> {
            let fails = async { bail!("value") as anyhow::Result<()> };
            n.start_soon(fails).set_name("fails");
            let cancelled = wait_all_tasks_blocked(Duration::ZERO).await.unwrap_err();
            by.borrow_mut().push(cancelled.to_string());
            n.start_soon(async {
                told(&by).await?;
                bail!("type") as anyhow::Result<()>
            });
            Ok(())
        })
        .await
        .unwrap_err();
        assert_eq!(group(&failed), ["value", "type"]);
        assert_eq!(by.take(), [REASON, REASON]);
        Ok(())
    });
}

/// Both run before the child fails.
#[test]
fn cancel_reason_nursery2() {
    const REASON: &str =
        "cancelled due to nursery with reason \"a child failed\" from task \"fails\"";
    run(async {
        let by = RefCell::new(vec![]);
        let failed = open_nursery(async |n| -> anyhow::Result<()> {
            let fails = async {
                settled().await?;
                bail!("value") as anyhow::Result<()>
            };
            n.start_soon(fails).set_name("fails");
            n.start_soon(async {
                told(&by).await?;
                bail!("type") as anyhow::Result<()>
            });
            told(&by).await
        })
        .await
        .unwrap_err();
        assert_eq!(group(&failed), ["value", "type"]);
        assert_eq!(by.take(), [REASON, REASON]);
        Ok(())
    });
}

/// A child fails before it has started: that is a failure of the body.
#[test]
fn cancel_reason_nursery3() {
    run(async {
        let by = RefCell::new(vec![]);
        let failed = open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(told(&by));
            settled().await?;
            n.start(async |_status: nursery::TaskStatus<()>| bail!("value")).await?;
            Ok(())
        })
        .await
        .unwrap_err();
        assert_eq!(group(&failed), ["value"]);
        let expected =
            "cancelled due to nursery with reason \"the body failed\" from task \"main\"";
        assert_eq!(by.take(), [expected]);
        Ok(())
    });
}

#[test]
fn an_unnamed_child_is_called_by_the_place_where_it_was_started() {
    run(async {
        let by = RefCell::new(vec![]);
        let failed = open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(told(&by));
            settled().await?;
            n.start_soon(async { bail!("value") as anyhow::Result<()> });
            Ok(())
        })
        .await;
        assert!(failed.is_err());
        let text = by.take().remove(0);
        assert!(text.contains("from task \"crates/nursery/tests/reasons.rs:"), "{text}");
        Ok(())
    });
}

#[test]
fn cancel_reason_not_overwritten() {
    run(async {
        let scope = CancelScope::new();
        scope
            .enter(async {
                scope.cancel();
                assert_eq!(text().await, "cancelled due to explicit from task \"main\"");
                scope.set_deadline(Some(now()));
                assert_eq!(text().await, "cancelled due to explicit from task \"main\"");
                scope.cancel_because("later");
                assert_eq!(text().await, "cancelled due to explicit from task \"main\"");
                anyhow::Ok(())
            })
            .await?;
        scope.cancel_because("after its end");
        assert_eq!(scope.reason().unwrap().text(), None);
        Ok(())
    });
}

#[test]
fn cancel_reason_not_overwritten_2() {
    run(async {
        let scope = CancelScope::new();
        scope
            .enter(async {
                scope.set_deadline(Some(now()));
                assert_eq!(text().await, "cancelled due to deadline");
                scope.cancel();
                assert_eq!(text().await, "cancelled due to deadline");
                anyhow::Ok(())
            })
            .await?;
        // Before entry as well.
        let scope = CancelScope::new();
        scope.cancel_because("first");
        scope.cancel_because("second");
        let text = scope.enter(async { anyhow::Ok(raised().await) }).await?.unwrap();
        assert_eq!(text.reason().text(), Some("first"));
        Ok(())
    });
}

#[test]
fn nested_child_source() {
    run(async {
        let by = RefCell::new(vec![]);
        let failed = open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                // Two levels down, through a scope and another nursery.
                let scope = CancelScope::new();
                let inside = async {
                    open_nursery(async |n| -> anyhow::Result<()> {
                        n.start_soon(told(&by));
                        Ok(())
                    })
                    .await
                };
                scope.enter(inside).await?;
                assert_eq!(scope.reason(), None);
                Ok(())
            });
            settled().await?;
            bail!("value")
        })
        .await
        .unwrap_err();
        assert_eq!(group(&failed), ["value"]);
        let expected =
            "cancelled due to nursery with reason \"the body failed\" from task \"main\"";
        assert_eq!(by.take(), [expected]);
        Ok(())
    });
}

/// A50: what it took over first stands, also when the scope itself is cancelled later.
#[test]
fn a_scope_cancelled_from_above_keeps_that_reason() {
    run(async {
        let (outer, inner) = (CancelScope::new(), CancelScope::new());
        let body = async {
            outer.cancel_because("outer");
            inner.cancel_because("inner");
            anyhow::Ok(raised().await.reason().text().map(str::to_owned))
        };
        let text = outer.enter(async { inner.enter(body).await }).await?.flatten();
        assert_eq!(text.unwrap().as_deref(), Some("outer"));
        Ok(())
    });
}

/// Trio's delayed interrupt: however late it is delivered, the source stays.
#[test]
fn reason_delayed_ki() {
    run(async {
        let by = RefCell::new(vec![]);
        let scope = CancelScope::new();
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                let body = async {
                    shield(sleep(SECOND)).await?;
                    told(&by).await
                };
                scope.enter(body).await?;
                Ok(())
            });
            settled().await?;
            n.start_soon(async {
                scope.cancel_because(CancelSource::KeyboardInterrupt);
                Ok(())
            })
            .set_name("raiser");
            Ok(())
        })
        .await?;
        let expected = "cancelled due to keyboard interrupt from task \"raiser\"";
        assert_eq!(by.take(), [expected]);
        Ok(())
    });
}

#[test]
fn the_end_of_the_run_is_a_reason() {
    let seen = std::rc::Rc::new(RefCell::new(None));
    run(async {
        let seen = seen.clone();
        let system = async move {
            seen.replace(Some(sleep_forever().await.unwrap_err()));
            Ok(())
        };
        assert!(spawn_system_task("service", system).is_ok());
        settled().await
    });
    assert_eq!(seen.take().unwrap().to_string(), "cancelled due to shutdown");
}

#[test]
fn a_child_cancelled_by_its_handle_knows_the_reason() {
    run(async {
        let by = RefCell::new(vec![]);
        open_nursery(async |n| -> anyhow::Result<()> {
            let child = n.start_soon(told(&by));
            settled().await?;
            child.cancel_because("not needed any more");
            Ok(())
        })
        .await?;
        let expected =
            "cancelled due to explicit with reason \"not needed any more\" from task \"main\"";
        assert_eq!(by.take(), [expected]);
        Ok(())
    });
}

#[test]
fn the_error_of_a_body_that_was_cancelled_itself_carries_the_reason_out() {
    run(async {
        let left = open_nursery(async |n| -> anyhow::Result<()> {
            n.cancel_scope().cancel_because("enough");
            Ok(sleep_forever().await?)
        })
        .await
        .unwrap_err();
        assert_eq!(left.as_cancelled().unwrap().reason().text(), Some("enough"));
        Ok(())
    });
}

#[test]
fn waiting_for_a_child_that_failed_says_so() {
    run(async {
        let seen = RefCell::new(None);
        let failed = open_nursery(async |n| -> anyhow::Result<()> {
            let child = n.start_soon(async { bail!("broken") as anyhow::Result<()> });
            let outcome = shield(child).await;
            seen.replace(outcome.err());
            Ok(())
        })
        .await;
        assert!(failed.is_err());
        assert_eq!(seen.take().unwrap().reason().source(), CancelSource::Nursery);
        Ok(())
    });
}
