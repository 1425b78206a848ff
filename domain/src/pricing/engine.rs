//! What a ticket costs next: pure arithmetic over what was counted, in minor units and basis points.
//!
//! What the rules, the bounds, the largest step and the rounding ask for is reconciled in this order:
//!
//! 1. The target is the base price and what the rules add to it or take off, summed up.
//! 2. Floor and ceiling. They come before everything else: a price that lies outside of them, because they were moved, is
//!    brought to the nearer one even during the cool-down, and where a step does not get it there, by more than a step.
//! 3. The cool-down: a price that was changed a short time ago stays.
//! 4. The largest step, measured from the present price.
//! 5. The rounding: the multiple that is nearest to what is left of the target, the higher of two, among those within
//!    the bounds and within a step. Where there is none, the price stays as it is.
//!
//! Of all this only the target depends on how much is sold, and every later step keeps the order of two targets: the
//! price never falls because more is sold.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rules::{PricingRules, ShareStep};
use crate::money::Money;

/// The whole, in basis points.
const WHOLE: i64 = 10_000;
/// A run that was late by less than this does not put the change of the next one off by its cool-down.
const LATENESS: i64 = 30;
/// Demand of more than a thousand times what was expected is so much.
const MOST_VELOCITY_BPS: i128 = 10_000_000;

/// What was counted of one ticket type at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// Minor units, as all prices here.
    pub base_price: i64,
    /// The price before.
    pub price: i64,
    pub capacity: i64,
    pub sold: i64,
    /// Tickets sold within the window.
    pub sold_in_window: i64,
    /// Tickets in holds.
    pub held: i64,
    /// Tickets that people on the waitlist wait for.
    pub waiting: i64,
    /// How long the window was: shorter than the rule says at the beginning of sales.
    pub window_secs: i64,
    /// From the start of sales to their end.
    pub sale_secs: i64,
    /// To the start of the event.
    pub left_secs: i64,
    /// Since the price was changed last, if it ever was.
    pub since_change_secs: Option<i64>,
}

/// What one rule saw, and what it did to the price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = PriceContribution)]
pub struct Contribution {
    /// Basis points, seconds or tickets: what the rule's steps are measured in.
    pub value: i64,
    /// Basis points of the base price.
    pub adjust_bps: i64,
}

/// Why a price is not what the rules alone would make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = PriceLimit)]
pub enum Limit {
    /// Floor or ceiling.
    Bounds,
    CoolDown,
    LargestStep,
    /// No multiple is within the bounds and a step.
    Rounding,
}

impl Limit {
    /// The word for it in answers and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bounds => "bounds",
            Self::CoolDown => "cool_down",
            Self::LargestStep => "largest_step",
            Self::Rounding => "rounding",
        }
    }
}

/// How a price came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub inputs: Inputs,
    /// Basis points of the capacity that are sold.
    pub utilisation: Contribution,
    /// Basis points of the demand expected.
    pub velocity: Contribution,
    /// Seconds to the event.
    pub time_to_event: Contribution,
    /// Tickets that are waited for.
    pub waitlist: Contribution,
    /// What the rules alone would make of the base price.
    pub target: i64,
    /// The lowest and the highest price.
    pub floor: i64,
    pub ceiling: i64,
    /// What kept the price from the target.
    pub limited_by: Vec<Limit>,
}

/// The next price of a ticket type, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub price: i64,
    pub reason: Reason,
}

/// Decides the next price. The rules are valid, prices and counts not negative.
pub fn decide(rules: &PricingRules, inputs: &Inputs) -> Decision {
    let mut reason = target(rules, inputs);
    let Reason { target, floor, ceiling, .. } = reason;
    let bounded = target.clamp(floor, ceiling);
    if bounded != target {
        reason.limited_by.push(Limit::Bounds);
    }
    let outside = !(floor..=ceiling).contains(&inputs.price);
    let step = share(inputs.base_price, rules.largest_step_bps);
    let (low, high) = (floor.max(inputs.price - step), ceiling.min(inputs.price + step));
    let price = if low > high {
        // A step does not get it back within the bounds.
        let bound = inputs.price.clamp(floor, ceiling);
        nearest(bound, rules.round_to, floor, ceiling).unwrap_or(bound)
    } else {
        let reached = bounded.clamp(low, high);
        if reached != bounded {
            reason.limited_by.push(Limit::LargestStep);
        }
        nearest(reached, rules.round_to, low, high).unwrap_or_else(|| {
            reason.limited_by.push(Limit::Rounding);
            if outside { reached } else { inputs.price }
        })
    };
    let cools = |secs: i64| secs.saturating_add(LATENESS) < rules.cool_down_minutes * 60;
    let price = if !outside && price != inputs.price && inputs.since_change_secs.is_some_and(cools) {
        reason.limited_by.push(Limit::CoolDown);
        inputs.price
    } else {
        price
    };
    Decision { price, reason }
}

/// What each rule says, and what becomes of the base price by all of them.
fn target(rules: &PricingRules, inputs: &Inputs) -> Reason {
    let utilisation = match inputs.capacity {
        0 => 0,
        capacity => (inputs.sold.saturating_mul(WHOLE) / capacity).min(WHOLE),
    };
    let velocity = velocity(rules, inputs);
    let time = rules.time_to_event.iter().rfind(|step| inputs.left_secs <= step.hours_before * 3600);
    let waitlist = rules.waitlist.iter().rfind(|step| step.from_tickets <= inputs.waiting);
    let contributions = [
        Contribution { value: utilisation, adjust_bps: reached(&rules.utilisation, utilisation) },
        Contribution { value: velocity, adjust_bps: reached(&rules.velocity.steps, velocity) },
        Contribution { value: inputs.left_secs, adjust_bps: time.map_or(0, |step| step.adjust_bps) },
        Contribution { value: inputs.waiting, adjust_bps: waitlist.map_or(0, |step| step.adjust_bps) },
    ];
    let sum: i64 = contributions.iter().map(|one| one.adjust_bps).sum();
    let [utilisation, velocity, time_to_event, waitlist] = contributions;
    let base = inputs.base_price;
    Reason {
        inputs: *inputs,
        utilisation,
        velocity,
        time_to_event,
        waitlist,
        // To the nearest minor unit, half of one up.
        target: (base * (WHOLE + sum).max(0) + WHOLE / 2) / WHOLE,
        floor: (base * rules.floor_bps + WHOLE - 1) / WHOLE,
        ceiling: share(base, rules.ceiling_bps).min(Money::MAX_AMOUNT.max(base)),
        limited_by: Vec::new(),
    }
}

/// Demand against what is expected of the window, in basis points.
fn velocity(rules: &PricingRules, inputs: &Inputs) -> i64 {
    let wide = |n: i64| i128::from(n);
    let demand = wide(inputs.sold_in_window) + wide(inputs.held);
    // Expected of the window: capacity × expected_bps ÷ 10000 × window ÷ sale.
    let expected = wide(inputs.capacity) * wide(rules.velocity.expected_bps) * wide(inputs.window_secs);
    if expected == 0 {
        return 0;
    }
    let ratio = demand * wide(WHOLE) * wide(WHOLE) * wide(inputs.sale_secs) / expected;
    i64::try_from(ratio.min(MOST_VELOCITY_BPS)).unwrap_or(0)
}

/// What the highest step that was reached says; nothing below the first.
fn reached(steps: &[ShareStep], value: i64) -> i64 {
    steps.iter().rfind(|step| step.from_bps <= value).map_or(0, |step| step.adjust_bps)
}

/// A share of a price, rounded down. A price is 10^12 at most and a share 10^5: that fits.
pub(super) const fn share(price: i64, bps: i64) -> i64 {
    price * bps / WHOLE
}

/// The multiple of `unit` within `low` and `high` that is nearest to a price between them.
fn nearest(price: i64, unit: i64, low: i64, high: i64) -> Option<i64> {
    let below = price - price % unit;
    let above = if below == price { price } else { below + unit };
    match (below >= low, above <= high) {
        (true, true) if price - below < above - price => Some(below),
        (_, true) => Some(above),
        (true, false) => Some(below),
        (false, false) => None,
    }
}

/// When something is counted, and where that is in the life of the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    pub at: DateTime<Utc>,
    pub sales_start_at: DateTime<Utc>,
    /// The end of sales or the start of the event, whichever is first.
    pub sales_over_at: DateTime<Utc>,
    pub starts_at: DateTime<Utc>,
}

/// What is counted of a ticket type that is not a matter of its price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    pub base_price: i64,
    pub capacity: i64,
    pub sold: i64,
    pub sold_in_window: i64,
    pub held: i64,
    pub waiting: i64,
}

impl Moment {
    /// How far back demand is looked at: a minute at least, and not to before the start of sales.
    pub fn window(&self, rules: &PricingRules) -> TimeDelta {
        let window = TimeDelta::minutes(rules.velocity.window_minutes);
        window.min(self.at - self.sales_start_at).max(TimeDelta::minutes(1))
    }

    /// All that a decision takes.
    pub fn inputs(
        &self,
        rules: &PricingRules,
        counted: &Counted,
        price: i64,
        changed_at: Option<DateTime<Utc>>,
    ) -> Inputs {
        Inputs {
            base_price: counted.base_price,
            price,
            capacity: counted.capacity,
            sold: counted.sold,
            sold_in_window: counted.sold_in_window,
            held: counted.held,
            waiting: counted.waiting,
            window_secs: self.window(rules).num_seconds(),
            sale_secs: (self.sales_over_at - self.sales_start_at).num_seconds().max(1),
            left_secs: (self.starts_at - self.at).num_seconds().max(0),
            since_change_secs: changed_at.map(|changed_at| (self.at - changed_at).num_seconds().max(0)),
        }
    }
}
