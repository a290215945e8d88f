//! `#[nursery::main]` and `#[nursery_testing::test]` on real functions.

use std::cell::Cell;
use std::time::Duration;

use nursery::Cancelled;
use nursery_testing::MockClock;

#[nursery::main]
async fn answers() -> Result<u32, Cancelled> {
    Ok(6 * 7)
}

#[test]
fn the_value_comes_back() {
    assert_eq!(answers().expect("not cancelled"), 42);
}

#[nursery::main(seed = 3 + 4, name = "parser", crate = nursery)]
async fn parses() -> anyhow::Result<u16> {
    let first: u16 = "80".parse()?;
    let second: u16 = "eighty".parse()?;
    Ok(first + second)
}

#[test]
fn question_marks_know_the_error_type() {
    assert_eq!(parses().unwrap_err().to_string(), "invalid digit found in string");
}

/// Attributes on the function stay.
#[nursery::main]
#[test]
async fn is_a_test() -> anyhow::Result<()> {
    Ok(())
}

#[nursery_testing::test]
async fn returns_nothing() {
    let here = Cell::new(1);
    if here.get() == 1 {
        return;
    }
    unreachable!("returned above");
}

#[nursery_testing::test(seed = 7, budget = 1, real_clock)]
async fn returns_a_result() -> anyhow::Result<()> {
    assert_eq!("80".parse::<u16>()?, 80);
    Ok(())
}

#[nursery_testing::test(time_limit = Duration::from_millis(5))]
#[should_panic(expected = "the test is not done after 5ms of real time")]
async fn has_a_time_limit() {
    std::future::pending().await
}

thread_local! {
    static CLOCK: MockClock = MockClock::new();
}

#[nursery_testing::test(clock = &CLOCK.with(Clone::clone))]
async fn has_a_clock_of_its_own() -> Result<(), Cancelled> {
    let start = nursery::now();
    CLOCK.with(|clock| clock.jump(Duration::from_secs(1)));
    assert_eq!(nursery::now() - start, Duration::from_secs(1));
    nursery::checkpoint().await
}

#[nursery_testing::test]
#[should_panic(expected = "as it should")]
async fn panics() {
    panic!("as it should");
}

#[nursery_testing::test]
#[ignore = "shows that the attribute is kept"]
async fn is_ignored() {
    unreachable!("ignored");
}
