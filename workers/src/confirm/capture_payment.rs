//! Takes the money of a booking that stands.
//!
//! Enqueued by a confirm whose own capture did not succeed, and by `sweep_payments`. A second run finds the payment
//! captured and does nothing; the provider captures a charge once.

use std::time::Duration;

use domain::{
    jobs::CapturePayment,
    kill_point::kill_point,
    payments::{PaymentStatus, progress},
};

use crate::{
    context::Context,
    error::JobError,
    payments::{self, Outcome},
    runtime::{Backoff, Policy},
};

/// A day of a provider's outage; nobody waits for it.
pub const POLICY: Policy = Policy {
    attempts: 300,
    timeout: Duration::from_secs(15),
    backoff: Backoff::exponential(Duration::from_secs(1), Duration::from_mins(5)),
};

pub async fn run(job: CapturePayment, ctx: &Context) -> Result<(), JobError> {
    let Some(payment) = progress::load(&ctx.db, job.payment_id).await? else {
        return Err(JobError::discard("there is no such payment"));
    };
    if payment.status != PaymentStatus::Authorised {
        return Ok(());
    }
    let gateway = payments::of(&ctx.gateways, &payment.provider)?;
    match gateway.capture(&payment.charge).await {
        Outcome::Done(_) => {
            kill_point("capture.captured");
            progress::mark_captured(&ctx.db, &[job.payment_id]).await?;
            kill_point("capture.noted");
            Ok(())
        }
        Outcome::Declined(reason) => {
            Err(JobError::discard(format!("the provider refuses to capture: {reason}")))
        }
        Outcome::Unknown(reason) => Err(JobError::retry(format!("the provider: {reason}"))),
    }
}
