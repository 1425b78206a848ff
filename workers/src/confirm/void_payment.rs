//! Gives back an authorisation that no booking will take, also one that may never have come about.
//!
//! Caused by the commit that found no seats, and enqueued by `sweep_payments`. First the payment is given up in
//! Postgres, under its row's lock, so that no commit can take it any more; then the provider is told. A second run
//! does the same again, which changes nothing.

use std::time::Duration;

use domain::{jobs::VoidPayment, kill_point::kill_point, payments::progress};

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

pub async fn run(job: VoidPayment, ctx: &Context) -> Result<(), JobError> {
    // A booking has taken it, or it was declined, or voided before.
    if !progress::give_up(&ctx.db, job.payment_id, "hold-expired").await? {
        return Ok(());
    }
    let Some(payment) = progress::load(&ctx.db, job.payment_id).await? else {
        return Err(JobError::discard("there is no such payment"));
    };
    let gateway = payments::of(&ctx.gateways, &payment.provider)?;
    kill_point("void.given_up");
    match gateway.void(&payment.charge).await {
        Outcome::Done(reference) => {
            kill_point("void.voided");
            progress::mark_voided(&ctx.db, job.payment_id, Some(&reference)).await?;
            kill_point("void.noted");
            metrics::counter!("evently_payments_voided_total").increment(1);
            Ok(())
        }
        Outcome::Declined(reason) => {
            Err(JobError::discard(format!("the provider refuses to void: {reason}")))
        }
        Outcome::Unknown(reason) => Err(JobError::retry(format!("the provider: {reason}"))),
    }
}
