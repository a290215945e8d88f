//! Checkpointed primitives for [`nursery`]: each operation that may wait can be cancelled.
#![forbid(unsafe_code)]
#![doc(test(attr(deny(warnings))))]
