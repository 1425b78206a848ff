//! Tells Postgres what this process does over and over, and wakes what an operator wants at once.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use domain::{
    db::Db,
    fault::Fault,
    jobs::Pool,
    schedules::{self, Known},
};
use tokio::sync::Notify;

/// How often to look whether something is wanted at once.
const LOOK: Duration = Duration::from_secs(1);
/// How often to say that this process lives.
const SEEN: Duration = Duration::from_mins(1);

/// What this process is called where it says what it did: unique among those that are alive.
pub(super) static PROCESS: LazyLock<String> = LazyLock::new(|| {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", host.trim(), std::process::id())
});

/// One schedule of this process, and how to wake it.
pub(super) struct Entry {
    pub known: Known,
    pub wake: Arc<Notify>,
}

/// Ends only where there is nothing to wake. What fails is tried again a second later.
pub(super) async fn watch(db: Db, entries: Vec<Entry>) {
    let known: Vec<Known> = entries.iter().map(|entry| entry.known).collect();
    let mut pools: Vec<Pool> = known.iter().map(|known| known.pool).collect();
    pools.dedup();
    let mut seen = None;
    while !entries.is_empty() {
        if let Err(error) = look(&db, &entries, &known, &pools, &mut seen).await {
            tracing::debug!(%error, "cannot look for schedules that are wanted");
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn look(
    db: &Db,
    entries: &[Entry],
    known: &[Known],
    pools: &[Pool],
    seen: &mut Option<Instant>,
) -> Result<(), Fault> {
    let mut conn = db.conn().await?;
    if seen.is_none_or(|seen| seen.elapsed() >= SEEN) {
        schedules::register(&mut conn, known).await?;
        *seen = Some(Instant::now());
    }
    let wanted = schedules::wanted(&mut conn, pools).await?;
    for entry in entries.iter().filter(|entry| wanted.iter().any(|name| name == entry.known.name)) {
        entry.wake.notify_one();
    }
    Ok(())
}
