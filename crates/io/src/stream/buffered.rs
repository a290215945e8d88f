//! [`BufferedReceive`]: receives whole lines and messages, and loses nothing when it is cancelled half-way.

use std::error::Error;
use std::fmt;
use std::io;

use crate::stream::{ReceiveStream, StreamError};

/// How much room there is for each `receive_some`.
const CHUNK: usize = 8 * 1024;

/// Receives whole lines and messages from a stream of bytes.
///
/// What has been received stays in its buffer until there is a whole one: whoever is cancelled in the middle of a line, or
/// runs out of time, can go on with the same line. Every method has a bound on how much that may be, so that a peer cannot
/// fill the memory.
///
/// Give it the stream, or a reference to it, so that another task can send. What it has in its buffer is no longer in the
/// stream.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use nursery::move_on_after;
/// use nursery_io::net::UnixStream;
/// use nursery_io::stream::{BufferedReceive, SendStream};
///
/// # nursery_testing::run(async {
/// let (here, there) = UnixStream::pair()?;
/// let mut lines = BufferedReceive::new(here);
/// there.send_all(b"first\nsec").await?;
/// assert_eq!(lines.read_line(100).await?.as_deref(), Some("first"));
///
/// let in_time = move_on_after(Duration::from_secs(1), lines.read_line(100)).await?;
/// assert_eq!(in_time, None); // it got "sec", and no more
///
/// there.send_all(b"ond\n").await?;
/// assert_eq!(lines.read_line(100).await?.as_deref(), Some("second"));
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct BufferedReceive<R> {
    stream: R,
    buffer: Vec<u8>,
    /// What has been received and not been taken is in this part of the buffer.
    start: usize,
    end: usize,
}

impl<R> BufferedReceive<R> {
    /// Makes one with nothing in its buffer.
    pub fn new(stream: R) -> Self {
        BufferedReceive { stream, buffer: Vec::new(), start: 0, end: 0 }
    }

    /// Returns what has been received, and not been taken yet.
    #[must_use]
    pub fn buffer(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Returns the stream.
    pub fn get_ref(&self) -> &R {
        &self.stream
    }

    /// Returns the stream, and what has been received from it and not been taken.
    #[must_use]
    pub fn into_inner(mut self) -> (R, Vec<u8>) {
        self.buffer.truncate(self.end);
        self.buffer.drain(..self.start);
        (self.stream, self.buffer)
    }

    fn take(&mut self, count: usize) {
        self.start += count;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Makes room at the end, for as much as may come.
    fn make_room(&mut self) {
        if self.start > 0 && self.end + CHUNK > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end + CHUNK > self.buffer.len() {
            self.buffer.resize(self.end + CHUNK, 0);
        }
    }
}

impl<R: ReceiveStream> BufferedReceive<R> {
    /// Receives more into the buffer. Returns how much; 0 at the end of the stream.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, always. Cancelled or dropped, it took nothing.
    ///
    /// # Errors
    ///
    /// Those of [`receive_some`](ReceiveStream::receive_some).
    pub async fn fill(&mut self) -> Result<usize, StreamError> {
        self.make_room();
        let received = self.stream.receive_some(&mut self.buffer[self.end..]).await?;
        self.end += received;
        Ok(received)
    }

    /// Receives a message of any format: `parse` looks at what has been received, and returns how many bytes of it are the
    /// message, and what they mean; or `None` if they are not all there yet.
    ///
    /// Returns `None` at the end of the stream, if it is not in the middle of a message.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, if it has to receive. Cancelled or dropped, it took nothing: what has been received is still there.
    ///
    /// # Errors
    ///
    /// Those of `parse` and of the stream; a [`TooLong`] if a message is not all there within `limit` bytes;
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if the stream ends in the middle of one. What has been received stays
    /// in the [`buffer`](Self::buffer).
    ///
    /// # Examples
    ///
    /// ```
    /// use nursery_io::net::UnixStream;
    /// use nursery_io::stream::{BufferedReceive, SendStream};
    ///
    /// /// A byte that says how long the message is, and the message.
    /// fn parse(bytes: &[u8]) -> std::io::Result<Option<(usize, String)>> {
    ///     let Some((&len, rest)) = bytes.split_first() else { return Ok(None) };
    ///     let message = rest.get(..usize::from(len));
    ///     Ok(message.map(|text| (1 + text.len(), String::from_utf8_lossy(text).into())))
    /// }
    ///
    /// # nursery_testing::run(async {
    /// let (here, there) = UnixStream::pair()?;
    /// there.send_all(b"\x05hello\x03you").await?;
    /// drop(there);
    /// let mut messages = BufferedReceive::new(here);
    /// assert_eq!(messages.read_message(256, parse).await?.as_deref(), Some("hello"));
    /// assert_eq!(messages.read_message(256, parse).await?.as_deref(), Some("you"));
    /// assert_eq!(messages.read_message(256, parse).await?, None);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub async fn read_message<T>(
        &mut self,
        limit: usize,
        mut parse: impl FnMut(&[u8]) -> io::Result<Option<(usize, T)>>,
    ) -> io::Result<Option<T>> {
        loop {
            let found = parse(self.buffer())?.filter(|(len, _)| *len <= limit);
            if let Some((len, message)) = found {
                self.take(len);
                return Ok(Some(message));
            }
            if self.buffer().len() >= limit {
                return Err(io::Error::new(io::ErrorKind::InvalidData, TooLong { limit }));
            }
            if self.fill().await? == 0 {
                return if self.buffer().is_empty() { Ok(None) } else { Err(self.cut_off()) };
            }
        }
    }

    fn cut_off(&self) -> io::Error {
        let text = format!("the stream ended {} bytes into a message", self.buffer().len());
        io::Error::new(io::ErrorKind::UnexpectedEof, text)
    }

    /// Receives up to and including the next `delimiter`. `None` at the end of the stream.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, if it has to receive. Cancelled or dropped, it took nothing.
    ///
    /// # Errors
    ///
    /// As [`read_message`](Self::read_message), also if the stream ends without a delimiter.
    pub async fn read_until(&mut self, delimiter: u8, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let mut searched = 0;
        self.read_message(limit, |bytes| {
            let found = bytes[searched..].iter().position(|byte| *byte == delimiter);
            let end = found.map(|at| searched + at + 1);
            searched = bytes.len();
            Ok(end.map(|end| (end, bytes[..end].to_vec())))
        })
        .await
    }

    /// Receives a line of UTF-8, without its end, which is `\n` or `\r\n`. `None` at the end of the stream.
    ///
    /// What follows the last end of a line is a line, too, unless it is empty.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, if it has to receive. Cancelled or dropped, it took nothing.
    ///
    /// # Errors
    ///
    /// Those of the stream; a [`TooLong`] if a line and its end have more than `limit` bytes;
    /// [`InvalidData`](io::ErrorKind::InvalidData) if it is not UTF-8: then it is taken, and the next line can be received.
    pub async fn read_line(&mut self, limit: usize) -> io::Result<Option<String>> {
        let mut line = match self.read_until(b'\n', limit).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.take_all(),
            other => match other? {
                Some(line) => line,
                None => return Ok(None),
            },
        };
        for end in [b'\n', b'\r'] {
            line.pop_if(|last| *last == end);
        }
        match String::from_utf8(line) {
            Ok(line) => Ok(Some(line)),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }

    fn take_all(&mut self) -> Vec<u8> {
        let rest = self.buffer().to_vec();
        self.take(rest.len());
        rest
    }

    /// Receives exactly `count` bytes.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, if it has to receive. Cancelled or dropped, it took nothing.
    ///
    /// # Errors
    ///
    /// Those of the stream; [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if it ends before: what has been received stays in
    /// the [`buffer`](Self::buffer).
    pub async fn read_exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let all = |bytes: &[u8]| Ok(bytes.get(..count).map(|bytes| (count, bytes.to_vec())));
        let read = self.read_message(count, all).await?;
        read.ok_or_else(|| self.cut_off())
    }

    /// Receives some bytes: those in the buffer, if there are any. Returns how many; 0 at the end of the stream.
    ///
    /// # Cancellation
    ///
    /// A checkpoint, if it has to receive. Cancelled or dropped, it took nothing.
    ///
    /// # Errors
    ///
    /// Those of [`receive_some`](ReceiveStream::receive_some).
    pub async fn receive_some(&mut self, buffer: &mut [u8]) -> Result<usize, StreamError> {
        let count = buffer.len().min(self.buffer().len());
        if count == 0 {
            return self.stream.receive_some(buffer).await;
        }
        buffer[..count].copy_from_slice(&self.buffer()[..count]);
        self.take(count);
        Ok(count)
    }
}

/// A line or a message was longer than it may be.
///
/// An [`io::Error`] of kind [`InvalidData`](io::ErrorKind::InvalidData) holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TooLong {
    /// How long it may be.
    pub limit: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message is longer than {} bytes", self.limit)
    }
}

impl Error for TooLong {}
