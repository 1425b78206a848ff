//! Far more people than seats, all at once.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use futures::future::join_all;
use serde_json::json;

use super::{assert_at_rest, confirm_path, pay, place};
use crate::support::{app::TestApp, events::ticket_type};

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_for_a_hundred_seats() {
    let app = TestApp::builder().with_smtp().start().await;
    let _workers = app.work();
    let (event, crowd) = (app.event(100).await, app.crowd(1000).await);
    let buy = async |token: &String| {
        let mut placed = place(&app, &event, token, "k", &[1]).await;
        // A machine that is busy otherwise may have to put some off: the same key asks again.
        for _ in 0..30 {
            if placed.status != 503 {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            placed = place(&app, &event, token, "k", &[1]).await;
        }
        if placed.status != 201 {
            placed.expect_problem(409, "sold-out");
            return None;
        }
        let hold = placed.json();
        let confirm = || {
            let call = app.post(&confirm_path(&event, &hold), &pay("tok_ok")).bearer(token);
            call.header("prefer", "wait=30")
        };
        let mut answer = confirm().await;
        // Accepted is no answer yet: the same confirm again waits for it.
        while answer.status == 202 {
            answer = confirm().await;
        }
        let booking = answer.expect(201);
        assert_eq!(booking["status"], "confirmed");
        Some(booking["id"].as_str().unwrap().to_owned())
    };
    let booked: Vec<_> = join_all(crowd.iter().map(buy)).await;
    let ids: HashSet<_> = booked.iter().flatten().collect();
    assert_eq!((ids.len(), booked.iter().filter(|one| one.is_none()).count()), (100, 900));

    // Who asks again under the same key is told the same, also after everybody is done.
    let (loser, _) = crowd.iter().zip(&booked).find(|(_, booked)| booked.is_none()).unwrap();
    let again = place(&app, &event, loser, "k", &[1]).await;
    again.expect_problem(409, "sold-out");
    assert_eq!(again.header("idempotency-replayed"), Some("true"));

    app.rest().await;
    assert_at_rest(&app, &event, 100, 0).await;
    let mails = app.smtp().wait_for(100).await;
    let mut copies = BTreeMap::new();
    for mail in &mails {
        *copies.entry(&mail.to).or_insert(0) += 1;
    }
    assert_eq!((copies.len(), copies.values().max()), (100, Some(&1)), "one mail each");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_fifty_times_at_once_is_one_hold() {
    let app = TestApp::start().await;
    let (event, ada) = (app.event(100).await, app.user("ada").await);
    let answers =
        join_all((0..50).map(|_| place(&app, &event, &ada.token, "same", &[2]).into_future())).await;
    let first = answers[0].expect(201);
    assert!(answers.iter().all(|answer| answer.expect(201) == first));
    let replayed = answers.iter().filter(|answer| answer.header("idempotency-replayed") == Some("true"));
    assert_eq!(replayed.count(), 49);
    assert_at_rest(&app, &event, 0, 2).await;

    let quoted = place(&app, &event, &ada.token, "\"same\"", &[2]).await;
    assert_eq!(quoted.expect(201), first, "quoted or not");
    let other = place(&app, &event, &ada.token, "same", &[3]).await;
    other.expect_problem(422, "idempotency-key-reused");
    assert_eq!(other.header("idempotency-replayed"), None);
    // A key is its user's.
    let eve = app.user("eve").await;
    assert_ne!(place(&app, &event, &eve.token, "same", &[2]).await.expect(201)["id"], first["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hold_confirmed_twenty_times_at_once_is_one_booking() {
    let app = TestApp::start().await;
    let _workers = app.work();
    let (event, ada) = (app.event(5).await, app.user("ada").await);
    let hold = place(&app, &event, &ada.token, "k", &[2]).await.expect(201);
    let path = confirm_path(&event, &hold);
    let confirm = || app.post(&path, &pay("tok_ok")).bearer(&ada.token).header("prefer", "wait=30");
    let answers = join_all((0..20).map(|_| confirm().into_future())).await;
    let tickets: HashSet<_> =
        answers.iter().map(|answer| answer.expect(201)["tickets"].to_string()).collect();
    assert_eq!(tickets.len(), 1, "{tickets:?}");
    app.rest().await;
    assert_eq!(app.database.value("SELECT count(*) FROM sandbox_charges").await.unwrap(), "1");
    assert_at_rest(&app, &event, 2, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_has_so_many_tickets_and_no_more_however_they_ask() {
    let app = TestApp::start().await;
    let _workers = app.work();
    let event = app.event_with(100, |event| event.max_tickets_per_user = 4).await;
    let ada = app.user("ada").await;
    place(&app, &event, &ada.token, "too-many", &[5]).await.expect_problem(422, "limit-exceeded");
    let calls = (0..10).map(|n| place(&app, &event, &ada.token, &format!("k{n}"), &[1]).into_future());
    let answers = join_all(calls).await;
    let (placed, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 201);
    assert_eq!(placed.len(), 4);
    for answer in refused {
        answer.expect_problem(422, "limit-exceeded");
    }
    // What is sold counts like what is held; what was cancelled does not.
    let hold = placed[0].json();
    let booking = app.post(&confirm_path(&event, &hold), &pay("tok_ok")).bearer(&ada.token).await.expect(201);
    let one = |key| place(&app, &event, &ada.token, key, &[1]);
    one("after-sale").await.expect_problem(422, "limit-exceeded");
    let cancel = format!("/v1/bookings/{}/cancel", booking["id"].as_str().unwrap());
    app.post(&cancel, &json!({})).bearer(&ada.token).key("c").await.expect(200);
    // What was refused for the limit is not kept: the same key may be tried again.
    one("after-sale").await.expect(201);
    one("once-more").await.expect_problem(422, "limit-exceeded");
    app.rest().await;
    assert_at_rest(&app, &event, 0, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_basket_is_held_whole_or_not_at_all() {
    let app = TestApp::start().await;
    let types = vec![ticket_type("A", 50, 1000), ticket_type("B", 10, 2000), ticket_type("C", 50, 0)];
    let event = app.event_with(0, |event| event.ticket_types = types).await;
    let crowd = app.crowd(40).await;
    let calls = crowd.iter().map(|token| place(&app, &event, token, "k", &[1, 1, 2]).into_future());
    let answers = join_all(calls).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 10);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        answer.expect_problem(409, "sold-out");
    }
    let hold = answers.iter().find(|answer| answer.status == 201).unwrap().json();
    assert_eq!(hold["total"], json!({"amount": 3000, "currency": "EUR"}));
    let counts = app.app.inventory.availability(event.id, &event.ticket_types).await.unwrap().unwrap().1;
    assert_eq!(counts.iter().map(|kind| kind.held).collect::<Vec<_>>(), [10, 10, 20]);
    assert_at_rest(&app, &event, 0, 40).await;
}
