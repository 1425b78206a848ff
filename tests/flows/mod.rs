//! Whole stories over HTTP, with every pool at work.

mod analytics;
mod clocks;
mod confirm;
mod confirm_ends;
mod event_cancelled;
mod expiry;
mod export;
mod faults;
mod kill_points;
mod logged;
mod outages;
mod overload;
mod payments;
mod payments_killed;
mod pricing;
mod rush;
mod scaling;
mod stripe;
mod traced;
mod waitlist;

use std::time::Duration;

use domain::inventory::{Drift, reconcile_event};
use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    events::TestEvent,
    http::{Answer, Call},
    people::Person,
};

/// `POST …/holds` for so many tickets of each ticket type, in their order.
fn place(app: &TestApp, event: &TestEvent, token: &str, key: &str, quantities: &[u32]) -> Call {
    let lines = event.ticket_types.iter().zip(quantities).filter(|(_, quantity)| **quantity > 0);
    let items: Vec<_> = lines.map(|(id, n)| json!({"ticket_type_id": id, "quantity": n})).collect();
    let path = format!("/v1/events/{}/holds", event.id);
    app.post(&path, &json!({ "items": items })).bearer(token).key(key)
}

/// A hold of so many tickets of the first ticket type.
async fn hold(app: &TestApp, event: &TestEvent, buyer: &Person, key: &str, quantity: u32) -> Value {
    place(app, event, &buyer.token, key, &[quantity]).await.expect(201)
}

fn hold_path(event: &TestEvent, hold: &Value) -> String {
    format!("/v1/events/{}/holds/{}", event.id, hold["id"].as_str().unwrap())
}

fn confirm_path(event: &TestEvent, hold: &Value) -> String {
    format!("{}/confirm", hold_path(event, hold))
}

fn booking_path(hold: &Value) -> String {
    format!("/v1/bookings/{}", hold["id"].as_str().unwrap())
}

fn pay(token: &str) -> Value {
    json!({"payment": {"provider": "sandbox", "token": token}})
}

/// The same, with the proof of the hold.
fn pay_with(token: &str, hold: &Value) -> Value {
    json!({"payment": {"provider": "sandbox", "token": token}, "hold_token": hold["hold_token"]})
}

/// Reads until the answer is as wanted, and gives up after 40 s.
async fn until(call: impl Fn() -> Call, wanted: impl Fn(&Answer) -> bool) -> Answer {
    for _ in 0..400 {
        let answer = call().await;
        if wanted(&answer) {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it does not come to be: {:?}", call().await);
}

/// The booking, once it is confirmed.
async fn confirmed(app: &TestApp, hold: &Value, buyer: &Person) -> Value {
    let read = || app.get(&booking_path(hold)).bearer(&buyer.token);
    until(read, |answer| answer.status == 200 && answer.json()["status"] == "confirmed").await.json()
}

/// What must hold of an event when nothing is under way, whatever happened before: its numbers add up for who asks,
/// Redis and Postgres agree, each sold seat has its ticket and its buyer, and what was taken is what was sold.
async fn assert_at_rest(app: &TestApp, event: &TestEvent, sold: i64, held: i64) {
    let path = format!("/v1/events/{}/availability", event.id);
    let sum = |seen: &Value, what: &str| -> i64 {
        seen["ticket_types"].as_array().unwrap().iter().map(|kind| kind[what].as_i64().unwrap()).sum()
    };
    // What the public reads may be a second old.
    let fits = |answer: &Answer| {
        let seen = answer.json();
        (sum(&seen, "sold"), sum(&seen, "held")) == (sold, held)
    };
    let status = app.get(&format!("/v1/events/{}", event.id)).await.expect(200)["status"].clone();
    let is_cancelled = status == "cancelled";
    let seen = until(|| app.get(&path), |answer| answer.status == 200 && fits(answer)).await.json();
    for kind in seen["ticket_types"].as_array().unwrap() {
        let number = |what: &str| kind[what].as_i64().unwrap();
        let parts = number("sold") + number("held") + number("offered") + number("available");
        // What is cancelled has nothing to give.
        assert!(parts == number("capacity") || number("available") == 0 && is_cancelled, "{kind}");
    }
    assert_eq!(reconcile_event(&app.app.inventory, &app.db, event.id).await.unwrap(), Drift::default());
    let id = event.id;
    for (what, sql) in [
        ("sold", format!("SELECT coalesce(sum(sold), 0) FROM ticket_types WHERE event_id = '{id}'")),
        ("bought", format!("SELECT coalesce(sum(sold), 0) FROM event_buyers WHERE event_id = '{id}'")),
        (
            "tickets",
            format!("SELECT count(*) FROM tickets WHERE event_id = '{id}' AND status <> 'cancelled'"),
        ),
        (
            "booked",
            format!(
                "SELECT coalesce(sum(quantity), 0) FROM bookings \
                 WHERE event_id = '{id}' AND status = 'confirmed'"
            ),
        ),
    ] {
        assert_eq!(app.database.value(&sql).await.unwrap(), sold.to_string(), "{what}");
    }
    let money = "SELECT (SELECT coalesce(sum(captured - refunded), 0) FROM sandbox_charges)
                      - (SELECT coalesce(sum(total), 0) FROM bookings WHERE status = 'confirmed')";
    assert_eq!(app.database.value(money).await.unwrap(), "0", "what was taken is what was sold");
    let set_aside = "SELECT count(*) FROM sandbox_charges WHERE status = 'authorised'";
    assert_eq!(app.database.value(set_aside).await.unwrap(), "0", "no money is set aside for nothing");
    let open = "SELECT count(*) FROM payments WHERE status IN ('authorised', 'unknown')";
    assert_eq!(app.database.value(open).await.unwrap(), "0", "every payment has ended");
}
