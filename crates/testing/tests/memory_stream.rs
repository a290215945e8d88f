//! Promises of the memory streams. Trio's tests of them.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use nursery::{checkpoint, move_on_after, open_nursery, sleep, sleep_forever};
use nursery_io::net::TcpListener;
use nursery_io::stream::{
    HalfClose, Interrupted, ReceiveStream, Resource, SendStream, StreamError, aclose_forcefully,
};
use nursery_testing::{
    CancelEverywhere, MemoryReceiveStream, MemorySendStream, assert_no_checkpoints,
    bounded_stream_one_way_pair, lockstep_stream_one_way_pair, memory_stream_one_way_pair,
    memory_stream_pair, memory_stream_pump, open_stream_to_listener, wait_all_tasks_blocked,
};

type Result<T = ()> = io::Result<T>;

const SECOND: Duration = Duration::from_secs(1);

async fn settled() -> Result {
    Ok(wait_all_tasks_blocked(Duration::ZERO).await?)
}

async fn receive(stream: &impl ReceiveStream, room: usize) -> Result<Vec<u8>> {
    let mut buffer = vec![0; room];
    let count = stream.receive_some(&mut buffer).await?;
    buffer.truncate(count);
    Ok(buffer)
}

/// A list of what was called, and hooks that write in it.
#[derive(Clone, Default)]
struct Record(Rc<RefCell<Vec<&'static str>>>);

impl Record {
    fn hook(&self, name: &'static str) -> impl Fn() + 'static {
        let record = self.clone();
        move || record.0.borrow_mut().push(name)
    }

    fn take(&self) -> Vec<&'static str> {
        self.0.take()
    }
}

/// `MemorySendStream`
#[nursery_testing::test]
async fn what_is_sent_can_be_got_and_the_hooks_are_called() -> Result {
    let (sender, record) = (MemorySendStream::new(), Record::default());
    sender.send_all(b"123").await?;
    assert_eq!(sender.try_get_data().as_deref(), Some(&b"123"[..]));
    assert_eq!(sender.try_get_data(), None);

    let (call, wait) = (record.hook("send_all"), record.hook("wait"));
    sender.send_all_hook.set(async move || {
        checkpoint().await?;
        call();
        Ok(())
    });
    sender.wait_send_all_might_not_block_hook.set(async move || {
        wait();
        Ok(())
    });
    sender.close_hook.set(record.hook("close"));
    sender.send_all(b"456").await?;
    sender.wait_send_all_might_not_block().await?;
    assert_eq!(record.take(), ["send_all", "wait"]);
    assert_eq!(sender.get_data().await?, b"456");

    sender.close();
    assert_eq!(record.take(), ["close"]);
    sender.aclose().await?;
    assert_eq!(record.take(), [""; 0], "once");
    assert_eq!(sender.get_data().await?, b"", "the end");
    assert_eq!(sender.try_get_data().as_deref(), Some(&b""[..]));
    Ok(())
}

/// `_UnboundedByteQueue`
#[nursery_testing::test]
async fn getting_waits_for_data_and_is_for_one_task() -> Result {
    let sender = MemorySendStream::new();
    let got = RefCell::new(vec![]);
    open_nursery(async |n| -> Result {
        n.start_soon(async {
            got.replace(sender.get_data().await?);
            Ok(())
        });
        settled().await?;
        assert!(matches!(sender.get_data().await, Err(StreamError::Busy)));
        sender.send_all(b"").await?;
        settled().await?;
        assert_eq!(*got.borrow(), b"", "of nothing, it is not told");
        sender.send_all(b"x").await?;
        settled().await?;
        assert_eq!(*got.borrow(), b"x");
        let in_time = move_on_after(SECOND, async { Ok::<_, io::Error>(sender.get_data().await?) });
        assert_eq!(in_time.await?, None);
        sender.send_all(b"y").await?;
        assert_eq!(sender.get_data().await?, b"y", "whoever was cancelled took nothing");
        Ok(())
    })
    .await
}

#[nursery_testing::test]
async fn a_hook_lets_sending_wait_and_fail() -> Result {
    let sender = MemorySendStream::new();
    sender.send_all_hook.set(async || Ok(sleep_forever().await?));
    open_nursery(async |n| -> Result {
        let first = n.start_soon(async { Ok(sender.send_all(b"x").await?) });
        settled().await?;
        assert!(matches!(sender.send_all(b"y").await, Err(StreamError::Busy)));
        assert!(matches!(sender.wait_send_all_might_not_block().await, Err(StreamError::Busy)));
        assert!(matches!(sender.send_eof().await, Err(StreamError::Busy)));
        first.cancel();
        Ok(())
    })
    .await?;
    assert_eq!(sender.try_get_data().as_deref(), Some(&b"x"[..]), "it had been sent");
    sender.send_all_hook.set(async || Err(io::Error::other("the cable is cut").into()));
    assert_eq!(
        io::Error::from(sender.send_all(b"x").await.unwrap_err()).to_string(),
        "the cable is cut"
    );
    sender.send_all_hook.remove();
    sender.send_all(b"x").await?;
    Ok(())
}

#[nursery_testing::test]
async fn a_hook_may_change_the_hooks() -> Result {
    let sender = Rc::new(MemorySendStream::new());
    let weak = Rc::downgrade(&sender);
    let calls = Rc::new(Cell::new(0));
    let count = calls.clone();
    sender.send_all_hook.set(async move || {
        count.set(count.get() + 1);
        weak.upgrade().expect("it is being used").send_all_hook.remove();
        Ok(())
    });
    sender.send_all(b"x").await?;
    sender.send_all(b"x").await?;
    assert_eq!(calls.get(), 1);
    Ok(())
}

/// `MemoryReceiveStream`
#[nursery_testing::test]
async fn what_is_put_is_received_and_then_the_end() -> Result {
    let (receiver, record) = (MemoryReceiveStream::new(), Record::default());
    let call = record.hook("receive_some");
    receiver.receive_some_hook.set(async move || {
        call();
        Ok(())
    });
    receiver.close_hook.set(record.hook("close"));
    receiver.put_data(b"abc")?;
    assert_eq!(receive(&receiver, 1).await?, b"a");
    assert_eq!(receive(&receiver, 10).await?, b"bc");
    assert_eq!(record.take(), ["receive_some"; 2]);
    receiver.put_data(b"def")?;
    receiver.put_eof()?;
    receiver.put_eof()?;
    assert!(matches!(receiver.put_data(b"ghi"), Err(StreamError::Closed)), "after the end");
    assert_eq!(receive(&receiver, 10).await?, b"def");
    for _ in 0..2 {
        assert_eq!(receive(&receiver, 10).await?, b"");
    }
    receiver.close();
    aclose_forcefully(&receiver).await?;
    assert_eq!(record.take(), ["receive_some", "receive_some", "receive_some", "close"]);
    assert!(matches!(receiver.put_data(b""), Err(StreamError::Broken(_))));
    assert!(matches!(receiver.put_eof(), Err(StreamError::Broken(_))));
    Ok(())
}

/// `MemoryRecvStream_closing`
#[nursery_testing::test]
async fn a_receiver_that_is_closed_in_its_own_hook_says_so() -> Result {
    let receiver = Rc::new(MemoryReceiveStream::new());
    let weak = Rc::downgrade(&receiver);
    receiver.put_data(b"x")?;
    receiver.receive_some_hook.set(async move || {
        weak.upgrade().expect("it is being used").close();
        Ok(())
    });
    assert!(matches!(receiver.receive_some(&mut [0]).await, Err(StreamError::Closed)));
    Ok(())
}

/// `memory_stream_pump`
#[nursery_testing::test]
async fn the_pump_carries_as_much_as_it_is_told_and_the_end() -> Result {
    let (sender, receiver) = (MemorySendStream::new(), MemoryReceiveStream::new());
    assert!(!memory_stream_pump(&sender, &receiver, 10)?);
    sender.send_all(b"0123").await?;
    assert!(assert_no_checkpoints(async { memory_stream_pump(&sender, &receiver, 1) }).await?);
    assert_eq!(receive(&receiver, 10).await?, b"0");
    assert!(!memory_stream_pump(&sender, &receiver, 0)?);
    assert!(memory_stream_pump(&sender, &receiver, 10)?);
    assert_eq!(receive(&receiver, 10).await?, b"123");

    sender.send_all(b"45").await?;
    sender.close();
    assert!(memory_stream_pump(&sender, &receiver, 10)?);
    assert_eq!(receive(&receiver, 10).await?, b"45");
    assert!(memory_stream_pump(&sender, &receiver, 10)?, "the end");
    assert!(!memory_stream_pump(&sender, &receiver, 10)?);
    assert_eq!(receive(&receiver, 10).await?, b"");

    let (sender, receiver) = (MemorySendStream::new(), MemoryReceiveStream::new());
    sender.send_all(b"x").await?;
    receiver.close();
    assert!(matches!(memory_stream_pump(&sender, &receiver, 10), Err(StreamError::Broken(_))));
    assert_eq!(sender.try_get_data(), None, "lost");
    Ok(())
}

/// `memory_stream_one_way_pair`
#[nursery_testing::test]
async fn a_pair_carries_by_itself_until_its_hooks_are_removed() -> Result {
    let (sender, receiver) = memory_stream_one_way_pair();
    sender.send_all(b"123").await?;
    assert_eq!(receive(&receiver, 10).await?, b"123");
    open_nursery(async |n| -> Result {
        n.start_soon(async {
            assert_eq!(receive(&receiver, 10).await?, b"abc");
            Ok(())
        });
        settled().await?;
        Ok(sender.send_all(b"abc").await?)
    })
    .await?;

    sender.send_all_hook.remove();
    sender.send_all(b"456").await?;
    let late = async { receive(&receiver, 10).await };
    assert_eq!(move_on_after(SECOND, late).await?, None);
    // It is carried by the end.
    sender.close();
    assert_eq!(receive(&receiver, 10).await?, b"456");
    memory_stream_pump(&sender, &receiver, 10)?;
    assert_eq!(receive(&receiver, 10).await?, b"");
    Ok(())
}

/// `memory_stream_pair`
#[nursery_testing::test]
async fn a_pair_goes_both_ways_and_each_can_be_ended() -> Result {
    let (a, b) = memory_stream_pair();
    a.send_all(b"abc").await?;
    b.send_all(b"def").await?;
    assert_eq!(receive(&b, 10).await?, b"abc");
    assert_eq!(receive(&a, 10).await?, b"def");
    a.send_eof().await?;
    assert_eq!(receive(&b, 10).await?, b"");
    b.send_all(b"still").await?;
    assert_eq!(receive(&a, 10).await?, b"still");
    drop(b);
    assert_eq!(receive(&a, 10).await?, b"");
    Ok(())
}

#[nursery_testing::test]
async fn a_dropped_end_calls_its_hook_and_frees_what_it_holds() -> Result {
    let record = Record::default();
    let (sender, receiver) = memory_stream_one_way_pair();
    receiver.close_hook.set(record.hook("receiver"));
    sender.close_hook.set(record.hook("sender"));
    drop((sender, receiver));
    assert_eq!(record.take(), ["sender", "receiver"]);
    assert_eq!(Rc::strong_count(&record.0), 1);
    Ok(())
}

#[nursery_testing::test]
async fn a_bounded_pair_takes_what_fits_without_waiting() -> Result {
    let (sender, receiver) = bounded_stream_one_way_pair(4);
    sender.wait_send_all_might_not_block().await?;
    sender.send_all(b"123").await?;
    sender.send_all(b"4").await?;
    let more = async { Ok::<_, io::Error>(sender.send_all(b"56").await?) };
    assert_eq!(move_on_after(SECOND, more).await?, None);
    let room = async { Ok::<_, io::Error>(sender.wait_send_all_might_not_block().await?) };
    assert_eq!(move_on_after(SECOND, room).await?, None);
    assert_eq!(receive(&receiver, 10).await?, b"1234", "what was cancelled did nothing");
    sender.wait_send_all_might_not_block().await?;

    let more = async { Ok::<_, io::Error>(sender.send_all(b"567890").await?) };
    assert_eq!(move_on_after(SECOND, more).await?, None);
    let error = io::Error::from(sender.send_all(b"x").await.unwrap_err());
    assert_eq!(error.downcast::<Interrupted>().unwrap(), Interrupted::new(4, 6));
    assert_eq!(receive(&receiver, 10).await?, b"5678");
    Ok(())
}

#[nursery_testing::test]
async fn in_lockstep_sending_ends_when_all_has_been_received() -> Result {
    let (sender, receiver) = lockstep_stream_one_way_pair();
    let is_sent = Cell::new(false);
    open_nursery(async |n| -> Result {
        n.start_soon(async {
            sender.send_all(b"1234").await?;
            is_sent.set(true);
            sender.wait_send_all_might_not_block().await?;
            is_sent.set(false);
            Ok(())
        });
        assert_eq!(receive(&receiver, 3).await?, b"123");
        settled().await?;
        assert!(!is_sent.get());
        assert_eq!(receive(&receiver, 3).await?, b"4");
        settled().await?;
        assert!(is_sent.get());
        let nothing = async { receive(&receiver, 1).await };
        assert_eq!(move_on_after(SECOND, nothing).await?, None);
        settled().await?;
        assert!(!is_sent.get(), "somebody received, for a while");
        Ok(())
    })
    .await
}

/// What has been sent is received, once: however often, and wherever, either side was cancelled or dropped.
#[test]
fn cancelled_or_dropped_anywhere_no_byte_is_lost_or_comes_twice() {
    CancelEverywhere::new().run(async || -> Result {
        let (sender, receiver) = bounded_stream_one_way_pair(2);
        let received = RefCell::new(vec![]);
        let sent = Cell::new(0);
        let exchanged = open_nursery(async |n| -> Result {
            n.start_soon(async {
                for byte in 0..6 {
                    sender.send_all(&[byte]).await?;
                    sent.set(sent.get() + 1);
                }
                Ok(())
            });
            while received.borrow().len() < 6 {
                let some = receive(&receiver, 2).await?;
                received.borrow_mut().extend(some);
            }
            Ok(())
        })
        .await;
        let received = received.take();
        let (got, sent) = (received.len(), sent.get());
        assert!(received.into_iter().eq(0..got as u8));
        // One byte more may have gone than its sender has come to count.
        assert!(got <= sent + 1 && sent <= got + 2, "{sent} sent, {got} received");
        exchanged
    });
}

/// `open_stream_to_socket_listener`
#[test]
fn a_listener_at_all_addresses_is_reached_by_the_loopback() -> Result {
    nursery_testing::run(async {
        for host in ["127.0.0.1", "0.0.0.0", "::1", "::"] {
            let address: std::net::IpAddr = host.parse().expect("an address");
            let Ok(listener) = TcpListener::bind((address, 0)) else {
                assert!(address.is_ipv6(), "{host}");
                continue; // this machine has no IPv6
            };
            let client = open_stream_to_listener(&listener).await?;
            assert!(client.peer_addr()?.ip().is_loopback());
            let server = nursery_io::stream::Listener::accept(&listener).await?;
            server.send_all(b"x").await?;
            assert_eq!(receive(&client, 10).await?, b"x");
        }
        sleep(SECOND).await?;
        Ok(())
    })
}
