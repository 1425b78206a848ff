//! Offers what is free for the waitlist of one event to those who wait, in their order.
//!
//! Enqueued by `sweep_waitlist`, and by the API when somebody leaves or declines. A second run finds what the first
//! one left, which is nothing; two at once take different seats.

use std::time::Duration;

use domain::{inventory::SyncError, jobs::PromoteWaitlist, waitlist};

use crate::{
    context::Context,
    error::JobError,
    runtime::{Backoff, Policy},
};

/// What is given up the sweep enqueues again. A run that did not come to the end goes on in the next.
pub const POLICY: Policy = Policy {
    attempts: 20,
    timeout: Duration::from_secs(15),
    backoff: Backoff::exponential(Duration::from_millis(100), Duration::from_secs(5)),
};

pub async fn run(job: PromoteWaitlist, ctx: &Context) -> Result<(), JobError> {
    let event_id = job.event_id;
    let promoted = match waitlist::promote(&ctx.db, &ctx.inventory, event_id).await {
        Ok(promoted) => promoted,
        Err(SyncError::UnknownEvent) => return Err(JobError::discard("there is no such event")),
        Err(SyncError::Rebuilding) => return Err(JobError::retry("the inventory is being rebuilt")),
        Err(SyncError::Fault(fault)) => return Err(fault.into()),
    };
    if promoted.offers > 0 {
        tracing::info!(%event_id, offers = promoted.offers, "offered seats to the waitlist");
    }
    if promoted.more { Err(JobError::retry("more is to be offered")) } else { Ok(()) }
}
