//! Workers that die while they move prices.

use std::time::Duration;

use serde_json::json;

use super::at_each;
use crate::flows::until;

pub(super) const POINTS: &[&str] =
    &["reprice.enqueued", "reprice.looked", "reprice.committed", "reprice.synced", "reprice.announced"];

#[tokio::test(flavor = "multi_thread")]
async fn a_price_moves_once_and_is_heard_of_though_the_worker_dies() {
    at_each(POINTS, async |scene, point| {
        scene.opens().await;
        let (app, id) = (&scene.app, scene.event.id);
        let path = format!("/v1/events/{id}");
        let price = "/ticket_types/0/price/amount";
        let seen = app.get(&path).await.expect(200);
        assert_eq!(seen.pointer(price), Some(&json!(4_500)), "and so it is in the caches");
        let admin = app.admin().await;
        let rules = json!({
            "enabled": true, "every_minutes": 1440, "utilisation": [{"from_bps": 0, "adjust_bps": 1000}],
        });
        let put = app.put(&format!("/v1/admin/events/{id}/pricing"), &rules);
        put.bearer(&admin.token).if_match("\"v0\"").await.expect(200);
        scene.worker_armed(point);
        let due = "SET next_due_at = date_trunc('second', now())";
        scene.app.database.execute(&format!("UPDATE pricing_rules {due} WHERE event_id = '{id}'")).await;
        scene.worker_dies().await;
        scene.restart().await;
        let read = || scene.app.get(&path);
        until(read, |answer| {
            answer.status == 200 && answer.json().pointer(price) == Some(&json!(4_950))
        })
        .await;
        // Straight from the keys: to place a hold that costs the old price would end the story.
        let (inventory, field) = (format!("ev:{{{id}}}"), format!("p:{}", scene.event.ticket_types[0]));
        let mut redis = scene.app.redis.connect().await;
        for _ in 0..600 {
            let mut command = redis::cmd("HGET");
            let told: i64 = command.arg(&inventory).arg(&field).query_async(&mut redis).await.unwrap();
            if told == 4_950 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(scene.hold("k", 1).await["total"]["amount"], 4_950);
        scene.ends(0, 1).await;
        let wrote = format!(
            "SELECT (SELECT count(*) FROM price_evaluations WHERE event_id = '{id}') || ' evaluation, ' ||
                    (SELECT count(*) FROM price_history WHERE event_id = '{id}') || ' change, ' ||
                    (SELECT count(*) FROM audit_log WHERE object_id = '{id}' AND action = 'event.repriced') || ' entry'"
        );
        assert_eq!(scene.app.database.value(&wrote).await.unwrap(), "1 evaluation, 1 change, 1 entry");
        let held = scene.app.database.value("SELECT count(*) FROM pricing_rules WHERE next_due_at <= now()").await;
        assert_eq!(held.as_deref(), Some("0"), "nothing is due any more");
    })
    .await;
}
