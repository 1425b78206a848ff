//! What a cancellation gives back, by the event's rules.

use chrono::{DateTime, Utc};

use crate::events::RefundStep;

/// What is due of `total` when a booking is cancelled at `now`, in minor units, rounded down.
///
/// The rule with the most hours that is still met decides; with none met, nothing is due. An event without
/// rules gives everything back until its start. Once it has started nothing is due, whatever the rules say.
pub fn refund_due(rules: &[RefundStep], total: i64, starts_at: DateTime<Utc>, now: DateTime<Utc>) -> i64 {
    if now >= starts_at {
        return 0;
    }
    let percent = if rules.is_empty() {
        100
    } else {
        let left = starts_at - now;
        rules
            .iter()
            .filter(|rule| left >= chrono::Duration::hours(rule.hours_before))
            .max_by_key(|rule| rule.hours_before)
            .map_or(0, |rule| rule.percent.clamp(0, 100))
    };
    // In parts, since total × 100 may not fit.
    total / 100 * percent + total % 100 * percent / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(rules: &[(i64, i64)], total: i64, hours_left: i64) -> i64 {
        let rules: Vec<_> =
            rules.iter().map(|&(hours_before, percent)| RefundStep { hours_before, percent }).collect();
        let starts_at = DateTime::UNIX_EPOCH + chrono::Duration::hours(1000);
        refund_due(&rules, total, starts_at, starts_at - chrono::Duration::hours(hours_left))
    }

    #[test]
    fn everything_until_the_start_unless_rules_say_otherwise() {
        assert_eq!(due(&[], 4501, 1), 4501);
        assert_eq!(due(&[], 4501, 0), 0);
        assert_eq!(due(&[(0, 100)], 4501, -1), 0);
    }

    #[test]
    fn the_strictest_rule_that_is_met_decides_and_cents_are_rounded_down() {
        let rules = [(168, 100), (48, 50), (0, 10)];
        assert_eq!(due(&rules, 4501, 168), 4501);
        assert_eq!(due(&rules, 4501, 167), 2250);
        assert_eq!(due(&rules, 4501, 47), 450);
        assert_eq!(due(&[(48, 50)], 4501, 47), 0);
        assert_eq!(due(&[(0, 99)], i64::MAX, 1), i64::MAX / 100 * 99 + 7 * 99 / 100);
    }
}
