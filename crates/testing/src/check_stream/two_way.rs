//! The chapters for both directions at once.

use std::io;

use nursery::open_nursery;

use crate::check_stream::Maker;
use crate::check_stream::chapter::{Chapter, Kit};
use crate::check_stream::end::End;

pub(super) async fn check(kit: &Kit, make: &Maker<'_>) -> io::Result<()> {
    kit.chapter("much goes both ways at once", make, much_goes_both_ways).await
}

const MUCH: usize = 1 << 20;

async fn much_goes_both_ways(c: &Chapter<'_>, (a, b): (End<'_>, End<'_>)) -> io::Result<()> {
    let there: Vec<u8> = (0..MUCH).map(|i| ((i * 31) >> 3) as u8).collect();
    let back: Vec<u8> = there.iter().rev().copied().collect();
    open_nursery(async |n| -> io::Result<()> {
        n.start_soon(send_in_pieces(c, &a, &there));
        n.start_soon(send_in_pieces(c, &b, &back));
        n.start_soon(c.receive(&b, &there));
        n.start_soon(c.receive(&a, &back));
        Ok(())
    })
    .await
}

async fn send_in_pieces(c: &Chapter<'_>, stream: &End<'_>, mut rest: &[u8]) -> io::Result<()> {
    let mut size = 1;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(size.min(rest.len()));
        c.ok("`send_all`", stream.send_all(piece)).await?;
        size = (size * 7 + 3) % 30_011;
        rest = after;
    }
    Ok(())
}
