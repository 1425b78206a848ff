//! Workers that die while they end holds.

use std::time::Duration;

use super::at_each;
use crate::flows::hold_path;

pub(super) const POINTS: &[&str] = &["expiry.expired", "expiry.planned"];

#[tokio::test(flavor = "multi_thread")]
async fn holds_end_once_though_the_sweep_dies() {
    at_each(POINTS, async |scene, point| {
        scene.opens_with_ttl(2).await;
        scene.worker_stops().await;
        let worker = scene.app.process(&["worker", "expiry"], Some(point));
        let first = scene.hold("k1", 2).await;
        // The next hold is to be there still when the first is over.
        let inventory = format!("ev:{{{}}}", scene.event.id);
        let mut redis = scene.app.redis.connect().await;
        let longer = redis::cmd("HSET").arg(&inventory).arg("ttl").arg(12_000).clone();
        longer.exec_async(&mut redis).await.unwrap();
        let second = scene.hold("k2", 3).await;
        worker.dies().await;
        scene.restart().await;
        // Straight from the keys: whatever reads through the application would end them itself.
        for _ in 0..600 {
            let key = format!("{inventory}:holds");
            let left: i64 = redis::cmd("ZCARD").arg(key).query_async(&mut redis).await.unwrap();
            if left == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for hold in [first, second] {
            let read = scene.app.get(&hold_path(&scene.event, &hold)).bearer(&scene.ada.token);
            assert_eq!(read.await.expect(200)["status"], "expired");
        }
        scene.ends(0, 0).await;
    })
    .await;
}
