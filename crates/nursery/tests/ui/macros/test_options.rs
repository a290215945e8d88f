//! `#[nursery_testing::test]` knows its options; each is given once, in one form.

#[nursery_testing::test(sede = 7)]
async fn unknown() {}

#[nursery_testing::test(seed = 7, seed = 8)]
async fn twice() {}

#[nursery_testing::test(time_limit)]
async fn no_value() {}

#[nursery_testing::test(real_clock = true)]
async fn a_value() {}

fn main() {}
