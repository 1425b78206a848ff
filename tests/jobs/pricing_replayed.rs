//! A sale whose prices were worked out by hand, and what a simulation of it says.

use domain::{
    bookings,
    holds::release,
    pricing::{self, Instants, PricePath, PricingRules, Simulation},
};
use serde_json::{Value, json};

use super::shop::Shop;

/// 240 seats in 240 hours: one an hour is expected. The base price is 10.00.
fn rules() -> Value {
    json!({
        "enabled": true, "every_minutes": 60, "floor_bps": 8000, "ceiling_bps": 15000, "largest_step_bps": 1000,
        "round_to": 25,
        "utilisation": [{"from_bps": 1000, "adjust_bps": 500}, {"from_bps": 5000, "adjust_bps": 4000}],
        "velocity": {"window_minutes": 60, "expected_bps": 10000, "steps": [
            {"from_bps": 0, "adjust_bps": -500}, {"from_bps": 20000, "adjust_bps": 0}, {"from_bps": 50000, "adjust_bps": 1500},
        ]},
        "time_to_event": [{"hours_before": 236, "adjust_bps": 1000}],
        "waitlist": [{"from_tickets": 5, "adjust_bps": 300}],
    })
}

impl Shop {
    /// Lets so many minutes have passed since everything that has happened.
    async fn minutes_pass(&self, minutes: u32) {
        let d = format!("interval '{minutes} minutes'");
        let times = ["at", "sales_start_at", "sales_over_at", "starts_at"];
        let seen = times.map(|time| format!("'{time}', (seen ->> '{time}')::timestamptz - {d}")).join(", ");
        for sql in [
            format!(
                "UPDATE events SET starts_at = starts_at - {d}, ends_at = ends_at - {d},
                 sales_start_at = sales_start_at - {d}, sales_end_at = sales_end_at - {d}"
            ),
            "ALTER TABLE booking_log DISABLE TRIGGER USER; ALTER TABLE price_history DISABLE TRIGGER USER"
                .to_owned(),
            format!("UPDATE booking_log SET at = at - {d}"),
            format!("UPDATE price_history SET at = at - {d}"),
            "ALTER TABLE booking_log ENABLE TRIGGER USER; ALTER TABLE price_history ENABLE TRIGGER USER"
                .to_owned(),
            format!("UPDATE bookings SET created_at = created_at - {d}"),
            format!("UPDATE ticket_types SET created_at = created_at - {d}"),
            format!("UPDATE pricing_rules SET next_due_at = next_due_at - {d}"),
            // Out of each other's way first: two of them may be due exactly so long after each other.
            "UPDATE price_evaluations SET due_at = due_at + interval '1000 years'".to_owned(),
            format!(
                "UPDATE price_evaluations SET due_at = due_at - interval '1000 years' - {d}, evaluated_at = evaluated_at - {d},
                 seen = seen || jsonb_build_object({seen})"
            ),
        ] {
            self.sale.database.execute(&sql).await;
        }
    }

    /// So many minutes later the prices are evaluated.
    async fn later(&self, minutes: u32) -> i64 {
        self.minutes_pass(minutes).await;
        assert_eq!(self.find_due().await, 1);
        self.reprice().await;
        self.price().await
    }

    /// Sells in half an hour.
    async fn sells(&self, user: usize, quantity: u32) -> uuid::Uuid {
        self.minutes_pass(30).await;
        let job = self.begin(user, &[(0, quantity)], "tok_ok").await;
        self.run(&job).await.unwrap();
        job.hold_id
    }

    async fn simulate(&self, changes: &Value) -> Simulation {
        let mut rules = rules();
        rules.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let rules: PricingRules = serde_json::from_value(rules).unwrap();
        pricing::simulate(&self.ctx.db, self.owner(), self.sale.event_id, rules).await.unwrap()
    }
}

fn prices(path: &PricePath) -> Vec<i64> {
    path.prices.iter().map(|point| point.price.amount).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scripted_sale_has_the_prices_worked_out_by_hand_and_is_replayed_exactly() {
    let shop = Shop::open(&[240], 4).await;
    shop.sale
        .database
        .execute(r#"UPDATE events SET refund_policy = '[{"hours_before": 0, "percent": 100}]'"#)
        .await;
    // Before there are rules, the price is set by hand and back again.
    domain::inventory::ensure_ready(&shop.ctx.inventory, &shop.ctx.db, shop.sale.event_id).await.unwrap();
    assert!(shop.set_base_price(1_100).await);
    assert!(shop.set_base_price(1_000).await);
    shop.rules(0, &rules()).await;

    // Nothing sold: -5 %.
    assert_eq!(shop.later(60).await, 950);
    // A tenth sold +5 %, all of it within the hour +15 %: 1200, and a step is 100.
    shop.sells(0, 24).await;
    assert_eq!(shop.later(30).await, 1_050);
    // Nothing sold in this hour, but two in a hold: twice the pace, +0 %. 1050 is what it is.
    let hold = shop.sale.place(1, &[(0, 2)], "k").await.unwrap().hold;
    assert_eq!(shop.later(60).await, 1_050);
    release(&shop.ctx.inventory, shop.sale.event_id, hold.id, hold.user_id).await.unwrap();
    // Half is sold +40 %, fast +15 %, 236 hours are left +10 %: 1650, the ceiling is 1500, and a step is 100.
    let large = shop.sells(2, 96).await;
    assert_eq!(shop.later(30).await, 1_150);
    // Half is sold +40 %, slow -5 %, +10 %: 1450, and a step is 100.
    assert_eq!(shop.later(60).await, 1_250);
    // A tenth is left of it +5 %, slow -5 %, +10 %: 1100, and a step is 100.
    let mut conn = shop.ctx.db.conn().await.unwrap();
    let cancelled = bookings::cancel(&mut conn, large, shop.sale.users[2]).await.unwrap();
    cancelled.changes.tell(&shop.ctx.inventory).await;
    drop(conn);
    assert_eq!(shop.later(60).await, 1_150);
    // By hand, to twice as much; the rules go on from there: 2200, and a step is 200 now.
    assert!(shop.set_base_price(2_000).await);
    assert_eq!(shop.price().await, 2_000);
    assert_eq!(shop.later(60).await, 2_200);
    // Seven are waited for, +3 %: 2260, the nearest multiple of 25 is 2250.
    shop.sale.database.execute("UPDATE ticket_types SET waiting_tickets = 7").await;
    assert_eq!(shop.later(60).await, 2_250);
    shop.sells(3, 3).await;

    let path = [1_000, 1_100, 1_000, 950, 1_050, 1_150, 1_250, 1_150, 2_000, 2_200, 2_250];
    let same = shop.simulate(&json!({})).await;
    assert_eq!((same.instants, same.evaluations, same.complete), (Instants::Recorded, 8, true));
    let kind = &same.ticket_types[0];
    assert_eq!(prices(&kind.actual), path);
    assert_eq!(kind.simulated, kind.actual, "the same rules give the same prices at the same times");
    // 24 at 9.50, 96 at 10.50, 3 at 22.50; the 96 were given back.
    assert_eq!((kind.tickets, kind.actual.gross.amount), (123, 24 * 950 + 96 * 1_050 + 3 * 2_250));
    assert_eq!((same.actual.refunded.amount, same.actual.net.amount), (96 * 1_050, 24 * 950 + 3 * 2_250));
    assert_eq!(same.simulated, same.actual);
    let history =
        shop.value("SELECT count(*) FILTER (WHERE cause = 'rules') || ':' || count(*) FROM price_history");
    assert_eq!(history.await, "7:10");

    // With steps of a fortieth: 25, and 50 of the new base price.
    let slow = shop.simulate(&json!({"largest_step_bps": 250})).await;
    let kind = &slow.ticket_types[0];
    assert_eq!(prices(&kind.actual), path);
    let worked_out = [1_000, 1_100, 1_000, 975, 1_000, 1_025, 1_050, 1_075, 1_100, 2_000, 2_050, 2_100];
    assert_eq!(prices(&kind.simulated), worked_out);
    assert_eq!(slow.actual, same.actual);
    assert_eq!(slow.simulated.gross.amount, 24 * 975 + 96 * 1_025 + 3 * 2_100);
    assert_eq!(slow.simulated.refunded.amount, 96 * 1_025);
    // A longer window sees the sales of the hours before: nobody has ever been slow since the second hour.
    let long = shop
        .simulate(
            &json!({"velocity": {"window_minutes": 600, "steps": [{"from_bps": 1, "adjust_bps": 500}]}}),
        )
        .await;
    assert_eq!(prices(&long.ticket_types[0].simulated)[3..5], [1_100, 1_200]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_without_evaluations_is_simulated_at_the_intervals_of_the_rules() {
    let shop = Shop::open(&[240, 10], 2).await;
    shop.sale.database.execute("UPDATE ticket_types SET created_at = created_at - interval '1 day'").await;
    // A day on sale already, and 264 hours to the event from its beginning.
    shop.sells(0, 24).await;
    shop.sells(1, 96).await;
    shop.minutes_pass(11 * 60 + 30).await;
    let simulated = shop.simulate(&json!({"every_minutes": 360})).await;
    // 36 hours and a half: six times six hours.
    assert_eq!((simulated.instants, simulated.evaluations), (Instants::Scheduled, 6));
    let kind = &simulated.ticket_types[0];
    assert_eq!(prices(&kind.actual), [1_000]);
    // Four times -5 %: nothing is sold. Then half is sold +40 %, slow -5 %, less than 236 hours are left +10 %: 1450, a
    // step of 100 at a time.
    assert_eq!(prices(&kind.simulated), [1_000, 950, 1_050, 1_150]);
    assert_eq!(kind.tickets, 120);
    assert_eq!((simulated.actual.gross.amount, simulated.simulated.gross.amount), (120_000, 120 * 950));
    // Of the other nothing is sold at all: -5 %, then +10 % besides.
    assert_eq!(prices(&simulated.ticket_types[1].simulated), [1_000, 950, 1_050]);
    assert!(simulated.complete);
}
