//! A cancelled event with hundreds of bookings, workers that die in the middle of it, and capacity under traffic.

use std::{collections::BTreeMap, time::Duration};

use domain::jobs::Pool;
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{assert_at_rest, confirm_path, pay, place, until};
use crate::support::{app::TestApp, events::TestEvent, people::Person};

async fn cancel(app: &TestApp, event: &TestEvent, admin: &Person) -> Value {
    let path = format!("/v1/admin/events/{}/cancel", event.id);
    app.post(&path, &json!({})).bearer(&admin.token).await.expect(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_bookings_are_refunded_and_told_once_though_workers_die() {
    let app = TestApp::builder().with_smtp().start().await;
    let workers = app.work();
    let (event, crowd, admin) = (app.event(1000).await, app.crowd(330).await, app.admin().await);
    let (buyers, holders) = crowd.split_at(300);
    let buy = async |token: &String| {
        let hold = place(&app, &event, token, "k", &[2]).await.expect(201);
        let call = app.post(&confirm_path(&event, &hold), &pay("tok_ok")).bearer(token);
        call.header("prefer", "wait=30").await.expect(201);
    };
    join_all(buyers.iter().map(buy)).await;
    let holds = join_all(holders.iter().map(|t| place(&app, &event, t, "k", &[1]).into_future())).await;
    app.rest().await;
    app.smtp().wait_for(300).await;

    assert_eq!(cancel(&app, &event, &admin).await["status"], "cancelled");
    // At once nobody holds or confirms any more, whether a worker has come to it or not.
    place(&app, &event, &holders[0], "late", &[1]).await.expect_problem(409, "sale-closed");
    let hold = holds[0].expect(201);
    let late = app.post(&confirm_path(&event, &hold), &pay("tok_ok")).bearer(&holders[0]).await;
    assert!(matches!(late.json()["code"].as_str(), Some("sale-closed" | "hold-expired")), "{late:?}");
    // Dropped in the middle, a few times, as kills are.
    drop(workers);
    for _ in 0..3 {
        let killed = app.work_on(&[Pool::Upkeep, Pool::Confirm, Pool::Email]);
        sleep(Duration::from_millis(700)).await;
        drop(killed);
    }
    assert_eq!(cancel(&app, &event, &admin).await["status"], "cancelled", "and again");
    let _workers = app.work();
    let left = "SELECT count(*) FROM bookings WHERE status NOT IN ('refunded', 'failed')";
    for _ in 0..600 {
        if app.database.value(left).await.unwrap() == "0" {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(app.database.value(left).await.unwrap(), "0");
    app.smtp().wait_for(900).await;
    sleep(Duration::from_millis(500)).await;
    let mut copies = BTreeMap::new();
    for mail in app.smtp().received() {
        let subject = mail.raw.lines().find(|line| line.starts_with("Message-ID:")).unwrap().to_owned();
        *copies.entry(subject).or_insert(0) += 1;
    }
    // A mail that was under way when its worker died may come twice, under one Message-ID.
    assert_eq!(copies.len(), 900, "confirmed, cancelled and refunded, of each booking");
    let refunds = "SELECT count(*) || ':' || sum(amount) FROM sandbox_refunds";
    assert_eq!(app.database.value(refunds).await.unwrap(), format!("300:{}", 300 * 9000));
    let kinds = "SELECT string_agg(kind || ':' || n, ',' ORDER BY kind) FROM
                 (SELECT kind, count(*) AS n FROM booking_log GROUP BY 1) AS counted";
    let log = app.database.value(kinds).await.unwrap();
    assert!(log.starts_with("cancelled:300,confirmed:300,") && log.ends_with("refunded:300"), "{log}");
    let done = "SELECT cancellation_done_at IS NOT NULL FROM events";
    for _ in 0..100 {
        if app.database.value(done).await.unwrap() == "t" {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(app.database.value(done).await.unwrap(), "t");
    assert_at_rest(&app, &event, 0, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capacity_moves_under_traffic_and_is_never_oversold() {
    let app = TestApp::start().await;
    let _workers = app.work();
    let (event, crowd, admin) = (app.event(50).await, app.crowd(120).await, app.admin().await);
    let kind = event.ticket_types[0];
    let path = format!("/v1/admin/events/{}/ticket_types/{kind}", event.id);
    let watch = async {
        let mut answers = Vec::new();
        for round in 0..30_i64 {
            let seen = app.get(&format!("/v1/events/{}", event.id)).bearer(&admin.token).await.expect(200);
            let tag = format!("\"v{}\"", seen["ticket_types"][0]["version"]);
            let capacity = [80, 20, 60, 5, 90][usize::try_from(round).unwrap() % 5];
            let fields = json!({
                "name": "Standing", "capacity": capacity, "base_price": {"amount": 4500, "currency": "EUR"},
            });
            let answer = app.put(&path, &fields).bearer(&admin.token).if_match(&tag).await;
            match answer.status {
                200 => {}
                409 => drop(answer.expect_problem(409, "capacity-in-use")),
                // What is read may be a moment old.
                _ => drop(answer.expect_problem(412, "precondition-failed")),
            }
            answers.push(answer.status);
            let over = "SELECT count(*) FROM ticket_types WHERE sold + reserved > capacity";
            assert_eq!(app.database.value(over).await.unwrap(), "0");
            let count = app.app.inventory.availability(event.id, &[kind]).await.unwrap().unwrap().1[0];
            assert!(count.sold + count.held + count.offered <= count.capacity, "{count:?}");
        }
        answers
    };
    let buy = async |n: usize, token: &String| {
        sleep(Duration::from_millis(10 * n as u64)).await;
        let placed = place(&app, &event, token, "k", &[1]).await;
        if placed.status != 201 {
            placed.expect_problem(409, "sold-out");
            return 0;
        }
        let hold = placed.json();
        if n.is_multiple_of(3) {
            app.delete(&super::hold_path(&event, &hold)).bearer(token).await.expect(204);
            return 0;
        }
        let call = app.post(&confirm_path(&event, &hold), &pay("tok_ok")).bearer(token);
        // A capacity is never cut below what is held: whoever holds, gets it.
        call.header("prefer", "wait=30").await.expect(201);
        1
    };
    let buying = join_all(crowd.iter().enumerate().map(|(n, token)| buy(n, token)));
    let (answers, bought) = tokio::join!(watch, buying);
    assert!(answers.contains(&200) && answers.contains(&409), "{answers:?}");
    app.rest().await;
    assert_at_rest(&app, &event, bought.iter().sum(), 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_booking_cancelled_by_ten_requests_at_once_is_refunded_once() {
    let app = TestApp::start().await;
    let _workers = app.work();
    let (event, ada) = (app.event(5).await, app.user("ada").await);
    let hold = place(&app, &event, &ada.token, "k", &[3]).await.expect(201);
    app.post(&confirm_path(&event, &hold), &pay("tok_ok")).bearer(&ada.token).await.expect(201);
    let path = format!("{}/cancel", super::booking_path(&hold));
    let fresh =
        (0..10).map(|n| app.post(&path, &json!({})).bearer(&ada.token).key(&format!("c{n}")).into_future());
    for answer in join_all(fresh).await {
        let status = answer.expect(200)["status"].clone();
        assert!(status == "cancelled" || status == "refunded", "{status}");
    }
    let same = (0..10).map(|_| app.post(&path, &json!({})).bearer(&ada.token).key("same").into_future());
    for answer in join_all(same).await {
        if answer.status != 200 {
            answer.expect_problem(409, "idempotency-in-progress");
            assert!(answer.header("retry-after").is_some());
        }
    }
    let read = || app.get(&super::booking_path(&hold)).bearer(&ada.token);
    until(read, |answer| answer.json()["status"] == "refunded").await;
    app.rest().await;
    let refunds = "SELECT count(*) || ':' || sum(amount) FROM sandbox_refunds";
    assert_eq!(app.database.value(refunds).await.unwrap(), "1:13500");
    assert_at_rest(&app, &event, 0, 0).await;
}
