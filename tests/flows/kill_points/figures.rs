//! Workers that die while they bring counts of holds to the figures.

use super::at_each;

pub(super) const POINTS: &[&str] = &["figures.holds_kept"];

#[tokio::test(flavor = "multi_thread")]
async fn holds_are_counted_once_though_who_counts_them_dies() {
    at_each(POINTS, async |scene, point| {
        scene.opens().await;
        scene.worker_stops().await;
        scene.hold("k1", 2).await;
        // A count that is long over: it is kept already when the process dies, and still to be taken out of Redis.
        let mut redis = scene.app.redis.connect().await;
        let counts = format!("ev:{{{}}}:n", scene.event.id);
        let (now, _): (u64, u64) = redis::cmd("TIME").query_async(&mut redis).await.unwrap();
        let over = format!("{}:1", now / 900 - 100);
        redis::cmd("HSET").arg(&counts).arg(&over).arg(5).exec_async(&mut redis).await.unwrap();
        scene.app.process(&["worker", "analytics"], Some(point)).dies().await;
        let holds = format!("SELECT holds FROM analytics_events WHERE event_id = '{}'", scene.event.id);
        assert_eq!(scene.app.database.value(&holds).await.as_deref(), Some("6"), "it died after it");

        scene.works();
        scene.hold("k2", 1).await;
        scene.app.eventually(&holds, |value| value.as_deref() == Some("7")).await;
        for _ in 0..600 {
            let left: bool =
                redis::cmd("HEXISTS").arg(&counts).arg(&over).query_async(&mut redis).await.unwrap();
            if !left {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        let left: Vec<i64> = redis::cmd("HVALS").arg(&counts).query_async(&mut redis).await.unwrap();
        assert_eq!(left.iter().sum::<i64>(), 2, "{left:?}");
        assert_eq!(scene.app.database.value(&holds).await.as_deref(), Some("7"));
        scene.ends(0, 3).await;
    })
    .await;
}
