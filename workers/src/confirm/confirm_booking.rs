//! Turns a hold that is `confirming` into a booking: pay, commit, tell Redis, capture, tell who waits.
//!
//! Enqueued by the API when a confirm begins, and again by `resume_confirms` while it has no result. A second run
//! finds what the first one left, the attempt to pay under the same key or the booking, and goes on from there.
//! What cannot be decided is dead at once, and `resume_confirms` ends it for good: nobody waits for ever.

use std::{sync::Arc, time::Duration};

use domain::{
    bookings::{self, BookingStatus},
    holds::HoldStatus,
    jobs::ConfirmBooking,
    kill_point::kill_point,
};

use super::steps;
use crate::{
    context::Context,
    error::JobError,
    runtime::{Backoff, Policy},
};

/// Attempts for hours of an outage, since nothing but an outage makes one fail: what is refused for good is dead
/// at once. The timeout has room for a provider that answers after 3 s and for the 12 s of a batch. Somebody
/// waits, hence the short pauses.
pub const POLICY: Policy = Policy {
    attempts: 5_000,
    timeout: Duration::from_secs(18),
    backoff: Backoff::exponential(Duration::from_millis(100), Duration::from_secs(5)),
};

pub async fn run(job: ConfirmBooking, ctx: &Context) -> Result<(), JobError> {
    let (hold, kept) = ctx.line.look.call((job.event_id, job.hold_id)).await?;
    kill_point("confirm.looked");
    let decided =
        kept.filter(|kept| kept.booking.status != BookingStatus::Failed || kept.attempt >= job.attempt);
    if let Some(kept) = decided {
        let waiting = hold.map(|hold| hold.reply_to).unwrap_or_default();
        // Whoever decided it may not have lived to tell Redis: the seats' rows go with the hold, or for a moment
        // they would be neither held nor sold.
        let changes = bookings::rows_behind(&mut *ctx.db.conn().await?, &[job.hold_id]).await?;
        steps::settle(&job, &kept.booking, Arc::new(changes), ctx).await?;
        steps::publish(&waiting, &kept.booking, ctx).await;
        return Ok(());
    }
    // Lost with Redis, and the hold token brings it back; or another confirm, which has a job of its own.
    let Some(hold) = hold else { return Ok(()) };
    if hold.hold.status != HoldStatus::Confirming || hold.attempt != job.attempt {
        return Ok(());
    }
    let (payment, charge) = match steps::pay(&hold, ctx).await? {
        steps::Paid::Now(payment, charge) => (payment, charge),
        // Whoever waits is told what to do. This job comes again: when the provider says so, or by `resume_confirms`.
        steps::Paid::Waits(booking) => {
            steps::publish(&hold.reply_to, &booking, ctx).await;
            return Ok(());
        }
    };
    kill_point("confirm.authorised");
    let (mut booking, paid, changes) = ctx.line.commit.call(steps::order(&hold, payment)).await?;
    kill_point("confirm.committed");
    steps::settle(&job, &booking, changes, ctx).await?;
    kill_point("confirm.settled");
    if let Some(attempt) = charge.filter(|_| paid) {
        steps::capture(&attempt, &mut booking, ctx).await?;
        kill_point("confirm.noted");
    }
    steps::publish(&hold.reply_to, &booking, ctx).await;
    kill_point("confirm.published");
    steps::count(&booking);
    Ok(())
}
