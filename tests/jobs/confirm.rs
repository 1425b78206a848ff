//! `ConfirmBooking`: every way in which a confirm ends, each job run twice.

use domain::{
    bookings::{
        BookingStatus, Failure,
        commit::{Order, OrderPayment, commit},
    },
    holds::{HoldStatus, load_confirming},
    payments::{
        PaymentStatus,
        attempts::{self, Attempt, ToPay},
        progress,
    },
};
use futures::future::join_all;

use super::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_becomes_one_booking_however_often_its_job_runs() {
    let shop = Shop::open(&[10, 5], 1).await;
    let job = shop.begin(0, &[(0, 2), (1, 1)], "tok_ok").await;
    // Twice at once, and once more.
    let (first, second) = tokio::join!(shop.run(&job), shop.run(&job));
    first.unwrap();
    second.unwrap();
    shop.run(&job).await.unwrap();

    let booking = shop.booking(job.hold_id).await.booking;
    assert_eq!(booking.status, BookingStatus::Confirmed);
    assert_eq!(booking.tickets.len(), 3);
    assert_eq!(booking.total.amount, 3000);
    assert_eq!(booking.payment.unwrap().status, PaymentStatus::Captured);
    assert_eq!(shop.hold_status(job.hold_id).await, HoldStatus::Confirmed);
    for (table, rows) in [
        ("bookings", "1"),
        ("tickets", "3"),
        ("payments", "1"),
        ("sandbox_charges", "1"),
        ("booking_log", "1"),
        ("mails", "1"),
    ] {
        assert_eq!(shop.value(&format!("SELECT count(*) FROM {table}")).await, rows, "{table}");
    }
    assert_eq!(shop.value("SELECT count(*) FROM audit_log WHERE action = 'booking.confirmed'").await, "1");
    assert_eq!(shop.value("SELECT sum(captured) FROM sandbox_charges").await, "3000");
    shop.assert_consistent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_payment_leaves_the_hold_for_another_one() {
    let shop = Shop::open(&[2], 1).await;
    let declined = shop.begin(0, &[(0, 2)], "tok_declined").await;
    shop.run(&declined).await.unwrap();
    shop.run(&declined).await.unwrap();
    let kept = shop.booking(declined.hold_id).await;
    assert_eq!(kept.booking.failed_with(), Some(Failure::PaymentDeclined));
    assert_eq!(shop.hold_status(declined.hold_id).await, HoldStatus::Held);
    assert_eq!(shop.value("SELECT count(*) FROM mails").await, "0");

    let paid = shop.begin_again(0, declined.hold_id, "tok_ok").await;
    assert_eq!(paid.attempt, 2);
    shop.run(&paid).await.unwrap();
    // The first one's job comes late, and changes nothing.
    shop.run(&declined).await.unwrap();
    let booking = shop.booking(paid.hold_id).await.booking;
    assert_eq!((booking.status, booking.failure), (BookingStatus::Confirmed, None));
    assert_eq!(
        shop.value("SELECT string_agg(status, ',' ORDER BY attempt) FROM payments").await,
        "failed,captured"
    );
    assert_eq!(
        shop.value("SELECT string_agg(kind, ',' ORDER BY id) FROM booking_log").await,
        "failed,confirmed"
    );
    shop.assert_consistent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_charges_once() {
    let shop = Shop::open(&[2], 1).await;
    let job = shop.begin(0, &[(0, 1)], "tok_timeout").await;
    shop.run(&job).await.unwrap();
    shop.run(&job).await.unwrap();
    assert_eq!(shop.booking(job.hold_id).await.booking.status, BookingStatus::Confirmed);
    assert_eq!(shop.value("SELECT count(*) || ':' || sum(captured) FROM sandbox_charges").await, "1:1000");
    shop.assert_consistent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_has_the_last_word_when_redis_promised_too_much() {
    let shop = Shop::open(&[60, 60], 60).await;
    let jobs = join_all((0..60).map(|user| shop.begin(user, &[(0, 1), (1, 1)], "tok_ok"))).await;
    // Behind Redis's back, and without raising the version.
    let cut = format!("UPDATE ticket_types SET capacity = 25 WHERE id = '{}'", shop.sale.ticket_types[0]);
    shop.sale.database.execute(&cut).await;
    for outcome in join_all(jobs.iter().map(|job| shop.run(job))).await {
        outcome.unwrap();
    }
    for job in &jobs {
        shop.run(job).await.unwrap();
    }
    assert_eq!(shop.value("SELECT string_agg(sold::text, ',') FROM ticket_types").await, "25,25");
    let failed = "SELECT count(*) FROM bookings WHERE status = 'failed' AND failure = 'sold-out'";
    assert_eq!(shop.value(failed).await, "35");
    shop.assert_consistent().await;
    let payments = "SELECT string_agg(status || ':' || n, ',' ORDER BY status) FROM
                    (SELECT status, count(*) AS n FROM payments GROUP BY 1) AS counted";
    assert_eq!(shop.value(payments).await, "captured:25,voided:35");
    assert_eq!(shop.value("SELECT count(*) FROM mails").await, "25");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_event_sells_nothing() {
    let shop = Shop::open(&[5], 1).await;
    let job = shop.begin(0, &[(0, 1)], "tok_ok").await;
    shop.sale.database.execute("UPDATE events SET status = 'cancelled'").await;
    shop.run(&job).await.unwrap();
    shop.run(&job).await.unwrap();
    assert_eq!(shop.booking(job.hold_id).await.booking.failed_with(), Some(Failure::SaleClosed));
    assert_eq!(shop.hold_status(job.hold_id).await, HoldStatus::Expired);
    shop.assert_consistent().await;
    assert_eq!(shop.value("SELECT status FROM payments").await, "voided");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_payment_that_a_booking_took_is_taken_from_the_buyer() {
    let shop = Shop::open(&[2], 1).await;
    let job = shop.begin(0, &[(0, 1)], "tok_ok").await;
    let db = &shop.ctx.db;
    let loaded = load_confirming(&shop.ctx.inventory, &[(job.event_id, job.hold_id)]).await.unwrap();
    let hold = loaded[0].as_ref().unwrap().hold.clone();
    let pay = async |attempt| {
        let to_pay = ToPay {
            booking_id: hold.id,
            event_id: hold.event_id,
            user_id: hold.user_id,
            attempt,
            provider: "sandbox".to_owned(),
            token: "tok_ok".to_owned(),
            amount: hold.total,
            currency: hold.currency.clone(),
        };
        attempts::record(db, &[to_pay]).await.unwrap().remove(0)
    };
    let order = |attempt, payment: &Attempt| Order {
        booking_id: hold.id,
        event_id: hold.event_id,
        user_id: hold.user_id,
        attempt,
        items: hold.items.clone(),
        total: hold.total,
        currency: hold.currency.clone(),
        created_at: hold.created_at,
        offered: false,
        payment: OrderPayment::Authorised {
            payment_id: payment.payment_id,
            provider: "sandbox".to_owned(),
            reference: format!("ref-{attempt}"),
        },
        trace: None,
    };
    let first = pay(1).await;
    // Its worker is stopped here. Redis loses the hold, so the sweep gives the payment up; then the hold's token
    // brings another confirm.
    assert!(progress::give_up(db, first.payment_id, "hold-expired").await.unwrap());
    let second = pay(70_000).await;
    assert_ne!(first.payment_id, second.payment_id);
    let (late, timely) = (order(1, &first), order(70_000, &second));
    let committed = commit(db, &[timely.clone(), late.clone()]).await.unwrap();
    assert_eq!(committed.paid, [true, false]);
    // The worker goes on, and finds a booking that is confirmed: not with its money.
    let again = commit(db, &[late, timely]).await.unwrap();
    assert!(again.bookings.iter().all(|booking| booking.status == BookingStatus::Confirmed));
    assert_eq!(again.paid, [false, false]);
}
