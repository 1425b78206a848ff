//! Brings payments and refunds to rest whose own job was lost.
//!
//! A payment that a booking took is captured. One without an answer is voided once its confirm is over; while the
//! confirm is under way its job asks the provider itself. Refunds that wait are enqueued again. All under the
//! deterministic ids of their jobs, so that nothing is done twice at once.

use std::time::Duration;

use domain::{
    holds::{self, HoldStatus},
    jobs::{CapturePayment, PayRefund, RefreshPayment, VoidPayment},
    payments::{
        progress::{self, OpenPayment},
        reconcile, refunds,
    },
};
use futures::FutureExt;

use crate::{
    context::Context,
    error::JobError,
    runtime::{Periodic, Report},
};

/// A payment that nothing has happened to for this long is looked at.
const IDLE: Duration = Duration::from_secs(10);
const BATCH: i64 = 500;

/// Every five seconds: 15 s after its confirm has ended, nobody's money is set aside for nothing.
pub const PERIODIC: Periodic = Periodic {
    name: "sweep_payments",
    every: Duration::from_secs(5),
    timeout: Duration::from_mins(1),
    exclusive: true,
    run: |ctx| async move { run(&ctx).await }.boxed(),
};

async fn run(ctx: &Context) -> Result<Report, JobError> {
    let mut report = Report::default();
    let open = progress::open(&ctx.db, IDLE, BATCH).await?;
    let wanted: Vec<_> = open.iter().map(|payment| (payment.event_id, payment.booking_id)).collect();
    let holds = holds::load_confirming(&ctx.inventory, &wanted).await?;
    for (payment, hold) in open.iter().zip(holds) {
        let confirming = hold.is_some_and(|hold| hold.hold.status == HoldStatus::Confirming);
        report.found += 1;
        report.fixed += u64::from(sweep(payment, confirming, ctx).await?);
    }
    for refund_id in refunds::open(&ctx.db, IDLE, BATCH).await? {
        report.found += 1;
        ctx.queue.enqueue(&PayRefund { refund_id }).await?;
    }
    for count in progress::count_open(&ctx.db).await? {
        #[expect(clippy::cast_precision_loss, reason = "a gauge need not be exact beyond 2^52")]
        metrics::gauge!("evently_payments_open", "status" => count.status).set(count.count as f64);
    }
    for waiting in reconcile::waiting(&ctx.db).await? {
        metrics::gauge!("evently_payments_oldest_age_seconds", "kind" => waiting.kind.clone())
            .set(waiting.oldest_secs);
        #[expect(clippy::cast_precision_loss, reason = "a gauge need not be exact beyond 2^52")]
        metrics::gauge!("evently_payments_waiting", "kind" => waiting.kind).set(waiting.count as f64);
    }
    Ok(report)
}

async fn sweep(payment: &OpenPayment, confirming: bool, ctx: &Context) -> Result<bool, JobError> {
    let payment_id = payment.payment_id;
    if payment.taken {
        ctx.queue.enqueue(&CapturePayment { payment_id }).await?;
    } else if payment.awaits_customer && !payment.given_up && !confirming {
        // Its hold was lost with Redis while the customer was away: the money may have come, and finds seats or not.
        ctx.queue.enqueue(&RefreshPayment { payment_id }).await?;
    } else if payment.given_up || !confirming {
        ctx.queue.enqueue(&VoidPayment { payment_id }).await?;
    } else {
        return Ok(false);
    }
    Ok(true)
}
