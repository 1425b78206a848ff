//! Holds that run out: each seat comes back once, whoever looks and whatever happens at that moment.

use std::time::Duration;

use domain::jobs::Pool;
use futures::future::join_all;
use tokio::time::sleep;

use super::{assert_at_rest, confirm_path, hold, hold_path, pay, place, until};
use crate::support::app::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn without_any_worker_seats_come_back_to_who_asks_for_them() {
    let app = TestApp::start().await;
    let event = app.event_with(3, |event| event.hold_ttl_secs = 2).await;
    let (ada, eve) = (app.user("ada").await, app.user("eve").await);
    let first = hold(&app, &event, &ada, "k", 3).await;
    place(&app, &event, &eve.token, "early", &[1]).await.expect_problem(409, "sold-out");
    sleep(Duration::from_millis(2_100)).await;

    let second = hold(&app, &event, &eve, "late", 3).await;
    let path = hold_path(&event, &first);
    assert_eq!(app.get(&path).bearer(&ada.token).await.expect(200)["status"], "expired");
    let confirm = app.post(&confirm_path(&event, &first), &pay("tok_ok")).bearer(&ada.token).await;
    confirm.expect_problem(410, "hold-expired");
    // Nor does its token bring it back.
    let with_token = super::pay_with("tok_ok", &first);
    let confirm = app.post(&confirm_path(&event, &first), &with_token).bearer(&ada.token).await;
    confirm.expect_problem(410, "hold-expired");
    for _ in 0..2 {
        app.delete(&path).bearer(&ada.token).await.expect(204);
    }
    // The same key is the same hold, whatever has become of it.
    assert_eq!(hold(&app, &event, &ada, "k", 3).await["id"], first["id"]);
    // Only who held it hears of it.
    app.get(&path).bearer(&eve.token).await.expect_problem(404, "not-found");
    app.delete(&path).bearer(&eve.token).await.expect_problem(404, "not-found");
    assert_at_rest(&app, &event, 0, 3).await;

    app.delete(&hold_path(&event, &second)).bearer(&eve.token).await.expect(204);
    app.delete(&hold_path(&event, &second)).bearer(&eve.token).await.expect(204);
    let released = app.get(&hold_path(&event, &second)).bearer(&eve.token).await.expect(200);
    assert_eq!(released["status"], "released");
    let late = app.post(&confirm_path(&event, &second), &pay("tok_ok")).bearer(&eve.token).await;
    late.expect_problem(410, "hold-expired");
    assert_at_rest(&app, &event, 0, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_alone_ends_what_is_over() {
    let app = TestApp::start().await;
    let event = app.event_with(3, |event| event.hold_ttl_secs = 2).await;
    let ada = app.user("ada").await;
    let held = hold(&app, &event, &ada, "k", 3).await;
    let read = || app.get(&hold_path(&event, &held)).bearer(&ada.token);
    let tag = read().await.etag().to_owned();
    read().header("if-none-match", &tag).await.expect(304);
    let seen = until(read, |answer| answer.json()["status"] == "expired").await;
    assert_ne!(seen.etag(), tag);
    assert_at_rest(&app, &event, 0, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_expiry_pool_ends_holds_that_nobody_asks_for() {
    let app = TestApp::start().await;
    let _workers = app.work_on(&[Pool::Expiry]);
    let event = app.event_with(100, |event| event.hold_ttl_secs = 2).await;
    let crowd = app.crowd(50).await;
    join_all(crowd.iter().map(|token| place(&app, &event, token, "k", &[2]).into_future())).await;
    let mut redis = app.redis.connect().await;
    // Straight from the keys: whatever reads through the application would end them itself.
    let mut left = i64::MAX;
    for _ in 0..80 {
        left = redis::cmd("ZCARD")
            .arg(format!("ev:{{{}}}:holds", event.id))
            .query_async(&mut redis)
            .await
            .unwrap();
        if left == 0 {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(left, 0);
    assert_at_rest(&app, &event, 0, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirm_in_the_last_moment_is_a_booking_or_it_is_not() {
    let app = TestApp::start().await;
    let _workers = app.work();
    let event = app.event_with(60, |event| event.hold_ttl_secs = 2).await;
    let crowd = app.crowd(60).await;
    let buy = async |n: usize, token: &String| {
        let held = place(&app, &event, token, "k", &[1]).await.expect(201);
        let ends = held["expires_at"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
        let left = (ends - domain::clock::now()).to_std().unwrap_or_default();
        // From 60 ms before the deadline to 60 ms after it.
        sleep((left + Duration::from_millis(2 * n as u64)).saturating_sub(Duration::from_millis(60))).await;
        let path = confirm_path(&event, &held);
        let answer = app.post(&path, &pay("tok_ok")).bearer(token).header("prefer", "wait=30").await;
        if answer.status == 201 {
            return true;
        }
        answer.expect_problem(410, "hold-expired");
        false
    };
    let bought = join_all(crowd.iter().enumerate().map(|(n, token)| buy(n, token))).await;
    let sold = bought.iter().filter(|bought| **bought).count();
    app.rest().await;
    assert_at_rest(&app, &event, i64::try_from(sold).unwrap(), 0).await;
    // Every seat is either sold or free: all that came back can be held again.
    let rest = u32::try_from(60 - sold).unwrap();
    let late = app.crowd(60).await;
    let calls = late.iter().map(|token| place(&app, &event, token, "k", &[1]).into_future());
    let held = join_all(calls).await.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(held, rest as usize);
}
