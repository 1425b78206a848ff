//! Many times, and what is said about them: percentiles.

use std::time::Duration;

/// Times, in microseconds: four bytes each, so that millions of them cost little. Longer than an hour is an hour.
#[derive(Clone, Debug, Default)]
pub(super) struct Times {
    micros: Vec<u32>,
    sorted: bool,
}

impl Times {
    pub(super) fn add(&mut self, time: Duration) {
        self.micros.push(u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
        self.sorted = false;
    }

    pub(super) fn append(&mut self, other: &Self) {
        self.micros.extend_from_slice(&other.micros);
        self.sorted = false;
    }

    /// The time that `percent` of all do not exceed (nearest rank), in milliseconds; 0 of none.
    pub(super) fn percentile_ms(&mut self, percent: f64) -> f64 {
        if !self.sorted {
            self.micros.sort_unstable();
            self.sorted = true;
        }
        #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "a share of a length")]
        let rank = (percent / 100.0 * self.micros.len() as f64).ceil() as usize;
        let at = rank.saturating_sub(1).min(self.micros.len().saturating_sub(1));
        self.micros.get(at).map_or(0.0, |micros| f64::from(*micros) / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(millis: impl IntoIterator<Item = u64>) -> Times {
        let mut times = Times::default();
        millis.into_iter().for_each(|ms| times.add(Duration::from_millis(ms)));
        times
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "whole milliseconds")]
    fn percentiles_are_nearest_ranks() {
        let mut hundred = of((1..=100).rev());
        assert_eq!(
            [0.0, 1.0, 50.0, 99.0, 99.1, 100.0].map(|p| hundred.percentile_ms(p)),
            [1.0, 1.0, 50.0, 99.0, 100.0, 100.0]
        );
        assert_eq!(of([7]).percentile_ms(99.0), 7.0);
        assert_eq!(of([]).percentile_ms(50.0), 0.0);
        hundred.append(&of([1_000; 300]));
        assert_eq!(hundred.percentile_ms(50.0), 1_000.0);
    }
}
