//! Lets go of what need not be kept any longer.

use std::time::Duration;

use domain::retention::{Kept, let_go};
use futures::FutureExt;

use crate::{
    Context, JobError,
    runtime::{Periodic, Report},
};

/// Rows a statement: some milliseconds of locks.
const BATCH: i64 = 1_000;

/// Times are in hours and days, so minutes do not matter.
pub const RETENTION: Periodic = Periodic {
    name: "retention",
    every: Duration::from_mins(5),
    timeout: Duration::from_mins(1),
    exclusive: true,
    run: |ctx| async move { run(&ctx).await }.boxed(),
};

async fn run(ctx: &Context) -> Result<Report, JobError> {
    let mut report = Report::default();
    for kept in Kept::ALL {
        let gone = let_go(&mut *ctx.db.conn().await?, kept, BATCH).await?;
        if gone > 0 {
            tracing::info!(%kept, gone, "let go");
        }
        report.found += gone as u64;
        report.more |= i64::try_from(gone).is_ok_and(|gone| gone == BATCH);
    }
    report.fixed = report.found;
    Ok(report)
}
