//! `#[nursery::main]` knows its options; each is given once, in one form.

#[nursery::main(sede = 7)]
async fn unknown() -> Result<(), nursery::Cancelled> {
    Ok(())
}

#[nursery::main(seed = 7, seed = 8)]
async fn twice() -> Result<(), nursery::Cancelled> {
    Ok(())
}

#[nursery::main(seed)]
async fn no_value() -> Result<(), nursery::Cancelled> {
    Ok(())
}

#[nursery::main(seed(7))]
async fn called() -> Result<(), nursery::Cancelled> {
    Ok(())
}

#[nursery::main(crate = "nursery")]
async fn quoted() -> Result<(), nursery::Cancelled> {
    Ok(())
}

fn main() {}
