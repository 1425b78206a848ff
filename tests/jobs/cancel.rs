//! Cancelling: a booking by its owner, and all of them with their event.

use std::sync::{Arc, Mutex};

use domain::{
    bookings::{self, Booking, BookingStatus, CancelError},
    idempotency::{self, Decision, KeyedError, KeyedRequest},
    jobs::{CancelEventBookings, PayRefund},
};
use futures::{FutureExt, future::join_all};
use uuid::Uuid;

use super::shop::Shop;

/// Cancels as the API does, each time under a fresh key.
async fn cancel(shop: &Shop, booking_id: Uuid, user_id: Uuid) -> Result<Booking, CancelError> {
    let key = Uuid::now_v7().to_string();
    let request = KeyedRequest { user_id, operation: "bookings.cancel", key: &key, fingerprint: [0; 32] };
    let done = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&done);
    let answer = idempotency::once(&shop.ctx.db, request, move |conn| {
        async move {
            let cancelled = bookings::cancel(conn, booking_id, user_id).await?;
            *kept.lock().unwrap() = Some(cancelled);
            Ok::<_, CancelError>(Decision { status: 200, body: serde_json::Value::Null })
        }
        .boxed()
    })
    .await;
    match answer {
        Ok(_) => {}
        Err(KeyedError::Undecided(error)) => return Err(error),
        Err(other) => panic!("{other:?}"),
    }
    let cancelled = done.lock().unwrap().take().unwrap();
    cancelled.changes.tell(&shop.ctx.inventory).await;
    Ok(cancelled.bookings.into_iter().next().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_cancels_once_and_is_paid_back_once() {
    let shop = Shop::open(&[5], 2).await;
    let job = shop.begin(0, &[(0, 3)], "tok_ok").await;
    shop.run(&job).await.unwrap();
    let (owner, other) = (shop.sale.users[0], shop.sale.users[1]);
    assert!(matches!(cancel(&shop, job.hold_id, other).await, Err(CancelError::NotFound)));

    let (first, second) = tokio::join!(cancel(&shop, job.hold_id, owner), cancel(&shop, job.hold_id, owner));
    for cancelled in [first, second] {
        assert_eq!(cancelled.unwrap().status, BookingStatus::Cancelled);
    }
    assert_eq!(shop.sale.counts().await[0].available(), 5);
    assert_eq!(shop.drain::<PayRefund>().await, 1);
    let again = cancel(&shop, job.hold_id, owner).await.unwrap();
    assert_eq!(again.status, BookingStatus::Refunded);

    assert_eq!(shop.value("SELECT status || refunded FROM payments").await, "refunded3000");
    assert_eq!(shop.value("SELECT count(*) || ':' || sum(amount) FROM sandbox_refunds").await, "1:3000");
    let log = "SELECT string_agg(kind, ',' ORDER BY id) FROM booking_log";
    assert_eq!(shop.value(log).await, "confirmed,cancelled,refunded");
    assert_eq!(shop.value("SELECT count(*) FROM mails").await, "3");
    // A confirm that is delivered late finds it cancelled and leaves it.
    shop.run(&job).await.unwrap();
    shop.assert_consistent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_refund_follows_the_policy_and_nothing_is_cancelled_once_the_event_has_begun() {
    let shop = Shop::open(&[5], 1).await;
    let half = r#"UPDATE events SET refund_policy = '[{"hours_before": 0, "percent": 33}]'"#;
    shop.sale.database.execute(half).await;
    let (early, late) = (shop.begin(0, &[(0, 1)], "tok_ok").await, shop.begin(0, &[(0, 1)], "tok_ok").await);
    shop.run(&early).await.unwrap();
    shop.run(&late).await.unwrap();
    let owner = shop.sale.users[0];
    cancel(&shop, early.hold_id, owner).await.unwrap();
    assert_eq!(shop.value("SELECT amount FROM refunds").await, "330");
    shop.sale.database.execute("UPDATE events SET starts_at = now() - interval '1 minute'").await;
    assert!(matches!(cancel(&shop, late.hold_id, owner).await, Err(CancelError::InvalidState(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_event_ends_its_holds_and_refunds_everybody() {
    let shop = Shop::open(&[50], 12).await;
    let jobs = join_all((0..10).map(|user| shop.begin(user, &[(0, 2)], "tok_ok"))).await;
    for outcome in join_all(jobs.iter().map(|job| shop.run(job))).await {
        outcome.unwrap();
    }
    shop.sale.place(10, &[(0, 4)], "held").await.unwrap();
    let confirming = shop.begin(11, &[(0, 1)], "tok_ok").await;
    shop.sale.database.execute("UPDATE events SET status = 'cancelled', version = version + 1").await;

    let job = CancelEventBookings { event_id: shop.sale.event_id };
    assert!(shop.run(&job).await.is_err(), "one confirm is under way");
    shop.run(&confirming).await.unwrap();
    shop.run(&job).await.unwrap();
    shop.run(&job).await.unwrap();

    assert_eq!(shop.drain::<PayRefund>().await, 10);
    let statuses = "SELECT string_agg(DISTINCT status, ',' ORDER BY status) FROM bookings";
    assert_eq!(shop.value(statuses).await, "failed,refunded");
    let mails = "SELECT string_agg(kind || n, ',' ORDER BY kind) FROM
                 (SELECT kind, count(*) AS n FROM mails GROUP BY 1) AS counted";
    assert_eq!(
        shop.value(mails).await,
        "booking_confirmed10,booking_refunded10,event_cancelled10",
        "and none for the one that failed"
    );
    assert_eq!(shop.value("SELECT cancellation_done_at IS NOT NULL FROM events").await, "t");
    shop.assert_consistent().await;
}
