//! Medians and tails.

/// Median and 99th percentile (with few values, the greatest).
pub(crate) fn summary(values: &[f64]) -> (f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |q: f64| sorted[((sorted.len() - 1) as f64 * q).round() as usize];
    (at(0.5), at(0.99))
}

#[cfg(test)]
mod tests {
    use super::summary;

    #[test]
    fn the_middle_and_the_tail() {
        assert_eq!(summary(&[3.0, 1.0, 2.0]), (2.0, 3.0));
        assert_eq!(summary(&[5.0]), (5.0, 5.0));
        let many: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(summary(&many), (50.0, 99.0));
    }
}
