//! Finds the events whose prices are due, and enqueues an evaluation of each.
//!
//! A second run finds those that were not evaluated yet, and their jobs in the queue. After an outage each event is due
//! once, however many of its times have passed.

use std::time::Duration;

use domain::{jobs::RepriceEvent, kill_point::kill_point, pricing};
use futures::FutureExt;

use crate::{
    context::Context,
    error::JobError,
    runtime::{Periodic, Report},
};

/// Events a page, and pages a run: the next one goes on.
const BATCH: i64 = 500;
const PAGES: usize = 20;

/// Prices move once a minute at most; nobody notices some seconds. With nothing due it costs Postgres two index probes.
pub const PERIODIC: Periodic = Periodic {
    name: "find_due_prices",
    every: Duration::from_secs(5),
    timeout: Duration::from_secs(30),
    exclusive: true,
    run: |ctx| async move { run(&ctx).await }.boxed(),
};

async fn run(ctx: &Context) -> Result<Report, JobError> {
    let renewed = pricing::renew(&ctx.db, BATCH).await?;
    if renewed > 0 {
        tracing::warn!(renewed, "prices have been due for an hour: the job died, or no worker ran");
    }
    let mut report = Report::default();
    let mut last = None;
    for _ in 0..PAGES {
        let due = pricing::due(&ctx.db, last, BATCH).await?;
        for one in &due {
            let job = RepriceEvent { event_id: one.event_id, due_second: one.due_second };
            ctx.queue.enqueue(&job).await?;
            kill_point("reprice.enqueued");
        }
        report.found += due.len() as u64;
        last = due.last().copied();
        if i64::try_from(due.len()).is_ok_and(|found| found < BATCH) {
            break;
        }
    }
    report.fixed = report.found;
    Ok(report)
}
