//! API processes that die while they cancel a booking, and workers that die while they wind up a cancelled event.

use serde_json::json;

use super::at_each;
use crate::flows::{booking_path, until};

pub(super) const BOOKING: &[&str] = &["cancel.cancelling", "cancel.cancelled", "cancel.told"];
pub(super) const EVENT: &[&str] =
    &["cancel_event.ended", "cancel_event.cancelled", "cancel_event.told", "cancel_event.finished"];

#[tokio::test(flavor = "multi_thread")]
async fn a_booking_is_cancelled_whole_or_not_at_all_and_the_key_tells_which() {
    at_each(BOOKING, async |scene, point| {
        scene.opens().await;
        let hold = scene.booked("k", 2).await;
        let (app, ada) = (&scene.app, &scene.ada);
        let api = app.process(&["api"], Some(point));
        let path = format!("{}/cancel", booking_path(&hold));
        let call = app.client.post(format!("{}{path}", api.url().await)).bearer_auth(&ada.token);
        let call = call.header("idempotency-key", point).json(&json!({}));
        call.send().await.expect_err("it died with the answer in its hand");
        api.dies().await;
        let before = if point == "cancel.cancelling" { "confirmed" } else { "refunded" };
        // What was committed takes its course though nobody asks again; what was not has left no trace.
        scene.until_status(&hold, before).await;
        // Until Postgres has noticed its death, the dead process's request is under way.
        let ask_again = || app.post(&path, &json!({})).bearer(&ada.token).key(point);
        let again = until(ask_again, |answer| {
            assert!(matches!(answer.status, 200 | 409), "{answer:?}");
            answer.status == 200
        })
        .await;
        let replayed = again.header("idempotency-replayed").is_some();
        assert_eq!(replayed, point != "cancel.cancelling", "{again:?}");
        scene.until_status(&hold, "refunded").await;
        scene.ends(0, 0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_event_is_wound_up_and_each_booking_refunded_once() {
    at_each(EVENT, async |scene, point| {
        scene.opens().await;
        let (one, other) = (scene.booked("k1", 2).await, scene.booked("k2", 1).await);
        scene.hold("k3", 3).await;
        scene.worker_armed(point);
        scene.cancel_event().await;
        scene.worker_dies().await;
        scene.restart().await;
        scene.until_status(&one, "refunded").await;
        scene.until_status(&other, "refunded").await;
        scene.ends(0, 0).await;
        assert_eq!(scene.money(&one).await, "captured 9000, 9000 back in 1");
        assert_eq!(scene.money(&other).await, "captured 4500, 4500 back in 1");
        let id = scene.event.id;
        let done = format!("SELECT cancellation_done_at IS NOT NULL FROM events WHERE id = '{id}'");
        assert_eq!(scene.app.database.value(&done).await.unwrap(), "t");
    })
    .await;
}
