//! The floor of the echo server: a loop around `epoll`, without futures.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{CreateFlags, EventData, EventFlags, add, create, wait};

use crate::tally;
use crate::workloads::echo::BUFFER;

pub(crate) fn serve(listener: TcpListener, connections: usize) {
    let epoll = create(CreateFlags::CLOEXEC).expect("an epoll");
    let mut streams = Vec::with_capacity(connections);
    for i in 0..connections {
        let stream = listener.accept().expect("a connection").0;
        stream.set_nonblocking(true).expect("a socket");
        add(&epoll, &stream, EventData::new_u64(i as u64), EventFlags::IN).expect("registered");
        streams.push(Some(stream));
    }
    let mut open = connections;
    let mut events = Vec::with_capacity(connections);
    while open > 0 {
        wait(&epoll, spare_capacity(&mut events), None).expect("events");
        for event in events.drain(..) {
            let i = usize::try_from(event.data.u64()).expect("as registered");
            let is_open = streams[i].as_mut().is_none_or(echo);
            if !is_open {
                streams[i] = None;
                open -= 1;
            }
        }
    }
}

/// Sends back what is there; returns whether there may be more.
fn echo(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; BUFFER];
    match stream.read(&mut buffer) {
        Ok(0) => false,
        Ok(length) => {
            stream.write_all(&buffer[..length]).expect("the client reads");
            tally::add(length);
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            true
        }
    }
}
