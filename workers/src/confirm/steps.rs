//! The steps of a confirm, one function each, in the order in which they are taken.

use std::{sync::Arc, time::Duration};

use domain::{
    bookings::{
        Booking, BookingStatus, Changes, Failure,
        commit::{Order, OrderPayment},
        results,
    },
    holds::{self, ConfirmingHold, Settled},
    jobs::{CapturePayment, ConfirmBooking, VoidPayment},
    kill_point::kill_point,
    payments::{
        PaymentStatus, actions,
        attempts::{Attempt, ToPay},
        progress,
    },
    trace::TraceContext,
};

use super::line::ToSettle;
use crate::{
    context::Context,
    error::JobError,
    payments::{self, Authorisation, Outcome},
};

/// How long a confirm that has its seats waits for its capture before it answers without.
const CAPTURE_PATIENCE: Duration = Duration::from_secs(2);

/// How often a payment that waits for its customer is looked at by ourselves; the provider tells us sooner.
const ACTION_LOOK: Duration = Duration::from_secs(30);

/// How the payment of an order stands.
pub(super) enum Paid {
    /// The order can be decided; with the attempt, if there was anything to pay.
    Now(OrderPayment, Option<Attempt>),
    /// The customer has to approve it first: the booking, which says how.
    Waits(Booking),
}

/// Has the order's money set aside.
pub(super) async fn pay(hold: &ConfirmingHold, ctx: &Context) -> Result<Paid, JobError> {
    if hold.hold.total == 0 {
        return Ok(Paid::Now(OrderPayment::Free, None));
    }
    let chosen = hold.payment.as_ref().filter(|choice| ctx.gateways.get(&choice.provider).is_some());
    // The API lets neither pass: a provider was switched off since.
    let Some(choice) = chosen else { return Ok(Paid::Now(OrderPayment::GivenUp(Failure::Internal), None)) };
    let to_pay = ToPay {
        booking_id: hold.hold.id,
        event_id: hold.hold.event_id,
        user_id: hold.hold.user_id,
        attempt: hold.attempt,
        provider: choice.provider.clone(),
        token: choice.token.clone(),
        amount: hold.hold.total,
        currency: hold.hold.currency.clone(),
    };
    let mut attempt = ctx.line.attempt.call(to_pay).await?;
    kill_point("confirm.attempted");
    let (payment_id, provider) = (attempt.payment_id, attempt.provider.clone());
    if attempt.action.is_some()
        && let Some(failure) = &attempt.failure
    {
        return Ok(Paid::Now(OrderPayment::GivenUp(Failure::from_code(failure)), None));
    }
    // An earlier attempt that nobody knows the end of may be another provider's.
    let gateway = payments::of(&ctx.gateways, &provider)?;
    let payment = match payments::authorise(gateway, &attempt.charge).await {
        Authorisation::Done(reference) => {
            attempt.charge.reference = Some(reference.clone());
            OrderPayment::Authorised { payment_id, provider, reference }
        }
        Authorisation::Declined(reason) => OrderPayment::Declined { payment_id, provider, reason },
        Authorisation::Unknown(reason) => return Err(JobError::retry(format!("the provider: {reason}"))),
        Authorisation::ActionNeeded(secret) => return wait_for_customer(hold, &attempt, &secret, ctx).await,
    };
    Ok(Paid::Now(payment, Some(attempt)))
}

/// Lets the hold stay as it is until its customer has approved the payment, or the time for that is over.
async fn wait_for_customer(
    hold: &ConfirmingHold,
    attempt: &Attempt,
    secret: &str,
    ctx: &Context,
) -> Result<Paid, JobError> {
    let payment_id = attempt.payment_id;
    if attempt.action_over {
        // From here on no commit can take it. Nobody has decided otherwise: it was still waited for.
        progress::give_up(&ctx.db, payment_id, Failure::HoldExpired.code()).await?;
        ctx.queue.enqueue(&VoidPayment { payment_id }).await?;
        return Ok(Paid::Now(OrderPayment::GivenUp(Failure::HoldExpired), None));
    }
    let patience = ctx.gateways.action_patience;
    let Some(action) = actions::begin(&ctx.db, payment_id, secret, &hold.hold, patience).await? else {
        return Err(JobError::retry("the payment was decided meanwhile"));
    };
    holds::postpone(&ctx.inventory, hold.hold.event_id, hold.hold.id, ACTION_LOOK.min(patience)).await?;
    if attempt.action.is_none() {
        metrics::counter!("evently_payments_actions_total", "provider" => attempt.provider.clone())
            .increment(1);
    }
    Ok(Paid::Waits(Booking::confirming(&hold.hold).waiting_for(&attempt.provider, action)))
}

/// What is to be decided about a hold, now that its payment stands so.
pub(crate) fn order(hold: &ConfirmingHold, payment: OrderPayment) -> Order {
    Order {
        booking_id: hold.hold.id,
        event_id: hold.hold.event_id,
        user_id: hold.hold.user_id,
        attempt: hold.attempt,
        items: hold.hold.items.clone(),
        total: hold.hold.total,
        currency: hold.hold.currency.clone(),
        created_at: hold.hold.created_at,
        offered: hold.hold.offered,
        payment,
        trace: TraceContext::current(),
    }
}

/// Tells Redis what Postgres decided.
pub(crate) async fn settle(
    job: &ConfirmBooking,
    booking: &Booking,
    changes: Arc<Changes>,
    ctx: &Context,
) -> Result<(), JobError> {
    let settled = match booking.status {
        BookingStatus::Failed if booking.failed_with() == Some(Failure::PaymentDeclined) => Settled::Declined,
        BookingStatus::Failed | BookingStatus::Confirming => Settled::Failed,
        BookingStatus::Confirmed | BookingStatus::Cancelled | BookingStatus::Refunded => Settled::Confirmed,
    };
    let to_settle =
        ToSettle { event_id: job.event_id, hold_id: job.hold_id, attempt: job.attempt, settled, changes };
    Ok(ctx.line.settle.call(to_settle).await?)
}

/// Takes the money. The booking stands whatever comes of it: what does not succeed now is left to a job.
pub(super) async fn capture(attempt: &Attempt, booking: &mut Booking, ctx: &Context) -> Result<(), JobError> {
    let Some(gateway) = ctx.gateways.get(&attempt.provider) else { return Ok(()) };
    let captured = match tokio::time::timeout(CAPTURE_PATIENCE, gateway.capture(&attempt.charge)).await {
        Ok(Outcome::Done(_)) => {
            kill_point("confirm.captured");
            ctx.line.captured.call(attempt.payment_id).await.is_ok()
        }
        _ => false,
    };
    if !captured {
        ctx.queue.enqueue(&CapturePayment { payment_id: attempt.payment_id }).await?;
    } else if let Some(payment) = &mut booking.payment {
        payment.status = PaymentStatus::Captured;
    }
    Ok(())
}

/// Tells the API processes that wait. Who does not hear of it looks for himself.
pub(crate) async fn publish(reply_to: &[String], booking: &Booking, ctx: &Context) {
    if let Err(error) = results::publish(&ctx.inventory, reply_to, booking).await {
        tracing::warn!(%error, booking_id = %booking.id, "the result was not published");
    }
}

/// Counts what came of a confirm.
pub(crate) fn count(booking: &Booking) {
    let outcome = booking.failed_with().map_or(booking.status.name(), Failure::code);
    metrics::counter!("evently_confirms_total", "outcome" => outcome).increment(1);
}
