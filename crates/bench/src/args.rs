//! The command line.

use std::path::PathBuf;
use std::process::exit;

use lexopt::prelude::*;

use crate::measure::{Chosen, Plan};
use crate::workload::{NURSERY, Size, Workload};

const HELP: &str = "\
Measures nursery and its peers side by side. Quick unless told otherwise.

  --full             more work in each run, and more rounds
  --rounds N         another number of rounds
  --cpu              CPU time instead of time, for machines on which others work, too
  --only WORKLOAD    only workloads with this in their name; may be given again
  --peer PEER        only nursery and the peers with this in their name; may be given again
  --json FILE        all figures, as JSON
  --markdown FILE    the tables, as Markdown
  --list             the workloads and their peers
";

/// What was asked for.
#[derive(Default)]
pub(crate) struct Args {
    is_full: bool,
    pub(crate) is_cpu: bool,
    rounds: Option<usize>,
    only: Vec<String>,
    peers: Vec<String>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) markdown: Option<PathBuf>,
    pub(crate) lists: bool,
}

impl Args {
    /// Reads the command line of this process.
    pub(crate) fn from_env() -> Result<Self, lexopt::Error> {
        Args::parse(lexopt::Parser::from_env())
    }

    fn parse(mut parser: lexopt::Parser) -> Result<Self, lexopt::Error> {
        let mut args = Args::default();
        while let Some(arg) = parser.next()? {
            match arg {
                Long("full") => args.is_full = true,
                Long("rounds") => args.rounds = Some(parser.value()?.parse_with(rounds)?),
                Long("cpu") => args.is_cpu = true,
                Long("only") => args.only.push(parser.value()?.string()?),
                Long("peer") => args.peers.push(parser.value()?.string()?),
                Long("json") => args.json = Some(parser.value()?.into()),
                Long("markdown") => args.markdown = Some(parser.value()?.into()),
                Long("list") => args.lists = true,
                Short('h') | Long("help") => {
                    print!("{HELP}");
                    exit(0);
                }
                other => return Err(other.unexpected()),
            }
        }
        Ok(args)
    }

    /// How often and how much.
    pub(crate) fn plan(&self) -> Plan {
        let (size, rounds, slow_rounds) =
            if self.is_full { (Size::Full, 25, 9) } else { (Size::Quick, 15, 5) };
        Plan {
            size,
            rounds: self.rounds.unwrap_or(rounds),
            slow_rounds: self.rounds.unwrap_or(slow_rounds),
        }
    }

    /// Which rows.
    pub(crate) fn choose(&self, workloads: &'static [Workload]) -> Vec<Chosen> {
        let is_wanted = |wanted: &[String], name: &str| {
            wanted.is_empty() || wanted.iter().any(|part| name.contains(part))
        };
        let chosen = workloads.iter().filter(|workload| is_wanted(&self.only, workload.name));
        chosen
            .map(|workload| {
                let rows = workload.rows.iter();
                let rows =
                    rows.filter(|row| row.peer == NURSERY || is_wanted(&self.peers, row.peer));
                Chosen { workload, rows: rows.collect() }
            })
            .collect()
    }
}

fn rounds(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("the number of rounds is at least 1".to_owned()),
        Ok(rounds) => Ok(rounds),
    }
}

#[cfg(test)]
mod tests {
    use super::Args;
    use crate::workloads;

    fn parse(args: &[&str]) -> Result<Args, lexopt::Error> {
        Args::parse(lexopt::Parser::from_args(args))
    }

    #[test]
    fn a_chosen_peer_is_compared_with_nursery() -> Result<(), lexopt::Error> {
        let args = parse(&["--peer", "moro"])?;
        for chosen in args.choose(workloads::all()) {
            assert!(chosen.rows.iter().all(|row| ["nursery", "moro-local"].contains(&row.peer)));
            assert_eq!(chosen.rows[0].peer, "nursery");
        }
        Ok(())
    }

    #[test]
    fn without_a_choice_every_row_runs() -> Result<(), lexopt::Error> {
        let chosen = parse(&[])?.choose(workloads::all());
        assert_eq!(chosen.len(), workloads::all().len());
        assert!(chosen.iter().all(|chosen| chosen.rows.len() == chosen.workload.rows.len()));
        Ok(())
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(parse(&["--rounds", "0"]).is_err());
        assert!(parse(&["--round", "3"]).is_err());
        assert!(parse(&["--json"]).is_err());
    }
}
