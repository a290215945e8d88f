//! What does not fit a run is the return type, and the error points there.

#[nursery::main]
async fn error_of_the_wrong_kind() -> Result<(), std::fmt::Error> {
    Ok(())
}

#[nursery::main]
async fn boxed_error() -> Result<(), Box<dyn std::error::Error>> {
    Ok(())
}

#[nursery::main]
async fn no_result() -> u32 {
    7
}

fn main() {}
