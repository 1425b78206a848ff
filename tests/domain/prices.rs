//! How a price is decided: by hand, and as properties of whatever rules there are.

use domain::pricing::{Inputs, Limit, PricingRules, ShareStep, TimeStep, Velocity, WaitlistStep, decide};
use proptest::prelude::*;

/// The tenth of 100 seats is sold, ten days before the event, at 10.00.
const PLAIN: Inputs = Inputs {
    base_price: 1_000,
    price: 1_000,
    capacity: 100,
    sold: 10,
    sold_in_window: 0,
    held: 0,
    waiting: 0,
    window_secs: 3_600,
    sale_secs: 360_000,
    left_secs: 864_000,
    since_change_secs: None,
};

fn by_utilisation(from_bps: i64, adjust_bps: i64) -> PricingRules {
    PricingRules {
        largest_step_bps: 10_000,
        utilisation: vec![ShareStep { from_bps, adjust_bps }],
        ..PricingRules::default()
    }
}

#[test]
fn what_the_rules_say_is_added_up() {
    let rules = PricingRules {
        ceiling_bps: 30_000,
        largest_step_bps: 100_000,
        utilisation: vec![
            ShareStep { from_bps: 1_000, adjust_bps: 500 },
            ShareStep { from_bps: 1_001, adjust_bps: 9_000 },
        ],
        // Half of 100 seats in 100 hours is half a seat an hour, and two are wanted in this one.
        velocity: Velocity {
            window_minutes: 60,
            expected_bps: 5_000,
            steps: vec![
                ShareStep { from_bps: 40_000, adjust_bps: 700 },
                ShareStep { from_bps: 40_001, adjust_bps: 9_000 },
            ],
        },
        time_to_event: vec![
            TimeStep { hours_before: 240, adjust_bps: 30 },
            TimeStep { hours_before: 239, adjust_bps: 9_000 },
        ],
        waitlist: vec![
            WaitlistStep { from_tickets: 7, adjust_bps: 1 },
            WaitlistStep { from_tickets: 8, adjust_bps: 9_000 },
        ],
        ..PricingRules::default()
    };
    let decision = decide(
        &rules,
        &Inputs { base_price: 10_000, price: 10_000, sold_in_window: 1, held: 1, waiting: 7, ..PLAIN },
    );
    let reason = decision.reason;
    let seen = [reason.utilisation, reason.velocity, reason.time_to_event, reason.waitlist];
    assert_eq!(
        seen.map(|one| (one.value, one.adjust_bps)),
        [(1_000, 500), (40_000, 700), (864_000, 30), (7, 1)]
    );
    assert_eq!((reason.target, decision.price, reason.limited_by), (11_231, 11_231, vec![]));
}

#[test]
fn bounds_then_cool_down_then_step_then_rounding() {
    let dear = by_utilisation(0, 9_000);
    let inputs = PLAIN;
    let of = |rules: &PricingRules, inputs: Inputs| {
        let decision = decide(rules, &inputs);
        (decision.price, decision.reason.limited_by)
    };
    assert_eq!(of(&dear, inputs), (1_500, vec![Limit::Bounds]), "1900 is over the ceiling");
    let careful = PricingRules { largest_step_bps: 1_250, ..dear.clone() };
    assert_eq!(of(&careful, inputs), (1_125, vec![Limit::Bounds, Limit::LargestStep]));
    let round = PricingRules { round_to: 50, ..careful.clone() };
    assert_eq!(of(&round, inputs).0, 1_100, "1150 is more than a step away");
    let coarse = PricingRules { round_to: 400, ..careful.clone() };
    assert_eq!(of(&coarse, inputs).0, 1_000, "neither 800 nor 1200 is within a step");
    assert_eq!(of(&coarse, inputs).1, [Limit::Bounds, Limit::LargestStep, Limit::Rounding]);

    let slow = PricingRules { cool_down_minutes: 60, ..dear.clone() };
    let changed = |secs| Inputs { since_change_secs: Some(secs), ..PLAIN };
    assert_eq!(of(&slow, changed(3_500)), (1_000, vec![Limit::Bounds, Limit::CoolDown]));
    assert_eq!(
        of(&slow, changed(3_580)).0,
        1_500,
        "a run that was a little late does not put the next one off"
    );
    // A price outside of the bounds is brought back at once, with a step where that suffices.
    let out = Inputs { price: 1_590, since_change_secs: Some(0), ..PLAIN };
    assert_eq!(of(&slow, out).0, 1_500);
    let far = PricingRules { largest_step_bps: 50, cool_down_minutes: 60, round_to: 40, ..dear };
    assert_eq!(of(&far, out).0, 1_480, "the nearest multiple within the bounds");
    let low = Inputs { price: 100, ..out };
    assert_eq!(of(&far, low).0, 800);
}

#[test]
fn what_costs_nothing_and_what_has_no_seats_stays() {
    let rules = by_utilisation(0, 90_000);
    assert_eq!(decide(&rules, &Inputs { base_price: 0, price: 0, ..PLAIN }).price, 0);
    let none = decide(&by_utilisation(1, 500), &Inputs { capacity: 0, sold: 0, held: 3, ..PLAIN });
    assert_eq!((none.price, none.reason.velocity.value), (1_000, 0));
}

/// Steps whose beginnings and adjustments ascend, from 0 where something is taken off.
fn ascending(most: i64) -> impl Strategy<Value = Vec<(i64, i64)>> {
    proptest::collection::btree_map(prop_oneof![Just(0), 0..=most], -10_000..=90_000_i64, 0..6).prop_map(
        |steps| {
            let (from, mut adjust): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
            adjust.sort_unstable();
            if from.first().is_some_and(|first| *first > 0) {
                adjust = adjust.into_iter().map(|adjust| adjust.max(0)).collect();
            }
            from.into_iter().zip(adjust).collect()
        },
    )
}

fn shares(most: i64) -> impl Strategy<Value = Vec<ShareStep>> {
    ascending(most).prop_map(|steps| {
        steps.into_iter().map(|(from_bps, adjust_bps)| ShareStep { from_bps, adjust_bps }).collect()
    })
}

fn rules() -> impl Strategy<Value = PricingRules> {
    let bounds = (0..=10_000_i64, 10_000..=100_000_i64, 1..=20_000_i64);
    let fine = (prop_oneof![Just(1), 1..=1_000_i64, 1..=1_000_000_i64], prop_oneof![Just(0), 0..=43_200_i64]);
    let velocity = (1..=10_080_i64, 1..=10_000_i64, shares(1_000_000));
    let time = proptest::collection::btree_map(0..=8_760_i64, -10_000..=90_000_i64, 0..6);
    (bounds, fine, shares(10_000), velocity, time, ascending(1_000)).prop_map(
        |(bounds, fine, utilisation, velocity, time, waitlist)| PricingRules {
            enabled: true,
            every_minutes: 60,
            floor_bps: bounds.0,
            ceiling_bps: bounds.1,
            largest_step_bps: bounds.2,
            round_to: fine.0,
            cool_down_minutes: fine.1,
            utilisation,
            velocity: Velocity { window_minutes: velocity.0, expected_bps: velocity.1, steps: velocity.2 },
            time_to_event: time
                .into_iter()
                .rev()
                .map(|(hours_before, adjust_bps)| TimeStep { hours_before, adjust_bps })
                .collect(),
            waitlist: waitlist
                .into_iter()
                .map(|(from_tickets, adjust_bps)| WaitlistStep { from_tickets, adjust_bps })
                .collect(),
        },
    )
}

fn inputs() -> impl Strategy<Value = Inputs> {
    // From what costs nothing to the most that anything may cost.
    let base = prop_oneof![0..=20_i64, 100..=100_000_i64, 0..=1_000_000_000_000_i64];
    let counts = (0..=1_000_000_i64, 0..=1_000_000_i64, 0..=10_000_i64, 0..=10_000_i64, 0..=2_000_i64);
    let times =
        (60..=604_800_i64, 1..=31_536_000_i64, 0..=31_536_000_i64, proptest::option::of(0..=3_000_000_i64));
    // In thousandths of the base price; what is far out may be after the bounds were moved.
    let price = prop_oneof![4 => 700..=1_600_i64, 1 => 0..=12_000_i64];
    (base, price, counts, times).prop_map(|(base_price, price, counts, times)| Inputs {
        base_price,
        price: base_price * price / 1_000,
        capacity: counts.0,
        sold: counts.1.min(counts.0),
        sold_in_window: counts.2,
        held: counts.3,
        waiting: counts.4,
        window_secs: times.0,
        sale_secs: times.1,
        left_secs: times.2,
        since_change_secs: times.3,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn never_outside_floor_and_ceiling_and_never_more_than_a_step(rules in rules(), inputs in inputs()) {
        prop_assert!(rules.check(&[]).is_ok(), "{rules:?}");
        let decision = decide(&rules, &inputs);
        let (floor, ceiling) = (decision.reason.floor, decision.reason.ceiling);
        prop_assert!(floor <= inputs.base_price && inputs.base_price <= ceiling);
        prop_assert!((floor..=ceiling).contains(&decision.price), "{decision:?}");
        let step = inputs.base_price * rules.largest_step_bps / 10_000;
        let moved = (decision.price - inputs.price).abs();
        // How far it has to go to be back within the bounds.
        let back = (inputs.price.clamp(floor, ceiling) - inputs.price).abs();
        if back <= step {
            prop_assert!(moved <= step, "{decision:?}");
        } else {
            prop_assert!(moved < back + rules.round_to, "{decision:?}");
        }
    }

    #[test]
    fn never_lower_because_more_is_sold_or_wanted(rules in rules(), inputs in inputs(), more in 0..=1_000_000_i64) {
        let price = decide(&rules, &inputs).price;
        let fuller = Inputs { sold: (inputs.sold + more).min(inputs.capacity), ..inputs };
        prop_assert!(decide(&rules, &fuller).price >= price, "{fuller:?}");
        for wanted in [
            Inputs { sold_in_window: inputs.sold_in_window + more, ..inputs },
            Inputs { held: inputs.held + more, ..inputs },
            Inputs { waiting: inputs.waiting + more, ..inputs },
        ] {
            prop_assert!(decide(&rules, &wanted).price >= price, "{wanted:?}");
        }
    }

    #[test]
    fn a_price_that_moves_is_a_multiple_unless_it_comes_from_outside(rules in rules(), inputs in inputs()) {
        let Inputs { price, .. } = inputs;
        let decision = decide(&rules, &inputs);
        let inside = (decision.reason.floor..=decision.reason.ceiling).contains(&price);
        prop_assert!(!inside || decision.price == price || decision.price % rules.round_to == 0, "{decision:?}");
        prop_assert_eq!(&decide(&rules, &inputs), &decision, "the same once more");
    }

    #[test]
    fn a_price_stays_for_as_long_as_it_is_to(rules in rules(), inputs in inputs()) {
        let decision = decide(&rules, &inputs);
        let inside = (decision.reason.floor..=decision.reason.ceiling).contains(&inputs.price);
        let cools = inputs.since_change_secs.is_some_and(|secs| secs + 30 < rules.cool_down_minutes * 60);
        prop_assert!(!inside || !cools || decision.price == inputs.price, "{decision:?}");
    }
}
