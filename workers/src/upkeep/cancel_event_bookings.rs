//! Ends the holds and the waitlist of a cancelled event, cancels and refunds its bookings, and mails their owners.
//!
//! Caused by the cancellation. It works in batches, each a transaction of its own; a second run finds what the first
//! one left, also in the middle. It is done when no hold can become a booking any more and no booking stands: a
//! confirm that was under way ends by its own job, which finds the event cancelled, or a moment before it was.

use std::time::Duration;

use domain::{bookings, holds, jobs::CancelEventBookings, kill_point::kill_point, waitlist};

use crate::{
    context::Context,
    error::JobError,
    runtime::{Backoff, Policy},
};

/// A run that stops for want of time goes on in the next, so the number of attempts bounds the size of an event:
/// some 10,000 bookings a run. The short pause is for confirms that are still under way.
pub const POLICY: Policy = Policy {
    attempts: 10_000,
    timeout: Duration::from_secs(15),
    backoff: Backoff::exponential(Duration::from_millis(500), Duration::from_secs(10)),
};

const BATCH: i64 = 100;
const HOLDS: u32 = 500;

pub async fn run(job: CancelEventBookings, ctx: &Context) -> Result<(), JobError> {
    let event_id = job.event_id;
    let confirming = loop {
        let ended = holds::end_holds(&ctx.inventory, event_id, HOLDS).await?;
        if !ended.more {
            break ended.confirming;
        }
    };
    kill_point("cancel_event.ended");
    loop {
        let ended = waitlist::end_event(&ctx.db, event_id, BATCH).await?;
        ended.changes.tell(&ctx.inventory).await;
        if ended.count == 0 {
            break;
        }
    }
    let mut cancelled = 0;
    loop {
        let batch = bookings::cancel_batch_of_event(&ctx.db, event_id, BATCH).await?;
        if batch.bookings.is_empty() {
            break;
        }
        cancelled += batch.bookings.len();
        metrics::counter!("evently_event_cancellation_bookings_total").increment(batch.bookings.len() as u64);
        kill_point("cancel_event.cancelled");
        batch.changes.tell(&ctx.inventory).await;
        kill_point("cancel_event.told");
    }
    tracing::info!(%event_id, cancelled, confirming, "cancelled bookings of a cancelled event");
    if confirming > 0 {
        return Err(JobError::retry(format!("{confirming} confirms are under way")));
    }
    if !bookings::finish_event_cancellation(&ctx.db, event_id).await? {
        return Err(JobError::retry("a booking was confirmed meanwhile"));
    }
    kill_point("cancel_event.finished");
    Ok(())
}
