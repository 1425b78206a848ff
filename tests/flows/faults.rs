//! Real processes under the queue's worst: stopped past their heartbeat, killed by a job, without Redis or Postgres for
//! long. `EVENTLY_TEST_OUTAGE_SECS=60` makes the outages as long as the promise speaks of.

use std::time::Duration;

use domain::jobs::{ConfirmBooking, Job};
use futures::{StreamExt, future::join_all, stream};
use queue::{JobStatus, job_id};
use redis::AsyncCommands;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{assert_at_rest, booking_path, confirm_path, confirmed, hold, pay, place, until};
use crate::support::{app::TestApp, events::TestEvent};

/// How long an outage lasts.
fn outage() -> Duration {
    let secs = std::env::var("EVENTLY_TEST_OUTAGE_SECS").map_or(3, |secs| secs.parse().unwrap());
    Duration::from_secs(secs)
}

/// Begins a confirm and does not wait for it.
async fn begin(app: &TestApp, event: &TestEvent, hold: &Value, buyer: &str, card: &str) {
    let call = app.post(&confirm_path(event, hold), &pay(card)).bearer(buyer);
    let begun = call.header("prefer", "wait=0").await;
    // It may be decided already.
    assert!(matches!(begun.status, 201 | 202), "{begun:?}");
}

/// Waits until each of these holds is a booking of its buyer.
async fn all_confirmed(app: &TestApp, begun: &[(String, Value)]) {
    for (buyer, hold) in begun {
        let read = || app.get(&booking_path(hold)).bearer(buyer);
        until(read, |answer| answer.status == 200 && answer.json()["status"] == "confirmed").await;
    }
}

/// Waits until no money is on its way and nothing is left to do: what a confirm could not capture itself a sweep does.
async fn comes_to_rest(app: &TestApp) {
    money_comes_to_rest(app).await;
    app.rest().await;
}

/// The same, with jobs that are dead and may stay so.
async fn money_comes_to_rest(app: &TestApp) {
    let open = "SELECT count(*) FROM payments WHERE status IN ('authorised', 'unknown')";
    for _ in 0..600 {
        if app.database.value(open).await.unwrap() == "0" {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("money is still on its way after a minute");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_stopped_past_its_heartbeat_has_done_nothing_twice_when_it_goes_on() {
    let app = TestApp::builder().with_smtp().start().await;
    let (event, crowd) = (app.event(100).await, app.crowd(20).await);
    let stopped = app.worker();
    let mut begun = Vec::new();
    for buyer in crowd {
        let hold = place(&app, &event, &buyer, "k", &[2]).await.expect(201);
        begin(&app, &event, &hold, &buyer, "tok_slow").await;
        begun.push((buyer, hold));
    }
    // Every card is with the provider, which takes three seconds to answer.
    let attempts = "SELECT count(*) FROM sandbox_charges";
    for _ in 0..3_000 {
        if app.database.value(attempts).await.unwrap() == "20" {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    stopped.suspend();
    app.silence_workers().await;
    let other = app.worker();
    all_confirmed(&app, &begun).await;
    // Only now the first one hears of its provider, and goes on with what was taken from it.
    stopped.resume();
    let ada = app.user("ada").await;
    let more = hold(&app, &event, &ada, "k", 1).await;
    begin(&app, &event, &more, &ada.token, "tok_ok").await;
    confirmed(&app, &more, &ada).await;
    // Both are at work again, and neither holds anything.
    let mut redis = app.redis.connect().await;
    for _ in 0..3_000 {
        if redis.zcard::<_, usize>("evently:confirm:workers").await.unwrap() == 2 {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(redis.zcard::<_, usize>("evently:confirm:workers").await.unwrap(), 2);
    comes_to_rest(&app).await;
    stopped.stops().await;
    other.stops().await;
    assert_at_rest(&app, &event, 41, 0).await;
    for (what, sql) in [
        ("charges", "SELECT count(*) FROM sandbox_charges WHERE status = 'captured' AND captured > 0"),
        ("bookings", "SELECT count(*) FROM booking_log WHERE kind = 'confirmed'"),
        ("mails", "SELECT count(*) FROM mails WHERE status = 'sent'"),
    ] {
        assert_eq!(app.database.value(sql).await.unwrap(), "21", "{what}");
    }
    assert_eq!(app.smtp().received().len(), 21, "one mail each");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirm_that_kills_every_worker_is_given_up_and_the_next_ones_go_through() {
    let app = TestApp::start().await;
    let (event, ada) = (app.event(10).await, app.user("ada").await);
    app.drain().await;
    let poison = hold(&app, &event, &ada, "k", 2).await;
    begin(&app, &event, &poison, &ada.token, "tok_ok").await;
    let mut redis = app.redis.connect().await;
    let job = ConfirmBooking { event_id: event.id, hold_id: id_of(&poison), attempt: 1 };
    let id = job_id(ConfirmBooking::NAME, &job.key());
    for death in 1..=3 {
        app.process(&["worker", "--all"], Some("confirm.looked")).dies().await;
        app.silence_workers().await;
        if death == 2 {
            // Two more, which are just like these.
            let meta = format!("evently:confirm:meta:{id}");
            let _: i64 = redis.hincr(&meta, "crashes", 2).await.unwrap();
        }
    }
    let _worker = app.worker();
    let status = async || app.app.queue.job(&id).await.unwrap();
    for _ in 0..3_000 {
        if status().await.is_some_and(|job| job.status == JobStatus::Dead) {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    let dead = status().await.unwrap();
    assert_eq!((dead.status, dead.crashes), (JobStatus::Dead, 5));
    assert_eq!(dead.error.as_deref(), Some("5 workers in a row died of it"));
    let next = hold(&app, &event, &ada, "k2", 1).await;
    begin(&app, &event, &next, &ada.token, "tok_ok").await;
    confirmed(&app, &next, &ada).await;
    // Nobody waits for ever: the booking has failed, and its seats are back.
    let read = || app.get(&booking_path(&poison)).bearer(&ada.token);
    let failed = until(read, |answer| answer.json()["status"] == "failed").await.json();
    assert_eq!(failed["failure"]["code"], "internal");
    money_comes_to_rest(&app).await;
    assert_at_rest(&app, &event, 1, 0).await;
}

fn id_of(hold: &Value) -> uuid::Uuid {
    hold["id"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_outlive_a_long_absence_of_redis() {
    let mut app = TestApp::builder().with_durable_redis().with_smtp().start().await;
    let worker = app.worker();
    let (event, ada) = (app.event(20).await, app.user("ada").await);
    let before = hold(&app, &event, &ada, "k1", 1).await;
    let slow = hold(&app, &event, &ada, "k2", 1).await;
    begin(&app, &event, &slow, &ada.token, "tok_slow").await;
    app.redis.kill();
    let ends = Instant::now() + outage();
    while Instant::now() < ends {
        place(&app, &event, &ada.token, "k3", &[1]).await.expect_problem(503, "unavailable");
        sleep(Duration::from_millis(200)).await;
    }
    app.redis.restart();
    confirmed(&app, &slow, &ada).await;
    let confirm = || app.post(&confirm_path(&event, &before), &pay("tok_ok")).bearer(&ada.token);
    until(confirm, |answer| answer.status == 201).await;
    comes_to_rest(&app).await;
    // The very process that was there before, not one that was started in its place.
    worker.stops().await;
    assert_at_rest(&app, &event, 2, 0).await;
    assert_eq!(app.smtp().received().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn confirms_that_are_taken_while_postgres_is_away_are_all_decided() {
    let app = TestApp::builder().with_smtp().start().await;
    let worker = app.worker();
    let (event, crowd) = (app.event(2_000).await, app.crowd(100).await);
    app.rest().await;
    // Warm: the inventory is there, the connections are open.
    hold(&app, &event, &app.user("ada").await, "warm", 1).await;
    app.database.refuse().await;
    let begun = Instant::now();
    let per_buyer = outage() / u32::try_from(crowd.len()).unwrap();
    let taken: Vec<_> = stream::iter(crowd)
        .enumerate()
        .then(async |(n, buyer)| {
            tokio::time::sleep_until(begun + per_buyer * u32::try_from(n).unwrap()).await;
            let hold = place(&app, &event, &buyer, "k", &[2]).await.expect(201);
            begin(&app, &event, &hold, &buyer, "tok_ok").await;
            (buyer, hold)
        })
        .collect()
        .await;
    tokio::time::sleep_until(begun + outage()).await;
    assert_eq!(taken.len(), 100);
    app.database.accept().await;
    let back = Instant::now();
    all_confirmed(&app, &taken).await;
    eprintln!("100 confirms taken in {:?} without Postgres, decided within {:?}", outage(), back.elapsed());
    comes_to_rest(&app).await;
    app.smtp().wait_for(100).await;
    // The same confirm again brings the same booking.
    let again = join_all(taken.iter().take(20).map(|(buyer, hold)| {
        app.post(&confirm_path(&event, hold), &pay("tok_ok")).bearer(buyer).into_future()
    }))
    .await;
    assert!(again.iter().all(|answer| answer.status == 201));
    app.rest().await;
    worker.stops().await;
    assert_at_rest(&app, &event, 200, 1).await;
    let charges = "SELECT count(*) || ':' || sum(captured) FROM sandbox_charges WHERE status = 'captured'";
    assert_eq!(app.database.value(charges).await.unwrap(), "100:900000");
    assert_eq!(app.smtp().received().len(), 100, "one mail each");
}
