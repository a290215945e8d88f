//! [`Incoming`]: the pipe into which the handlers write, for as long as somebody reads it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use async_signal::{Signal, Signals};
use futures_lite::Stream as _;
use signal_hook::low_level::raise;

use crate::signal::heard::{Heard, number};

#[derive(Debug)]
pub(crate) struct Incoming {
    heard: Heard,
    pipe: Signals,
}

impl Incoming {
    pub(crate) fn new(signals: &[Signal]) -> io::Result<Self> {
        let (heard, pipe) = Heard::new(signals, || Signals::new(signals))?;
        Ok(Incoming { heard, pipe })
    }

    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<io::Result<Signal>> {
        let mut pipe = &self.pipe;
        let signal = Pin::new(&mut pipe).poll_next(cx);
        signal.map(|signal| signal.expect("the stream of signals has no end"))
    }

    /// Listens no more. Those that nobody has received, and that nobody else listens for, are raised again.
    pub(crate) fn end(&mut self, arrived: impl IntoIterator<Item = Signal>) {
        let have_effect = self.heard.end();
        // Waits for the handlers that are being called, in whatever thread: then the pipe has got all.
        let _ = self.pipe.remove_signals(&have_effect);
        let mut left: Vec<_> = arrived.into_iter().collect();
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Ok(signal)) = self.poll_next(&mut cx) {
            left.push(signal);
        }
        left.retain(|signal| have_effect.contains(signal));
        for signal in left {
            // It fails for signals that do not exist.
            let _ = raise(number(signal));
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.end([]);
    }
}
