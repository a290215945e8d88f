//! nursery and its peers side by side: one process, interleaved in random order, medians and ratios.
//!
//! `just bench` runs it. Machines are shared and noisy, so a row is only to be compared with the rows of the
//! same run: each round runs every row once, and the ratio is the median over rounds of the two in one round.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the real clock")]

mod alloc;
mod nursery_rows;
mod tokio_rows;

use std::time::Duration;

/// One workload of one peer: runs once and returns nanoseconds per operation.
struct Row {
    workload: &'static str,
    peer: &'static str,
    run: fn() -> f64,
}

const fn row(workload: &'static str, peer: &'static str, run: fn() -> f64) -> Row {
    Row { workload, peer, run }
}

const ROWS: &[Row] = &[
    row("spawn + join 1,000 ready children", "nursery", nursery_rows::spawn_join),
    row("spawn + join 1,000 ready children", "tokio JoinSet", tokio_rows::spawn_join),
    row("spawn + join 1,000 ready children", "FuturesUnordered, boxed", tokio_rows::unordered),
    row("nursery for 2 children", "nursery", nursery_rows::small),
    row("nursery for 2 children", "tokio JoinSet", tokio_rows::small),
    row("yield among 100 children", "nursery", nursery_rows::yields),
    row("yield among 100 children", "tokio yield_now", tokio_rows::yields),
    row("set up 10,000 blocked tasks", "nursery", || nursery_rows::cancel_tree().0),
    row("set up 10,000 blocked tasks", "tokio JoinSet", || tokio_rows::cancel_tree().0),
    row("cancel 10,000 blocked tasks", "nursery", || nursery_rows::cancel_tree().1),
    row("cancel 10,000 blocked tasks", "tokio JoinSet", || tokio_rows::cancel_tree().1),
    row("timeout around one yield", "nursery", nursery_rows::timeout_yield),
    row("timeout around one yield", "tokio timeout", tokio_rows::timeout_yield),
    row("timeout around a ready future", "nursery", nursery_rows::timeout_ready),
    row("timeout around a ready future", "tokio timeout", tokio_rows::timeout_ready),
    row("checkpoint, fast path", "nursery", nursery_rows::checkpoint),
    row("checkpoint, fast path", "tokio consume_budget", tokio_rows::checkpoint),
    row("leaf yield at depth 8", "nursery", || nursery_rows::depth(8)),
    row("leaf yield at depth 64", "nursery", || nursery_rows::depth(64)),
    row("sleep, virtual clock", "nursery", nursery_rows::virtual_sleeps),
    row("sleep, virtual clock", "tokio paused", tokio_rows::virtual_sleeps),
    row("channel of 64, 1 to 1", "nursery", nursery_rows::channel),
    row("channel of 64, 1 to 1", "tokio mpsc", tokio_rows::channel),
    row("channel of 64, 1 to 1", "flume on tokio", tokio_rows::flume),
    row("ping-pong over two channels", "nursery", nursery_rows::ping_pong),
    row("ping-pong over two channels", "tokio mpsc", tokio_rows::ping_pong),
    row("mutex among 16", "nursery", nursery_rows::mutex),
    row("mutex among 16", "tokio Mutex", tokio_rows::mutex),
];

fn main() {
    let mut args = std::env::args().skip(1);
    let mut rounds = 15;
    let mut only = String::new();
    let mut peer = String::new();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rounds" => rounds = args.next().and_then(|n| n.parse().ok()).unwrap_or(rounds),
            "--only" => only = args.next().unwrap_or_default(),
            "--peer" => peer = args.next().unwrap_or_default(),
            other => {
                eprintln!(
                    "unknown argument {other:?}\nusage: nursery-bench [--rounds N] [--only WORKLOAD] [--peer PEER]"
                );
                std::process::exit(2);
            }
        }
    }
    let is_wanted = |row: &&Row| row.workload.contains(&only) && row.peer.contains(&peer);
    let rows: Vec<&Row> = ROWS.iter().filter(is_wanted).collect();
    if cfg!(feature = "count") {
        alloc::print();
        return;
    }
    let samples = measure(&rows, rounds);
    print(&rows, &samples, rounds);
}

fn measure(rows: &[&Row], rounds: usize) -> Vec<Vec<f64>> {
    for row in rows {
        (row.run)(); // warm up
    }
    let mut samples = vec![Vec::new(); rows.len()];
    for _ in 0..rounds {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        fastrand::shuffle(&mut order);
        for i in order {
            samples[i].push((rows[i].run)());
        }
    }
    samples
}

fn print(rows: &[&Row], samples: &[Vec<f64>], rounds: usize) {
    println!(
        "{rounds} rounds; ns per operation; `ratio` = this peer / nursery, median over rounds\n"
    );
    println!("| workload | peer | median | min | ratio |\n|---|---|---:|---:|---:|");
    for (i, row) in rows.iter().enumerate() {
        let ours = rows.iter().position(|r| r.workload == row.workload && r.peer == "nursery");
        let ratio = match ours {
            Some(ours) if ours != i => {
                let pairs = samples[i].iter().zip(&samples[ours]);
                format!("{:.2}", median(pairs.map(|(peer, us)| peer / us).collect()))
            }
            _ => String::new(),
        };
        let min = samples[i].iter().copied().fold(f64::INFINITY, f64::min);
        let median = median(samples[i].clone());
        println!("| {} | {} | {median:.1} | {min:.1} | {ratio} |", row.workload, row.peer);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Nanoseconds per operation.
#[expect(clippy::cast_precision_loss, reason = "a mean needs no more digits")]
fn per_op(elapsed: Duration, operations: usize) -> f64 {
    elapsed.as_nanos() as f64 / operations as f64
}
