//! How often, for how long and at what distance a job is tried.

use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The most starts, the first among them; a start whose process dies counts.
    pub attempts: u32,
    /// How long one attempt may take; then it has failed. Well below the 20 s after which a silent worker's
    /// jobs are given to others, unless running twice at once is harmless.
    pub timeout: Duration,
    pub backoff: Backoff,
}

/// The pause after an attempt that failed: doubled each time up to a cap, and spread by a fifth either way so
/// that what failed together is not retried together.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
}

impl Backoff {
    pub const fn exponential(first: Duration, cap: Duration) -> Self {
        Self { first, cap }
    }

    pub const fn fixed(pause: Duration) -> Self {
        Self { first: pause, cap: pause }
    }

    /// The pause after this attempt, counted from 1. `chance` is between 0 and 1.
    fn pause(&self, attempt: u32, chance: f64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(30);
        self.first.saturating_mul(1 << doublings).min(self.cap).mul_f64(0.8 + 0.4 * chance)
    }

    pub(super) fn after(&self, attempt: u32) -> Duration {
        self.pause(attempt, rand::random())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap() {
        let backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_mins(1));
        let pauses = [1, 2, 3, 7, 1_000].map(|attempt| backoff.pause(attempt, 0.5).as_millis());
        assert_eq!(pauses, [1_000, 2_000, 4_000, 60_000, 60_000]);
    }

    #[test]
    fn pauses_are_spread() {
        let backoff = Backoff::fixed(Duration::from_secs(10));
        assert_eq!(backoff.pause(1, 0.0).as_millis(), 8_000);
        assert_eq!(backoff.pause(9, 1.0).as_millis(), 12_000);
    }
}
