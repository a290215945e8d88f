//! The client of the echo server: blocking sockets of the standard library, in one thread.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::time::ClockId;

use crate::stopwatch::cpu_time;
use crate::workloads::echo::MESSAGE;

/// What the client saw.
pub(crate) struct Report {
    /// From the first message to the last answer.
    pub(crate) time: Duration,
    /// The CPU time of this thread.
    pub(crate) cpu: Duration,
}

/// Connects, sends `rounds` messages over each connection and checks the answers.
pub(crate) fn run(server: SocketAddr, connections: usize, rounds: usize) -> Report {
    let connect = |_| {
        let stream = TcpStream::connect(server).expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        stream
    };
    let mut streams: Vec<TcpStream> = (0..connections).map(connect).collect();
    let start = Instant::now();
    for round in 0..rounds {
        let sent = [round.to_le_bytes()[0]; MESSAGE];
        for stream in &mut streams {
            stream.write_all(&sent).expect("the server listens");
        }
        for stream in &mut streams {
            let mut answer = [0; MESSAGE];
            stream.read_exact(&mut answer).expect("the server answers");
            assert_eq!(answer, sent, "another answer");
        }
    }
    let time = start.elapsed();
    drop(streams);
    Report { time, cpu: cpu_time(ClockId::ThreadCPUTime) }
}
