//! Sockets of `nursery_io::net` and what they should not be given: wrong addresses, no bytes, too many, peers that break off.

use std::cell::Cell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use nursery::lowlevel::{points, wait_all_tasks_blocked};
use nursery::{move_on_after, open_nursery};
use nursery_io::net::{AddressError, TcpListener, TcpStream, UdpSocket, open_tcp_stream};
use nursery_io::stream::{Listener, ReceiveStream, SendStream, StreamError};
use nursery_testing::Test;
use socket2::{Domain, SockRef, Socket, Type};

const SECOND: Duration = Duration::from_secs(1);
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Runs `main`, which is not to hang.
fn run<T>(main: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    Test::new().time_limit(SECOND * 60).run(main)
}

/// More than any system takes that nobody receives.
const HUGE: usize = 64 << 20;

async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((LOCAL, 0))?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    Ok((client, listener.accept().await?))
}

/// Closes it with a reset, as a process does that is killed with bytes unread.
fn reset(stream: &TcpStream) -> io::Result<()> {
    stream.with(|io| SockRef::from(io).set_linger(Some(Duration::ZERO)))??;
    stream.close();
    Ok(())
}

fn address_of(error: io::Error) -> String {
    error.downcast::<AddressError>().expect("with an address").address
}

#[test]
fn what_cannot_be_connected_to_is_an_error_that_names_it() -> io::Result<()> {
    run(async {
        let mut addresses: Vec<SocketAddr> = vec![(LOCAL, 0).into(), (LOCAL, 1).into()];
        addresses.push((Ipv4Addr::BROADCAST, 80).into());
        addresses.push((Ipv6Addr::LOCALHOST, 1).into());
        for address in addresses {
            let error = TcpStream::connect(address).await.unwrap_err();
            assert_eq!(address_of(error), address.to_string());
        }
        Ok(())
    })
}

#[test]
fn names_that_no_server_was_ever_asked_for_are_errors() -> io::Result<()> {
    run(async {
        let label = format!("{}.example", "x".repeat(64));
        for name in [&label, "a..example", " ", "127.0.0.1 ", "[::1]", "::1::"] {
            let before = points();
            let error = open_tcp_stream(name, 1).await.unwrap_err();
            assert_eq!(address_of(error), format!("{name:?}"));
            assert_ne!(points(), before, "a checkpoint");
        }
        Ok(())
    })
}

#[test]
fn addresses_that_are_not_ours_or_taken_are_not_bound() -> io::Result<()> {
    run(async {
        let listener = TcpListener::bind((LOCAL, 0))?;
        let taken = listener.local_addr()?;
        let foreign = SocketAddr::from(([192, 0, 2, 1], 0)); // for documentation, nobody has it
        for address in [taken, foreign] {
            let error = TcpListener::bind(address).unwrap_err();
            assert_eq!(address_of(error), address.to_string());
        }
        assert_eq!(address_of(UdpSocket::bind(foreign).unwrap_err()), foreign.to_string());
        // The one that has it is not disturbed.
        let _client = TcpStream::connect(taken).await?;
        listener.accept().await?;
        Ok(())
    })
}

/// A socket that is bound and does not listen keeps its port.
#[test]
fn a_port_that_is_bound_elsewhere_is_refused_until_it_is_closed() -> io::Result<()> {
    run(async {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(LOCAL, 0).into())?;
        let address = socket.local_addr()?.as_socket().expect("an address of IPv4");
        let error = TcpListener::bind(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(socket);
        TcpListener::bind(address)?;
        Ok(())
    })
}

#[test]
fn no_bytes_are_sent_and_received_without_taking_them_for_the_end() -> io::Result<()> {
    run(async {
        let (a, b) = pair().await?;
        let before = points();
        a.send_all(b"").await?;
        assert_ne!(points(), before, "a checkpoint");
        assert!(matches!(b.receive_some(&mut []).await, Err(StreamError::EmptyBuffer)));
        assert_eq!((&b).read(&mut []).await?, 0);
        assert_eq!((&a).write(b"").await?, 0);
        let nothing =
            move_on_after(SECOND, async { io::Result::Ok(b.receive_some(&mut [0]).await?) });
        assert_eq!(nothing.await?, None, "still open, and nothing has come");
        a.send_all(b"x").await?;
        assert_eq!(b.receive_some(&mut [0; 10]).await?, 1);
        Ok(())
    })
}

#[test]
fn an_empty_datagram_is_a_datagram() -> io::Result<()> {
    run(async {
        let (a, b) = (UdpSocket::bind((LOCAL, 0))?, UdpSocket::bind((LOCAL, 0))?);
        assert_eq!(a.send_to(b"", b.local_addr()?).await?, 0);
        a.send_to(b"second", b.local_addr()?).await?;
        a.send_to(b"third", b.local_addr()?).await?;
        assert_eq!(b.recv_from(&mut [0; 10]).await?, (0, a.local_addr()?));
        assert_eq!(b.recv(&mut []).await?, 0, "it is lost: there was no room for it");
        let mut buffer = [0; 10];
        assert_eq!(b.recv(&mut buffer).await?, 5);
        assert_eq!(&buffer[..5], b"third");
        Ok(())
    })
}

#[test]
fn a_buffer_may_be_larger_than_anything_that_comes() -> io::Result<()> {
    run(async {
        let (a, b) = pair().await?;
        let mut buffer = vec![0; HUGE];
        a.send_all(b"small").await?;
        assert_eq!(b.receive_some(&mut buffer).await?, 5);
        let sent: Vec<u8> = (0..HUGE).map(|i| (i % 251) as u8).collect();
        open_nursery(async |n| -> io::Result<()> {
            n.start_soon(async {
                a.send_all(&sent).await?;
                a.close();
                Ok(())
            });
            let mut received = 0;
            while received < HUGE {
                received += b.receive_some(&mut buffer[received..]).await?;
            }
            assert!(buffer == sent);
            assert_eq!(b.receive_some(&mut buffer).await?, 0);
            Ok(())
        })
        .await
    })
}

#[test]
fn bytes_are_gathered_and_scattered() -> io::Result<()> {
    run(async {
        let (mut a, mut b) = pair().await?;
        let parts = [IoSlice::new(b""), IoSlice::new(b"gath"), IoSlice::new(b"ered")];
        assert_eq!(a.write_vectored(&parts).await?, 8);
        let (mut head, mut tail) = ([0; 3], [0; 10]);
        let mut parts = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut tail)];
        assert_eq!(b.read_vectored(&mut parts).await?, 8);
        assert_eq!((&head, &tail[..5]), (b"gat", &b"hered"[..]));
        Ok(())
    })
}

#[test]
fn a_peer_that_never_reads_holds_up_nobody_but_its_sender() -> io::Result<()> {
    run(async {
        let (a, b) = pair().await?;
        let data = vec![0; HUGE];
        let is_sending = Cell::new(true);
        open_nursery(async |n| -> io::Result<()> {
            n.start_soon(async {
                let sent = a.send_all(&data).await;
                is_sending.set(false);
                assert!(matches!(sent, Err(StreamError::Broken(_))), "{sent:?}");
                // The bytes that it had are lost, and so is the connection.
                assert!(matches!(a.send_all(b"x").await, Err(StreamError::Broken(_))));
                Ok(())
            });
            wait_all_tasks_blocked(Duration::ZERO).await?;
            assert!(is_sending.get());
            b.send_all(b"the other way").await?;
            assert_eq!(a.receive_some(&mut [0; 100]).await?, 13);
            assert!(is_sending.get());
            reset(&b)
        })
        .await?;
        assert!(!is_sending.get());
        Ok(())
    })
}

/// On Linux it is accepted nevertheless, and the reset is the first that is received.
#[test]
fn a_client_that_resets_before_it_is_accepted_leaves_the_listener_well() -> io::Result<()> {
    run(async {
        let listener = TcpListener::bind((LOCAL, 0))?;
        reset(&TcpStream::connect(listener.local_addr()?).await?)?;
        let good = TcpStream::connect(listener.local_addr()?).await?;
        good.send_all(b"x").await?;
        loop {
            let accepted = listener.accept().await?;
            match accepted.receive_some(&mut [0]).await {
                Ok(1) => return Ok(()),
                reset => assert!(matches!(reset, Err(StreamError::Broken(_))), "{reset:?}"),
            }
        }
    })
}
