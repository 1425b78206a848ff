//! Ends overdue holds of events whose planned sweep was lost: its process died, or Redis forgot the job.

use std::time::Duration;

use domain::{holds::expire_holds, inventory::live_events};
use futures::{FutureExt, TryStreamExt};

use crate::{
    context::Context,
    error::JobError,
    runtime::{Periodic, Report},
};

const HOLDS_AN_EVENT: u32 = 500;

/// Every ten seconds: nobody is refused a seat for want of it, since place reclaims what is overdue; only counts that
/// nobody asks for would stay wrong for longer.
pub const PERIODIC: Periodic = Periodic {
    name: "sweep_holds",
    every: Duration::from_secs(10),
    timeout: Duration::from_mins(1),
    exclusive: true,
    run: |ctx| async move { run(&ctx).await }.boxed(),
};

async fn run(ctx: &Context) -> Result<Report, JobError> {
    let mut report = Report::default();
    let mut events = live_events(&ctx.db);
    while let Some(event_id) = events.try_next().await? {
        let swept = expire_holds(&ctx.inventory, event_id, HOLDS_AN_EVENT).await?;
        report.found += u64::from(swept.ended);
        report.fixed += u64::from(swept.ended);
        report.more |= swept.more;
    }
    Ok(report)
}
