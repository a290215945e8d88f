//! nursery, its peers and the floor of the machine, side by side: one process, interleaved in random order.
//!
//! `just bench` runs it; `README.md` says how to read it. Machines are shared and noisy, so a figure is only to be
//! compared with the others of the same run: ratios are taken within a round, and their median is shown.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the real clock")]

#[cfg(feature = "alloc")]
mod alloc;
mod args;
mod floor;
mod measure;
mod report;
mod runtimes;
mod statistics;
mod stopwatch;
mod tally;
mod workload;
mod workloads;

use std::error::Error;
use std::fs;

use crate::args::Args;
use crate::measure::{Chosen, Plan, measure};
use crate::report::{Table, json, markdown, summary, tables, text};
use crate::workload::Size;

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::from_env()?;
    let chosen = args.choose(workloads::all());
    if chosen.is_empty() {
        return Err("no workload has that in its name; `--list` shows them".into());
    }
    if args.lists {
        list(&chosen);
        return Ok(());
    }
    if args.is_cpu {
        stopwatch::show_cpu_time();
    }
    let plan = args.plan();
    let figures = measure(&chosen, &plan);
    let tables: Vec<Table> =
        chosen.iter().zip(&figures).flat_map(|(chosen, figures)| tables(chosen, figures)).collect();
    for table in &tables {
        println!("{}", text::table(table));
    }
    println!("{}", summary(&tables));
    let about = about(&args, &plan);
    if let Some(file) = args.json {
        fs::write(file, format!("{:#}\n", json::document(&tables, &about)))?;
    }
    if let Some(file) = args.markdown {
        fs::write(file, markdown::page(&tables, &about))?;
    }
    Ok(())
}

fn list(chosen: &[Chosen]) {
    for Chosen { workload, rows } in chosen {
        println!("{}", workload.name);
        rows.iter().for_each(|row| println!("  {}", row.peer));
    }
}

fn about(args: &Args, plan: &Plan) -> String {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{} rounds, {} of the slow workloads, in {} mode, {}; {} on {}, {threads} threads. \
         Medians; ratios are medians over rounds of two figures of one round.",
        plan.rounds,
        plan.slow_rounds,
        if plan.size == Size::Full { "full" } else { "quick" },
        if args.is_cpu { "in CPU time" } else { "by the clock on the wall" },
        std::env::consts::OS,
        std::env::consts::ARCH,
    )
}
