//! Prices that move while tickets are sold: everybody sees the new one soon, and whoever was quoted another pays that.

use serde_json::{Value, json};

use super::{confirm_path, hold, pay, until};
use crate::support::app::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_price_is_seen_everywhere_and_a_hold_keeps_the_one_it_was_quoted() {
    let app = TestApp::start().await;
    let (event, admin, ada) = (app.event(10).await, app.admin().await, app.user("ada").await);
    let _workers = app.work();
    let (one, list) = (format!("/v1/events/{}", event.id), "/v1/events?q=Harbour");
    // It is in all caches.
    let price = |event: &Value| event["ticket_types"][0]["price"]["amount"].clone();
    assert_eq!(price(&app.get(&one).await.expect(200)), 4_500);
    assert_eq!(price(&app.get(list).await.expect(200)["data"][0]), 4_500);
    let quoted = hold(&app, &event, &ada, "before", 2).await;

    let admin_path = format!("/v1/admin/events/{}", event.id);
    let rules = json!({
        "enabled": true, "every_minutes": 1440, "round_to": 50,
        "velocity": {"steps": [{"from_bps": 1, "adjust_bps": 1000}]},
    });
    let put = app.put(&format!("{admin_path}/pricing"), &rules).bearer(&admin.token).if_match("\"v0\"");
    put.await.expect(200);
    let now = "UPDATE pricing_rules SET next_due_at = date_trunc('second', now())";
    app.database.execute(now).await;
    // Two are held: that is demand.
    until(|| app.get(&one), |answer| answer.status == 200 && price(&answer.json()) == 4_950).await;
    until(|| app.get(list), |answer| answer.status == 200 && price(&answer.json()["data"][0]) == 4_950).await;

    app.rest().await;
    let later = hold(&app, &event, &ada, "after", 1).await;
    assert_eq!((&quoted["total"]["amount"], &later["total"]["amount"]), (&json!(9_000), &json!(4_950)));
    for (hold, total) in [(&quoted, 9_000), (&later, 4_950)] {
        let call = app.post(&confirm_path(&event, hold), &pay("tok_ok")).bearer(&ada.token);
        let booking = call.header("prefer", "wait=30").await.expect(201);
        assert_eq!(booking["total"]["amount"], total);
    }
    let history = app.get(&format!("{admin_path}/price_history")).bearer(&admin.token).await.expect(200);
    let change = &history["data"][0];
    assert_eq!((&change["cause"], &change["actor_id"]), (&json!("rules"), &Value::Null));
    assert_eq!((&change["from"]["amount"], &change["to"]["amount"]), (&json!(4_500), &json!(4_950)));
    let reason = &change["reason"];
    assert_eq!((&reason["inputs"]["held"], &reason["inputs"]["sold"]), (&json!(2), &json!(0)));
    assert_eq!(reason["velocity"]["adjust_bps"], 1_000);
    assert_eq!((&reason["target"]["amount"], &reason["limited_by"]), (&json!(4_950), &json!([])));
    let simulated = app.post(&format!("{admin_path}/pricing/simulate"), &rules).bearer(&admin.token).await;
    let simulated = simulated.expect(200);
    assert_eq!((&simulated["instants"], &simulated["complete"]), (&json!("recorded"), &json!(true)));
    let money = |amount: i64| json!({"amount": amount, "currency": "EUR"});
    assert_eq!(
        simulated["actual"],
        json!({"gross": money(13_950), "refunded": money(0), "net": money(13_950)})
    );
    assert_eq!(simulated["simulated"], simulated["actual"]);
    let kind = &simulated["ticket_types"][0];
    assert_eq!(kind["actual"], kind["simulated"]);
    app.rest().await;
}
