//! Promises of `nursery_io::net::happy_eyeballs`: who is tried when, who wins, and what becomes of the others. After trio's
//! `test_highlevel_open_tcp_stream`, with connections that are not real, under a virtual clock.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use nursery::{
    CancelScope, Cancelled, ErrorGroup, TaskError, cancellable, lowlevel, move_on_after, now,
    open_nursery, sleep,
};
use nursery_io::net::happy_eyeballs::{DEFAULT_DELAY, connect_first};
use nursery_testing::Test;

/// What a host does, how many seconds after it was asked.
#[derive(Clone, Copy, Debug)]
enum Does {
    Answer(f64),
    Refuse(f64),
    Nothing,
}

use Does::{Answer, Nothing, Refuse};

/// A network in which each attempt is noted, with the time at which it began.
#[derive(Default)]
struct Net {
    attempts: RefCell<Vec<(usize, f64)>>,
    open: Cell<usize>,
}

/// A connection, open until it is dropped.
struct Conn {
    host: usize,
    net: Rc<Net>,
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.net.open.set(self.net.open.get() - 1);
    }
}

impl Net {
    /// Runs the hosts' race. Returns who has won or how it failed, and how long it took.
    async fn race(self: &Rc<Self>, delay: Duration, hosts: &[Does]) -> (io::Result<Conn>, f64) {
        let start = now();
        let targets = hosts.iter().copied().enumerate();
        let won = connect_first(targets, delay, async |(host, does)| {
            self.attempts.borrow_mut().push((host, (now() - start).as_secs_f64()));
            self.open.set(self.open.get() + 1);
            let conn = Conn { host, net: self.clone() };
            match does {
                Answer(after) => sleep(Duration::from_secs_f64(after)).await?,
                Refuse(after) => {
                    sleep(Duration::from_secs_f64(after)).await?;
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionRefused,
                        format!("{host}"),
                    ));
                }
                Nothing => cancellable(pending()).inside().await?,
            }
            Ok(conn)
        });
        let won = won.await;
        (won, (now() - start).as_secs_f64())
    }

    fn attempts(&self) -> Vec<(usize, f64)> {
        self.attempts.take()
    }
}

fn seeds<F: Future<Output = Result<(), Cancelled>>>(main: impl Fn(Rc<Net>) -> F) {
    for seed in 0..20 {
        let net = Rc::new(Net::default());
        if let Err(error) = Test::new().seed(seed).run(main(net.clone())) {
            panic!("seed {seed}: {error:?}");
        }
        assert_eq!(net.open.get(), 0, "seed {seed}: connections are left");
    }
}

/// Who has won, with what is left open besides it.
fn winner((won, took): (io::Result<Conn>, f64)) -> (usize, f64) {
    let conn = won.expect("connected");
    assert_eq!(conn.net.open.get(), 1, "only the winner is open");
    (conn.host, took)
}

fn failures((won, took): (io::Result<Conn>, f64)) -> (Vec<String>, f64) {
    let error = won.err().expect("all failed");
    let group = error.downcast::<ErrorGroup<io::Error>>().expect("a group, even of one");
    (group.iter().map(ToString::to_string).collect(), took)
}

#[test]
fn one_host_quick_success() {
    seeds(async |net| {
        assert_eq!(winner(net.race(DEFAULT_DELAY, &[Answer(0.123)]).await), (0, 0.123));
        Ok(())
    });
}

#[test]
fn one_host_slow_success() {
    seeds(async |net| {
        assert_eq!(winner(net.race(DEFAULT_DELAY, &[Answer(100.0)]).await), (0, 100.0));
        Ok(())
    });
}

#[test]
fn one_host_quick_fail_and_one_host_slow_fail() {
    seeds(async |net| {
        for after in [0.082, 100.0] {
            let failed = failures(net.race(DEFAULT_DELAY, &[Refuse(after)]).await);
            assert_eq!(failed, (vec!["0".into()], after));
        }
        Ok(())
    });
}

#[test]
fn basic_fallthrough() {
    seeds(async |net| {
        let hosts = [Answer(1.0), Answer(1.0), Answer(0.2), Answer(0.0)];
        assert_eq!(winner(net.race(DEFAULT_DELAY, &hosts).await), (2, 0.7));
        assert_eq!(net.attempts(), [(0, 0.0), (1, 0.25), (2, 0.5)]);
        Ok(())
    });
}

#[test]
fn early_success() {
    seeds(async |net| {
        let hosts = [Answer(1.0), Answer(0.1), Answer(0.2)];
        assert_eq!(winner(net.race(DEFAULT_DELAY, &hosts).await), (1, 0.35));
        assert_eq!(net.attempts(), [(0, 0.0), (1, 0.25)]);
        Ok(())
    });
}

#[test]
fn custom_delay() {
    seeds(async |net| {
        let hosts = [Answer(1.0), Answer(1.0), Answer(0.25)];
        let delay = Duration::from_millis(450);
        assert_eq!(winner(net.race(delay, &hosts).await), (0, 1.0));
        assert_eq!(net.attempts(), [(0, 0.0), (1, 0.45), (2, 0.9)]);
        Ok(())
    });
}

#[test]
fn custom_errors_expedite() {
    seeds(async |net| {
        let hosts = [Refuse(0.1), Refuse(0.2), Answer(10.0), Answer(0.25)];
        assert_eq!(winner(net.race(DEFAULT_DELAY, &hosts).await), (3, 0.8));
        assert_eq!(net.attempts(), [(0, 0.0), (1, 0.1), (2, 0.3), (3, 0.55)]);
        Ok(())
    });
}

/// H40
#[test]
fn only_the_failure_of_the_last_one_hastens_the_next() {
    seeds(async |net| {
        let hosts = [Refuse(0.3), Nothing, Answer(0.1)];
        assert_eq!(winner(net.race(DEFAULT_DELAY, &hosts).await), (2, 0.6));
        assert_eq!(net.attempts(), [(0, 0.0), (1, 0.25), (2, 0.5)]);
        Ok(())
    });
}

#[test]
fn all_fail() {
    seeds(async |net| {
        let hosts = [Refuse(0.1), Refuse(0.2), Refuse(10.0), Refuse(0.25)];
        let (errors, took) = failures(net.race(DEFAULT_DELAY, &hosts).await);
        assert_eq!(errors, ["0", "1", "3", "2"], "in the order in which they failed");
        assert_eq!(took, 10.3);
        assert_eq!(net.attempts(), [(0, 0.0), (1, 0.1), (2, 0.3), (3, 0.55)]);
        Ok(())
    });
}

#[test]
fn multi_success() {
    seeds(async |net| {
        let hosts = [Answer(0.5), Answer(0.25), Answer(0.0)];
        // All at the same moment: any of them, and the others are closed.
        let (_, took) = winner(net.race(DEFAULT_DELAY, &hosts).await);
        assert_eq!(took, 0.5);
        Ok(())
    });
}

#[test]
fn no_hosts() {
    seeds(async |net| {
        let error = net.race(DEFAULT_DELAY, &[]).await.0.err().expect("nobody");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        Ok(())
    });
}

/// `open_tcp_stream cancel`
#[test]
fn cancelled_or_dropped_it_leaves_nothing_open() {
    seeds(async |net| {
        let hosts = [Nothing, Nothing, Nothing, Nothing];
        let raced = move_on_after(Duration::from_millis(600), async {
            match net.race(DEFAULT_DELAY, &hosts).await.0 {
                Err(error) => {
                    Err::<(), Cancelled>(error.as_cancelled().expect("cancelled").clone())
                }
                Ok(_) => panic!("nobody answers"),
            }
        });
        assert!(raced.await?.is_none());
        assert_eq!(net.attempts().len(), 3);
        assert_eq!(net.open.get(), 0);

        let mut race = Box::pin(net.race(DEFAULT_DELAY, &hosts));
        assert!(futures_lite::future::poll_once(&mut race).await.is_none());
        lowlevel::cancel_shielded_checkpoint().await;
        drop(race);
        Ok(())
    });
}

#[test]
fn cancelled_at_the_moment_of_the_success_it_is_one_or_the_other() {
    seeds(async |net| {
        let scope = CancelScope::new();
        let race = scope.enter(async {
            match net.race(DEFAULT_DELAY, &[Answer(1.0)]).await.0 {
                Ok(conn) => Ok::<_, Cancelled>(conn),
                Err(error) => Err(error.as_cancelled().expect("cancelled").clone()),
            }
        });
        open_nursery(async |n| -> Result<(), Cancelled> {
            n.start_soon(async {
                sleep(Duration::from_secs(1)).await?;
                scope.cancel();
                Ok(())
            });
            let conn = race.await?;
            assert_eq!(net.open.get(), usize::from(conn.is_some()));
            Ok(())
        })
        .await
    });
}

/// `one_host_failed_after_connect`
#[test]
fn a_panic_of_an_attempt_ends_the_others_and_goes_on() {
    let net = Rc::new(Net::default());
    let raced = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        Test::new().run(async {
            connect_first([0, 1], Duration::from_millis(1), async |host| {
                net.open.set(net.open.get() + 1);
                let _conn = Conn { host, net: net.clone() };
                if host == 1 {
                    panic!("a mistake");
                }
                cancellable(pending::<()>()).inside().await?;
                Ok(())
            })
            .await
        })
    }));
    assert_eq!(*raced.unwrap_err().downcast::<&str>().unwrap(), "a mistake");
    assert_eq!(net.open.get(), 0);
}
