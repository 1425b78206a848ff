//! Workers that die while they capture, void or pay back, each time between the provider's books and ours.

use serde_json::{Value, json};

use super::{Scene, at_each};
use crate::flows::booking_path;

pub(super) const CAPTURE: &[&str] = &["capture.captured", "capture.noted"];
pub(super) const VOID: &[&str] = &["void.given_up", "void.voided", "void.noted"];
pub(super) const REFUND: &[&str] = &["refund.paid", "refund.done"];
pub(super) const REFUND_FIRST_CAPTURE: &[&str] = &["refund.captured", "refund.noted"];

#[tokio::test(flavor = "multi_thread")]
async fn a_booking_whose_confirm_died_before_the_capture_is_captured_once() {
    at_each(CAPTURE, async |scene, point| {
        scene.opens().await;
        let hold = dies_confirming(scene, "confirm.committed").await;
        scene.time_passes().await;
        scene.worker_armed(point);
        scene.worker_dies().await;
        scene.restart().await;
        scene.until_status(&hold, "confirmed").await;
        scene.ends(2, 0).await;
        assert_eq!(scene.money(&hold).await, "captured 9000, 0 back in 0");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_was_set_aside_for_nothing_is_let_go_of() {
    at_each(VOID, async |scene, point| {
        scene.opens().await;
        let hold = dies_confirming(scene, "confirm.authorised").await;
        scene.cancel_event().await;
        scene.time_passes().await;
        scene.worker_armed(point);
        scene.worker_dies().await;
        scene.restart().await;
        scene.until_status(&hold, "failed").await;
        scene.ends(0, 0).await;
        assert_eq!(scene.money(&hold).await, "voided 0, 0 back in 0");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_is_paid_once() {
    at_each(REFUND, async |scene, point| {
        scene.opens().await;
        let hold = scene.booked("k", 2).await;
        scene.worker_armed(point);
        ends_refunded(scene, &hold, point).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_of_what_was_not_yet_captured_takes_and_gives_once() {
    at_each(REFUND_FIRST_CAPTURE, async |scene, point| {
        scene.opens().await;
        let hold = dies_confirming(scene, "confirm.committed").await;
        scene.worker_armed(point);
        ends_refunded(scene, &hold, point).await;
    })
    .await;
}

/// A hold of two seats whose worker died at this point of its confirm.
async fn dies_confirming(scene: &mut Scene, point: &str) -> Value {
    let hold = scene.hold("k", 2).await;
    scene.worker_armed(point);
    scene.begin(&hold).await;
    scene.worker_dies().await;
    hold
}

async fn ends_refunded(scene: &mut Scene, hold: &Value, key: &str) {
    let cancel = format!("{}/cancel", booking_path(hold));
    scene.app.post(&cancel, &json!({})).bearer(&scene.ada.token).key(key).await.expect(200);
    scene.worker_dies().await;
    scene.restart().await;
    scene.until_status(hold, "refunded").await;
    scene.ends(0, 0).await;
    assert_eq!(scene.money(hold).await, "captured 9000, 9000 back in 1");
}
