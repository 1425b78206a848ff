//! Pays a refund: takes the money if that has not been done yet, gives the share back, and marks the booking.
//!
//! Caused by the cancellation, and enqueued again by `sweep_payments`. A second run finds the refund done; the
//! provider pays a key once.

use std::time::Duration;

use domain::{
    bookings,
    jobs::PayRefund,
    kill_point::kill_point,
    payments::{PaymentStatus, progress, refunds},
};

use crate::{
    context::Context,
    error::JobError,
    payments::{self, Outcome, RefundOrder},
    runtime::{Backoff, Policy},
};

/// A day of a provider's outage; the customer is told when the money is back.
pub const POLICY: Policy = Policy {
    attempts: 300,
    timeout: Duration::from_secs(15),
    backoff: Backoff::exponential(Duration::from_secs(1), Duration::from_mins(5)),
};

pub async fn run(job: PayRefund, ctx: &Context) -> Result<(), JobError> {
    let Some(refund) = refunds::load(&ctx.db, job.refund_id).await? else {
        return Err(JobError::discard("there is no such refund"));
    };
    if refund.status == "done" {
        return Ok(());
    }
    let Some(payment) = progress::load(&ctx.db, refund.payment_id).await? else {
        return Err(JobError::discard("there is no such payment"));
    };
    let gateway = payments::of(&ctx.gateways, &payment.provider)?;
    let reference = match (payment.status, payment.reference.clone()) {
        (PaymentStatus::Captured | PaymentStatus::Refunded, Some(reference)) => reference,
        _ => match gateway.capture(&payment.charge).await {
            Outcome::Done(reference) => {
                kill_point("refund.captured");
                progress::mark_captured(&ctx.db, &[refund.payment_id]).await?;
                kill_point("refund.noted");
                reference
            }
            Outcome::Declined(reason) => return refused(&job, ctx, &reason).await,
            Outcome::Unknown(reason) => return Err(JobError::retry(format!("the provider: {reason}"))),
        },
    };
    let order = RefundOrder {
        refund_key: refund.id.to_string(),
        reference,
        amount: refund.amount,
        charge: payment.charge,
    };
    match gateway.refund(&order).await {
        Outcome::Done(_) => {
            kill_point("refund.paid");
            bookings::mark_refunded(&ctx.db, job.refund_id).await?;
            kill_point("refund.done");
            Ok(())
        }
        Outcome::Declined(reason) => refused(&job, ctx, &reason).await,
        Outcome::Unknown(reason) => Err(JobError::retry(format!("the provider: {reason}"))),
    }
}

/// People have to see to it: the job stays among the dead, the refund says why.
async fn refused(job: &PayRefund, ctx: &Context, reason: &str) -> Result<(), JobError> {
    refunds::mark_failed(&ctx.db, job.refund_id, reason).await?;
    Err(JobError::discard(format!("the provider refuses to pay back: {reason}")))
}
