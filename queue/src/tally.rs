//! What lately ran in a pool, and the percentiles of it.
//!
//! Workers count into slots of ten seconds as they settle and fetch, in the same script, by Redis's clock. Waits (`w`) and
//! runs (`r`) of `ms` milliseconds are counted under the number ⌈4·log₂(ms + 1)⌉, so that a percentile is exact to a
//! fifth, whatever its size.

use std::collections::HashMap;

use serde::Serialize;
use utoipa::ToSchema;

/// How many slots of ten seconds are summed up: five minutes, and the one that has begun. They are kept longer.
pub(crate) const SLOTS: usize = 31;

/// Milliseconds that so many hundredths of the last five minutes' jobs took at most, to a fifth. Null when there were
/// none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Percentiles {
    pub p50: Option<u64>,
    pub p95: Option<u64>,
    pub p99: Option<u64>,
}

/// The sums of some slots.
#[derive(Debug)]
pub(crate) struct Tally(HashMap<String, u64>);

impl Tally {
    pub(crate) fn new(fields: HashMap<String, u64>) -> Self {
        Self(fields)
    }

    /// How long jobs waited since they were due.
    pub(crate) fn waits(&self) -> Percentiles {
        self.percentiles("w")
    }

    /// How long attempts ran.
    pub(crate) fn runs(&self) -> Percentiles {
        self.percentiles("r")
    }

    fn percentiles(&self, what: &str) -> Percentiles {
        let of = |(field, times): (&String, &u64)| Some((field.strip_prefix(what)?.parse().ok()?, *times));
        let mut counted: Vec<(u32, u64)> = self.0.iter().filter_map(of).collect();
        counted.sort_unstable();
        let all: u64 = counted.iter().map(|(_, times)| times).sum();
        let percentile = |hundredths: u64| {
            let mut left = (all * hundredths).div_ceil(100).max(1);
            counted.iter().find_map(|(number, times)| {
                left = left.saturating_sub(*times);
                (left == 0).then(|| longest(*number))
            })
        };
        Percentiles { p50: percentile(50), p95: percentile(95), p99: percentile(99) }
    }
}

/// The most milliseconds that are counted under this number.
fn longest(number: u32) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 2^30")]
    let ms = (f64::from(number.min(120)) / 4.0).exp2() as u64;
    ms.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(fields: &[(&str, u64)]) -> Tally {
        Tally::new(fields.iter().map(|(field, times)| ((*field).to_owned(), *times)).collect())
    }

    #[test]
    fn percentiles_are_of_what_was_counted() {
        // Numbers 0, 12 and 40: 0 ms, up to 7 ms, up to 1,023 ms.
        let tally = tally(&[("w0", 50), ("w12", 45), ("w40", 5), ("r40", 1), ("done", 100), ("retry", 3)]);
        assert_eq!(tally.waits(), Percentiles { p50: Some(0), p95: Some(7), p99: Some(1_023) });
        assert_eq!(tally.runs(), Percentiles { p50: Some(1_023), p95: Some(1_023), p99: Some(1_023) });
    }

    #[test]
    fn nothing_has_no_percentiles() {
        assert_eq!(tally(&[("done", 0)]).waits(), Percentiles::default());
    }

    #[test]
    fn a_number_is_exact_to_a_fifth() {
        for ms in [5_u64, 100, 1_000, 60_000, 3_600_000] {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "small"
            )]
            let number = (4.0 * ((ms + 1) as f64).log2()).ceil() as u32;
            let longest = longest(number);
            assert!((ms..=ms * 6 / 5 + 1).contains(&longest), "{ms}: {longest}");
        }
    }
}
