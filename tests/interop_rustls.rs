//! rustls wraps our streams: an echo, garbage, peers that break off, and deadlines that are recognised outside.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use futures_rustls::rustls::crypto::ring;
use futures_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use futures_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};
use futures_rustls::{TlsAcceptor, TlsConnector, client, server};
use nursery::{CancelScope, TooSlow, fail_after, move_on_after, open_nursery, sleep};
use nursery_io::net::{TcpListener, TcpStream, serve_listeners};
use nursery_io::stream::{HalfClose, Listener, ReceiveStream, SendStream};
use nursery_testing::{Test, run};

const SECOND: Duration = Duration::from_secs(1);
const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// Both ends of TLS, with a certificate made for this test.
struct Tls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl Tls {
    fn new() -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let certificate = made.cert.der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone())?;
        let provider = Arc::new(ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Tls { acceptor: Arc::new(server).into(), connector: Arc::new(client).into() })
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<client::TlsStream<TcpStream>> {
        self.connect_as("localhost", address).await
    }

    async fn connect_as(
        &self,
        name: &'static str,
        address: SocketAddr,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        self.connector.connect(ServerName::try_from(name).unwrap(), stream).await
    }

    async fn echo(&self, stream: TcpStream) -> io::Result<()> {
        let mut stream = self.acceptor.accept(stream).await?;
        let mut buffer = vec![0; 4096];
        loop {
            match stream.read(&mut buffer).await? {
                0 => return stream.close().await,
                n => stream.write_all(&buffer[..n]).await?,
            }
            stream.flush().await?;
        }
    }

    /// Two ends that have shaken hands.
    async fn pair(
        &self,
    ) -> anyhow::Result<(client::TlsStream<TcpStream>, server::TlsStream<TcpStream>)> {
        let listener = TcpListener::bind(ANY)?;
        let address = listener.local_addr()?;
        open_nursery(async |n| -> anyhow::Result<_> {
            let client = n.start_soon(async { Ok(self.connect(address).await?) });
            let server = self.acceptor.accept(listener.accept().await?).await?;
            Ok((client.await?, server))
        })
        .await
    }
}

/// Runs `body` against an echo server; returns how its connections failed.
async fn with_echo(
    tls: &Tls,
    body: impl AsyncFnOnce(SocketAddr) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<io::Error>> {
    let failed = RefCell::new(vec![]);
    open_nursery(async |n| -> anyhow::Result<()> {
        let listener = TcpListener::bind(ANY)?;
        let address = listener.local_addr()?;
        n.start(async |status| {
            let server = serve_listeners([listener], async |stream| tls.echo(stream).await);
            let note = |error| {
                failed.borrow_mut().push(error);
                Ok(())
            };
            Ok(server.on_error(note).started(status).await?)
        })
        .await?;
        body(address).await?;
        n.cancel_scope().cancel();
        Ok(())
    })
    .await?;
    Ok(failed.take())
}

#[test]
fn what_is_sent_comes_back() -> anyhow::Result<()> {
    let tls = Tls::new()?;
    for seed in 0..5 {
        let failed = Test::new().seed(seed).run(with_echo(&tls, async |address| {
            let (mut reader, mut writer) = futures_lite::io::split(tls.connect(address).await?);
            // More than the sockets hold: both directions at the same time, each in a task of its own.
            let sent: Vec<u8> = (0..4_000_000_u32).map(|i| (i % 251) as u8).collect();
            let mut received = vec![0; sent.len()];
            open_nursery(async |n| -> anyhow::Result<()> {
                n.start_soon(async {
                    writer.write_all(&sent).await?;
                    Ok(writer.flush().await?)
                });
                reader.read_exact(&mut received).await?;
                Ok(())
            })
            .await?;
            assert!(sent == received);
            writer.close().await?;
            assert_eq!(reader.read(&mut [0]).await?, 0);
            Ok(())
        }))?;
        assert!(failed.is_empty(), "{failed:?}");
    }
    Ok(())
}

/// Runs `main` with a budget larger than 1. rustls tries once to write its last word to a peer, and does not wait for it: it
/// would be lost if that attempt did not do anything but yield.
fn in_a_hurry<T>(main: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    Test::new().checkpoint_budget(100).run(main)
}

#[test]
fn garbage_is_a_clear_error_and_the_others_go_on() -> anyhow::Result<()> {
    let tls = Tls::new()?;
    let failed = in_a_hurry(with_echo(&tls, async |address| {
        let mut other = tls.connect(address).await?;
        for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 100], b"\x16\x03\x01\xff\xff"] {
            let rude = TcpStream::connect(address).await?;
            rude.send_all(garbage).await?;
            let mut alert = [0; 100];
            let told = rude.receive_some(&mut alert).await?;
            assert_eq!((told, alert[0]), (7, 21), "{garbage:?}");
        }
        other.write_all(b"still here").await?;
        let mut answer = [0; 10];
        other.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"still here");
        Ok(())
    }))?;
    assert_eq!(failed.len(), 3, "{failed:?}");
    for error in &failed {
        assert!(
            error.kind() == io::ErrorKind::InvalidData
                && error.get_ref().is_some_and(|error| error.is::<rustls::Error>()),
            "{error:?}"
        );
    }
    Ok(())
}

#[test]
fn a_certificate_for_another_name_is_refused_on_both_sides() -> anyhow::Result<()> {
    let tls = Tls::new()?;
    let failed = in_a_hurry(with_echo(&tls, async |address| {
        let error = tls.connect_as("other.example", address).await.unwrap_err();
        let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
        assert!(matches!(error, Some(rustls::Error::InvalidCertificate(_))), "{error:?}");
        sleep(SECOND).await?; // the server learns it
        Ok(())
    }))?;
    assert!(failed[0].to_string().contains("BadCertificate"), "{failed:?}");
    Ok(())
}

#[test]
fn an_end_without_a_goodbye_is_an_error() -> anyhow::Result<()> {
    let tls = Tls::new()?;
    run(async {
        let (client, mut server) = tls.pair().await?;
        client.get_ref().0.send_eof().await?;
        let error = server.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        Ok(())
    })
}

#[test]
fn a_deadline_around_a_read_is_recognised_and_nothing_is_lost() -> anyhow::Result<()> {
    let tls = Tls::new()?;
    run(async {
        let (mut client, mut server) = tls.pair().await?;
        let mut buffer = [0; 100];
        for _ in 0..3 {
            let read = move_on_after(SECOND, server.read(&mut buffer));
            assert_eq!(read.await?, None);
        }
        client.write_all(b"late").await?;
        client.flush().await?;
        assert_eq!(server.read(&mut buffer).await?, 4);
        assert_eq!(&buffer[..4], b"late");

        let scope = CancelScope::new();
        scope.cancel_because("enough");
        let error: io::Error = scope
            .enter(async {
                let error = server.read(&mut buffer).await.unwrap_err();
                let held = error.get_ref().and_then(|error| error.downcast_ref()).cloned();
                let cancelled: nursery::Cancelled = held.expect("it is held by the error");
                assert_eq!(cancelled.reason().text(), Some("enough"));
                io::Result::Ok(error)
            })
            .await?
            .expect("it has a value");
        assert!(!error.to_string().is_empty());
        Ok(())
    })
}

#[test]
fn a_deadline_around_a_handshake_is_recognised() -> anyhow::Result<()> {
    let tls = Tls::new()?;
    run(async {
        let listener = TcpListener::bind(ANY)?;
        let address = listener.local_addr()?;
        let shaken = fail_after(SECOND, tls.connect(address));
        let error = shaken.await.unwrap_err(); // nobody answers
        assert!(error.get_ref().is_some_and(|error| error.is::<TooSlow>()), "{error:?}");

        let stream = TcpStream::connect(address).await?;
        let _first = listener.accept().await?;
        let accepted = listener.accept().await?;
        let shaken = move_on_after(SECOND, tls.acceptor.accept(accepted));
        assert!(shaken.await?.is_none());
        drop(stream);
        Ok(())
    })
}

/// A writer that waits is cut off within a record; the stream refuses nothing, the bytes wait inside of rustls.
#[test]
fn a_write_that_is_cut_off_goes_on_later() -> anyhow::Result<()> {
    let tls = Tls::new()?;
    run(async {
        let (mut client, server) = tls.pair().await?;
        let data = Rc::new([7_u8; 10_000]);
        let mut sent = 0;
        let blocked = move_on_after(SECOND, async {
            loop {
                sent += client.write(&data[..]).await?;
                client.flush().await?;
            }
            #[allow(unreachable_code, reason = "it ends by cancellation only")]
            io::Result::Ok(())
        });
        assert!(blocked.await?.is_none());
        open_nursery(async |n| -> anyhow::Result<()> {
            n.start_soon(async {
                client.flush().await?;
                Ok(client.close().await?)
            });
            let mut received = vec![];
            let mut server = server;
            server.read_to_end(&mut received).await?;
            assert_eq!(received.len(), sent);
            assert!(received.iter().all(|&byte| byte == 7));
            Ok(())
        })
        .await
    })
}
