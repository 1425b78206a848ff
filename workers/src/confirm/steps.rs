//! The steps of a confirm, one function each, in the order in which they are taken.

use std::{sync::Arc, time::Duration};

use domain::{
    bookings::{
        Booking, BookingStatus, Changes, Failure,
        commit::{Order, OrderPayment},
        results,
    },
    holds::{ConfirmingHold, Settled},
    jobs::{CapturePayment, ConfirmBooking},
    payments::{
        PaymentStatus,
        attempts::{Attempt, ToPay},
    },
    trace::TraceContext,
};

use super::line::ToSettle;
use crate::{
    context::Context,
    error::JobError,
    payments::{self, Outcome},
};

/// How long a confirm that has its seats waits for its capture before it answers without.
const CAPTURE_PATIENCE: Duration = Duration::from_secs(2);

/// Has the order's money set aside; answers how that went, and the attempt, if there was anything to pay.
pub(super) async fn pay(
    hold: &ConfirmingHold,
    ctx: &Context,
) -> Result<(OrderPayment, Option<Attempt>), JobError> {
    if hold.hold.total == 0 {
        return Ok((OrderPayment::Free, None));
    }
    let chosen = hold.payment.as_ref().and_then(|choice| Some((choice, ctx.gateways.get(&choice.provider)?)));
    // The API lets neither pass: a provider was switched off since.
    let Some((choice, gateway)) = chosen else { return Ok((OrderPayment::GivenUp(Failure::Internal), None)) };
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
    let attempt = ctx.line.attempt.call(to_pay).await?;
    let (payment_id, provider) = (attempt.payment_id, attempt.provider.clone());
    let payment = match payments::authorise(gateway, &attempt.charge).await {
        Outcome::Done(reference) => OrderPayment::Authorised { payment_id, provider, reference },
        Outcome::Declined(reason) => OrderPayment::Declined { payment_id, provider, reason },
        Outcome::Unknown(reason) => return Err(JobError::retry(format!("the provider: {reason}"))),
    };
    Ok((payment, Some(attempt)))
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
        Ok(Outcome::Done(_)) => ctx.line.captured.call(attempt.payment_id).await.is_ok(),
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
