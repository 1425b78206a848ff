//! Goes on with a payment of which the provider told us something; what it told counts for nothing, it is asked anew.
//!
//! Caused by a webhook, and enqueued by `sweep_payments` for payments whose hold was lost while their customer was
//! away. A second run finds what the first one did. Money that comes after its hold is over takes the seats anew if
//! there are any; else it is voided, and its customer gets a mail.

use std::time::Duration;

use domain::{
    bookings::Failure,
    holds::{
        BeginConfirm, BeginConfirmError, ConfirmStart, HoldClaims, HoldStatus, PaymentChoice, begin_confirm,
    },
    jobs::{CapturePayment, ConfirmBooking, RefreshPayment, VoidPayment},
    payments::{PaymentStatus, actions, attempts::Attempt, progress},
};

use crate::{
    context::Context,
    error::JobError,
    payments::{self, Found},
    runtime::{Backoff, Policy},
};

/// An hour of a provider's outage; the sweeps come by anyway.
pub const POLICY: Policy = Policy {
    attempts: 60,
    timeout: Duration::from_secs(15),
    backoff: Backoff::exponential(Duration::from_millis(200), Duration::from_mins(1)),
};

pub async fn run(job: RefreshPayment, ctx: &Context) -> Result<(), JobError> {
    let payment_id = job.payment_id;
    let Some(payment) = progress::load(&ctx.db, payment_id).await? else {
        return Err(JobError::discard("there is no such payment"));
    };
    match payment.status {
        PaymentStatus::Authorised => {
            ctx.queue.enqueue(&CapturePayment { payment_id }).await?;
        }
        PaymentStatus::Unknown if payment.failure.is_some() => {
            ctx.queue.enqueue(&VoidPayment { payment_id }).await?;
        }
        PaymentStatus::Unknown => return resume(&payment, ctx).await,
        // At rest here; whether it is there, the reconciliation compares.
        PaymentStatus::Captured | PaymentStatus::Voided | PaymentStatus::Refunded | PaymentStatus::Failed => {
        }
    }
    Ok(())
}

/// The confirm that waits for this payment goes on, if there still is one.
async fn resume(payment: &Attempt, ctx: &Context) -> Result<(), JobError> {
    let (event_id, hold_id) = (payment.event_id, payment.charge.booking_id);
    let (hold, _) = ctx.line.look.call((event_id, hold_id)).await?;
    match hold {
        Some(hold) if hold.hold.status == HoldStatus::Confirming => {
            ctx.queue.enqueue(&ConfirmBooking { event_id, hold_id, attempt: hold.attempt }).await?;
            Ok(())
        }
        _ => late(payment, ctx).await,
    }
}

/// The hold is over. Is there money?
async fn late(payment: &Attempt, ctx: &Context) -> Result<(), JobError> {
    let gateway = payments::of(&ctx.gateways, &payment.provider)?;
    let failure = match gateway.look_up(&payment.charge).await {
        Found::Authorised(_) => match take_seats_anew(payment, ctx).await? {
            None => return Ok(()),
            Some(failure) => failure,
        },
        // The customer may still be at it, and the money may still find its seats.
        Found::ActionNeeded(_) if !payment.action_over => return Ok(()),
        Found::ActionNeeded(_) | Found::Nothing | Found::Voided => Failure::HoldExpired,
        Found::Declined(_) => Failure::PaymentDeclined,
        Found::Unknown(reason) => return Err(JobError::retry(format!("the provider: {reason}"))),
    };
    let payment_id = payment.payment_id;
    if progress::give_up(&ctx.db, payment_id, failure.code()).await? {
        ctx.queue.enqueue(&VoidPayment { payment_id }).await?;
    }
    Ok(())
}

/// Begins the confirm again, as what was quoted; answers why there are no seats, if there are none.
async fn take_seats_anew(payment: &Attempt, ctx: &Context) -> Result<Option<Failure>, JobError> {
    let Some(hold) = actions::hold_of(&ctx.db, payment.payment_id).await? else {
        return Ok(Some(Failure::HoldExpired));
    };
    let (event_id, hold_id) = (hold.event_id, hold.id);
    let request = BeginConfirm {
        event_id,
        hold_id,
        user_id: hold.user_id,
        payment: Some(PaymentChoice {
            provider: payment.provider.clone(),
            token: payment.charge.token.clone(),
        }),
        reply_to: String::new(),
        token: Some(HoldClaims::of_late_payment(hold)),
    };
    match begin_confirm(&ctx.inventory, &ctx.db, &request).await {
        Ok(ConfirmStart::Started { attempt } | ConfirmStart::Running { attempt }) => {
            ctx.queue.enqueue(&ConfirmBooking { event_id, hold_id, attempt }).await?;
            Ok(None)
        }
        Err(BeginConfirmError::SoldOut) => Ok(Some(Failure::SoldOut)),
        Err(BeginConfirmError::SaleClosed) => Ok(Some(Failure::SaleClosed)),
        Ok(ConfirmStart::Confirmed)
        | Err(
            BeginConfirmError::NotFound | BeginConfirmError::Expired | BeginConfirmError::PaymentRequired,
        ) => Ok(Some(Failure::HoldExpired)),
        Err(error @ BeginConfirmError::Rebuilding) => Err(JobError::retry(error)),
        Err(BeginConfirmError::Fault(fault)) => Err(fault.into()),
    }
}
