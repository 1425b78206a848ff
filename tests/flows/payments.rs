//! A provider that fails, delays, and loses its answers, at every step that money takes.

use serde_json::json;
use uuid::Uuid;

use super::{booking_path, confirm_path, confirmed, hold, pay};
use crate::support::app::TestApp;

/// Waits until `sql` answers `wanted`.
async fn until_value(app: &TestApp, sql: &str, wanted: &str) {
    for _ in 0..600 {
        if app.database.value(sql).await.as_deref() == Some(wanted) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{sql}: {:?} and not {wanted}", app.database.value(sql).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_ends_whatever_the_provider_does() {
    let app = TestApp::start().await;
    let _workers = app.work();
    let event = app.event_with(20, |event| event.max_tickets_per_user = 20).await;
    let ada = app.user("ada").await;
    let tokens = [
        "tok_authorise_fail_2",
        "tok_authorise_lose",
        "tok_capture_fail_2",
        "tok_capture_lose",
        "tok_capture_slow",
        "tok_refund_fail_2",
        "tok_refund_lose",
        "tok_capture_lose+refund_lose",
    ];
    let mut holds = Vec::new();
    for token in tokens {
        let held = hold(&app, &event, &ada, token, 1).await;
        app.post(&confirm_path(&event, &held), &pay(token))
            .bearer(&ada.token)
            .header("prefer", "wait=0")
            .await;
        holds.push(held);
    }
    let refused = hold(&app, &event, &ada, "refused", 1).await;
    let call = app.post(&confirm_path(&event, &refused), &pay("tok_authorise_refuse")).bearer(&ada.token);
    call.header("prefer", "wait=30").await.expect_problem(402, "payment-declined");
    for held in &holds {
        confirmed(&app, held, &ada).await;
    }
    until_value(&app, "SELECT count(*) FROM payments WHERE status = 'captured'", "8").await;
    app.database.assert_ledger_is_bookings().await;
    for held in &holds {
        let cancel = format!("{}/cancel", booking_path(held));
        app.post(&cancel, &json!({})).bearer(&ada.token).key(&Uuid::now_v7().to_string()).await.expect(200);
    }
    until_value(&app, "SELECT count(*) FROM bookings WHERE status = 'refunded'", "8").await;
    until_value(&app, "SELECT count(*) FROM mails WHERE kind = 'booking_refunded'", "8").await;
    app.database.assert_ledger_is_bookings().await;
}
