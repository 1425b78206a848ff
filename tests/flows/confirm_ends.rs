//! Payments that answer late, or never, and holds that are touched while they are confirmed.

use std::time::Duration;

use serde_json::json;

use super::{assert_at_rest, booking_path, confirm_path, confirmed, hold, hold_path, pay, pay_with, until};
use crate::support::app::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_the_provider_that_is_lost_charges_once() {
    let app = TestApp::start().await;
    let _workers = app.work();
    let (event, ada) = (app.event(3).await, app.user("ada").await);
    let held = hold(&app, &event, &ada, "k", 2).await;
    let answer = app.post(&confirm_path(&event, &held), &pay("tok_timeout")).bearer(&ada.token);
    let booking = answer.header("prefer", "wait=30").await.expect(201);
    assert_eq!(booking["payment"]["status"], "captured");
    app.rest().await;
    let charges = "SELECT count(*) || ':' || sum(captured) FROM sandbox_charges";
    assert_eq!(app.database.value(charges).await.unwrap(), "1:9000");
    assert_at_rest(&app, &event, 2, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_payment_is_accepted_first_and_confirmed_later() {
    let app = TestApp::start().await;
    let _workers = app.work();
    let (event, ada, eve) = (app.event(3).await, app.user("ada").await, app.user("eve").await);
    let held = hold(&app, &event, &ada, "k", 1).await;
    let confirm = || app.post(&confirm_path(&event, &held), &pay("tok_slow")).bearer(&ada.token);
    let accepted = confirm().header("prefer", "wait=1").await;
    assert_eq!(accepted.expect(202)["status"], "confirming");
    assert_eq!(accepted.header("location"), Some(booking_path(&held).as_str()));
    assert_eq!(accepted.header("preference-applied"), Some("wait=1"));

    // Meanwhile it is nobody's to give back, and nobody else's to see.
    let path = hold_path(&event, &held);
    assert_eq!(app.get(&path).bearer(&ada.token).await.expect(200)["status"], "confirming");
    app.delete(&path).bearer(&ada.token).await.expect_problem(409, "invalid-state");
    app.get(&booking_path(&held)).bearer(&eve.token).await.expect_problem(404, "not-found");
    app.post(&confirm_path(&event, &held), &pay("tok_ok"))
        .bearer(&eve.token)
        .await
        .expect_problem(404, "not-found");
    let cancel = format!("{}/cancel", booking_path(&held));
    let cancelled = app.post(&cancel, &json!({})).bearer(&ada.token).key("c").await;
    assert!(matches!(cancelled.status, 404 | 409), "{cancelled:?}");
    // Another card meanwhile is not charged as well: the confirm under way is joined.
    let joined = app.post(&confirm_path(&event, &held), &pay("tok_ok")).bearer(&ada.token).await.expect(201);
    assert_eq!(joined["status"], "confirmed");
    assert_eq!(confirmed(&app, &held, &ada).await["tickets"], joined["tickets"]);
    app.delete(&path).bearer(&ada.token).await.expect_problem(409, "invalid-state");
    assert_eq!(app.get(&path).bearer(&ada.token).await.expect(200)["status"], "confirmed");
    app.rest().await;
    assert_eq!(app.database.value("SELECT count(*) FROM sandbox_charges").await.unwrap(), "1");
    assert_at_rest(&app, &event, 1, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirm_outlives_the_deadline_of_its_hold() {
    let app = TestApp::start().await;
    let _workers = app.work();
    let event = app.event_with(1, |event| event.hold_ttl_secs = 2).await;
    let (ada, eve) = (app.user("ada").await, app.user("eve").await);
    // The payment takes three seconds, the hold has two.
    let held = hold(&app, &event, &ada, "k", 1).await;
    let slow = app.post(&confirm_path(&event, &held), &pay("tok_slow")).bearer(&ada.token);
    slow.header("prefer", "wait=0").await.expect(202);
    tokio::time::sleep(Duration::from_millis(2_300)).await;
    super::place(&app, &event, &eve.token, "k", &[1]).await.expect_problem(409, "sold-out");
    confirmed(&app, &held, &ada).await;
    app.rest().await;
    assert_at_rest(&app, &event, 1, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decline_after_the_deadline_gives_the_seats_back() {
    let app = TestApp::start().await;
    let event = app.event_with(2, |event| event.hold_ttl_secs = 2).await;
    let ada = app.user("ada").await;
    let held = hold(&app, &event, &ada, "k", 2).await;
    let begun = app.post(&confirm_path(&event, &held), &pay("tok_declined")).bearer(&ada.token);
    begun.header("prefer", "wait=0").await.expect(202);
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let _workers = app.work();
    let read = || app.get(&booking_path(&held)).bearer(&ada.token);
    let failed = until(read, |answer| answer.json()["status"] == "failed").await.json();
    assert_eq!(failed["failure"], json!({"code": "payment-declined"}));
    let status = until(
        || app.get(&hold_path(&event, &held)).bearer(&ada.token),
        |answer| answer.json()["status"] == "expired",
    );
    status.await;
    let again = app.post(&confirm_path(&event, &held), &pay("tok_ok")).bearer(&ada.token).await;
    again.expect_problem(410, "hold-expired");
    app.rest().await;
    assert_at_rest(&app, &event, 0, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_token_is_its_own_holds_and_its_own_users() {
    let app = TestApp::start().await;
    let _workers = app.work();
    let (event, ada, eve) = (app.event(9).await, app.user("ada").await, app.user("eve").await);
    let mine = hold(&app, &event, &ada, "k1", 1).await;
    let other = hold(&app, &event, &ada, "k2", 1).await;
    let theirs = hold(&app, &event, &eve, "k", 1).await;
    let path = confirm_path(&event, &mine);
    for foreign in [&other, &theirs] {
        let answer = app.post(&path, &pay_with("tok_ok", foreign)).bearer(&ada.token).await;
        answer.expect_problem(422, "hold-token-invalid");
    }
    let token = mine["hold_token"].as_str().unwrap();
    let (head, rest) = token.split_once('.').unwrap();
    let (claims, signature) = rest.split_once('.').unwrap();
    for forged in [
        format!("{head}.{claims}."),
        format!("{head}.{claims}"),
        // `{"alg":"none"}`
        format!("eyJhbGciOiJub25lIn0.{claims}."),
        format!("{head}.{}.{signature}", &claims[..claims.len() - 4]),
        ada.token.clone(),
    ] {
        let body = json!({"payment": {"provider": "sandbox", "token": "tok_ok"}, "hold_token": forged});
        app.post(&path, &body).bearer(&ada.token).await.expect_problem(422, "hold-token-invalid");
    }
    app.post(&path, &pay_with("tok_ok", &mine)).bearer(&ada.token).await.expect(201);
    app.rest().await;
    assert_at_rest(&app, &event, 1, 2).await;
}
