//! Brings confirms to an end that have no result: their job was never enqueued, was lost, or is dead.

use std::time::Duration;

use domain::{
    bookings::{Failure, commit::OrderPayment},
    holds::{self, HoldStatus},
    inventory::live_events,
    jobs::{ConfirmBooking, Job},
};
use futures::{FutureExt, TryStreamExt};
use queue::{Enqueued, JobStatus, job_id};

use crate::{
    confirm::steps,
    context::Context,
    error::JobError,
    runtime::{Periodic, Report},
};

const HOLDS_AN_EVENT: u32 = 500;
/// A confirm usually takes less, and enqueueing one that is under way does nothing.
const STALE_MS: i64 = 5_000;

/// Every two seconds: somebody waits for each of these.
pub const PERIODIC: Periodic = Periodic {
    name: "resume_confirms",
    every: Duration::from_secs(2),
    timeout: Duration::from_mins(1),
    exclusive: true,
    run: |ctx| async move { run(&ctx).await }.boxed(),
};

async fn run(ctx: &Context) -> Result<Report, JobError> {
    let mut report = Report::default();
    let mut events = live_events(&ctx.db);
    while let Some(event_id) = events.try_next().await? {
        let stale = holds::stale_confirming(&ctx.inventory, event_id, STALE_MS, HOLDS_AN_EVENT).await?;
        for (hold_id, attempt) in stale {
            report.found += 1;
            let resumed = resume(&ConfirmBooking { event_id, hold_id, attempt }, ctx).await?;
            report.fixed += u64::from(resumed);
        }
    }
    Ok(report)
}

/// Enqueues the job again, or ends for good what it could not decide; answers whether it did either.
async fn resume(job: &ConfirmBooking, ctx: &Context) -> Result<bool, JobError> {
    if ctx.queue.enqueue(job).await? == Enqueued::New {
        return Ok(true);
    }
    let id = job_id(ConfirmBooking::NAME, &job.key());
    let dead = ctx.queue.job(&id).await?.is_some_and(|detail| detail.status == JobStatus::Dead);
    if dead {
        give_up(job, ctx).await?;
    }
    Ok(dead)
}

/// Fails the booking and gives the seats back. A payment that was begun is voided by `sweep_payments`, which finds
/// it with no confirm under way.
async fn give_up(job: &ConfirmBooking, ctx: &Context) -> Result<(), JobError> {
    let (hold, _) = ctx.line.look.call((job.event_id, job.hold_id)).await?;
    let Some(hold) = hold else { return Ok(()) };
    if hold.hold.status != HoldStatus::Confirming || hold.attempt != job.attempt {
        return Ok(());
    }
    tracing::error!(hold_id = %job.hold_id, "gave a confirm up whose job is dead");
    let order = steps::order(&hold, OrderPayment::GivenUp(Failure::Internal));
    let (booking, _, changes) = ctx.line.commit.call(order).await?;
    steps::settle(job, &booking, changes, ctx).await?;
    steps::publish(&hold.reply_to, &booking, ctx).await;
    steps::count(&booking);
    Ok(())
}
