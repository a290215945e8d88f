//! Runs the rows: round by round, in a fresh random order each time.
//!
//! So whatever the machine does meanwhile, it does to all of them, and the figures of one round can be compared. Each
//! row warms up right before it is measured, so that it does not depend on the heap and the caches that the row before
//! left behind; and the slow workloads come last, because what they leave behind is much.

use crate::workload::{Row, Size, Workload};

/// How often and how much.
pub(crate) struct Plan {
    pub(crate) size: Size,
    pub(crate) rounds: usize,
    pub(crate) slow_rounds: usize,
}

/// A workload, and the rows of it that are wanted.
pub(crate) struct Chosen {
    pub(crate) workload: &'static Workload,
    pub(crate) rows: Vec<&'static Row>,
}

/// The figures of one chosen row: for each metric, one figure per round.
type RowFigures = Vec<Vec<f64>>;

/// The figures of each chosen workload, row by row.
pub(crate) fn measure(chosen: &[Chosen], plan: &Plan) -> Vec<Vec<RowFigures>> {
    let empty =
        |chosen: &Chosen| vec![vec![Vec::new(); chosen.workload.metrics.len()]; chosen.rows.len()];
    let mut figures: Vec<_> = chosen.iter().map(empty).collect();
    for is_slow in [false, true] {
        let rows = rows_of(chosen, is_slow);
        let warm_up = if is_slow { Size::Tiny } else { Size::Warm };
        let rounds = if is_slow { plan.slow_rounds } else { plan.rounds };
        for round in 1..=rounds {
            one_round(&rows, [warm_up, plan.size], &mut figures);
            if !rows.is_empty() {
                let pace = if is_slow { ", slow workloads" } else { "" };
                eprintln!("round {round} of {rounds}{pace}");
            }
        }
    }
    figures
}

/// Where a row stands: which workload, and which of its rows.
type Place = (usize, usize);

fn rows_of(chosen: &[Chosen], is_slow: bool) -> Vec<(Place, &'static Row)> {
    let all = chosen.iter().enumerate().filter(|(_, chosen)| chosen.workload.is_slow == is_slow);
    all.flat_map(|(w, chosen)| chosen.rows.iter().enumerate().map(move |(r, row)| ((w, r), *row)))
        .collect()
}

fn one_round(
    rows: &[(Place, &'static Row)],
    [warm_up, size]: [Size; 2],
    figures: &mut [Vec<RowFigures>],
) {
    let mut order: Vec<_> = rows.iter().collect();
    fastrand::shuffle(&mut order);
    for ((w, r), row) in order {
        (row.run)(warm_up);
        for (metric, figure) in figures[*w][*r].iter_mut().zip((row.run)(size)) {
            metric.push(figure);
        }
    }
}
