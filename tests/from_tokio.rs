//! The pairs of the page "Coming from tokio": what fails there, shown to fail, and the same in a nursery. The page shows
//! these functions.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc as thread_mpsc};
use std::time::Duration;

use anyhow::{bail, ensure};
use futures_util::future::select;
use futures_util::{StreamExt as _, stream};
use nursery::{
    Builder, Cancelled, cancellable, finally, map_unordered, move_on_after, now, open_nursery,
    race, sleep, sleep_forever,
};
use nursery_io::channel::{self, SendError};
use nursery_io::sync::Mutex;
use nursery_io::thread::{from_thread, to_thread};
use tokio::sync::{Mutex as TokioMutex, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

// ANCHOR: spawn_tokio
#[tokio::test(start_paused = true)]
async fn a_spawned_task_outlives_the_function_that_spawned_it() {
    async fn save(files: Arc<std::sync::Mutex<Vec<&'static str>>>) -> anyhow::Result<()> {
        tokio::spawn(async move {
            time::sleep(SECOND).await;
            files.lock().unwrap().push("half a file");
        });
        bail!("disk full")
    }

    let files = Arc::default();
    save(Arc::clone(&files)).await.unwrap_err();
    assert!(files.lock().unwrap().is_empty()); // all is over, it seems
    time::sleep(2 * SECOND).await;
    assert_eq!(*files.lock().unwrap(), ["half a file"]);
}
// ANCHOR_END: spawn_tokio

// ANCHOR: spawn_nursery
#[nursery_testing::test]
async fn a_child_does_not_outlive_the_function_that_started_it() -> anyhow::Result<()> {
    async fn save(files: &RefCell<Vec<&str>>) -> anyhow::Result<()> {
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                sleep(SECOND).await?;
                files.borrow_mut().push("half a file");
                anyhow::Ok(())
            });
            bail!("disk full")
        })
        .await
    }

    let files = RefCell::default();
    save(&files).await.unwrap_err();
    sleep(2 * SECOND).await?;
    assert!(files.into_inner().is_empty());
    Ok(())
}
// ANCHOR_END: spawn_nursery

// ANCHOR: join_set_tokio
#[tokio::test]
async fn a_join_set_that_is_dropped_does_not_wait() {
    struct Connection(Arc<AtomicBool>);

    impl Drop for Connection {
        fn drop(&mut self) {
            self.0.store(false, Ordering::Relaxed); // closed; to say goodbye, it would have to wait
        }
    }

    let is_open = Arc::new(AtomicBool::new(true));
    let connection = Connection(is_open.clone());
    let mut set = JoinSet::new();
    set.spawn(async move {
        let _connection = connection;
        pending::<()>().await;
    });
    tokio::task::yield_now().await;
    drop(set); // as when `?` leaves the function
    assert!(is_open.load(Ordering::Relaxed));
}
// ANCHOR_END: join_set_tokio

// ANCHOR: join_set_nursery
#[nursery_testing::test]
async fn a_nursery_that_has_returned_has_waited() -> anyhow::Result<()> {
    let is_open = Cell::new(false);
    let connection = async || {
        let talk = async {
            is_open.set(true);
            Ok(sleep_forever().await?)
        };
        finally(talk, 5 * SECOND, async || {
            sleep(SECOND).await?; // says goodbye
            is_open.set(false);
            anyhow::Ok(())
        })
        .await
    };
    let outcome = open_nursery(async |n| -> anyhow::Result<()> {
        n.start_soon(connection());
        sleep(SECOND).await?;
        bail!("out of memory")
    });
    outcome.await.unwrap_err();
    assert!(!is_open.get());
    Ok(())
}
// ANCHOR_END: join_set_nursery

// ANCHOR: select_tokio
#[tokio::test(start_paused = true)]
async fn select_in_a_loop_loses_what_the_loser_had_taken() {
    async fn pair(numbers: &mut mpsc::Receiver<u32>) -> Option<(u32, u32)> {
        Some((numbers.recv().await?, numbers.recv().await?))
    }

    let (sender, mut numbers) = mpsc::channel(1);
    tokio::spawn(async move {
        for number in 1..=6 {
            sender.send(number).await?;
            time::sleep(2 * SECOND).await;
        }
        anyhow::Ok(())
    });
    let mut pairs = vec![];
    let mut ticks = time::interval(5 * SECOND);
    loop {
        tokio::select! {
            pair = pair(&mut numbers) => match pair {
                Some(pair) => pairs.push(pair),
                None => break,
            },
            _ = ticks.tick() => {} // draws a progress bar
        }
    }
    assert_eq!(pairs, [(1, 2), (4, 5)]); // a tick has dropped the future that had taken 3
}
// ANCHOR_END: select_tokio

// ANCHOR: select_nursery
#[nursery_testing::test]
async fn two_children_take_nothing_from_each_other() -> anyhow::Result<()> {
    async fn pair(numbers: &channel::Receiver<u32>) -> anyhow::Result<Option<(u32, u32)>> {
        let Some(first) = numbers.next().await? else { return Ok(None) };
        let Some(second) = numbers.next().await? else { return Ok(None) };
        Ok(Some((first, second)))
    }

    let (sender, numbers) = channel::open(1);
    let pairs = open_nursery(async |n| {
        n.start_soon(async move {
            for number in 1..=6 {
                sender.send(number).await?;
                sleep(2 * SECOND).await?;
            }
            anyhow::Ok(())
        });
        let progress = n.start_soon::<()>(async {
            loop {
                sleep(5 * SECOND).await?; // draws a progress bar
            }
        });
        let mut pairs = vec![];
        while let Some(pair) = pair(&numbers).await? {
            pairs.push(pair);
        }
        progress.cancel();
        anyhow::Ok(pairs)
    })
    .await?;
    assert_eq!(pairs, [(1, 2), (3, 4), (5, 6)]);
    Ok(())
}
// ANCHOR_END: select_nursery

// ANCHOR: race_tokio
#[tokio::test(start_paused = true)]
async fn the_loser_of_select_cannot_say_goodbye() {
    let log = RefCell::new(vec![]);
    let download = async |mirror, takes| {
        time::sleep(takes).await;
        log.borrow_mut().push(format!("{mirror}: goodbye"));
    };
    tokio::select! {
        () = download("far", 2 * SECOND) => {}
        () = download("near", SECOND) => {}
    }
    assert_eq!(*log.borrow(), ["near: goodbye"]);
}
// ANCHOR_END: race_tokio

// ANCHOR: race_nursery
#[nursery_testing::test]
async fn the_loser_of_race_says_goodbye_first() -> anyhow::Result<()> {
    let log = RefCell::new(vec![]);
    let download = async |mirror, takes| {
        let page = async { Ok(sleep(takes).await?) };
        finally(page, 5 * SECOND, async || {
            sleep(SECOND).await?;
            log.borrow_mut().push(format!("{mirror}: goodbye"));
            anyhow::Ok(())
        })
        .await
    };
    race([("far", 20 * SECOND), ("near", SECOND)].map(|(mirror, takes)| download(mirror, takes)))
        .await?;
    assert_eq!(log.into_inner(), ["near: goodbye", "far: goodbye"]);
    Ok(())
}
// ANCHOR_END: race_nursery

// ANCHOR: token_tokio
#[tokio::test(start_paused = true)]
async fn a_token_stops_only_where_somebody_looks_at_it() {
    async fn worker(token: CancellationToken) {
        loop {
            tokio::select! {
                () = token.cancelled() => return,
                () = time::sleep(SECOND) => {} // waits for a job
            }
            time::sleep(HOUR).await; // here nobody thought of it
        }
    }

    let token = CancellationToken::new();
    let worker = tokio::spawn(worker(token.clone()));
    time::sleep(2 * SECOND).await;
    token.cancel();
    assert!(time::timeout(60 * SECOND, worker).await.is_err()); // it goes on
}
// ANCHOR_END: token_tokio

// ANCHOR: token_nursery
#[nursery_testing::test]
async fn a_scope_stops_wherever_one_waits() -> anyhow::Result<()> {
    async fn worker() -> anyhow::Result<()> {
        loop {
            sleep(SECOND).await?; // waits for a job
            sleep(HOUR).await?;
        }
    }

    let start = now();
    open_nursery(async |n| -> anyhow::Result<()> {
        n.start_soon(worker());
        sleep(2 * SECOND).await?;
        n.cancel_scope().cancel();
        Ok(())
    })
    .await?;
    assert_eq!(now() - start, 2 * SECOND);
    Ok(())
}
// ANCHOR_END: token_nursery

// ANCHOR: tracker_tokio
#[tokio::test(start_paused = true)]
async fn a_tracker_waits_for_ever_if_nobody_closes_it_and_loses_errors() {
    let tracker = TaskTracker::new();
    tracker.spawn(async { bail!("disk full") as anyhow::Result<()> });
    assert!(time::timeout(HOUR, tracker.wait()).await.is_err()); // it is empty, but open

    tracker.close();
    tracker.wait().await; // nothing says that the task has failed
}
// ANCHOR_END: tracker_tokio

// ANCHOR: tracker_nursery
#[nursery_testing::test]
async fn a_nursery_closes_itself_and_returns_all_errors() -> Result<(), Cancelled> {
    let outcome = open_nursery(async |n| {
        n.start_soon(async { bail!("disk full") as anyhow::Result<()> });
        Ok(())
    });
    assert_eq!(outcome.await.unwrap_err().to_string(), "1 error\n└─ disk full");
    Ok(())
}
// ANCHOR_END: tracker_nursery

// ANCHOR: timeout_tokio
#[tokio::test(start_paused = true)]
async fn a_timeout_leaves_alone_what_was_spawned_inside() {
    let has_paid = Arc::new(AtomicBool::new(false));
    let paid = has_paid.clone();
    let pay = async move {
        let task = tokio::spawn(async move {
            time::sleep(5 * SECOND).await;
            paid.store(true, Ordering::Relaxed);
        });
        task.await
    };
    assert!(time::timeout(SECOND, pay).await.is_err()); // so: try again?
    time::sleep(HOUR).await;
    assert!(has_paid.load(Ordering::Relaxed));
}
// ANCHOR_END: timeout_tokio

// ANCHOR: timeout_nursery
#[nursery_testing::test]
async fn a_time_limit_ends_everything_inside() -> anyhow::Result<()> {
    let has_paid = Cell::new(false);
    let pay = open_nursery(async |n| -> anyhow::Result<()> {
        let task = n.start_soon(async {
            sleep(5 * SECOND).await?;
            has_paid.set(true);
            Ok(())
        });
        Ok(task.await?)
    });
    assert!(move_on_after(SECOND, pay).await?.is_none());
    sleep(HOUR).await?;
    assert!(!has_paid.get());
    Ok(())
}
// ANCHOR_END: timeout_nursery

// ANCHOR: blocking_tokio
#[tokio::test]
async fn a_blocking_call_goes_on_after_its_handle_was_aborted() {
    let (started, has_started) = oneshot::channel();
    let (go_on, wait) = thread_mpsc::channel::<()>();
    let (written, was_written) = oneshot::channel();
    let task = tokio::task::spawn_blocking(move || {
        let _ = started.send(());
        let _ = wait.recv(); // a slow disk
        let _ = written.send("the file");
    });
    has_started.await.unwrap();
    task.abort(); // has no effect, nor has dropping it
    drop(task);
    go_on.send(()).unwrap();
    assert_eq!(was_written.await, Ok("the file"));
}
// ANCHOR_END: blocking_tokio

// ANCHOR: blocking_nursery
#[nursery_testing::test]
async fn a_thread_hears_of_the_cancellation_and_is_waited_for() -> anyhow::Result<()> {
    let has_ended = Arc::new(AtomicBool::new(false));
    let ended = has_ended.clone();
    let (started, has_started) = oneshot::channel();
    let work = to_thread::run_sync(move || {
        let _ = started.send(());
        while from_thread::check_cancelled().is_ok() {
            std::hint::spin_loop(); // a piece of the work
        }
        ended.store(true, Ordering::Relaxed);
    });
    open_nursery(async |n| -> anyhow::Result<()> {
        n.start_soon(async { Ok(work.await?) });
        cancellable(has_started).await??;
        n.cancel_scope().cancel();
        Ok(())
    })
    .await?;
    assert!(has_ended.load(Ordering::Relaxed));
    Ok(())
}
// ANCHOR_END: blocking_nursery

// ANCHOR: mpsc_tokio
#[tokio::test(start_paused = true)]
async fn a_send_that_is_given_up_drops_its_value() {
    let (sender, mut receiver) = mpsc::channel(1);
    sender.send(String::from("first")).await.unwrap();
    let send = sender.send(String::from("second"));
    assert!(time::timeout(SECOND, send).await.is_err());
    drop(sender);
    assert_eq!(receiver.recv().await.as_deref(), Some("first"));
    assert_eq!(receiver.recv().await, None); // and who sent it has not got it either
}
// ANCHOR_END: mpsc_tokio

// ANCHOR: mpsc_nursery
#[nursery_testing::test]
async fn a_send_that_is_given_up_gives_its_value_back() -> Result<(), Cancelled> {
    let (sender, receiver) = channel::open(1);
    sender.try_send(String::from("first")).unwrap();
    let unsent = RefCell::new(None);
    let send = async {
        sender.send(String::from("second")).await.map_err(|error| match error {
            SendError::Cancelled(cancelled, value) => {
                unsent.replace(Some(value));
                cancelled
            }
            other => unreachable!("the receiver is there: {other}"),
        })
    };
    assert!(move_on_after(SECOND, send).await?.is_none());
    assert_eq!(unsent.into_inner().as_deref(), Some("second"));
    assert_eq!(receiver.try_recv().as_deref(), Ok("first"));
    Ok(())
}
// ANCHOR_END: mpsc_nursery

// ANCHOR: futurelock_tokio
#[tokio::test(start_paused = true)]
async fn a_future_that_is_not_polled_keeps_the_lock_it_was_given() {
    let lock = Arc::new(TokioMutex::new(()));
    let holder = lock.clone().lock_owned().await;
    tokio::spawn(async move {
        time::sleep(2 * SECOND).await;
        drop(holder); // the lock goes to the first in the queue
    });
    let use_it = async || {
        let _guard = lock.lock().await;
    };
    let mut first = pin!(use_it());
    let work = async {
        tokio::select! {
            () = &mut first => {}
            () = time::sleep(SECOND) => use_it().await, // `first` waits, and is not polled
        }
    };
    assert!(time::timeout(HOUR, work).await.is_err()); // nobody holds the lock, and nobody gets it
}
// ANCHOR_END: futurelock_tokio

// ANCHOR: futurelock_nursery
#[nursery_testing::test]
async fn a_child_is_polled_whatever_its_parent_waits_for() -> anyhow::Result<()> {
    let lock = Mutex::new(());
    let use_it = async |takes| {
        let _guard = lock.lock().await?;
        anyhow::Ok(sleep(takes).await?)
    };
    open_nursery(async |n| -> anyhow::Result<()> {
        n.start_soon(use_it(3 * SECOND));
        sleep(SECOND).await?;
        let first = n.start_soon(use_it(SECOND));
        if move_on_after(SECOND, first).await?.is_none() {
            use_it(SECOND).await?; // meanwhile `first`, which is a child, gets its turn
        }
        Ok(())
    })
    .await
}
// ANCHOR_END: futurelock_nursery

// ANCHOR: futurelock_by_hand
#[test]
#[should_panic(expected = "deadlock: every task waits")]
fn a_future_polled_by_hand_stands_still_here_too_and_the_test_says_so() {
    let lock = Mutex::new(());
    let use_it = async |takes| {
        let _guard = lock.lock().await?;
        anyhow::Ok(sleep(takes).await?)
    };
    let main = open_nursery(async |n| -> anyhow::Result<()> {
        n.start_soon(use_it(3 * SECOND));
        sleep(SECOND).await?;
        let mut first = pin!(use_it(SECOND));
        let _ = select(&mut first, pin!(sleep(SECOND))).await;
        use_it(SECOND).await
    });
    let _ = nursery_testing::run(main);
}
// ANCHOR_END: futurelock_by_hand

// ANCHOR: buffered_tokio
#[tokio::test(start_paused = true)]
async fn a_buffered_stream_stands_still_while_its_values_are_used() {
    let lock = TokioMutex::new(());
    let fetch = async |seconds: u32| {
        time::sleep(seconds * SECOND).await;
        let _guard = lock.lock().await;
        time::sleep(2 * SECOND).await; // writes down what it has got
    };
    let work = async {
        let mut pages = pin!(stream::iter([0, 1]).map(fetch).buffer_unordered(2));
        while pages.next().await.is_some() {
            let _guard = lock.lock().await; // the second page is first in the queue, and stands still
        }
    };
    assert!(time::timeout(HOUR, work).await.is_err());
}
// ANCHOR_END: buffered_tokio

// ANCHOR: buffered_nursery
#[nursery_testing::test]
async fn map_unordered_goes_on_while_its_values_are_used() -> anyhow::Result<()> {
    let lock = Mutex::new(());
    let fetch = async |seconds: u32| {
        sleep(seconds * SECOND).await?;
        let _guard = lock.lock().await?;
        sleep(2 * SECOND).await?; // writes down what it has got
        anyhow::Ok(())
    };
    let work = map_unordered(2, [0, 1], fetch, async |pages| {
        while pages.next().await?.is_some() {
            let _guard = lock.lock().await?;
        }
        anyhow::Ok(())
    });
    assert!(move_on_after(HOUR, work).await?.is_some());
    Ok(())
}
// ANCHOR_END: buffered_nursery

// ANCHOR: cancel_safety
#[nursery_testing::test]
async fn what_was_taken_can_be_given_back() -> anyhow::Result<()> {
    async fn pair(
        numbers: &channel::Receiver<u32>,
        left: &Cell<Option<u32>>,
    ) -> anyhow::Result<(u32, u32)> {
        let first = match left.take() {
            Some(first) => first,
            None => numbers.recv().await?,
        };
        match numbers.recv().await {
            Ok(second) => Ok((first, second)),
            Err(error) => {
                left.set(Some(first)); // also, and above all, if it was cancelled
                Err(error.into())
            }
        }
    }

    let (sender, numbers) = channel::open(2);
    let left = Cell::new(None);
    sender.send(1).await?;
    assert!(move_on_after(SECOND, pair(&numbers, &left)).await?.is_none());
    sender.send(2).await?;
    assert_eq!(pair(&numbers, &left).await?, (1, 2));
    Ok(())
}
// ANCHOR_END: cancel_safety

// ANCHOR: guest
#[tokio::test(start_paused = true)]
async fn a_nursery_inside_tokio_uses_what_tokio_has() -> anyhow::Result<()> {
    let (sender, mut receiver) = mpsc::channel(1);
    tokio::spawn(async move { sender.send("from a tokio task").await });
    let main = open_nursery(async |n| {
        n.start_soon(async {
            cancellable(time::sleep(SECOND)).await?; // a timer of tokio
            anyhow::Ok(())
        });
        let greeting = cancellable(receiver.recv()).await?;
        ensure!(greeting == Some("from a tokio task"));
        Ok(())
    });
    Builder::new().guest(main).await
}
// ANCHOR_END: guest
