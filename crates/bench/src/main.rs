//! Measures nursery and its peers side by side; each table is one process.

fn main() {
    println!("no measurement yet");
}
