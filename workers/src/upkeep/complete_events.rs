//! Marks events whose end has passed as completed. A second run finds none.

use std::time::Duration;

use domain::events::complete_ended;
use futures::FutureExt;

use crate::{
    Context, JobError,
    runtime::{Periodic, Report},
};

/// Events a transaction, each with its entry in the audit log.
const BATCH: i64 = 100;

/// Sales end by their own clock; only the word on the event's page waits for this.
pub const PERIODIC: Periodic = Periodic {
    name: "complete_events",
    every: Duration::from_secs(15),
    timeout: Duration::from_secs(20),
    exclusive: true,
    run: |ctx| async move { run(&ctx).await }.boxed(),
};

async fn run(ctx: &Context) -> Result<Report, JobError> {
    let completed = complete_ended(&ctx.db, BATCH).await?.len() as u64;
    Ok(Report { found: completed, fixed: completed, more: completed == BATCH.unsigned_abs() })
}
