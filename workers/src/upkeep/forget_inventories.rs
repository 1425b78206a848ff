//! Takes the inventories of events that are long over out of Redis.

use std::time::Duration;

use domain::inventory::{forget, long_over};
use futures::FutureExt;

use crate::{
    context::Context,
    error::JobError,
    runtime::{Periodic, Report},
};

/// Every hour: it is about memory over months.
pub const PERIODIC: Periodic = Periodic {
    name: "forget_inventories",
    every: Duration::from_hours(1),
    timeout: Duration::from_mins(2),
    exclusive: true,
    run: |ctx| async move { run(&ctx).await }.boxed(),
};

async fn run(ctx: &Context) -> Result<Report, JobError> {
    let over = long_over(&ctx.db).await?;
    let removed = forget(&ctx.inventory, &over).await?;
    Ok(Report { found: removed, fixed: removed, more: false })
}
