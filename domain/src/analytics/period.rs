//! Stretches of days, and the buckets that a series cuts them into.

use std::ops::Range;

use chrono::{Datelike, Days, Months, NaiveDate, TimeDelta};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Days of the calendar, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Period {
    pub from: NaiveDate,
    pub to: NaiveDate,
}

impl Period {
    /// The longest that can be asked about: ten years.
    pub const MAX_DAYS: i64 = 3_660;

    /// So many days, the last of which is `to`.
    pub fn ending(to: NaiveDate, days: i64) -> Self {
        Self { from: to.checked_sub_signed(TimeDelta::days(days - 1)).unwrap_or(NaiveDate::MIN), to }
    }

    /// How many days there are; not more than 0: it ends before it begins.
    pub fn days(self) -> i64 {
        (self.to - self.from).num_days() + 1
    }

    /// As many days, right before.
    #[must_use]
    pub fn before(self) -> Self {
        let to = self.from.pred_opt().unwrap_or(NaiveDate::MIN);
        Self::ending(to, self.days())
    }

    /// The whole months of it: from the first day of the first until the first day after the last. Without any, an empty
    /// range that begins within the period or right after it.
    pub(super) fn whole_months(self) -> Range<NaiveDate> {
        let month = Granularity::Month;
        let first = month.bucket(self.from);
        let start = if first == self.from { Some(first) } else { month.next(first) };
        let end = month.bucket(self.to.succ_opt().unwrap_or(self.to));
        match start {
            Some(start) if start <= end => start..end,
            _ => end.max(self.from)..end.max(self.from),
        }
    }

    /// The first day of every bucket, in their order. The first bucket may begin before the period does.
    pub fn buckets(self, granularity: Granularity) -> impl Iterator<Item = NaiveDate> {
        std::iter::successors(Some(granularity.bucket(self.from)), move |start| granularity.next(*start))
            .take_while(move |start| *start <= self.to)
    }
}

/// How finely a series is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Granularity {
    #[default]
    Day,
    /// From Monday to Sunday.
    Week,
    Month,
}

impl Granularity {
    /// The first day of the bucket that a day is in.
    pub(super) fn bucket(self, day: NaiveDate) -> NaiveDate {
        let back = match self {
            Self::Day => 0,
            Self::Week => day.weekday().num_days_from_monday(),
            Self::Month => day.day0(),
        };
        day.checked_sub_days(Days::new(back.into())).unwrap_or(NaiveDate::MIN)
    }

    fn next(self, start: NaiveDate) -> Option<NaiveDate> {
        match self {
            Self::Day => start.succ_opt(),
            Self::Week => start.checked_add_days(Days::new(7)),
            Self::Month => start.checked_add_months(Months::new(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn the_period_before_is_as_long_and_touches() {
        let march = Period { from: day("2026-03-01"), to: day("2026-03-31") };
        assert_eq!(march.days(), 31);
        assert_eq!(march.before(), Period { from: day("2026-01-29"), to: day("2026-02-28") });
        let one = Period::ending(day("2026-03-01"), 1);
        assert_eq!((one.days(), one.before().to), (1, day("2026-02-28")));
    }

    #[test]
    fn whole_months_and_the_days_around_them_are_the_period() {
        let within = |from, to| {
            let period = Period { from: day(from), to: day(to) };
            let months = period.whole_months();
            // What is read: days from its first, whole months, days to its last.
            assert!(period.from <= months.start && months.start <= months.end, "{period:?} {months:?}");
            assert!(months.end <= period.to.succ_opt().unwrap(), "{period:?} {months:?}");
            (months.start.to_string(), months.end.to_string())
        };
        let range = |from: &str, until: &str| (from.to_owned(), until.to_owned());
        assert_eq!(within("2026-01-01", "2026-03-31"), range("2026-01-01", "2026-04-01"));
        assert_eq!(within("2026-01-02", "2026-03-30"), range("2026-02-01", "2026-03-01"));
        assert_eq!(within("2026-02-01", "2026-02-28"), range("2026-02-01", "2026-03-01"));
        for (from, to) in
            [("2026-01-02", "2026-02-27"), ("2026-01-05", "2026-01-09"), ("2026-01-01", "2026-01-30")]
        {
            let (start, end) = within(from, to);
            assert_eq!(start, end, "{from} {to}");
        }
        let longest = Period { from: day("1970-01-01"), to: day("9999-12-31") };
        assert_eq!(longest.whole_months(), day("1970-01-01")..day("+10000-01-01"));
    }

    #[test]
    fn buckets_cover_the_period_without_gaps() {
        let period = Period { from: day("2026-01-30"), to: day("2026-03-02") };
        assert_eq!(period.buckets(Granularity::Day).count(), 32);
        let weeks: Vec<_> = period.buckets(Granularity::Week).collect();
        assert_eq!(weeks.first(), Some(&day("2026-01-26")));
        assert_eq!(weeks.last(), Some(&day("2026-03-02")));
        let months: Vec<_> = period.buckets(Granularity::Month).collect();
        assert_eq!(months, [day("2026-01-01"), day("2026-02-01"), day("2026-03-01")]);
        for granularity in [Granularity::Day, Granularity::Week, Granularity::Month] {
            let starts: Vec<_> = period.buckets(granularity).collect();
            for at in period.buckets(Granularity::Day) {
                assert!(starts.contains(&granularity.bucket(at)), "{granularity:?} {at}");
            }
        }
    }
}
