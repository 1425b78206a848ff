//! The sweeps of `upkeep`: what was lost on the way is brought to its end, and nothing is done twice.

use std::time::Duration;

use domain::{
    bookings::{BookingStatus, Failure},
    holds::{HoldStatus, settle},
    inventory::{Drift, ensure_ready, reconcile_event},
    jobs::{CapturePayment, ConfirmBooking, Job, PayRefund, Pool, VoidPayment},
    payments::{PaymentStatus, progress},
};
use queue::{JobStatus, job_id};
use tokio_util::sync::CancellationToken;
use workers::runtime::Report;

use super::shop::Shop;

impl Shop {
    /// Runs a sweep once, as its pool would.
    pub async fn sweep(&self, name: &str) -> Report {
        let spec = workers::spec(Pool::Upkeep);
        let periodic = spec.periodics.iter().find(|periodic| periodic.name == name).unwrap();
        (periodic.run)(self.ctx.clone()).await.unwrap()
    }

    async fn status_of<J: Job>(&self, job: &J) -> Option<JobStatus> {
        let id = job_id(J::NAME, &job.key());
        self.ctx.queue.job(&id).await.unwrap().map(|detail| detail.status)
    }

    /// Lets a confirm have begun ten seconds ago.
    pub async fn age_confirm(&self, job: &ConfirmBooking) {
        let mut redis = self.sale.redis.connect().await;
        let key = format!("ev:{{{}}}:confirming", job.event_id);
        let back = redis::cmd("ZINCRBY").arg(key).arg(-10_000).arg(job.hold_id.to_string()).clone();
        back.exec_async(&mut redis).await.unwrap();
    }

    /// Lets nothing have happened to any payment or refund for a minute.
    pub async fn age_payments(&self) {
        for sql in [
            "UPDATE payments SET updated_at = now() - interval '2 minutes'",
            "UPDATE refunds SET created_at = now() - interval '2 minutes', done_at = done_at - interval '2 minutes'",
        ] {
            self.sale.database.execute(sql).await;
        }
    }

    /// Runs the confirm pool until `sql` answers `wanted`.
    pub async fn work_until(&self, sql: &str, wanted: &str) {
        let shutdown = CancellationToken::new();
        let pool = tokio::spawn(workers::run(&[Pool::Confirm], self.ctx.clone(), None, shutdown.clone()));
        for _ in 0..1_000 {
            if self.value(sql).await == wanted {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        shutdown.cancel();
        pool.await.unwrap().unwrap();
        assert_eq!(self.value(sql).await, wanted, "{sql}");
    }

    async fn the_payment(&self) -> uuid::Uuid {
        self.value("SELECT id FROM payments ORDER BY attempt DESC LIMIT 1").await.parse().unwrap()
    }

    async fn assert_no_drift(&self) {
        let drift = reconcile_event(&self.ctx.inventory, &self.ctx.db, self.sale.event_id).await.unwrap();
        assert_eq!(drift, Drift::default());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirm_whose_job_was_lost_is_decided() {
    let shop = Shop::open(&[5], 1).await;
    // Begun, and never enqueued.
    let job = shop.begin(0, &[(0, 2)], "tok_ok").await;
    assert_eq!(shop.sweep("resume_confirms").await.found, 0, "it has only begun");
    shop.age_confirm(&job).await;
    let report = shop.sweep("resume_confirms").await;
    assert_eq!((report.found, report.fixed), (1, 1));
    let report = shop.sweep("resume_confirms").await;
    assert_eq!((report.found, report.fixed), (1, 0), "it is in the queue now");
    shop.work_until("SELECT string_agg(status, ',') FROM payments", "captured").await;
    assert_eq!(shop.booking(job.hold_id).await.booking.status, BookingStatus::Confirmed);
    assert_eq!(shop.sweep("resume_confirms").await, Report::default());
    shop.assert_consistent().await;
    shop.assert_no_drift().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirm_that_postgres_decided_and_redis_was_not_told_of_is_settled() {
    let shop = Shop::open(&[5], 1).await;
    let job = shop.begin(0, &[(0, 2)], "tok_ok").await;
    let hold = format!("ev:{{{}}}:h:{}", job.event_id, job.hold_id);
    let mut redis = shop.sale.redis.connect().await;
    let before: Vec<u8> = redis::cmd("DUMP").arg(&hold).query_async(&mut redis).await.unwrap();
    shop.run(&job).await.unwrap();
    // As it would be had the worker died between its commit and telling Redis.
    let event = format!("ev:{{{}}}", job.event_id);
    redis::pipe()
        .cmd("RESTORE")
        .arg(&hold)
        .arg(0)
        .arg(&before)
        .arg("REPLACE")
        .ignore()
        .cmd("ZADD")
        .arg(format!("{event}:confirming"))
        .arg(1)
        .arg(job.hold_id.to_string())
        .ignore()
        .cmd("HINCRBY")
        .arg(&event)
        .arg(format!("h:{}", shop.sale.ticket_types[0]))
        .arg(2)
        .ignore()
        .cmd("HINCRBY")
        .arg(format!("{event}:uh"))
        .arg(shop.sale.users[0].to_string())
        .arg(2)
        .ignore()
        .exec_async(&mut redis)
        .await
        .unwrap();
    assert_eq!(shop.hold_status(job.hold_id).await, HoldStatus::Confirming);
    assert_eq!(shop.sweep("resume_confirms").await.fixed, 1);
    shop.run(&job).await.unwrap();
    assert_eq!(shop.hold_status(job.hold_id).await, HoldStatus::Confirmed);
    assert_eq!(shop.value("SELECT count(*) FROM sandbox_charges").await, "1");
    shop.assert_consistent().await;
    shop.assert_no_drift().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_confirm_ends_failed_and_voided_with_its_seats_back() {
    let shop = Shop::open(&[5], 1).await;
    let job = shop.begin(0, &[(0, 2)], "tok_ok").await;
    // A first run gets as far as the provider and no further.
    shop.sale
        .database
        .execute("ALTER TABLE bookings ADD CONSTRAINT broken CHECK (total < 0) NOT VALID")
        .await;
    assert!(shop.run(&job).await.is_err());
    assert_eq!(shop.value("SELECT status FROM sandbox_charges").await, "authorised");
    shop.ctx.queue.enqueue(&job).await.unwrap();
    let shutdown = CancellationToken::new();
    let pool = tokio::spawn(workers::run(&[Pool::Confirm], shop.ctx.clone(), None, shutdown.clone()));
    for _ in 0..500 {
        if shop.status_of(&job).await == Some(JobStatus::Dead) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(shop.status_of(&job).await, Some(JobStatus::Dead));
    shutdown.cancel();
    pool.await.unwrap().unwrap();
    shop.sale.database.execute("ALTER TABLE bookings DROP CONSTRAINT broken").await;

    shop.age_confirm(&job).await;
    assert_eq!(shop.sweep("resume_confirms").await.fixed, 1);
    let booking = shop.booking(job.hold_id).await.booking;
    assert_eq!(booking.failed_with(), Some(Failure::Internal));
    assert_eq!(shop.hold_status(job.hold_id).await, HoldStatus::Expired);
    assert_eq!(shop.sale.counts().await[0].available(), 5);
    assert_eq!(shop.sweep("resume_confirms").await, Report::default());
    shop.age_payments().await;
    assert_eq!(shop.sweep("sweep_payments").await.fixed, 1);
    shop.work_until("SELECT status FROM payments", "voided").await;
    assert_eq!(shop.value("SELECT status FROM sandbox_charges").await, "voided");
    assert_eq!(shop.value("SELECT count(*) FROM mails").await, "0");
    assert_eq!(shop.sweep("sweep_payments").await, Report::default());
    // An operator who retries the dead job changes nothing any more.
    shop.run(&job).await.unwrap();
    assert_eq!(shop.booking(job.hold_id).await.booking.status, BookingStatus::Failed);
    shop.assert_consistent().await;
    shop.assert_no_drift().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_booking_whose_capture_was_lost_is_captured_once() {
    let shop = Shop::open(&[5], 1).await;
    let job = shop.begin(0, &[(0, 2)], "tok_ok").await;
    shop.run(&job).await.unwrap();
    for table in ["payments", "sandbox_charges"] {
        shop.sale.database.execute(&format!("UPDATE {table} SET status = 'authorised'")).await;
    }
    shop.sale.database.execute("UPDATE sandbox_charges SET captured = 0").await;
    assert_eq!(shop.sweep("sweep_payments").await.found, 0, "not yet");
    shop.age_payments().await;
    assert_eq!(shop.sweep("sweep_payments").await.fixed, 1);
    shop.work_until("SELECT status FROM payments", "captured").await;
    let capture = CapturePayment { payment_id: shop.the_payment().await };
    shop.run(&capture).await.unwrap();
    // Nor can it be voided any more.
    shop.run(&VoidPayment { payment_id: capture.payment_id }).await.unwrap();
    assert_eq!(shop.value("SELECT status || captured FROM sandbox_charges").await, "captured2000");
    assert_eq!(shop.value("SELECT status FROM payments").await, "captured");
    shop.assert_consistent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_of_which_nobody_knows_is_voided_when_its_confirm_is_over() {
    let shop = Shop::open(&[5], 1).await;
    let job = shop.begin(0, &[(0, 2)], "tok_ok").await;
    shop.sale
        .database
        .execute("ALTER TABLE bookings ADD CONSTRAINT broken CHECK (total < 0) NOT VALID")
        .await;
    assert!(shop.run(&job).await.is_err());
    shop.sale.database.execute("ALTER TABLE bookings DROP CONSTRAINT broken").await;
    shop.age_payments().await;
    // While its confirm is under way, its job asks the provider itself.
    assert_eq!(shop.sweep("sweep_payments").await.fixed, 0);
    // Redis loses everything, and nobody comes with the token.
    let mut redis = shop.sale.redis.connect().await;
    redis::cmd("FLUSHALL").exec_async(&mut redis).await.unwrap();
    assert_eq!(shop.sweep("sweep_payments").await.fixed, 1);
    shop.work_until("SELECT status FROM payments", "voided").await;
    shop.run(&VoidPayment { payment_id: shop.the_payment().await }).await.unwrap();
    assert_eq!(shop.value("SELECT status || captured FROM sandbox_charges").await, "voided0");
    // The job that comes late finds no hold; it charges nothing.
    shop.run(&job).await.unwrap();
    assert_eq!(shop.value("SELECT count(*) FROM sandbox_charges").await, "1");
    ensure_ready(&shop.ctx.inventory, &shop.ctx.db, job.event_id).await.unwrap();
    shop.assert_consistent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_void_reaches_the_provider_before_the_charge_that_is_late() {
    let shop = Shop::open(&[5], 1).await;
    let job = shop.begin(0, &[(0, 2)], "tok_ok").await;
    // The attempt is written, the provider has not heard of it: nothing is known under its key.
    shop.sale.database.execute("ALTER TABLE sandbox_charges RENAME TO away").await;
    assert!(shop.run(&job).await.is_err());
    shop.sale.database.execute("ALTER TABLE away RENAME TO sandbox_charges").await;
    let payment_id = shop.the_payment().await;
    for _ in 0..2 {
        shop.run(&VoidPayment { payment_id }).await.unwrap();
    }
    let attempt = progress::load(&shop.ctx.db, payment_id).await.unwrap().unwrap();
    assert_eq!(attempt.status, PaymentStatus::Voided);
    let gateway = shop.ctx.gateways.get("sandbox").unwrap();
    let late = gateway.authorise(&attempt.charge).await;
    assert!(matches!(late, workers::payments::Authorisation::Declined(_)), "{late:?}");
    // The confirm, which is still under way, begins a charge of its own.
    shop.run(&job).await.unwrap();
    assert_eq!(shop.booking(job.hold_id).await.booking.status, BookingStatus::Confirmed);
    let charges = "SELECT string_agg(status, ',' ORDER BY status) FROM sandbox_charges";
    assert_eq!(shop.value(charges).await, "captured,voided");
    shop.assert_consistent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_whose_job_was_lost_is_paid_once() {
    let shop = Shop::open(&[5], 1).await;
    let job = shop.begin(0, &[(0, 2)], "tok_ok").await;
    shop.run(&job).await.unwrap();
    shop.sale.database.execute("UPDATE events SET status = 'cancelled', version = version + 1").await;
    shop.run(&domain::jobs::CancelEventBookings { event_id: job.event_id }).await.unwrap();
    shop.sale.database.execute("DELETE FROM outbox").await;
    shop.age_payments().await;
    assert_eq!(shop.sweep("sweep_payments").await.found, 1);
    shop.work_until("SELECT status FROM bookings", "refunded").await;
    let refund_id = shop.value("SELECT id FROM refunds").await.parse().unwrap();
    shop.run(&PayRefund { refund_id }).await.unwrap();
    assert_eq!(shop.value("SELECT count(*) || ':' || sum(amount) FROM sandbox_refunds").await, "1:2000");
    assert_eq!(shop.value("SELECT count(*) FROM mails WHERE kind = 'booking_refunded'").await, "1");
    assert_eq!(shop.sweep("sweep_payments").await, Report::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_bring_redis_level_do_so_however_often_they_run() {
    let shop = Shop::open(&[5], 2).await;
    let job = shop.begin(0, &[(0, 2)], "tok_ok").await;
    shop.run(&job).await.unwrap();
    let held = shop.sale.place(1, &[(0, 1)], "k").await.unwrap().hold;
    shop.sale.let_run_out(held.id).await;
    let expire = domain::jobs::ExpireHolds { event_id: job.event_id, due_second: 0 };
    let sync = domain::jobs::SyncInventory { event_id: job.event_id };
    for _ in 0..2 {
        shop.run(&expire).await.unwrap();
        shop.run(&sync).await.unwrap();
        let count = shop.sale.counts().await[0];
        assert_eq!((count.sold, count.held, count.available()), (2, 0, 3));
    }
    // A settlement that comes again, and late.
    for _ in 0..2 {
        let late = domain::holds::Settlement {
            holds: vec![
                (job.hold_id, 1, domain::holds::Settled::Confirmed),
                (held.id, 1, domain::holds::Settled::Failed),
            ],
            ..Default::default()
        };
        settle(&shop.ctx.inventory, job.event_id, &late).await.unwrap();
    }
    shop.assert_no_drift().await;
    shop.assert_consistent().await;
}
