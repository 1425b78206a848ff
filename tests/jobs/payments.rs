//! Payments apart from confirms: what the provider refuses, what the reconciliation finds, what webhooks may say.

use domain::{
    bookings,
    jobs::{CancelEventBookings, PayRefund, RefreshPayment},
    payments::reconcile,
};

use super::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_is_refused_ends_where_people_see_it() {
    let shop = Shop::open(&[5], 1).await;
    let job = shop.begin(0, &[(0, 2)], "tok_refund_refuse_9").await;
    shop.run(&job).await.unwrap();
    shop.sale.database.execute("UPDATE events SET status = 'cancelled', version = version + 1").await;
    shop.run(&CancelEventBookings { event_id: job.event_id }).await.unwrap();
    let refund_id = shop.value("SELECT id FROM refunds").await.parse().unwrap();
    for _ in 0..2 {
        assert!(shop.run(&PayRefund { refund_id }).await.is_err());
    }
    assert_eq!(shop.value("SELECT status || ':' || (error IS NOT NULL) FROM refunds").await, "failed:true");
    assert_eq!(shop.value("SELECT count(*) FROM sandbox_refunds").await, "0");
    let waiting = reconcile::waiting(&shop.ctx.db).await.unwrap();
    let counts: Vec<_> = waiting.iter().map(|waiting| (waiting.kind.as_str(), waiting.count)).collect();
    assert_eq!(counts, [("payment", 0), ("refund", 0), ("refund_failed", 1)]);
    // Somebody has seen to it, and has the job run again.
    shop.sale.database.execute("DELETE FROM sandbox_faults").await;
    shop.sale.database.execute("UPDATE sandbox_charges SET token = 'tok_ok'").await;
    shop.sale.database.execute("UPDATE payments SET token = 'tok_ok'").await;
    shop.run(&PayRefund { refund_id }).await.unwrap();
    assert_eq!(shop.value("SELECT status FROM bookings").await, "refunded");
    shop.sale.database.assert_ledger_is_bookings().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorisation_that_cannot_be_voided_at_once_is_voided_later() {
    let shop = Shop::open(&[5], 1).await;
    let job = shop.begin(0, &[(0, 2)], "tok_void_fail+authorise_lose").await;
    shop.sale.database.execute("UPDATE events SET status = 'cancelled', version = version + 1").await;
    shop.run(&job).await.unwrap();
    let payment_id = shop.value("SELECT id FROM payments").await.parse().unwrap();
    let void = domain::jobs::VoidPayment { payment_id };
    assert!(shop.run(&void).await.is_err());
    assert_eq!(shop.value("SELECT status FROM sandbox_charges").await, "authorised");
    for _ in 0..2 {
        shop.run(&void).await.unwrap();
    }
    shop.sale.database.assert_ledger_is_bookings().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reconciliation_says_what_differs_and_lets_go_of_what_is_held_for_nothing() {
    let shop = Shop::open(&[50], 1).await;
    for _ in 0..6 {
        let job = shop.begin(0, &[(0, 1)], "tok_ok").await;
        shop.run(&job).await.unwrap();
    }
    assert_eq!(shop.sweep("reconcile_payments").await.found, 0, "what is fresh is left alone");
    shop.age_payments().await;
    assert_eq!(shop.sweep("reconcile_payments").await.found, 0);
    let keys = shop.value("SELECT string_agg(provider_key, ',' ORDER BY id) FROM payments").await;
    let keys: Vec<&str> = keys.split(',').collect();
    for (key, change) in [
        (keys[0], "UPDATE sandbox_charges SET amount = 2000, captured = 2000"),
        (keys[1], "UPDATE sandbox_charges SET refunded = 10"),
        (keys[2], "UPDATE sandbox_charges SET status = 'authorised', captured = 0"),
        (keys[3], "DELETE FROM sandbox_charges"),
        (keys[4], "UPDATE payments SET status = 'failed', failure = 'payment-declined'"),
        (keys[5], "UPDATE payments SET provider_key = 'elsewhere'"),
    ] {
        shop.sale.database.execute(&format!("{change} WHERE provider_key = '{key}'")).await;
    }
    shop.age_payments().await;
    // The key that we do not know, and the payment that the provider does not know, are two of seven.
    assert_eq!(shop.sweep("reconcile_payments").await.found, 7);
    let found = reconcile::differences(&shop.ctx.db, 100).await.unwrap();
    let mut kinds: Vec<_> = found.iter().map(|difference| difference.kind.as_str()).collect();
    kinds.sort_unstable();
    let wanted = [
        "amount",
        "charge_without_booking",
        "missing_charge",
        "missing_charge",
        "not_captured",
        "refund",
        "unknown_charge",
    ];
    assert_eq!(kinds, wanted);

    // Set aside, and no booking wants it: that is mended.
    let sql = format!(
        "UPDATE sandbox_charges SET status = 'authorised', captured = 0 WHERE provider_key = '{}'",
        keys[4]
    );
    shop.sale.database.execute(&sql).await;
    let report = shop.sweep("reconcile_payments").await;
    assert_eq!((report.found, report.fixed), (7, 1));
    let voided = format!("SELECT status FROM sandbox_charges WHERE provider_key = '{}'", keys[4]);
    assert_eq!(shop.value(&voided).await, "voided");
    assert_eq!(reconcile::differences(&shop.ctx.db, 100).await.unwrap().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_about_a_payment_changes_nothing_by_itself() {
    let shop = Shop::open(&[5], 1).await;
    let job = shop.begin(0, &[(0, 1)], "tok_ok").await;
    shop.run(&job).await.unwrap();
    let payment_id = shop.value("SELECT id FROM payments").await.parse().unwrap();
    for _ in 0..2 {
        shop.run(&RefreshPayment { payment_id }).await.unwrap();
    }
    assert_eq!(shop.value("SELECT status FROM payments").await, "captured");
    shop.sale.database.assert_ledger_is_bookings().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_are_refunded_in_full_whatever_the_policy_says() {
    let shop = Shop::open(&[2_000], 1).await;
    let job = shop.begin(0, &[(0, 2)], "tok_ok").await;
    shop.run(&job).await.unwrap();
    // 250 bookings like the first one, and a policy that gives nothing back.
    for sql in [
        "UPDATE events SET refund_policy = '[{\"hours_before\": 0, \"percent\": 0}]'",
        "INSERT INTO bookings SELECT gen_random_uuid(), 'EV-' || n, event_id, user_id, status, failure, items, quantity,
             total, currency, attempt, cancel_reason, created_at, confirmed_at, cancelled_at, refunded_at, updated_at
         FROM bookings, generate_series(1, 249) n",
        "INSERT INTO payments (id, booking_id, event_id, user_id, attempt, provider, provider_key, token, reference, status,
             amount, currency)
         SELECT gen_random_uuid(), b.id, b.event_id, b.user_id, 1, 'sandbox', b.id || ':1', 'tok_ok', 'sbx_' || b.id,
             'captured', b.total, b.currency
         FROM bookings b WHERE NOT EXISTS (SELECT FROM payments p WHERE p.booking_id = b.id)",
        "INSERT INTO sandbox_charges (provider_key, token, reference, status, amount, captured, currency, booking_id)
         SELECT provider_key, token, reference, 'captured', amount, amount, currency, booking_id FROM payments p
         WHERE NOT EXISTS (SELECT FROM sandbox_charges c WHERE c.provider_key = p.provider_key)",
        "INSERT INTO tickets (id, booking_id, event_id, ticket_type_id, code)
         SELECT gen_random_uuid(), b.id, b.event_id, (b.items -> 0 ->> 'ticket_type_id')::uuid, b.id || '-' || n
         FROM bookings b, generate_series(1, 2) n
         WHERE NOT EXISTS (SELECT FROM tickets t WHERE t.booking_id = b.id)",
        "UPDATE ticket_types SET sold = 500, inventory_version = inventory_version + 1",
        "UPDATE event_buyers SET sold = 500, version = version + 1",
        "UPDATE events SET status = 'cancelled', version = version + 1",
    ] {
        shop.sale.database.execute(sql).await;
    }
    // Killed in the middle: some batches are done.
    for _ in 0..2 {
        let batch = bookings::cancel_batch_of_event(&shop.ctx.db, job.event_id, 100).await.unwrap();
        assert_eq!(batch.bookings.len(), 100);
    }
    shop.run(&CancelEventBookings { event_id: job.event_id }).await.unwrap();
    assert_eq!(shop.value("SELECT count(*) || ':' || sum(amount) FROM refunds").await, "250:500000");
    // Their jobs are lost; the sweep brings them back.
    shop.sale.database.execute("DELETE FROM outbox").await;
    shop.age_payments().await;
    assert_eq!(shop.sweep("sweep_payments").await.found, 250);
    shop.work_until("SELECT count(*) FROM bookings WHERE status = 'refunded'", "250").await;
    assert_eq!(shop.sweep("sweep_payments").await.found, 0);
    assert_eq!(shop.value("SELECT count(*) FROM mails WHERE kind = 'booking_refunded'").await, "250");
    shop.sale.database.assert_ledger_is_bookings().await;
}
