//! Redis or Postgres away, or emptied: refused cleanly, or accepted and kept.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::{
    assert_at_rest, booking_path, confirm_path, confirmed, hold, hold_path, pay, pay_with, place, until,
};
use crate::support::app::TestApp;

async fn flush(app: &TestApp) {
    let mut redis = app.redis.connect().await;
    let _: () = redis::cmd("FLUSHALL").query_async(&mut redis).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_token_is_honoured_after_redis_lost_everything() {
    let app = TestApp::start().await;
    let _workers = app.work();
    let (event, ada, eve) = (app.event(4).await, app.user("ada").await, app.user("eve").await);
    let sold = hold(&app, &event, &eve, "k", 1).await;
    app.post(&confirm_path(&event, &sold), &pay("tok_ok")).bearer(&eve.token).await.expect(201);
    let (with, without) = (hold(&app, &event, &ada, "k1", 2).await, hold(&app, &event, &ada, "k2", 1).await);
    app.rest().await;
    flush(&app).await;

    app.get(&hold_path(&event, &with)).bearer(&ada.token).await.expect_problem(404, "not-found");
    let lost = app.post(&confirm_path(&event, &without), &pay("tok_ok")).bearer(&ada.token).await;
    lost.expect_problem(404, "not-found");
    let path = confirm_path(&event, &with);
    // Somebody else's proof brings nobody anything.
    let stolen = app.post(&path, &pay_with("tok_ok", &with)).bearer(&eve.token).await;
    stolen.expect_problem(422, "hold-token-invalid");
    let booking = app.post(&path, &pay_with("tok_ok", &with)).bearer(&ada.token).await.expect(201);
    assert_eq!(booking["total"], json!({"amount": 9000, "currency": "EUR"}));
    // What was booked before the loss is a booking still, and confirming it again says so.
    let again = app.post(&confirm_path(&event, &sold), &pay_with("tok_ok", &sold)).bearer(&eve.token).await;
    assert_eq!(again.expect(201)["id"], sold["id"]);
    app.rest().await;
    assert_at_rest(&app, &event, 3, 0).await;

    // The seats of a hold that was lost may be gone when its token comes.
    hold(&app, &event, &eve, "last", 1).await;
    let late =
        app.post(&confirm_path(&event, &without), &pay_with("tok_ok", &without)).bearer(&ada.token).await;
    late.expect_problem(409, "sold-out");
    assert_at_rest(&app, &event, 3, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_booked_is_confirmed_again_although_redis_lost_it_and_all_is_sold() {
    let app = TestApp::start().await;
    let _workers = app.work();
    let (event, ada, eve) = (app.event(2).await, app.user("ada").await, app.user("eve").await);
    let other = app.event(2).await;
    let held = hold(&app, &event, &ada, "k", 2).await;
    let booking = app.post(&confirm_path(&event, &held), &pay("tok_ok")).bearer(&ada.token).await.expect(201);
    app.rest().await;
    flush(&app).await;
    // No seat is left for its token to take, and without one there is nothing to go by but the booking.
    for body in [pay_with("tok_ok", &held), pay("tok_ok")] {
        let again = app.post(&confirm_path(&event, &held), &body).bearer(&ada.token).await.expect(201);
        assert_eq!(again["reference"], booking["reference"]);
    }
    for (event, buyer) in [(&event, &eve), (&other, &ada)] {
        let foreign = app.post(&confirm_path(event, &held), &pay("tok_ok")).bearer(&buyer.token).await;
        foreign.expect_problem(404, "not-found");
    }
    app.rest().await;
    assert_at_rest(&app, &event, 2, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirm_that_redis_loses_under_way_is_completed_with_the_token() {
    let app = TestApp::start().await;
    let (event, ada) = (app.event(2).await, app.user("ada").await);
    let held = hold(&app, &event, &ada, "k", 2).await;
    let begun = app.post(&confirm_path(&event, &held), &pay_with("tok_ok", &held)).bearer(&ada.token);
    begun.header("prefer", "wait=0").await.expect(202);
    flush(&app).await;
    app.get(&booking_path(&held)).bearer(&ada.token).await.expect_problem(404, "not-found");
    let _workers = app.work();
    let again = app.post(&confirm_path(&event, &held), &pay_with("tok_ok", &held)).bearer(&ada.token).await;
    assert_eq!(again.expect(201)["status"], "confirmed");
    app.rest().await;
    assert_at_rest(&app, &event, 2, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_nothing_is_guessed_and_afterwards_all_goes_on() {
    let mut app = TestApp::builder().with_durable_redis().start().await;
    let workers = app.work();
    let (event, ada) = (app.event(5).await, app.user("ada").await);
    let held = hold(&app, &event, &ada, "k", 1).await;
    let booked = hold(&app, &event, &ada, "b", 1).await;
    app.post(&confirm_path(&event, &booked), &pay("tok_ok")).bearer(&ada.token).await.expect(201);
    app.rest().await;
    app.redis.kill();
    for call in [
        place(&app, &event, &ada.token, "k2", &[1]),
        place(&app, &event, &ada.token, "k", &[1]),
        app.get(&hold_path(&event, &held)).bearer(&ada.token),
        app.delete(&hold_path(&event, &held)).bearer(&ada.token),
        app.post(&confirm_path(&event, &held), &pay_with("tok_ok", &held)).bearer(&ada.token),
    ] {
        let refused = call.await;
        refused.expect_problem(503, "unavailable");
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
    }
    // What Postgres knows can be read and cancelled.
    app.get(&booking_path(&booked)).bearer(&ada.token).await.expect(200);
    app.get("/v1/bookings").bearer(&ada.token).await.expect(200);
    let cancel = format!("{}/cancel", booking_path(&booked));
    app.post(&cancel, &json!({})).bearer(&ada.token).key("c").await.expect(200);

    app.redis.restart();
    let confirm = || app.post(&confirm_path(&event, &held), &pay("tok_ok")).bearer(&ada.token);
    until(confirm, |answer| answer.status == 201).await;
    until(|| app.get(&booking_path(&booked)).bearer(&ada.token), |a| a.json()["status"] == "refunded").await;
    app.rest().await;
    assert_at_rest(&app, &event, 1, 0).await;
    workers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgres_holds_and_confirms_are_taken_and_decided_later() {
    let app = TestApp::start().await;
    let _workers = app.work();
    let (event, ada) = (app.event(5).await, app.user("ada").await);
    hold(&app, &event, &ada, "warm", 1).await;
    let under_way = hold(&app, &event, &ada, "slow", 1).await;
    let slow = app.post(&confirm_path(&event, &under_way), &pay("tok_slow")).bearer(&ada.token);
    slow.header("prefer", "wait=1").await.expect(202);

    app.database.refuse().await;
    let held = hold(&app, &event, &ada, "k", 2).await;
    let accepted = app.post(&confirm_path(&event, &held), &pay("tok_ok")).bearer(&ada.token);
    let accepted = accepted.header("prefer", "wait=1").await;
    assert_eq!(accepted.expect(202)["status"], "confirming");
    let unknown = app.get("/v1/bookings").bearer(&ada.token).await;
    unknown.expect_problem(503, "unavailable");
    assert!(unknown.header("retry-after").is_some(), "{unknown:?}");
    sleep(Duration::from_secs(2)).await;

    app.database.accept().await;
    confirmed(&app, &held, &ada).await;
    confirmed(&app, &under_way, &ada).await;
    app.rest().await;
    assert_eq!(app.database.value("SELECT count(*) FROM sandbox_charges").await.unwrap(), "2");
    assert_at_rest(&app, &event, 3, 1).await;
}
