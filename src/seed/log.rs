//! `evently seed --log-rows`: a long booking log, for measuring the figures that are rolled up from it.

use domain::{analytics, db::Db};
use uuid::Uuid;

use crate::shutdown;

/// Events that the log is about.
const EVENTS: i32 = 1_000;
/// Rows a transaction: the roll-up waits for whoever writes to the log.
const CHUNK: i64 = 50_000;

/// Appends so many rows, in order. Interrupted, it leaves the rows it has made.
pub(super) async fn generate(db: &Db, organizer: Uuid, venue: Uuid, rows: i64) -> anyhow::Result<()> {
    let shutdown = shutdown::on_signal()?;
    analytics::generate_events(db, organizer, venue, EVENTS).await?;
    let mut first = 1;
    while first <= rows {
        anyhow::ensure!(!shutdown.is_cancelled(), "interrupted after {} rows", first - 1);
        let chunk = CHUNK.min(rows - first + 1);
        analytics::generate_log(db, EVENTS, first, chunk, rows).await?;
        first += chunk;
    }
    tracing::info!(rows, events = EVENTS, "appended to the booking log");
    Ok(())
}
