//! A `Cancelled` is made by checkpoints only; it can be passed on, not made or changed.

use nursery::{CancelReason, CancelSource, Cancelled};

fn by_constructor() -> Cancelled {
    Cancelled(std::sync::Arc::new(CancelReason::new(CancelSource::Explicit)))
}

fn by_default() -> Cancelled {
    Cancelled::default()
}

fn by_conversion() -> Cancelled {
    CancelReason::new(CancelSource::Explicit).into()
}

fn make_a_nursery() {
    let _ = nursery::Nursery::<Cancelled> {};
}

fn main() {}
