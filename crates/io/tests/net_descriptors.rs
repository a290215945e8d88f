//! No descriptor is left behind by sockets that failed, were cancelled or dropped. The only test of its process: it counts.
#![cfg(target_os = "linux")]

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_lite::future::poll_once;
use nursery::move_on_after;
use nursery_io::net::{
    TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixStream, open_tcp_listeners,
    open_tcp_stream,
};
use nursery_io::stream::{Listener, SendStream};
use nursery_testing::run;
use socket2::{Domain, Socket, Type};

const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn descriptors() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}

/// A listener whose queue is full, with what fills it: to connect to it waits for ever.
async fn full() -> io::Result<(Socket, SocketAddr, Vec<TcpStream>)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((LOCAL, 0)).into())?;
    socket.listen(0)?;
    let address = socket.local_addr()?.as_socket().expect("an address of IPv4");
    let mut clients = vec![];
    while let Some(client) = briefly(TcpStream::connect(address)).await? {
        clients.push(client);
    }
    Ok((socket, address, clients))
}

async fn briefly<T>(wait: impl IntoFuture<Output = io::Result<T>>) -> io::Result<Option<T>> {
    move_on_after(Duration::from_secs(1), wait.into_future()).await
}

async fn everything_that_can_go_wrong() -> io::Result<()> {
    let (_socket, address, _clients) = full().await?;
    assert!(briefly(TcpStream::connect(address)).await?.is_none());
    assert!(briefly(open_tcp_stream("127.0.0.1", address.port())).await?.is_none());
    assert!(poll_once(Box::pin(TcpStream::connect(address))).await.is_none());
    for _ in 0..10 {
        assert!(TcpStream::connect((LOCAL, 1)).await.is_err());
        assert!(TcpListener::bind(address).is_err());
        assert!(UdpSocket::bind(([192, 0, 2, 1], 0)).is_err());
        assert!(open_tcp_listeners("127.0.0.1", address.port()).await.is_err());
        assert!(UnixStream::connect("/nobody/is/here").await.is_err());
        assert!(UnixDatagram::bind("/nobody/is/here").is_err());
    }
    let listener = TcpListener::bind((LOCAL, 0))?;
    assert!(briefly(async { Ok(listener.accept().await?) }).await?.is_none());
    let client = TcpStream::connect(listener.local_addr()?).await?;
    let _never_reads = listener.accept().await?;
    let data = vec![0; 64 << 20];
    assert!(briefly(async { Ok(client.send_all(&data).await?) }).await?.is_none());
    Ok(())
}

#[test]
fn what_goes_wrong_leaves_no_descriptor() -> io::Result<()> {
    run(everything_that_can_go_wrong())?; // the reactor has its own
    let before = descriptors()?;
    run(everything_that_can_go_wrong())?;
    assert_eq!(descriptors()?, before);
    Ok(())
}
