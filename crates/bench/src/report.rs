//! What was measured, as tables: one for each figure of each workload.

pub(crate) mod json;
pub(crate) mod markdown;
pub(crate) mod text;

use crate::measure::Chosen;
use crate::statistics::{best_of_rounds, median, min, ratio};
use crate::workload::{Metric, NURSERY, Target};

/// One figure of one workload, for all peers.
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) unit: &'static str,
    pub(crate) lines: Vec<Line>,
}

/// One peer's figure.
pub(crate) struct Line {
    pub(crate) peer: &'static str,
    pub(crate) figures: Vec<f64>,
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) to_best: f64,
    /// Absent if nursery was not measured.
    pub(crate) to_nursery: Option<f64>,
    pub(crate) goals: Vec<Goal>,
}

/// A target, and whether it was met.
pub(crate) struct Goal {
    /// What is wanted of this line, such as `≥ 3`.
    pub(crate) wanted: String,
    pub(crate) is_met: bool,
}

/// Makes the tables of a workload from its figures: row by row, metric by metric, round by round.
pub(crate) fn tables(chosen: &Chosen, figures: &[Vec<Vec<f64>>]) -> Vec<Table> {
    let metrics = chosen.workload.metrics.iter().enumerate();
    metrics
        .map(|(i, metric)| {
            let rows =
                chosen.rows.iter().zip(figures).map(|(row, figures)| (row.peer, &figures[i]));
            Table {
                title: title(chosen.workload.name, metric.name),
                unit: metric.unit,
                lines: lines(metric, &rows.collect::<Vec<_>>()),
            }
        })
        .collect()
}

fn title(workload: &str, metric: &str) -> String {
    if metric.is_empty() { workload.to_owned() } else { format!("{workload}: {metric}") }
}

fn lines(metric: &Metric, rows: &[(&'static str, &Vec<f64>)]) -> Vec<Line> {
    let best = best_of_rounds(rows.iter().map(|(_, figures)| figures.as_slice()));
    let ours = rows.iter().find(|(peer, _)| *peer == NURSERY).map(|(_, figures)| *figures);
    let line = |(peer, figures): &(&'static str, &Vec<f64>)| {
        let to_nursery = ours.map(|ours| ratio(figures, ours));
        let median = median(figures.iter().copied());
        let targets = metric.targets.iter().filter(|target| target.peer() == *peer);
        Line {
            peer,
            figures: figures.to_vec(),
            median,
            min: min(figures.iter().copied()),
            to_best: ratio(figures, &best),
            to_nursery,
            goals: targets.filter_map(|target| goal(*target, median, to_nursery)).collect(),
        }
    };
    let mut lines: Vec<Line> = rows.iter().map(line).collect();
    lines.sort_by(|a, b| a.median.total_cmp(&b.median));
    lines
}

fn goal(target: Target, median: f64, to_nursery: Option<f64>) -> Option<Goal> {
    Some(match target {
        Target::Ratio(_, least) => {
            Goal { wanted: format!("× ≥ {}", short(least)), is_met: to_nursery? >= least }
        }
        Target::AtMost(most) => {
            Goal { wanted: format!("≤ {}", short(most)), is_met: median <= most }
        }
    })
}

/// At most three digits that count, or a whole number.
pub(crate) fn short(value: f64) -> String {
    let text = match value.abs() {
        ..9.995 => format!("{value:.2}"),
        ..99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    };
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// Says how many targets were met, and which were not.
pub(crate) fn summary(tables: &[Table]) -> String {
    let mut met = 0;
    let mut missed = Vec::new();
    for table in tables {
        for line in &table.lines {
            for goal in &line.goals {
                if goal.is_met {
                    met += 1;
                } else {
                    let at = line.to_nursery.filter(|_| line.peer != NURSERY);
                    let at = at
                        .map_or_else(|| short(line.median), |ratio| format!("× {}", short(ratio)));
                    missed.push(format!(
                        "\n  {}, {}: {}, not {at}",
                        table.title, line.peer, goal.wanted
                    ));
                }
            }
        }
    }
    format!("targets: {met} met, {} missed{}", missed.len(), missed.concat())
}

#[cfg(test)]
mod tests {
    use super::{lines, short};
    use crate::workload::{Metric, Target};

    #[test]
    fn a_target_is_judged_in_the_line_of_its_peer() {
        let targets = &[Target::Ratio("tokio", 3.0), Target::AtMost(9.0)];
        let metric = Metric::only("ns", targets);
        let rows = [("tokio", &vec![30.0, 44.0]), ("nursery", &vec![10.0, 11.0])];
        let lines = lines(&metric, &rows);
        let [ours, tokio] = lines.as_slice() else { panic!("two lines") };
        assert_eq!((ours.peer, tokio.peer), ("nursery", "tokio"), "the fastest comes first");
        assert_eq!(tokio.to_nursery, Some(3.5));
        assert_eq!(tokio.to_best, 3.5);
        assert!(tokio.goals[0].is_met, "3.5 is at least 3");
        assert!(!ours.goals[0].is_met, "10.5 is more than 9");
    }

    #[test]
    fn without_nursery_there_is_nothing_to_reach() {
        let metric = Metric::only("ns", &[Target::Ratio("tokio", 3.0)]);
        let lines = lines(&metric, &[("tokio", &vec![30.0])]);
        assert!(lines[0].goals.is_empty());
        assert_eq!(lines[0].to_nursery, None);
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(short(1.0 / 0.7), "1.43");
        assert_eq!(short(3.0), "3");
        assert_eq!(short(12.345), "12.3");
        assert_eq!(short(180.0), "180");
    }
}
