//! Compares the figures with a recount of the log every night. What differs is shown and left: a person is to see it
//! before `evently analytics rebuild` wipes it out.

use std::time::Duration;

use domain::analytics;
use futures::FutureExt;

use crate::{
    Context, JobError,
    runtime::{Periodic, Report},
};

/// A look at whether it is due; when it is, it reads the whole log, which takes minutes on a long one.
pub const PERIODIC: Periodic = Periodic {
    name: "check_figures",
    every: Duration::from_mins(10),
    timeout: Duration::from_mins(30),
    exclusive: true,
    run: |ctx| async move { run(&ctx).await }.boxed(),
};

async fn run(ctx: &Context) -> Result<Report, JobError> {
    if !analytics::is_check_due(&ctx.db).await? {
        return Ok(Report::default());
    }
    let differences = analytics::check(&ctx.db).await?;
    let total = differences.total();
    if total > 0 {
        tracing::error!(?differences, "the figures differ from a recount of the booking log");
    } else {
        tracing::info!("the figures equal a recount of the booking log");
    }
    Ok(Report { found: total.unsigned_abs(), ..Report::default() })
}
