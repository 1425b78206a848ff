//! Counts the days of events anew whose venue's zone has changed. A second run finds none.

use std::time::Duration;

use domain::analytics;
use futures::FutureExt;

use crate::{
    Context, JobError,
    runtime::{Periodic, Report},
};

/// Events a run; each reads its own part of the log.
const BATCH: i64 = 20;

/// Zones are corrected seldom, and nobody waits for it.
pub const PERIODIC: Periodic = Periodic {
    name: "follow_zones",
    every: Duration::from_mins(1),
    timeout: Duration::from_mins(5),
    exclusive: true,
    run: |ctx| async move { run(&ctx).await }.boxed(),
};

async fn run(ctx: &Context) -> Result<Report, JobError> {
    let moved = analytics::follow_zones(&ctx.db, BATCH).await?;
    Ok(Report { found: moved, fixed: moved, more: moved == BATCH.unsigned_abs() })
}
