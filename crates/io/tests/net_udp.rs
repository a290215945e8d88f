//! Promises of `nursery_io::net::UdpSocket`.

use std::cell::Cell;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use nursery::lowlevel::{self, wait_all_tasks_blocked};
use nursery::{CancelScope, move_on_after, open_nursery};
use nursery_io::net::{AddressError, UdpSocket};
use nursery_io::stream::{Resource, StreamError};
use nursery_testing::run;

const SECOND: Duration = Duration::from_secs(1);

fn socket() -> io::Result<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
}

/// `send_recv_variants`
#[test]
fn datagrams_arrive_whole_or_cut_off() -> io::Result<()> {
    run(async {
        let (a, b) = (socket()?, socket()?);
        let before = lowlevel::points();
        assert_eq!(a.send_to(b"one", b.local_addr()?).await?, 3);
        let between = lowlevel::points();
        assert!(before.cancel != between.cancel && before.schedule != between.schedule);
        a.send_to(b"", b.local_addr()?).await?;
        a.send_to(b"three", b.local_addr()?).await?;
        let mut buffer = [0; 4];
        assert_eq!(b.recv_from(&mut buffer).await?, (3, a.local_addr()?));
        assert_eq!(b.recv_from(&mut buffer).await?, (0, a.local_addr()?), "an empty one is one");
        b.connect(a.local_addr()?)?;
        assert_eq!(b.recv(&mut buffer).await?, 4);
        assert_eq!(b.peer_addr()?, a.local_addr()?);
        b.send(b"back").await?;
        assert_eq!(a.recv(&mut buffer).await?, 4);
        Ok(())
    })
}

#[test]
fn what_is_too_large_or_has_no_receiver_is_an_error_and_no_more() -> io::Result<()> {
    run(async {
        let (a, b) = (socket()?, socket()?);
        assert!(a.send_to(&[0; 70_000], b.local_addr()?).await.is_err());
        a.connect((Ipv4Addr::LOCALHOST, 1))?; // nobody is there
        a.send(b"x").await?;
        let refused = a.recv(&mut [0; 10]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        a.connect(b.local_addr()?)?;
        a.send(b"x").await?;
        assert_eq!(b.recv(&mut [0; 10]).await?, 1);
        Ok(())
    })
}

#[test]
fn an_address_in_use_is_named() -> io::Result<()> {
    let socket = socket()?;
    let address = socket.local_addr()?;
    let error = UdpSocket::bind(address).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(error.downcast::<AddressError>().unwrap().address, address.to_string());
    Ok(())
}

#[test]
fn a_cancelled_or_dropped_receive_takes_nothing() -> io::Result<()> {
    run(async {
        let (a, b) = (socket()?, socket()?);
        let mut buffer = [0; 10];
        assert_eq!(move_on_after(SECOND, b.recv_from(&mut buffer)).await?, None);
        a.send_to(b"kept", b.local_addr()?).await?;
        let scope = CancelScope::new();
        scope.cancel();
        assert_eq!(scope.enter(b.recv_from(&mut buffer)).await?, None);
        drop(b.recv_from(&mut buffer));
        assert_eq!(b.recv(&mut buffer).await?, 4);
        Ok(())
    })
}

#[test]
fn tasks_that_receive_take_turns_and_closing_wakes_them_all() -> io::Result<()> {
    run(async {
        let (a, b) = (socket()?, socket()?);
        let received = Cell::new(0);
        open_nursery(async |n| -> io::Result<()> {
            for _ in 0..5 {
                n.start_soon(async {
                    match b.recv(&mut [0; 10]).await.map_err(StreamError::from) {
                        Ok(_) => received.set(received.get() + 1),
                        Err(StreamError::Closed) => {}
                        Err(error) => return Err(error.into()),
                    }
                    Ok(())
                });
            }
            wait_all_tasks_blocked(Duration::ZERO).await?;
            for sent in 1..=2 {
                a.send_to(b"x", b.local_addr()?).await?;
                while received.get() < sent {
                    nursery::checkpoint().await?;
                }
            }
            b.aclose().await?;
            b.aclose().await?;
            Ok(())
        })
        .await?;
        assert_eq!(received.get(), 2);
        let error = b.send_to(b"x", a.local_addr()?).await.unwrap_err();
        assert!(matches!(error.into(), StreamError::Closed));
        Ok(())
    })
}
