//! [`check`]: one program, under many seeds, against what is expected of it.

use std::fmt;

use crate::corpus::Entry;
use crate::run::run;
use crate::trace::Trace;

/// How many seeds are named with a difference.
const SHOWN: usize = 10;

/// Under what programs are run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The seeds `0..seeds` of the order of tasks.
    pub seeds: u64,
    /// The checkpoint budget.
    pub budget: u32,
}

/// What became of a program.
#[derive(Debug)]
pub struct Verdict {
    /// The trace under the first seed, or why there is none.
    pub first: Result<Trace, String>,
    /// What differs, and under which seeds. Empty: the program passed.
    pub mismatches: Vec<Mismatch>,
    budget: u32,
}

/// A difference, and the seeds that show it.
#[derive(Debug)]
pub struct Mismatch {
    seeds: Vec<u64>,
    lines: Vec<String>,
}

/// Runs the program of `entry` under all seeds, and compares each trace with the expected one; with that of the first
/// seed if none is known.
#[must_use]
pub fn check(entry: &Entry, settings: Settings) -> Verdict {
    let Settings { seeds, budget } = settings;
    let mut mismatches: Vec<Mismatch> = vec![];
    let first = run(&entry.program, 0, budget);
    let reference = entry.expected.as_ref().or(first.as_ref().ok());
    for seed in 0..seeds {
        let other = if seed == 0 { None } else { Some(run(&entry.program, seed, budget)) };
        let lines = match (other.as_ref().unwrap_or(&first), reference) {
            (Ok(trace), Some(expected)) => trace.differences(expected),
            (Ok(_), None) => vec!["under the first seed there is no trace".to_owned()],
            (Err(why), _) => why.lines().map(str::to_owned).collect(),
        };
        if lines.is_empty() {
            continue;
        }
        match mismatches.iter_mut().find(|known| known.lines == lines) {
            Some(known) => known.seeds.push(seed),
            None => mismatches.push(Mismatch { seeds: vec![seed], lines }),
        }
    }
    Verdict { first, mismatches, budget }
}

impl Verdict {
    /// Whether every trace was as expected.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.mismatches.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Mismatch { seeds, lines } in &self.mismatches {
            let plural = if seeds.len() == 1 { "" } else { "s" };
            let mut list: Vec<String> = seeds.iter().take(SHOWN).map(u64::to_string).collect();
            if seeds.len() > SHOWN {
                list.push(format!("… ({} in all)", seeds.len()));
            }
            writeln!(f, "  seed{plural} {}, budget {}:", list.join(", "), self.budget)?;
            lines.iter().try_for_each(|line| writeln!(f, "    {line}"))?;
        }
        Ok(())
    }
}
