//! What becomes of many durations: percentiles.

use std::time::Duration;

/// Durations, each in nanoseconds; one beyond 4.3 s counts as that.
#[derive(Default)]
pub struct Durations(Vec<u32>);

impl Durations {
    /// Room for so many without another allocation while something is measured.
    pub fn with_room(count: usize) -> Self {
        Self(Vec::with_capacity(count))
    }

    pub fn push(&mut self, duration: Duration) {
        self.0.push(u32::try_from(duration.as_nanos()).unwrap_or(u32::MAX));
    }

    /// The shortest duration that at least so many percent do not exceed, in microseconds: the
    /// nearest rank, so one that was measured. 0 where nothing was.
    pub fn percentile(&mut self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100);
        let Some(index) = rank.max(1).checked_sub(1).filter(|index| *index < self.0.len()) else {
            return 0.0;
        };
        let (_, nanoseconds, _) = self.0.select_nth_unstable(index);
        f64::from(*nanoseconds) / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::Durations;
    use std::time::Duration;

    fn microseconds(values: impl IntoIterator<Item = u64>) -> Durations {
        let mut durations = Durations::default();
        values.into_iter().for_each(|value| durations.push(Duration::from_micros(value)));
        durations
    }

    fn assert_percentiles(mut durations: Durations, expected: &[(usize, f64)]) {
        for &(percent, value) in expected {
            let found = durations.percentile(percent);
            assert!((found - value).abs() < f64::EPSILON, "p{percent}: {found}, not {value}");
        }
    }

    #[test]
    fn percentile_is_the_nearest_rank() {
        let hundred = microseconds((1..=100).rev());
        assert_percentiles(hundred, &[(0, 1.0), (1, 1.0), (50, 50.0), (99, 99.0), (100, 100.0)]);
        let three = microseconds([30, 10, 20]);
        assert_percentiles(three, &[(33, 10.0), (34, 20.0), (50, 20.0), (67, 30.0), (99, 30.0)]);
    }

    #[test]
    fn one_duration_is_every_percentile() {
        assert_percentiles(microseconds([7]), &[(0, 7.0), (50, 7.0), (99, 7.0), (100, 7.0)]);
    }

    #[test]
    fn no_duration_has_percentile_zero() {
        assert_percentiles(microseconds([]), &[(50, 0.0), (99, 0.0)]);
    }

    #[test]
    fn duration_that_does_not_fit_is_the_longest() {
        assert_percentiles(microseconds([5_000_000]), &[(50, 4_294_967.295)]);
    }
}
