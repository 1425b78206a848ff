//! Workers that die in the middle of a confirm, on the way of what it caused through outbox and queue, and in the
//! middle of its mail.

use super::at_each;

pub(super) const POINTS: &[&str] = &[
    "confirm.looked",
    "confirm.attempted",
    "confirm.authorised",
    "confirm.committing",
    "confirm.committed",
    "confirm.settled",
    "confirm.captured",
    "confirm.noted",
    "confirm.published",
    "relay.enqueued",
    "relay.noted",
    "relay.handed_over",
    "outbox.finished",
    "mail.begun",
    "mail.leased",
    "mail.taken",
    "mail.recorded",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_confirm_is_decided_paid_and_mailed_once_wherever_its_worker_dies() {
    at_each(POINTS, async |scene, point| {
        scene.opens().await;
        let before = scene.app.smtp().received().len();
        let hold = scene.hold("k", 2).await;
        scene.worker_armed(point);
        scene.begin(&hold).await;
        scene.worker_dies().await;
        scene.restart().await;
        scene.until_status(&hold, "confirmed").await;
        scene.ends(2, 0).await;
        let copies = scene.app.smtp().received().len() - before;
        assert_eq!(copies, if point == "mail.taken" { 2 } else { 1 }, "only what nobody noted is sent again");
    })
    .await;
}
