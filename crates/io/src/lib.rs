//! Checkpointed primitives for [`nursery`]: each operation that may wait can be cancelled.
//!
//! | for | look at |
//! |---|---|
//! | events, locks, semaphores and what else tasks agree by | [`sync`] |
//! | passing values from task to task | [`channel`] |
//! | sending and receiving bytes, whatever carries them | [`stream`] |
//! | TCP, UDP and Unix sockets: connecting, serving | [`net`] |
//! | pipes, and other file descriptors | [`pipe`] |
//! | Ctrl-C, SIGTERM and the other signals of the system | [`signal`] |
//! | what blocks or computes for long, and ways back from other threads | [`thread`] |
#![forbid(unsafe_code)]
#![doc(test(attr(deny(warnings))))]

#[cfg(unix)]
pub mod pipe;
#[cfg(unix)]
pub mod signal;

pub mod channel;
pub mod net;
mod source;
pub mod stream;
pub mod sync;
pub mod thread;
