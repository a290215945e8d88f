//! Promises of `nursery_io::signal`. Tests of one process share its signals: each uses signals of its own, and whatever
//! concerns SIGINT and SIGTERM, or may kill the process, happens in a child process: the same test, called again.
#![cfg(unix)]

use std::cell::Cell;
use std::env;
use std::future::Future;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use futures_lite::{StreamExt as _, future};
use nursery::lowlevel::wait_all_tasks_blocked;
use nursery::{
    CancelScope, CancelSource, Cancelled, TaskError, checkpoint, finally, move_on_after,
    open_nursery, shield, sleep, sleep_forever, tree,
};
use nursery_io::signal::{self, Signal, SignalReceiver, cancel_on_ctrl_c};
use nursery_testing::Test;
use rustix::process::{Pid, Signal as Raw, getpid, kill_process};

const LONG: Duration = Duration::from_secs(60);

/// Waits for real signals, so not on a virtual clock, which would not wait.
fn run<T>(main: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    Test::new().real_clock().run(main)
}

/// Sends this process a signal, and waits until every receiver that was made before `probe` has it.
async fn raise(signal: Raw, probe: &mut SignalReceiver) -> io::Result<()> {
    kill_process(getpid(), signal)?;
    probe.recv().await?;
    Ok(())
}

#[test]
fn a_signal_is_received() -> io::Result<()> {
    run(async {
        let mut signals = signal::receiver(&[Signal::Usr1])?;
        open_nursery(async |n| -> io::Result<()> {
            n.start_soon(async {
                wait_all_tasks_blocked(Duration::ZERO).await?;
                assert!(tree().to_string().contains("waits for a signal"), "{}", tree());
                kill_process(getpid(), Raw::USR1)?;
                Ok(())
            });
            assert_eq!(signals.recv().await?, Signal::Usr1);
            Ok(())
        })
        .await
    })
}

#[test]
fn different_signals_come_in_order_and_one_that_comes_twice_comes_once() -> io::Result<()> {
    run(async {
        let all = [Signal::Usr2, Signal::Winch, Signal::Hup];
        let mut signals = signal::receiver(&all)?;
        let mut probe = signal::receiver(&all)?;
        for signal in [Raw::USR2, Raw::HUP, Raw::USR2, Raw::WINCH, Raw::HUP] {
            raise(signal, &mut probe).await?;
        }
        assert_eq!(signals.recv().await?, Signal::Usr2);
        assert_eq!(signals.recv().await?, Signal::Hup);
        raise(Raw::HUP, &mut probe).await?; // again, after it has been received
        assert_eq!(signals.recv().await?, Signal::Winch);
        assert_eq!(signals.recv().await?, Signal::Hup);
        assert!(is_waiting(&mut signals).await);
        Ok(())
    })
}

/// Polls `recv` twice (the first time it may just yield), and drops it.
async fn is_waiting(signals: &mut SignalReceiver) -> bool {
    let mut recv = std::pin::pin!(signals.recv());
    let first = future::poll_once(&mut recv).await;
    first.is_none() && future::poll_once(&mut recv).await.is_none()
}

#[test]
fn a_signal_listed_twice_is_received_once() -> io::Result<()> {
    run(async {
        let mut signals = signal::receiver(&[Signal::Urg, Signal::Urg])?;
        let mut probe = signal::receiver(&[Signal::Urg])?;
        raise(Raw::URG, &mut probe).await?;
        assert_eq!(signals.recv().await?, Signal::Urg);
        assert!(is_waiting(&mut signals).await);
        Ok(())
    })
}

#[test]
fn recv_is_a_checkpoint_that_takes_nothing_when_it_is_cancelled() -> io::Result<()> {
    run(async {
        let mut signals = signal::receiver(&[Signal::Io])?;
        let mut probe = signal::receiver(&[Signal::Io])?;
        raise(Raw::IO, &mut probe).await?;
        let scope = CancelScope::new();
        scope.cancel_because("enough");
        let result = scope
            .enter(async {
                let error = signals.recv().await.unwrap_err();
                assert_eq!(error.as_cancelled().unwrap().reason().text(), Some("enough"));
                Err::<(), io::Error>(error)
            })
            .await?;
        assert!(result.is_none());
        assert_eq!(signals.recv().await?, Signal::Io); // still there
        Ok(())
    })
}

#[test]
fn recv_can_be_cancelled_while_it_waits() -> io::Result<()> {
    run(async {
        let mut signals = signal::receiver(&[Signal::Sys])?;
        let stopped = open_nursery(async |n| -> io::Result<()> {
            n.start_soon(async {
                wait_all_tasks_blocked(Duration::ZERO).await?;
                n.cancel_scope().cancel();
                Ok(())
            });
            signals.recv().await?;
            Ok(())
        })
        .or_none()
        .await?;
        assert!(stopped.is_none());
        Ok(())
    })
}

#[test]
fn a_recv_that_is_dropped_half_way_took_nothing() -> io::Result<()> {
    run(async {
        let mut signals = signal::receiver(&[Signal::Cont])?;
        let mut probe = signal::receiver(&[Signal::Cont])?;
        assert!(is_waiting(&mut signals).await); // dropped while it waits
        raise(Raw::CONT, &mut probe).await?;
        // With a budget of 1 it yields although the signal is there, and is dropped then.
        checkpoint().await?;
        assert!(future::poll_once(signals.recv()).await.is_none());
        assert_eq!(signals.recv().await?, Signal::Cont);
        Ok(())
    })
}

#[test]
fn a_stream_of_signals_is_a_checkpoint_too() -> io::Result<()> {
    run(async {
        let mut signals = signal::receiver(&[Signal::Alarm])?;
        let mut probe = signal::receiver(&[Signal::Alarm])?;
        for _ in 0..3 {
            raise(Raw::ALARM, &mut probe).await?;
            assert_eq!(signals.next().await.unwrap()?, Signal::Alarm);
        }
        raise(Raw::ALARM, &mut probe).await?;
        let scope = CancelScope::new();
        scope.cancel();
        let result = scope.enter(async { signals.next().await.unwrap() }).await?;
        assert!(result.is_none());
        assert_eq!(signals.next().await.unwrap()?, Signal::Alarm); // still there
        Ok(())
    })
}

#[test]
fn a_cancellation_of_a_wait_that_was_given_up_is_not_reported_elsewhere() -> io::Result<()> {
    run(async {
        let mut signals = signal::receiver(&[Signal::Prof])?;
        let mut probe = signal::receiver(&[Signal::Prof])?;
        let scope = CancelScope::new();
        let entered = scope.enter(async {
            assert!(future::poll_once(signals.next()).await.is_none()); // waits in this scope
            scope.cancel();
            Ok::<(), io::Error>(())
        });
        assert!(entered.await?.is_some());
        assert!(future::poll_once(signals.next()).await.is_none());
        raise(Raw::PROF, &mut probe).await?;
        assert_eq!(signals.next().await.unwrap()?, Signal::Prof);
        Ok(())
    })
}

#[test]
fn every_receiver_gets_the_signal_and_a_dropped_one_disturbs_nobody() -> io::Result<()> {
    run(async {
        let mut one = signal::receiver(&[Signal::Xcpu])?;
        let mut two = signal::receiver(&[Signal::Xcpu])?;
        kill_process(getpid(), Raw::XCPU)?;
        assert_eq!(one.recv().await?, Signal::Xcpu);
        assert_eq!(two.recv().await?, Signal::Xcpu);
        drop(one);
        kill_process(getpid(), Raw::XCPU)?;
        assert_eq!(two.recv().await?, Signal::Xcpu);
        Ok(())
    })
}

#[test]
fn a_receiver_of_no_signal_is_refused() {
    let error = signal::receiver(&[]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_receiver_that_is_refused_listens_for_none_of_its_signals() {
    if is_child() {
        for bad in [Signal::Kill, Signal::Stop, Signal::Ill, Signal::Fpe, Signal::Segv] {
            let error = signal::receiver(&[Signal::Vtalarm, bad]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        }
        println!("ready");
        kill_process(getpid(), Raw::VTALARM).unwrap(); // not caught, it kills
        return;
    }
    let mut child = call_again("a_receiver_that_is_refused_listens_for_none_of_its_signals");
    child.wait_for("ready");
    assert_eq!(child.end().signal(), Some(Raw::VTALARM.as_raw()));
}

#[test]
fn without_a_signal_cancel_on_ctrl_c_is_its_body() {
    for seed in 0..20 {
        let value = Test::new().seed(seed).run(cancel_on_ctrl_c(async {
            checkpoint().await?;
            Ok::<_, Cancelled>(42)
        }));
        assert_eq!(value.unwrap(), Some(42));
        let error = Test::new().seed(seed).run(cancel_on_ctrl_c(async {
            checkpoint().await?;
            Err::<(), _>(anyhow::anyhow!("disk full"))
        }));
        assert_eq!(error.unwrap_err().to_string(), "disk full");
    }
}

#[test]
fn cancel_on_ctrl_c_passes_a_cancellation_from_outside_through() {
    let source = Cell::new(None);
    let timed_out = nursery_testing::run(move_on_after(
        LONG,
        cancel_on_ctrl_c(async {
            let ended = sleep_forever().await;
            source.set(ended.as_ref().err().map(|cancelled| cancelled.reason().source()));
            ended
        }),
    ));
    assert!(timed_out.unwrap().is_none());
    assert_eq!(source.get(), Some(CancelSource::Deadline));
}

#[test]
fn the_tree_shows_what_waits_for_the_signal_and_where() {
    nursery_testing::run(async {
        let place = line!() + 1;
        cancel_on_ctrl_c(async {
            checkpoint().await?;
            let tree = tree().to_string();
            assert!(tree.contains("waits for a signal"), "{tree}");
            assert!(tree.contains("scope \"until Ctrl-C\""), "{tree}");
            assert_eq!(tree.matches(&format!("tests/signal.rs:{place})")).count(), 2, "{tree}");
            Ok::<_, Cancelled>(())
        })
        .await
    })
    .unwrap();
}

#[test]
fn the_body_takes_as_many_steps_as_without() {
    let steps = Cell::new(0);
    nursery_testing::run(async {
        open_nursery(async |n| -> Result<(), Cancelled> {
            // Two loops go in step, one of them under `cancel_on_ctrl_c`.
            n.start_soon(cancel_on_ctrl_c(async {
                for _ in 0..100 {
                    steps.set(steps.get() + 1);
                    checkpoint().await?;
                }
                Ok(())
            }));
            for step in 0..100_u32 {
                assert!(step.abs_diff(steps.get()) <= 1, "{step} and {}", steps.get());
                checkpoint().await?;
            }
            Ok(())
        })
        .await
    })
    .unwrap();
}

#[test]
fn the_first_signal_cancels_and_shields_and_clean_up_run() {
    if is_child() {
        let stopped = nursery::run(cancel_on_ctrl_c(async {
            let body = async {
                shield(async {
                    println!("ready");
                    until_noticed().await;
                    checkpoint().await // shielded
                })
                .await?;
                let cancelled = checkpoint().await.unwrap_err();
                println!("{cancelled}");
                Err::<(), anyhow::Error>(cancelled.into())
            };
            finally(body, LONG, async || {
                checkpoint().await?;
                println!("cleaned up");
                Ok(())
            })
            .await
        }));
        println!("{:?}", stopped.unwrap());
        return;
    }
    for (signal, said) in [(Raw::INT, "keyboard interrupt"), (Raw::TERM, "terminated")] {
        let mut child = call_again("the_first_signal_cancels_and_shields_and_clean_up_run");
        child.wait_for("ready");
        child.send(signal);
        child.wait_for(&format!("cancelled due to {said}")); // no task is to blame
        child.wait_for("cleaned up");
        child.wait_for("None");
        assert!(child.end().success());
    }
}

#[test]
fn a_body_that_gets_done_after_the_signal_keeps_its_value() {
    if is_child() {
        let value = nursery::run(cancel_on_ctrl_c(async {
            println!("ready");
            shield(until_noticed()).await;
            Ok::<_, Cancelled>(42)
        }));
        assert_eq!(value.unwrap(), Some(42));
        return;
    }
    let mut child = call_again("a_body_that_gets_done_after_the_signal_keeps_its_value");
    child.wait_for("ready");
    child.send(Raw::TERM);
    assert!(child.end().success());
}

#[test]
fn the_second_signal_ends_the_process_with_status_130() {
    if is_child() {
        let ended = nursery::run(cancel_on_ctrl_c(finally(
            async {
                println!("ready");
                anyhow::Ok(sleep_forever().await?)
            },
            LONG,
            async || {
                println!("cleaning up");
                Ok(sleep(LONG).await?)
            },
        )));
        unreachable!("{ended:?}");
    }
    for (first, second) in [(Raw::INT, Raw::INT), (Raw::TERM, Raw::TERM), (Raw::TERM, Raw::INT)] {
        let mut child = call_again("the_second_signal_ends_the_process_with_status_130");
        child.wait_for("ready");
        child.send(first);
        child.wait_for("cleaning up");
        child.send(second);
        assert_eq!(child.end().code(), Some(130));
    }
}

#[test]
fn two_signals_before_the_run_looks_are_two() {
    if is_child() {
        let ended = nursery::run(cancel_on_ctrl_c(async {
            kill_process(getpid(), Raw::INT).unwrap();
            kill_process(getpid(), Raw::TERM).unwrap();
            shield(sleep(LONG)).await
        }));
        unreachable!("{ended:?}");
    }
    let ended = call_again("two_signals_before_the_run_looks_are_two").end();
    assert_eq!(ended.code(), Some(130));
}

#[test]
fn the_second_signal_counts_also_after_a_cancellation_from_outside() {
    if is_child() {
        let scope = CancelScope::new();
        scope.cancel();
        let ended = nursery::run(scope.enter(cancel_on_ctrl_c(shield(async {
            println!("ready");
            until_noticed().await;
            println!("noticed");
            sleep(LONG).await
        }))));
        unreachable!("{ended:?}");
    }
    let mut child = call_again("the_second_signal_counts_also_after_a_cancellation_from_outside");
    child.wait_for("ready");
    child.send(Raw::INT);
    child.wait_for("noticed");
    child.send(Raw::INT);
    assert_eq!(child.end().code(), Some(130));
}

#[test]
fn after_cancel_on_ctrl_c_nothing_listens_any_more() {
    if is_child() {
        nursery::run(async {
            cancel_on_ctrl_c(async { Ok::<(), Cancelled>(()) }).await?; // it returned
            let failed = cancel_on_ctrl_c(async { Err::<(), _>(anyhow::anyhow!("oops")) });
            assert!(failed.await.is_err());
            let dropped = cancel_on_ctrl_c(sleep_forever());
            assert!(future::poll_once(dropped).await.is_none());

            let mut signals = signal::receiver(&[Signal::Int])?;
            for _ in 0..3 {
                kill_process(getpid(), Raw::INT)?;
                signals.recv().await?; // and the process lives
            }
            anyhow::Ok(())
        })
        .unwrap();
        return;
    }
    assert!(call_again("after_cancel_on_ctrl_c_nothing_listens_any_more").end().success());
}

/// H77
#[test]
fn when_nobody_listens_any_more_a_signal_does_what_it_did_before() {
    if is_child() {
        nursery::run(async {
            let first = signal::receiver(&[Signal::Term])?;
            let mut second = signal::receiver(&[Signal::Term, Signal::Usr1])?;
            drop(first);
            raise(Raw::TERM, &mut second).await?; // still heard
            drop(second);
            cancel_on_ctrl_c(async {
                let mut probe = signal::receiver(&[Signal::Term])?;
                raise(Raw::TERM, &mut probe).await?;
                shield(until_noticed()).await;
                anyhow::Ok(())
            })
            .await?;
            println!("ready");
            anyhow::Ok(sleep_forever().await?)
        })
        .unwrap();
    }
    for signal in [Raw::TERM, Raw::INT, Raw::USR1] {
        let mut child = call_again("when_nobody_listens_any_more_a_signal_does_what_it_did_before");
        child.wait_for("ready");
        child.send(signal);
        assert_eq!(child.end().signal(), Some(signal.as_raw()));
    }
}

/// H78, `catch_signals_race_condition_on_exit`
#[test]
fn a_signal_that_nobody_has_received_is_raised_again_by_the_last_who_could_have() {
    if is_child() {
        nursery::run(async {
            let one = signal::receiver(&[Signal::Usr2])?;
            let two = signal::receiver(&[Signal::Usr2, Signal::Hup])?;
            let mut probe = signal::receiver(&[Signal::Usr2])?;
            raise(Raw::USR2, &mut probe).await?;
            drop(one);
            println!("the second has it, too");
            drop(probe);
            println!("it received the signal");
            drop(two);
            println!("it must not come to this");
            io::Result::Ok(())
        })
        .unwrap();
        return;
    }
    let mut child =
        call_again("a_signal_that_nobody_has_received_is_raised_again_by_the_last_who_could_have");
    child.wait_for("the second has it, too");
    child.wait_for("it received the signal");
    assert_eq!(child.end().signal(), Some(Raw::USR2.as_raw()));
}

/// The other order: first it was looked at, then it was not received.
#[test]
fn a_signal_that_was_seen_and_not_received_is_raised_again() {
    if is_child() {
        nursery::run(async {
            let mut signals = signal::receiver(&[Signal::Hup, Signal::Usr1])?;
            let mut probe = signal::receiver(&[Signal::Hup, Signal::Usr1])?;
            raise(Raw::HUP, &mut probe).await?;
            raise(Raw::USR1, &mut probe).await?;
            drop(probe);
            assert_eq!(signals.recv().await?, Signal::Hup); // both have come off the pipe
            drop(signals);
            println!("it must not come to this");
            io::Result::Ok(())
        })
        .unwrap();
        return;
    }
    let ended = call_again("a_signal_that_was_seen_and_not_received_is_raised_again").end();
    assert_eq!(ended.signal(), Some(Raw::USR1.as_raw()));
}

/// H77
#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_was_ignored_is_ignored_again() {
    const TEST: &str = "a_signal_that_was_ignored_is_ignored_again";
    if is_child() {
        nursery::run(async {
            let mut signals = signal::receiver(&[Signal::Hup])?;
            kill_process(getpid(), Raw::HUP)?;
            assert_eq!(signals.recv().await?, Signal::Hup);
            let mut probe = signal::receiver(&[Signal::Hup])?;
            raise(Raw::HUP, &mut probe).await?;
            drop(probe);
            drop(signals); // one is left
            kill_process(getpid(), Raw::HUP)?;
            println!("alive");
            io::Result::Ok(())
        })
        .unwrap();
        return;
    }
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(env::current_exe().unwrap());
    let mut child = call(shell, TEST);
    child.wait_for("alive");
    assert!(child.end().success());
}

/// H77
#[cfg(target_os = "linux")]
#[test]
fn a_handler_that_was_there_before_is_called_all_the_time_and_does_not_lose_its_signal() {
    const TEST: &str =
        "a_handler_that_was_there_before_is_called_all_the_time_and_does_not_lose_its_signal";
    if is_child() {
        let (mut calls, handler) = UnixStream::pair().unwrap();
        signal_hook::low_level::pipe::register(Raw::USR1.as_raw(), handler).unwrap();
        let mut buffer = [0; 10];
        nursery::run(async {
            let mut probe = signal::receiver(&[Signal::Usr1])?;
            raise(Raw::USR1, &mut probe).await?;
            assert_eq!(calls.read(&mut buffer)?, 1);
            let unreceived = signal::receiver(&[Signal::Usr1])?;
            raise(Raw::USR1, &mut probe).await?;
            drop((unreceived, probe));
            assert_eq!(calls.read(&mut buffer)?, 1, "it has had this one");
            kill_process(getpid(), Raw::USR1)?;
            assert_eq!(calls.read(&mut buffer)?, 1);
            io::Result::Ok(())
        })
        .unwrap();
        return;
    }
    assert!(call_again(TEST).end().success());
}

#[test]
fn of_two_nested_ones_both_are_cancelled() {
    if is_child() {
        let outer = nursery::run(cancel_on_ctrl_c(async {
            cancel_on_ctrl_c(async {
                println!("ready");
                let cancelled = sleep_forever().await.unwrap_err();
                assert_eq!(cancelled.reason().source(), CancelSource::KeyboardInterrupt);
                Err::<(), Cancelled>(cancelled)
            })
            .await?;
            sleep_forever().await
        }));
        assert!(outer.unwrap().is_none());
        return;
    }
    let mut child = call_again("of_two_nested_ones_both_are_cancelled");
    child.wait_for("ready");
    child.send(Raw::INT);
    assert!(child.end().success());
}

/// Waits until a signal has been noticed: under a shield, only the tree tells.
async fn until_noticed() {
    let is_noticed = || {
        tree()
            .nodes()
            .iter()
            .any(|node| node.cancel_called && node.name.as_deref() == Some("until Ctrl-C"))
    };
    while !is_noticed() {
        checkpoint().await.expect("shielded");
    }
}

const ROLE: &str = "NURSERY_SIGNAL_TEST_CHILD";

fn is_child() -> bool {
    env::var_os(ROLE).is_some()
}

/// A test that runs in a process of its own.
struct Again {
    child: Child,
    said: BufReader<ChildStdout>,
}

fn call_again(test: &str) -> Again {
    call(Command::new(env::current_exe().unwrap()), test)
}

fn call(mut program: Command, test: &str) -> Again {
    let mut child = program
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ROLE, "child")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.take().unwrap());
    Again { child, said }
}

impl Again {
    fn send(&self, signal: Raw) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until the child prints a line that ends with `text`.
    fn wait_for(&mut self, text: &str) {
        let mut line = String::new();
        while !line.trim_end().ends_with(text) {
            line.clear();
            assert!(
                self.said.read_line(&mut line).unwrap() > 0,
                "it ended without saying {text:?}"
            );
        }
    }

    fn end(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Again {
    fn drop(&mut self) {
        let _ = self.child.kill(); // a test that failed leaves nobody behind
    }
}
