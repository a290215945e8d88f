//! `#[nursery::main]` takes an `async fn` without arguments and generics, and says what to write.

#[nursery::main]
fn not_async() -> Result<(), nursery::Cancelled> {
    Ok(())
}

#[nursery::main]
async fn with_arguments(_n: u32, _m: u32) -> Result<(), nursery::Cancelled> {
    Ok(())
}

#[nursery::main]
async fn generic<T>() -> Result<(), nursery::Cancelled> {
    Ok(())
}

#[nursery::main]
async unsafe fn qualified() -> Result<(), nursery::Cancelled> {
    Ok(())
}

#[nursery::main]
struct NoFunction;

#[nursery::main]
async fn main() {}
