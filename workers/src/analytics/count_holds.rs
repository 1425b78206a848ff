//! Brings the counts of holds from Redis to the figures. A second run finds the same counts and adds nothing.

use std::time::Duration;

use domain::analytics;
use futures::FutureExt;

use crate::{
    Context, JobError,
    runtime::{Periodic, Report},
};

/// What Redis loses whole is lost since the last run, so that it is not far apart; each asks about every event on sale.
pub const PERIODIC: Periodic = Periodic {
    name: "count_holds",
    every: Duration::from_secs(3),
    timeout: Duration::from_mins(1),
    exclusive: true,
    run: |ctx| async move { run(&ctx).await }.boxed(),
};

async fn run(ctx: &Context) -> Result<Report, JobError> {
    let counted = analytics::count_holds(&ctx.db, &ctx.inventory).await?;
    Ok(Report { found: counted.found, fixed: counted.forgotten, more: false })
}
