//! [`Stapled`]: one stream made of two.

use crate::stream::{HalfClose, ReceiveStream, Resource, SendStream, StreamError};

/// A stream that sends by one stream and receives by another: a process's stdin and stdout, say.
///
/// The parts are public: they may be used, and closed, by themselves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stapled<S, R> {
    /// Sends.
    pub send: S,
    /// Receives.
    pub receive: R,
}

impl<S, R> Stapled<S, R> {
    /// Makes one stream of two.
    #[must_use]
    pub fn new(send: S, receive: R) -> Self {
        Stapled { send, receive }
    }
}

/// Closes both, the one that sends first; also the second if the first fails, with whose error it ends.
impl<S: Resource, R: Resource> Resource for Stapled<S, R> {
    async fn aclose(&self) -> Result<(), StreamError> {
        let sending = self.send.aclose().await;
        let receiving = self.receive.aclose().await;
        sending.and(receiving)
    }
}

impl<S: SendStream, R: Resource> SendStream for Stapled<S, R> {
    async fn send_all(&self, data: &[u8]) -> Result<(), StreamError> {
        self.send.send_all(data).await
    }

    async fn wait_send_all_might_not_block(&self) -> Result<(), StreamError> {
        self.send.wait_send_all_might_not_block().await
    }
}

impl<S: HalfClose, R: Resource> HalfClose for Stapled<S, R> {
    async fn send_eof(&self) -> Result<(), StreamError> {
        self.send.send_eof().await
    }
}

impl<S: Resource, R: ReceiveStream> ReceiveStream for Stapled<S, R> {
    async fn receive_some(&self, buffer: &mut [u8]) -> Result<usize, StreamError> {
        self.receive.receive_some(buffer).await
    }
}
