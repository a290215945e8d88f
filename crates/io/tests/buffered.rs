//! Promises of `nursery_io::stream::BufferedReceive`: whole messages, and nothing lost.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use nursery::{CancelScope, Cancelled, checkpoint, move_on_after, sleep_forever};
use nursery_io::stream::{BufferedReceive, ReceiveStream, Resource, StreamError, TooLong};
use nursery_testing::run;

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: usize = 1000;

/// Comes in these pieces. An empty piece is a pause: whoever waits there waits until it gives up.
struct Pieces(RefCell<VecDeque<Vec<u8>>>);

impl Resource for Pieces {
    async fn aclose(&self) -> Result<(), StreamError> {
        Ok(checkpoint().await?)
    }
}

impl ReceiveStream for Pieces {
    async fn receive_some(&self, buffer: &mut [u8]) -> Result<usize, StreamError> {
        checkpoint().await?;
        let Some(mut piece) = self.0.borrow_mut().pop_front() else { return Ok(0) };
        if piece.is_empty() {
            sleep_forever().await?;
        }
        let n = piece.len().min(buffer.len());
        buffer[..n].copy_from_slice(&piece[..n]);
        if n < piece.len() {
            self.0.borrow_mut().push_front(piece.split_off(n));
        }
        Ok(n)
    }
}

fn pieces<'a>(pieces: impl IntoIterator<Item = &'a str>) -> BufferedReceive<Pieces> {
    let pieces = pieces.into_iter().map(|piece| piece.as_bytes().to_vec());
    BufferedReceive::new(Pieces(RefCell::new(pieces.collect())))
}

#[test]
fn lines_come_whole_however_they_are_cut() -> io::Result<()> {
    let text = "one\ntwo\r\n\n\u{e4}\nlast";
    run(async {
        let letter_by_letter: Vec<String> = text.chars().map(String::from).collect();
        for cut in [vec![text], letter_by_letter.iter().map(String::as_str).collect()] {
            let mut lines = pieces(cut);
            for expected in ["one", "two", "", "\u{e4}", "last"] {
                assert_eq!(lines.read_line(LIMIT).await?.as_deref(), Some(expected));
            }
            assert_eq!(lines.read_line(LIMIT).await?, None);
            assert_eq!(lines.read_line(LIMIT).await?, None);
        }
        Ok(())
    })
}

/// At each pause, the line is cancelled, or dropped, or runs out of time.
#[test]
fn whoever_gives_up_half_way_goes_on_with_the_same_line() -> io::Result<()> {
    run(async {
        let mut lines = pieces(["on", "", "", "e\ntw", "", "", "o\n"]);
        for expected in ["one", "two"] {
            for _ in 0..2 {
                assert_eq!(move_on_after(SECOND, lines.read_line(LIMIT)).await?, None);
                let scope = CancelScope::new();
                scope.cancel();
                assert_eq!(scope.enter(lines.read_exactly(100)).await?, None);
                drop(lines.read_line(LIMIT));
            }
            assert_eq!(lines.read_line(LIMIT).await?.as_deref(), Some(expected));
        }
        Ok(())
    })
}

#[test]
fn exactly_so_many_bytes() -> io::Result<()> {
    run(async {
        let mut bytes = pieces(["a", "bcd", "e"]);
        assert_eq!(bytes.read_exactly(0).await?, b"");
        assert_eq!(bytes.read_exactly(2).await?, b"ab");
        assert_eq!(bytes.buffer(), b"cd");
        let error = bytes.read_exactly(4).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(error.to_string(), "the stream ended 3 bytes into a message");
        assert_eq!(bytes.read_exactly(3).await?, b"cde", "it was not lost");
        let error = bytes.read_exactly(1).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        Ok(())
    })
}

#[test]
fn until_a_delimiter_or_the_end() -> io::Result<()> {
    run(async {
        let mut bytes = pieces(["a;b", "b;c"]);
        assert_eq!(bytes.read_until(b';', LIMIT).await?.as_deref(), Some(&b"a;"[..]));
        assert_eq!(bytes.read_until(b';', LIMIT).await?.as_deref(), Some(&b"bb;"[..]));
        let error = bytes.read_until(b';', LIMIT).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let (_, rest) = bytes.into_inner();
        assert_eq!(rest, b"c");
        assert_eq!(pieces([]).read_until(b';', LIMIT).await?, None);
        Ok(())
    })
}

#[test]
fn what_is_too_long_is_an_error_and_stays() -> io::Result<()> {
    run(async {
        for cut in [vec!["12345678\n"], vec!["12345", "678\n"]] {
            let mut lines = pieces(cut);
            let error = lines.read_line(5).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert_eq!(error.downcast::<TooLong>().unwrap().limit, 5);
            let error = lines.read_line(8).await.unwrap_err();
            assert_eq!(error.to_string(), "a message is longer than 8 bytes");
            assert_eq!(lines.read_line(9).await?.as_deref(), Some("12345678"), "9 with its end");
        }
        Ok(())
    })
}

#[test]
fn a_peer_cannot_fill_the_memory() -> io::Result<()> {
    run(async {
        let endless = "x".repeat(1 << 20);
        let mut lines = pieces([&*endless]);
        let error = lines.read_line(LIMIT).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(lines.buffer().len() < 20_000);
        Ok(())
    })
}

#[test]
fn a_line_that_is_not_utf_8_is_passed_over() -> io::Result<()> {
    run(async {
        let bad = Pieces(RefCell::new([b"\xff\xfe\ngood\n".to_vec()].into()));
        let mut lines = BufferedReceive::new(bad);
        let error = lines.read_line(LIMIT).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(lines.read_line(LIMIT).await?.as_deref(), Some("good"));
        Ok(())
    })
}

#[test]
fn messages_of_any_format_and_errors_of_the_parser() -> io::Result<()> {
    let number = |bytes: &[u8]| -> io::Result<Option<(usize, u8)>> {
        match bytes {
            [] => Ok(None),
            [b'0'..=b'9', ..] => Ok(Some((1, bytes[0] - b'0'))),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not a number")),
        }
    };
    run(async {
        let mut numbers = pieces(["12", "x"]);
        assert_eq!(numbers.read_message(LIMIT, number).await?, Some(1));
        assert_eq!(numbers.read_message(LIMIT, number).await?, Some(2));
        let error = numbers.read_message(LIMIT, number).await.unwrap_err();
        assert_eq!(error.to_string(), "not a number");
        assert_eq!(numbers.buffer(), b"x");
        assert_eq!(pieces([]).read_message(LIMIT, number).await?, None);
        Ok(())
    })
}

#[test]
fn what_is_in_the_buffer_is_received_first() -> io::Result<()> {
    run(async {
        let mut bytes = pieces(["a\nbcd", "e"]);
        bytes.read_line(LIMIT).await?;
        let mut buffer = [0; 2];
        assert_eq!((bytes.receive_some(&mut buffer).await?, buffer), (2, *b"bc"));
        assert_eq!((bytes.receive_some(&mut buffer).await?, buffer[0]), (1, b'd'));
        assert_eq!((bytes.receive_some(&mut buffer).await?, buffer[0]), (1, b'e'));
        assert_eq!(bytes.receive_some(&mut buffer).await?, 0);
        Ok(())
    })
}

#[test]
fn much_passes_through_in_little_memory() -> io::Result<()> {
    run(async {
        let line = format!("{}\n", "y".repeat(99));
        let text = line.repeat(5000);
        let mut lines = pieces([&*text]);
        let mut count = 0;
        while let Some(line) = lines.read_line(LIMIT).await? {
            assert_eq!(line.len(), 99);
            count += 1;
            assert!(lines.buffer().len() < 20_000);
        }
        assert_eq!(count, 5000);
        Ok(())
    })
}

#[test]
fn every_method_is_a_checkpoint_when_it_receives() {
    run(async {
        let mut lines = pieces(["one\n", "two\n"]);
        let scope = CancelScope::new();
        scope.cancel();
        let read = scope.enter(async { lines.read_line(LIMIT).await });
        assert!(read.await.unwrap().is_none());
        Ok::<_, Cancelled>(())
    })
    .unwrap();
}
