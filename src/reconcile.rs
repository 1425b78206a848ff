//! `evently reconcile`: compares every live event's seats in Redis with Postgres now, mends them, and says what it found.

use anyhow::Context as _;
use domain::{
    config::Env,
    db::{Db, DbConfig},
    inventory::{Inventory, live_events, reconcile_event},
    redis_link::RedisLink,
};
use futures::TryStreamExt;

pub async fn run(env: Env) -> anyhow::Result<()> {
    let db = Db::new(&DbConfig::from_env(&env)?);
    let inventory = Inventory::new(&RedisLink::inventory_from_env(&env)?);
    let (mut compared, mut drifted, mut rebuilt) = (0_u64, 0_u64, 0_u64);
    let mut events = live_events(&db);
    while let Some(event_id) = events.try_next().await? {
        let drift =
            reconcile_event(&inventory, &db, event_id).await.with_context(|| format!("event {event_id}"))?;
        compared += 1;
        rebuilt += u64::from(drift.rebuilt);
        if drift.total() > 0 {
            drifted += 1;
            eprintln!(
                "{event_id}: {} behind, {} ahead, {} miscounted; mended",
                drift.behind, drift.ahead, drift.held
            );
        }
    }
    eprintln!("{compared} events compared, {drifted} had drifted, {rebuilt} rebuilt");
    Ok(())
}
