//! Processes that die while they rebuild an inventory that Redis has lost, with a commit in the middle of it.

use super::at_each;
use crate::flows::{confirm_path, pay, place, until};

pub(super) const POINTS: &[&str] =
    &["rebuild.raised", "rebuild.begun", "rebuild.read", "rebuild.loaded", "rebuild.installed"];

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_died_is_done_again_and_counts_what_happened_meanwhile() {
    at_each(POINTS, async |scene, point| {
        scene.opens().await;
        scene.booked("k1", 2).await;
        // It might be first to notice what is lost.
        scene.worker_stops().await;
        let (kept, sold) = (scene.hold("k2", 1).await, scene.hold("k3", 3).await);
        let mut redis = scene.app.redis.connect().await;
        let lose = redis::cmd("DEL").arg(format!("ev:{{{}}}", scene.event.id)).clone();
        lose.exec_async(&mut redis).await.unwrap();
        scene.app.process(&["reconcile"], Some(point)).dies().await;

        scene.works();
        let (app, event, ada) = (&scene.app, &scene.event, &scene.ada);
        let confirm = app.post(&confirm_path(event, &sold), &pay("tok_ok")).bearer(&ada.token);
        confirm.header("prefer", "wait=30").await.expect(201);
        // Whoever needs the inventory next brings it back; until then nothing is guessed.
        let more = || place(app, event, &ada.token, "k4", &[4]);
        let placed = until(more, |answer| {
            assert!(matches!(answer.status, 201 | 503), "{answer:?}");
            answer.status == 201
        })
        .await;
        assert_eq!(placed.header("idempotency-replayed"), None);
        let full = place(app, event, &ada.token, "k5", &[1]).await;
        full.expect_problem(422, "limit-exceeded");
        let eve = app.user("eve").await;
        place(app, event, &eve.token, "k", &[1]).await.expect_problem(409, "sold-out");
        let path = crate::flows::hold_path(event, &kept);
        app.delete(&path).bearer(&ada.token).await.expect(204);
        place(app, event, &eve.token, "k2", &[1]).await.expect(201);
        scene.ends(5, 5).await;
        app.process(&["reconcile"], None).succeeds().await;
    })
    .await;
}
