//! [`End`]: one end of any stream, so that the chapters are compiled once, and not for each kind of stream.

use nursery_io::stream::{HalfClose, ReceiveStream, Resource, SendStream, StreamError};

use crate::check_stream::Local;

type Result<T = ()> = std::result::Result<T, StreamError>;

/// One end of a stream. The check that is made knows what it can do.
pub(super) struct End<'a>(Box<dyn Operations + 'a>);

const MISTAKEN: &str = "no chapter asks an end for what it cannot do";

/// What the chapters do with an end.
trait Operations {
    fn aclose(&self) -> Local<'_, Result>;

    fn send_all<'a>(&'a self, _data: &'a [u8]) -> Local<'a, Result> {
        unreachable!("{MISTAKEN}")
    }

    fn wait(&self) -> Local<'_, Result> {
        unreachable!("{MISTAKEN}")
    }

    fn receive_some<'a>(&'a self, _buffer: &'a mut [u8]) -> Local<'a, Result<usize>> {
        unreachable!("{MISTAKEN}")
    }

    fn send_eof(&self) -> Local<'_, Result> {
        unreachable!("{MISTAKEN}")
    }
}

impl<'a> End<'a> {
    pub(super) fn that_sends(stream: impl SendStream + 'a) -> Self {
        End(Box::new(Sends(stream)))
    }

    pub(super) fn that_receives(stream: impl ReceiveStream + 'a) -> Self {
        End(Box::new(Receives(stream)))
    }

    pub(super) fn of_two_ways(stream: impl SendStream + ReceiveStream + 'a) -> Self {
        End(Box::new(TwoWays(stream)))
    }

    pub(super) fn half_closeable(stream: impl HalfClose + ReceiveStream + 'a) -> Self {
        End(Box::new(HalfCloses(stream)))
    }

    pub(super) fn send_all<'s>(&'s self, data: &'s [u8]) -> Local<'s, Result> {
        self.0.send_all(data)
    }

    /// Waits until sending might not block.
    pub(super) fn wait(&self) -> Local<'_, Result> {
        self.0.wait()
    }

    pub(super) fn receive_some<'s>(&'s self, buffer: &'s mut [u8]) -> Local<'s, Result<usize>> {
        self.0.receive_some(buffer)
    }

    pub(super) fn send_eof(&self) -> Local<'_, Result> {
        self.0.send_eof()
    }
}

impl Resource for End<'_> {
    async fn aclose(&self) -> Result {
        self.0.aclose().await
    }
}

macro_rules! operation {
    (aclose) => {
        fn aclose(&self) -> Local<'_, Result> {
            Box::pin(self.0.aclose())
        }
    };
    (send) => {
        fn send_all<'a>(&'a self, data: &'a [u8]) -> Local<'a, Result> {
            Box::pin(self.0.send_all(data))
        }

        fn wait(&self) -> Local<'_, Result> {
            Box::pin(self.0.wait_send_all_might_not_block())
        }
    };
    (receive) => {
        fn receive_some<'a>(&'a self, buffer: &'a mut [u8]) -> Local<'a, Result<usize>> {
            Box::pin(self.0.receive_some(buffer))
        }
    };
    (end) => {
        fn send_eof(&self) -> Local<'_, Result> {
            Box::pin(self.0.send_eof())
        }
    };
}

struct Sends<S>(S);

impl<S: SendStream> Operations for Sends<S> {
    operation!(aclose);
    operation!(send);
}

struct Receives<R>(R);

impl<R: ReceiveStream> Operations for Receives<R> {
    operation!(aclose);
    operation!(receive);
}

struct TwoWays<S>(S);

impl<S: SendStream + ReceiveStream> Operations for TwoWays<S> {
    operation!(aclose);
    operation!(send);
    operation!(receive);
}

struct HalfCloses<S>(S);

impl<S: HalfClose + ReceiveStream> Operations for HalfCloses<S> {
    operation!(aclose);
    operation!(send);
    operation!(receive);
    operation!(end);
}
