//! The `confirm` pool: turns holds into bookings, captures, voids and refunds.

mod capture_payment;
mod confirm_booking;
pub mod line;
mod pay_refund;
mod refresh_payment;
pub(crate) mod steps;
mod void_payment;

use std::time::Duration;

use domain::jobs::{CapturePayment, ConfirmBooking, PayRefund, Pool, RefreshPayment, VoidPayment};

use crate::{job, runtime::PoolSpec};

/// Many at once, because jobs that arrive together commit together; polled often, because somebody waits for each.
pub static SPEC: PoolSpec = PoolSpec {
    pool: Pool::Confirm,
    concurrency: 256,
    poll: Duration::from_millis(2),
    jobs: &[
        job!(confirm_booking, ConfirmBooking),
        job!(capture_payment, CapturePayment),
        job!(void_payment, VoidPayment),
        job!(pay_refund, PayRefund),
        job!(refresh_payment, RefreshPayment),
    ],
    periodics: &[],
};
