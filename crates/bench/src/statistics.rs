//! Medians and ratios.

/// Returns the value below which the given part of a sorted list lies.
///
/// # Panics
///
/// If the list is empty.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index is small, and a part between 0 and 1"
)]
pub(crate) fn quantile<T: Copy>(sorted: &[T], part: f64) -> T {
    let last = sorted.len() - 1;
    sorted[(last as f64 * part).round() as usize]
}

/// Returns the median: the middle one, or the mean of the two in the middle.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        f64::midpoint(values[middle - 1], values[middle])
    } else {
        values[middle]
    }
}

pub(crate) fn min(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(f64::INFINITY, f64::min)
}

/// Returns the median over rounds of one figure divided by the other of the same round.
pub(crate) fn ratio(figures: &[f64], to: &[f64]) -> f64 {
    median(figures.iter().zip(to).map(|(figure, to)| figure / to))
}

/// Returns the least figure of each round.
pub(crate) fn best_of_rounds<'a>(rows: impl IntoIterator<Item = &'a [f64]>) -> Vec<f64> {
    let mut best: Vec<f64> = Vec::new();
    for row in rows {
        best.resize(best.len().max(row.len()), f64::INFINITY);
        best.iter_mut().zip(row).for_each(|(best, figure)| *best = best.min(*figure));
    }
    best
}

#[cfg(test)]
mod tests {
    use super::{best_of_rounds, median, min, quantile, ratio};

    #[test]
    fn the_median_of_an_even_number_is_between_the_two_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 10.0, 2.0]), 3.0);
        assert_eq!(median([7.0]), 7.0);
    }

    #[test]
    fn an_outlier_does_not_move_the_median() {
        assert_eq!(median([1.0, 1.0, 1.0, 1e9]), 1.0);
        assert_eq!(min([2.0, 1.0, 1e9]), 1.0);
    }

    #[test]
    fn quantiles_run_from_the_first_to_the_last() {
        let sorted: Vec<u32> = (0..=100).collect();
        assert_eq!(quantile(&sorted, 0.0), 0);
        assert_eq!(quantile(&sorted, 0.5), 50);
        assert_eq!(quantile(&sorted, 0.99), 99);
        assert_eq!(quantile(&sorted, 1.0), 100);
        assert_eq!(quantile(&[7], 0.99), 7);
    }

    #[test]
    fn a_ratio_compares_within_rounds() {
        // In the third round the machine was ten times slower, for both.
        assert_eq!(ratio(&[2.0, 2.0, 20.0], &[1.0, 1.0, 10.0]), 2.0);
        // The ratio of the medians would be 1.
        assert_eq!(ratio(&[1.0, 2.0, 3.0], &[2.0, 1.0, 1.0]), 2.0);
    }

    #[test]
    fn the_best_of_a_round_may_be_another_row_each_time() {
        let best = best_of_rounds([[1.0, 5.0].as_slice(), &[2.0, 4.0]]);
        assert_eq!(best, [1.0, 4.0]);
    }
}
