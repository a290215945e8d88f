//! Errors in the body of `#[nursery::main]` read as in any `async fn`.

#[nursery::main]
async fn question_mark_of_another_error() -> Result<(), nursery::Cancelled> {
    let _port: u16 = "80".parse()?;
    Ok(())
}

#[nursery::main]
async fn no_value_at_the_end() -> Result<u32, nursery::Cancelled> {
    let answer = 42;
    Ok(answer.to_string())
}

fn main() {}
