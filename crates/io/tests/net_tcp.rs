//! Promises of the TCP sockets of `nursery_io::net`.

mod stream_suite;

use std::cell::{Cell, RefCell};
use std::future::{Future, IntoFuture, ready};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use nursery::lowlevel::{self, wait_all_tasks_blocked};
use nursery::{CancelScope, Cancelled, move_on_after, open_nursery, sleep_forever, tree};
use nursery_io::net::{
    AddressError, ConnectError, Resolver, TcpListener, TcpStream, open_tcp_listeners,
    open_tcp_stream, resolve, set_resolver,
};
use nursery_io::stream::{Listener, ReceiveStream, Resource, SendStream, StreamError};
use nursery_testing::{Test, hostile, run};
use socket2::{Domain, SockRef, Socket, Type};

const SECOND: Duration = Duration::from_secs(1);
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

async fn settled() -> Result<(), Cancelled> {
    wait_all_tasks_blocked(Duration::ZERO).await
}

async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((LOCAL, 0))?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    Ok((client, listener.accept().await?))
}

/// An address that is taken, so that no other test gets it, but at which nobody listens.
fn silent() -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(LOCAL, 0).into())?;
    let address = socket.local_addr()?.as_socket().expect("an address of IPv4");
    Ok((socket, address))
}

/// An address of this machine that no other test uses: on Linux, all of 127.0.0.0/8 is.
fn loopback(last: u8) -> IpAddr {
    if cfg!(target_os = "linux") { Ipv4Addr::new(127, 0, 0, last).into() } else { LOCAL }
}

fn address_of(error: io::Error) -> (String, io::ErrorKind) {
    let kind = error.kind();
    (error.downcast::<AddressError>().expect("with an address").address, kind)
}

/// `SocketStream_generic`, `SocketStream_send_all`
#[test]
fn a_connection_keeps_the_contract_of_streams() -> io::Result<()> {
    for seed in 0..3 {
        Test::new().seed(seed).time_limit(SECOND * 60).run(stream_suite::check(pair))?;
    }
    Ok(())
}

#[test]
fn it_keeps_it_also_under_wakers_that_use_the_run() -> io::Result<()> {
    Test::new().time_limit(SECOND * 20).run(hostile(stream_suite::check(pair)))
}

/// `SocketStream_basics`, `SocketType_setsockopt`
#[test]
fn a_connection_has_options() -> io::Result<()> {
    run(async {
        let (a, b) = pair().await?;
        for stream in [&a, &b] {
            assert!(stream.nodelay()?);
            stream.set_nodelay(false)?;
            assert!(!stream.nodelay()?);
            #[cfg(target_os = "linux")]
            assert_eq!(stream.with(|io| SockRef::from(io).tcp_notsent_lowat())??, 1 << 14);
            stream.set_keepalive(Some(SECOND * 7))?;
            let keepalive = stream.with(|io| {
                let io = SockRef::from(io);
                Ok::<_, io::Error>((io.keepalive()?, io.tcp_keepalive_time()?))
            })??;
            assert_eq!(keepalive, (true, SECOND * 7));
            stream.set_keepalive(None)?;
            assert!(!stream.with(|io| SockRef::from(io).keepalive())??);
        }
        assert_eq!((a.local_addr()?, a.peer_addr()?), (b.peer_addr()?, b.local_addr()?));
        a.close();
        a.close();
        assert!(matches!(a.local_addr().unwrap_err().into(), StreamError::Closed));
        assert!(matches!(a.set_nodelay(true).unwrap_err().into(), StreamError::Closed));
        Ok(())
    })
}

/// `socket_stream_works_when_peer_has_already_closed`, `from_stdlib_socket`
#[test]
fn a_connection_of_the_standard_library_is_taken_over_although_its_peer_has_gone() -> io::Result<()>
{
    use std::io::Write;
    run(async {
        let listener = std::net::TcpListener::bind((LOCAL, 0))?;
        let client = std::net::TcpStream::connect(listener.local_addr()?)?;
        let (mut server, _) = listener.accept()?;
        server.write_all(b"x")?;
        drop(server);
        let stream = TcpStream::from_std(client)?;
        let mut buffer = [0; 10];
        assert_eq!(stream.receive_some(&mut buffer).await?, 1);
        assert_eq!(stream.receive_some(&mut buffer).await?, 0);
        stream.into_std()?;
        Ok(())
    })
}

#[test]
fn a_connection_that_is_reset_is_broken() -> io::Result<()> {
    run(async {
        let (a, b) = pair().await?;
        open_nursery(async |n| -> io::Result<()> {
            n.start_soon(async {
                let error = a.receive_some(&mut [0; 10]).await.unwrap_err();
                let StreamError::Broken(cause) = error else { panic!("{error:?}") };
                assert_eq!(cause.kind(), io::ErrorKind::ConnectionReset);
                Ok(())
            });
            settled().await?;
            b.with(|io| SockRef::from(io).set_linger(Some(Duration::ZERO)))??;
            b.close();
            Ok(())
        })
        .await?;
        assert!(matches!(a.send_all(b"x").await, Err(StreamError::Broken(_))));
        Ok(())
    })
}

#[test]
fn the_tree_says_what_a_task_waits_for_and_where() -> io::Result<()> {
    run(async {
        let (a, _b) = pair().await?;
        open_nursery(async |n| -> io::Result<()> {
            n.start_soon(async {
                a.receive_some(&mut [0; 10]).await.map(drop).map_err(Into::into)
            });
            settled().await?;
            let tree = tree().to_string();
            assert!(tree.contains("waits for something to receive"), "{tree}");
            assert!(tree.contains("tests/net_tcp.rs"), "{tree}");
            n.cancel_scope().cancel();
            Ok(())
        })
        .await
    })
}

/// `SocketListener`, `SocketType_simple_server`, `SocketListener_socket_closed_underfoot`
#[test]
fn a_listener_accepts_one_after_the_other_and_closing_wakes_all_that_wait() -> io::Result<()> {
    run(async {
        for host in [LOCAL, Ipv6Addr::LOCALHOST.into()] {
            let listener = TcpListener::bind((host, 0))?;
            let address = listener.local_addr()?;
            let accepted = Cell::new(0);
            open_nursery(async |n| -> io::Result<()> {
                for _ in 0..3 {
                    n.start_soon(async {
                        match listener.accept().await {
                            Ok(_) => accepted.set(accepted.get() + 1),
                            Err(StreamError::Closed) => {}
                            Err(error) => return Err(error.into()),
                        }
                        Ok(())
                    });
                }
                settled().await?;
                let clients =
                    (TcpStream::connect(address).await?, TcpStream::connect(address).await?);
                while accepted.get() < 2 {
                    nursery::checkpoint().await?;
                }
                drop(clients);
                listener.aclose().await?;
                Ok(())
            })
            .await?;
            assert_eq!(accepted.get(), 2);
            assert!(matches!(listener.accept().await, Err(StreamError::Closed)));
            listener.aclose().await?;
        }
        Ok(())
    })
}

#[test]
fn a_cancelled_or_dropped_accept_takes_no_connection() -> io::Result<()> {
    run(async {
        let listener = TcpListener::bind((LOCAL, 0))?;
        let accepted = move_on_after(SECOND, async { io::Result::Ok(listener.accept().await?) });
        assert!(accepted.await?.is_none());
        let _client = TcpStream::connect(listener.local_addr()?).await?;
        let scope = CancelScope::new();
        scope.cancel();
        let accepted = scope.enter(async { io::Result::Ok(listener.accept().await?) });
        assert!(accepted.await?.is_none());
        drop(listener.accept());
        listener.accept().await?;
        Ok(())
    })
}

#[test]
fn connecting_fails_with_the_address() -> io::Result<()> {
    run(async {
        let (_socket, address) = silent()?;
        let error = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(address_of(error), (address.to_string(), io::ErrorKind::ConnectionRefused));
        Ok(())
    })
}

#[test]
fn connecting_while_cancelled_does_nothing() -> io::Result<()> {
    run(async {
        let listener = TcpListener::bind((LOCAL, 0))?;
        let address = listener.local_addr()?;
        let scope = CancelScope::new();
        scope.cancel();
        let connected = scope.enter(TcpStream::connect(address)).await?;
        assert!(connected.is_none());
        let accepted = move_on_after(SECOND, async { io::Result::Ok(listener.accept().await?) });
        assert!(accepted.await?.is_none());
        Ok(())
    })
}

/// `open_tcp_listeners_basic`, `open_tcp_listeners_specific_port_specific_host`
#[test]
fn listeners_are_opened_at_every_address() -> io::Result<()> {
    run(async {
        let listeners = open_tcp_listeners(None, 0).await?;
        assert_eq!(listeners.len(), 2);
        for listener in &listeners {
            let address = listener.local_addr()?;
            assert!(address.ip().is_unspecified());
            let local = if address.is_ipv4() { LOCAL } else { Ipv6Addr::LOCALHOST.into() };
            TcpStream::connect((local, address.port())).await?;
            listener.accept().await?;
        }
        let host = loopback(11);
        let free = TcpListener::bind((host, 0))?.local_addr()?;
        let listeners = open_tcp_listeners(&*host.to_string(), free.port()).await?;
        let addresses: io::Result<Vec<_>> = listeners.iter().map(TcpListener::local_addr).collect();
        assert_eq!(addresses?, [free]);
        Ok(())
    })
}

/// `open_tcp_listeners_ipv6_v6only`
#[test]
fn both_families_may_have_the_same_port() -> io::Result<()> {
    let six = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0))?;
    assert!(six.with(|io| SockRef::from(io).only_v6())??);
    TcpListener::bind((loopback(12), six.local_addr()?.port()))?;
    Ok(())
}

/// `open_tcp_listeners_rebind`
#[test]
fn an_address_can_be_used_again_but_not_twice() -> io::Result<()> {
    run(async {
        let listener = TcpListener::bind((loopback(13), 0))?;
        let address = listener.local_addr()?;
        let error = TcpListener::bind(address).unwrap_err();
        assert_eq!(address_of(error), (address.to_string(), io::ErrorKind::AddrInUse));

        // A connection that is still being taken down does not matter.
        let client = TcpStream::connect(address).await?;
        let server = listener.accept().await?;
        server.aclose().await?;
        assert_eq!(client.receive_some(&mut [0]).await?, 0);
        drop((client, listener));
        TcpListener::bind(address)?;
        Ok(())
    })
}

/// `many_sockets`
#[test]
fn hundreds_of_sockets_wait_at_the_same_time() -> io::Result<()> {
    run(async {
        let listener = TcpListener::bind((LOCAL, 0))?;
        let mut pairs = vec![];
        for _ in 0..200 {
            let client = TcpStream::connect(listener.local_addr()?).await?;
            pairs.push((client, listener.accept().await?));
        }
        let received = Cell::new(0);
        open_nursery(async |n| -> io::Result<()> {
            for (client, _) in &pairs {
                let received = &received;
                n.start_soon(async move {
                    let n = client.receive_some(&mut [0; 10]).await?;
                    received.set(received.get() + n);
                    Ok(())
                });
            }
            settled().await?;
            for (_, server) in &pairs {
                server.send_all(b"x").await?;
            }
            Ok(())
        })
        .await?;
        assert_eq!(received.get(), 200);
        Ok(())
    })
}

/// `open_tcp_stream_real_socket_smoketest`
#[test]
fn a_host_is_connected_to_and_refusal_is_told() -> io::Result<()> {
    run(async {
        let listener = TcpListener::bind((LOCAL, 0))?;
        let address = listener.local_addr()?;
        let client = open_tcp_stream("localhost", address.port()).await?;
        let server = listener.accept().await?;
        client.send_all(b"x").await?;
        assert_eq!(server.receive_some(&mut [0; 10]).await?, 1);

        let (_socket, address) = silent()?;
        let port = address.port();
        let error = open_tcp_stream("127.0.0.1", port).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("cannot connect to 127.0.0.1:{port}: 1 error")),
            "{text}"
        );
        let attempts = error.downcast::<ConnectError>().unwrap().attempts;
        let address = address_of(attempts.into_single().unwrap()).0;
        assert_eq!(address, format!("127.0.0.1:{port}"));
        Ok(())
    })
}

/// `local_address_real`
#[cfg(target_os = "linux")]
#[test]
fn a_connection_may_come_from_an_address_of_ones_choice() -> io::Result<()> {
    run(async {
        let listener = TcpListener::bind((LOCAL, 0))?;
        let port = listener.local_addr()?.port();
        let from = loopback(2);
        let client = open_tcp_stream("127.0.0.1", port).local_address(from).await?;
        assert_eq!(client.local_addr()?.ip(), from);
        assert_eq!(listener.accept().await?.peer_addr()?.ip(), from);

        let wrong_family = open_tcp_stream("127.0.0.1", port).local_address(Ipv6Addr::LOCALHOST);
        let error = wrong_family.await.unwrap_err().downcast::<ConnectError>().unwrap();
        assert_eq!(error.attempts.len(), 1);
        Ok(())
    })
}

/// What names are asked for, and answers.
struct Fake {
    asked: RefCell<Vec<String>>,
    answer: fn() -> io::Result<Vec<SocketAddr>>,
}

impl Resolver for Fake {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + 'a>> {
        self.asked.borrow_mut().push(format!("{host} {port}"));
        Box::pin(ready((self.answer)()))
    }
}

fn fake(answer: fn() -> io::Result<Vec<SocketAddr>>) -> Rc<Fake> {
    let fake = Rc::new(Fake { asked: RefCell::default(), answer });
    set_resolver(fake.clone());
    fake
}

/// `getaddrinfo`, `custom_hostname_resolver`
#[test]
fn names_are_resolved_addresses_are_taken_as_they_are() -> io::Result<()> {
    run(async {
        let fake = fake(|| Ok(vec![(LOCAL, 7).into()]));
        let before = lowlevel::points();
        assert_eq!(resolve("127.0.0.1", 80).await?, [(LOCAL, 80).into()]);
        assert_ne!(lowlevel::points(), before);
        assert_eq!(resolve("::1", 80).await?, [(Ipv6Addr::LOCALHOST, 80).into()]);
        assert!(fake.asked.borrow().is_empty());
        assert_eq!(resolve("example.org", 80).await?, [(LOCAL, 7).into()]);
        assert_eq!(*fake.asked.borrow(), ["example.org 80"]);
        io::Result::Ok(())
    })?;
    // Another run has its own.
    run(async {
        assert!(resolve("localhost", 80).await?.contains(&(LOCAL, 80).into()));
        Ok(())
    })
}

/// `no_hosts`, `idna`, `open_tcp_stream_input_validation`
#[test]
fn names_that_cannot_be_resolved_are_named() -> io::Result<()> {
    run(async {
        for (name, kind) in [
            ("", io::ErrorKind::InvalidInput),
            ("b\u{fc}cher.example", io::ErrorKind::InvalidInput),
            ("a\0b", io::ErrorKind::InvalidInput),
        ] {
            let error = open_tcp_stream(name, 80).await.unwrap_err();
            assert_eq!(address_of(error), (format!("{name:?}"), kind));
        }
        let too_long = "x".repeat(2000);
        let error = open_tcp_stream(&too_long, 80).await.unwrap_err();
        assert_eq!(address_of(error).0, format!("{too_long:?}"));

        fake(|| Ok(vec![]));
        let error = open_tcp_stream("nobody.example", 80).await.unwrap_err();
        assert_eq!(address_of(error), ("\"nobody.example\"".into(), io::ErrorKind::NotFound));
        fake(|| Err(io::Error::other("the cable is cut")));
        let error = open_tcp_listeners("nobody.example", 80).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot resolve \"nobody.example\": the cable is cut");
        Ok(())
    })
}

/// `open_tcp_listeners_multiple_host_cleanup_on_error`
#[test]
fn listeners_are_opened_at_all_addresses_or_at_none() -> io::Result<()> {
    run(async {
        fake(|| {
            let nobody_here: IpAddr = "192.0.2.1".parse().unwrap();
            Ok(vec![(LOCAL, 0).into(), (nobody_here, 0).into()])
        });
        let error = open_tcp_listeners("half.example", 0).await.unwrap_err();
        assert_eq!(address_of(error).0, "192.0.2.1:0");
        Ok(())
    })
}

#[test]
fn resolving_is_cancelled_at_once() -> io::Result<()> {
    struct Silent;
    impl Resolver for Silent {
        fn resolve<'a>(
            &'a self,
            _: &'a str,
            _: u16,
        ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + 'a>> {
            Box::pin(async {
                sleep_forever().await?;
                Ok(vec![])
            })
        }
    }
    run(async {
        set_resolver(Rc::new(Silent));
        let opened = move_on_after(SECOND, open_tcp_stream("silent.example", 80).into_future());
        assert!(opened.await?.is_none());
        Ok(())
    })
}
