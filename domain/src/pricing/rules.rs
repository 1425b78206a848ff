//! What organizers write of how prices move, and what it must keep.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::invalid::{Check, FieldError};

/// The most steps of one rule.
const MAX_STEPS: usize = 20;
/// What a step may take off or add, in basis points of the base price.
const ADJUST: std::ops::RangeInclusive<i64> = -10_000..=90_000;

/// How the prices of an event move. What is left out becomes its default. Shares are basis points: 10000 are the whole,
/// and prices are shares of each ticket type's base price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PricingRules {
    /// Whether prices move at all.
    #[serde(default)]
    pub enabled: bool,
    /// The time between two evaluations.
    #[serde(default = "default_every_minutes")]
    #[schema(minimum = 1, maximum = 10_080, default = 1440, example = 60)]
    pub every_minutes: i64,
    /// The lowest price.
    #[serde(default = "default_floor_bps")]
    #[schema(minimum = 0, maximum = 10_000, default = 8000)]
    pub floor_bps: i64,
    /// The highest price.
    #[serde(default = "default_ceiling_bps")]
    #[schema(minimum = 10_000, maximum = 100_000, default = 15_000)]
    pub ceiling_bps: i64,
    /// The most that one evaluation moves a price.
    #[serde(default = "default_largest_step_bps")]
    #[schema(minimum = 1, maximum = 100_000, default = 1000)]
    pub largest_step_bps: i64,
    /// Prices are multiples of this, in minor units.
    #[serde(default = "default_round_to")]
    #[schema(minimum = 1, maximum = 1_000_000, default = 1, example = 50)]
    pub round_to: i64,
    /// How long a price stays once it was changed, by the rules or by hand.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 43_200, default = 0, example = 120)]
    pub cool_down_minutes: i64,
    /// By the share of the capacity that is sold; `from_bps` and `adjust_bps` ascend. Below the first step nothing is added,
    /// so one that takes something off is from 0.
    #[serde(default)]
    #[schema(max_items = 20)]
    pub utilisation: Vec<ShareStep>,
    #[serde(default)]
    pub velocity: Velocity,
    /// By the time that is left to the event; `hours_before` descends.
    #[serde(default)]
    #[schema(max_items = 20)]
    pub time_to_event: Vec<TimeStep>,
    /// By the tickets that people on the waitlist wait for; `from_tickets` and `adjust_bps` ascend.
    #[serde(default)]
    #[schema(max_items = 20)]
    pub waitlist: Vec<WaitlistStep>,
}

/// By demand: tickets sold within the window and tickets in holds now, against what is expected of the window if the
/// expected share of the capacity is sold evenly from the start of sales to their end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Velocity {
    /// How far back to look, and never to before the start of sales.
    #[serde(default = "default_window_minutes")]
    #[schema(minimum = 1, maximum = 10_080, default = 60)]
    pub window_minutes: i64,
    /// The share of the capacity that is expected to be sold in the end.
    #[serde(default = "default_expected_bps")]
    #[schema(minimum = 1, maximum = 10_000, default = 10_000)]
    pub expected_bps: i64,
    /// 10000 is the pace expected, 20000 twice that; `from_bps` and `adjust_bps` ascend.
    #[serde(default)]
    #[schema(max_items = 20)]
    pub steps: Vec<ShareStep>,
}

/// From this share on, the price is that much more or less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShareStep {
    #[schema(minimum = 0, maximum = 1_000_000, example = 5000)]
    pub from_bps: i64,
    #[schema(minimum = -10_000, maximum = 90_000, example = 1000)]
    pub adjust_bps: i64,
}

/// This long before the start and later, the price is that much more or less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeStep {
    #[schema(minimum = 0, maximum = 8760, example = 48)]
    pub hours_before: i64,
    #[schema(minimum = -10_000, maximum = 90_000, example = 500)]
    pub adjust_bps: i64,
}

/// From so many tickets that are waited for on, the price is that much more or less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitlistStep {
    #[schema(minimum = 0, maximum = 1_000_000, example = 10)]
    pub from_tickets: i64,
    #[schema(minimum = -10_000, maximum = 90_000, example = 500)]
    pub adjust_bps: i64,
}

const fn default_every_minutes() -> i64 {
    24 * 60
}

const fn default_floor_bps() -> i64 {
    8_000
}

const fn default_ceiling_bps() -> i64 {
    15_000
}

const fn default_largest_step_bps() -> i64 {
    1_000
}

const fn default_round_to() -> i64 {
    1
}

const fn default_window_minutes() -> i64 {
    60
}

const fn default_expected_bps() -> i64 {
    10_000
}

impl Default for Velocity {
    fn default() -> Self {
        Self {
            window_minutes: default_window_minutes(),
            expected_bps: default_expected_bps(),
            steps: Vec::new(),
        }
    }
}

/// Off, and with nothing that would move a price.
impl Default for PricingRules {
    fn default() -> Self {
        Self {
            enabled: false,
            every_minutes: default_every_minutes(),
            floor_bps: default_floor_bps(),
            ceiling_bps: default_ceiling_bps(),
            largest_step_bps: default_largest_step_bps(),
            round_to: default_round_to(),
            cool_down_minutes: 0,
            utilisation: Vec::new(),
            velocity: Velocity::default(),
            time_to_event: Vec::new(),
            waitlist: Vec::new(),
        }
    }
}

impl PricingRules {
    /// Checks everything. More demand never makes a ticket cheaper: the steps of those rules ascend. A rounding that the
    /// largest step of one of these base prices cannot get over would leave its price where it is for ever.
    pub fn check(&self, base_prices: &[i64]) -> Result<(), Vec<FieldError>> {
        let mut check = Check::default();
        check.range("/every_minutes", self.every_minutes, 1..=10_080);
        check.range("/floor_bps", self.floor_bps, 0..=10_000);
        check.range("/ceiling_bps", self.ceiling_bps, 10_000..=100_000);
        check.range("/largest_step_bps", self.largest_step_bps, 1..=100_000);
        check.range("/round_to", self.round_to, 1..=1_000_000);
        check.range("/cool_down_minutes", self.cool_down_minutes, 0..=43_200);
        check.range("/velocity/window_minutes", self.velocity.window_minutes, 1..=10_080);
        check.range("/velocity/expected_bps", self.velocity.expected_bps, 1..=10_000);
        let shares = |steps: &[ShareStep]| -> Vec<_> {
            steps.iter().map(|step| (step.from_bps, step.adjust_bps)).collect()
        };
        let waitlist: Vec<_> =
            self.waitlist.iter().map(|step| (step.from_tickets, step.adjust_bps)).collect();
        ascending(&mut check, "/utilisation", "from_bps", 10_000, &shares(&self.utilisation));
        ascending(&mut check, "/velocity/steps", "from_bps", 1_000_000, &shares(&self.velocity.steps));
        ascending(&mut check, "/waitlist", "from_tickets", 1_000_000, &waitlist);
        few(&mut check, "/time_to_event", self.time_to_event.len());
        let mut before = i64::MAX;
        for (at, step) in self.time_to_event.iter().enumerate() {
            let pointer = format!("/time_to_event/{at}/hours_before");
            check.range(&pointer, step.hours_before, 0..=8760);
            check.ensure(step.hours_before < before, &pointer, "must be less than the one before");
            check.range(&format!("/time_to_event/{at}/adjust_bps"), step.adjust_bps, ADJUST);
            before = step.hours_before;
        }
        if (1..=100_000).contains(&self.largest_step_bps) {
            let cheapest = base_prices.iter().copied().filter(|price| *price > 0).min();
            let step = cheapest.map(|price| super::engine::share(price, self.largest_step_bps));
            check.ensure(
                self.round_to == 1 || step.is_none_or(|step| self.round_to <= step),
                "/round_to",
                "must not be more than the largest step of the cheapest ticket type",
            );
        }
        check.finish()
    }
}

fn few(check: &mut Check, pointer: &str, steps: usize) {
    check.ensure(steps <= MAX_STEPS, pointer, &format!("must have {MAX_STEPS} steps at most"));
}

fn ascending(check: &mut Check, base: &str, from: &str, most: i64, steps: &[(i64, i64)]) {
    few(check, base, steps.len());
    // Below the first step nothing is added, so one that takes something off begins at 0.
    let begins_at_zero = steps.first().is_some_and(|first| first.0 == 0);
    let mut before = (i64::MIN, if begins_at_zero { i64::MIN } else { 0 });
    for (at, step) in steps.iter().enumerate() {
        let (pointer, adjust) = (format!("{base}/{at}/{from}"), format!("{base}/{at}/adjust_bps"));
        check.range(&pointer, step.0, 0..=most);
        check.ensure(step.0 > before.0, &pointer, "must be more than the one before");
        check.range(&adjust, step.1, ADJUST);
        let detail = "must not be less than the one before, nor than 0 where the first step is not from 0";
        check.ensure(step.1 >= before.1, &adjust, detail);
        before = *step;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn faults(changes: &Value) -> Vec<String> {
        let rules: PricingRules = serde_json::from_value(changes.clone()).unwrap();
        let errors = rules.check(&[4_500, 0]).err().unwrap_or_default();
        errors.into_iter().map(|error| error.pointer).collect()
    }

    #[test]
    fn what_is_left_out_has_its_default_and_is_valid() {
        assert_eq!(serde_json::from_value::<PricingRules>(json!({})).unwrap(), PricingRules::default());
        assert_eq!(faults(&json!({})), Vec::<String>::new());
        assert!(serde_json::from_value::<PricingRules>(json!({"colour": "red"})).is_err());
        assert!(serde_json::from_value::<PricingRules>(json!({"floor_bps": 0.5})).is_err());
    }

    #[test]
    fn each_rule_names_its_field() {
        for (changes, pointer) in [
            (json!({"every_minutes": 0}), "/every_minutes"),
            (json!({"floor_bps": 10_001}), "/floor_bps"),
            (json!({"ceiling_bps": 9_999}), "/ceiling_bps"),
            (json!({"largest_step_bps": 0}), "/largest_step_bps"),
            (json!({"round_to": 0}), "/round_to"),
            (json!({"round_to": 451}), "/round_to"),
            (json!({"cool_down_minutes": -1}), "/cool_down_minutes"),
            (json!({"velocity": {"window_minutes": 0}}), "/velocity/window_minutes"),
            (json!({"velocity": {"expected_bps": 0}}), "/velocity/expected_bps"),
            (json!({"utilisation": [{"from_bps": 10_001, "adjust_bps": 0}]}), "/utilisation/0/from_bps"),
            (
                json!({"utilisation": [{"from_bps": 1, "adjust_bps": 5}, {"from_bps": 1, "adjust_bps": 5}]}),
                "/utilisation/1/from_bps",
            ),
            (
                json!({"velocity": {"steps": [{"from_bps": 1, "adjust_bps": 5}, {"from_bps": 2, "adjust_bps": 4}]}}),
                "/velocity/steps/1/adjust_bps",
            ),
            (json!({"waitlist": [{"from_tickets": 1, "adjust_bps": 90_001}]}), "/waitlist/0/adjust_bps"),
            (json!({"utilisation": [{"from_bps": 1, "adjust_bps": -1}]}), "/utilisation/0/adjust_bps"),
            (
                json!({"time_to_event": [{"hours_before": 2, "adjust_bps": 0}, {"hours_before": 2, "adjust_bps": 0}]}),
                "/time_to_event/1/hours_before",
            ),
            (
                json!({"time_to_event": vec![json!({"hours_before": 2, "adjust_bps": 0}); 1]
                    .into_iter().chain((0..20).map(|_| json!({"hours_before": 1, "adjust_bps": 0})))
                    .collect::<Vec<_>>()}),
                "/time_to_event",
            ),
        ] {
            assert_eq!(faults(&changes).first().map(String::as_str), Some(pointer), "{changes}");
        }
    }
}
