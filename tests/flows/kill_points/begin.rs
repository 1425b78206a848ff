//! API processes that die while they place a hold or begin its confirm.

use std::time::Duration;

use serde_json::json;

use super::at_each;
use crate::flows::{confirm_path, hold_path, pay, place, until};

pub(super) const PLACE: &[&str] = &["place.placed", "place.planned"];
pub(super) const CONFIRM: &[&str] = &["confirm.pointed", "confirm.begun", "confirm.enqueued"];

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_nobody_was_told_of_is_found_by_its_key_and_expires() {
    at_each(PLACE, async |scene, point| {
        scene.opens_with_ttl(2).await;
        let (app, event, ada) = (&scene.app, &scene.event, &scene.ada);
        let api = app.process(&["api"], Some(point));
        let body = json!({"items": [{"ticket_type_id": event.ticket_types[0], "quantity": 3}]});
        let url = format!("{}/v1/events/{}/holds", api.url().await, event.id);
        let call = app.client.post(url).bearer_auth(&ada.token).header("idempotency-key", "k").json(&body);
        call.send().await.expect_err("it died with the answer in its hand");
        api.dies().await;
        // The client asks again, elsewhere: it is the same hold.
        let again = place(app, event, &ada.token, "k", &[3]).await;
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        let hold = again.expect(201);
        scene.works();
        let (app, event, ada) = (&scene.app, &scene.event, &scene.ada);
        // Straight from the keys: whatever reads through the application would end it itself.
        let mut redis = app.redis.connect().await;
        for _ in 0..600 {
            let key = format!("ev:{{{}}}:holds", event.id);
            let left: i64 = redis::cmd("ZCARD").arg(key).query_async(&mut redis).await.unwrap();
            if left == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let read = || app.get(&hold_path(event, &hold)).bearer(&ada.token);
        until(read, |answer| answer.json()["status"] == "expired").await;
        scene.ends(0, 0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirm_that_has_begun_is_decided_though_its_client_never_asks_again() {
    at_each(CONFIRM, async |scene, point| {
        scene.opens().await;
        let hold = scene.hold("k", 2).await;
        let api = scene.app.process(&["api"], Some(point));
        let url = format!("{}{}", api.url().await, confirm_path(&scene.event, &hold));
        let call = scene.app.client.post(url).bearer_auth(&scene.ada.token).json(&pay("tok_ok"));
        call.send().await.expect_err("it died with the answer in its hand");
        api.dies().await;
        scene.works();
        if point == "confirm.pointed" {
            // It had not begun: the hold is as it was.
            let read = scene.app.get(&hold_path(&scene.event, &hold)).bearer(&scene.ada.token);
            assert_eq!(read.await.expect(200)["status"], "held");
            scene.begin(&hold).await;
        }
        scene.until_status(&hold, "confirmed").await;
        scene.ends(2, 0).await;
    })
    .await;
}
