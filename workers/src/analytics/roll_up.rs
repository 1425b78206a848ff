//! Counts what was appended to the booking log. Runs in every process of the pool: the offset's row lets one of them
//! count at a time, and whatever is killed is rolled back with its offset.

use std::time::Duration;

use domain::analytics;
use futures::FutureExt;

use crate::{
    Context, JobError,
    runtime::{Periodic, Report},
};

/// Rows a transaction: some tenths of a second of work, so that the figures move on visibly while a backlog is counted.
const BATCH: i64 = 20_000;

/// Figures are to be fresh within five seconds; an idle look costs Postgres two index probes. The time-out leaves room
/// for writers to the log that take long to commit.
pub const PERIODIC: Periodic = Periodic {
    name: "roll_up",
    every: Duration::from_secs(1),
    timeout: Duration::from_mins(1),
    exclusive: false,
    run: |ctx| async move { run(&ctx).await }.boxed(),
};

async fn run(ctx: &Context) -> Result<Report, JobError> {
    let rolled_up = analytics::roll_up(&ctx.db, BATCH).await?;
    metrics::counter!("evently_analytics_rows_total").increment(rolled_up.rows);
    metrics::gauge!("evently_analytics_lag_seconds").set(rolled_up.lag_secs);
    // That of the last night, so that it is there after a restart too.
    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    metrics::gauge!("evently_analytics_differences").set(rolled_up.differences as f64);
    Ok(Report { found: rolled_up.rows, fixed: rolled_up.rows, more: rolled_up.more })
}
