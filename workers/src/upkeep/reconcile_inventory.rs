//! Compares every live event's inventory in Redis with Postgres, and mends what differs.

use std::time::Duration;

use domain::inventory::{SyncError, live_events, reconcile_event};
use futures::{FutureExt, TryStreamExt};

use crate::{
    context::Context,
    error::JobError,
    runtime::{Periodic, Report},
};

/// A suspected drift is looked at twice, 1.5 s apart; several events at once keep that from adding up.
const AT_ONCE: usize = 8;

/// Every minute, as promised; drift is an alert.
pub const PERIODIC: Periodic = Periodic {
    name: "reconcile_inventory",
    every: Duration::from_mins(1),
    timeout: Duration::from_mins(5),
    exclusive: true,
    run: |ctx| async move { run(&ctx).await }.boxed(),
};

async fn run(ctx: &Context) -> Result<Report, JobError> {
    let mut report = Report::default();
    let mut checks = live_events(&ctx.db)
        .map_err(SyncError::from)
        .map_ok(|event_id| reconcile_event(&ctx.inventory, &ctx.db, event_id))
        .try_buffer_unordered(AT_ONCE);
    loop {
        match checks.try_next().await {
            Ok(Some(drift)) => {
                report.found += u64::from(drift.total());
                report.fixed += u64::from(drift.total());
            }
            Ok(None) => break,
            Err(SyncError::UnknownEvent | SyncError::Rebuilding) => {}
            Err(SyncError::Fault(fault)) => return Err(fault.into()),
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of ticket types")]
    metrics::gauge!("evently_inventory_drift").set(report.found as f64);
    Ok(report)
}
