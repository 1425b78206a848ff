//! Figures of what really happens: bookings, cancellations and refunds over HTTP, with workers that die.

use std::time::Duration;

use domain::{analytics, jobs::Pool};
use futures::future::join_all;
use serde_json::json;
use tokio::time::sleep;

use super::{booking_path, confirm_path, pay, place, until};
use crate::support::{app::TestApp, figures};

#[tokio::test(flavor = "multi_thread")]
async fn figures_follow_what_happens_and_equal_the_bookings() {
    let app = TestApp::start().await;
    let (event, admin, crowd) = (app.event(40).await, app.admin().await, app.crowd(16).await);
    let workers = app.work();
    // Every fourth declines its payment and gives up, every third of the others cancels.
    let buy = async |n: usize, token: &String| {
        let hold = place(&app, &event, token, "k", &[u32::try_from(n % 3 + 1).unwrap()]).await.expect(201);
        let method = if n % 4 == 3 { "tok_declined" } else { "tok_ok" };
        let confirm = app.post(&confirm_path(&event, &hold), &pay(method)).bearer(token);
        let answer = confirm.header("prefer", "wait=30").await;
        assert_eq!(answer.status, if n % 4 == 3 { 402 } else { 201 }, "{}", answer.text());
        if answer.status == 201 && n.is_multiple_of(3) {
            let cancel = format!("{}/cancel", booking_path(&hold));
            app.post(&cancel, &json!({})).bearer(token).key("c").await.expect(200);
        }
    };
    let buying = join_all(crowd.iter().enumerate().map(|(n, token)| buy(n, token)));
    // The pool that counts is killed meanwhile, a few times; another one goes on.
    let killing = async {
        for _ in 0..4 {
            let killed = app.work_on(&[Pool::Analytics]);
            sleep(Duration::from_millis(250)).await;
            drop(killed);
        }
    };
    tokio::join!(buying, killing);
    app.rest().await;

    let path = format!("/v1/admin/analytics/events/{}", event.id);
    let sum = |what: &str| format!("SELECT {what} FROM bookings");
    let number = async |what: &str| app.database.value(&sum(what)).await.unwrap().parse::<i64>().unwrap();
    let bookings = number("count(*) FILTER (WHERE status <> 'failed')").await;
    let tickets = number("sum(quantity) FILTER (WHERE status <> 'failed')").await;
    let refunded = number("count(*) FILTER (WHERE status = 'refunded')").await;
    let gross = number("sum(total) FILTER (WHERE status <> 'failed')").await;
    let back = number("coalesce(sum(total) FILTER (WHERE status = 'refunded'), 0)").await;
    assert_eq!((bookings, refunded), (12, 4));
    let figures = until(
        || app.get(&path).bearer(&admin.token),
        |answer| {
            let seen = answer.json();
            let number = |name: &str| seen[name].as_i64().unwrap();
            [number("bookings"), number("refunded_bookings"), number("holds")] == [bookings, refunded, 16]
        },
    )
    .await
    .json();
    assert_eq!((&figures["tickets"], &figures["cancellations"]), (&json!(tickets), &json!(refunded)));
    assert_eq!(figures["failed"], 4);
    assert_eq!(figures["conversion_rate"], 0.75);
    assert_eq!(figures["revenue"]["gross"]["amount"], gross);
    assert_eq!(figures["revenue"]["refunds"]["amount"], back);
    assert_eq!(figures["revenue"]["refunds_pending"]["amount"], 0);
    assert_eq!(figures["revenue"]["net"]["amount"], gross - back);
    let popular = app.get("/v1/admin/analytics").bearer(&admin.token).await.expect(200);
    assert_eq!(popular["top_events"]["last_7_days"][0]["event_id"], event.id.to_string());
    let public = || app.get("/v1/events/popular");
    until(public, |answer| answer.json()["data"][0]["id"] == event.id.to_string()).await;
    workers.stop().await;
    assert_eq!(analytics::check(&app.db).await.unwrap().total(), 0);
    assert_eq!(figures::differences(&app.database.url()).await, Vec::<String>::new());
    let tables = async || {
        let mut rows = Vec::new();
        for table in ["analytics_events", "analytics_days", "analytics_months", "analytics_totals"] {
            rows.push(app.database.rows(&format!("SELECT * FROM {table} ORDER BY {table}")).await);
        }
        rows
    };
    let running = tables().await;
    analytics::rebuild(&app.db).await.unwrap();
    assert_eq!(tables().await, running);
}
