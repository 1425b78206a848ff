//! Jobs of the waitlist, each run twice, and what its mails are owed for.

use std::time::Duration;

use domain::{
    jobs::{CancelEventBookings, PromoteWaitlist},
    waitlist::{self, JoinRequest, Joins},
};
use workers::runtime::Report;

use super::shop::Shop;

impl Shop {
    async fn join(&self, user: usize, quantity: i32) {
        let request = JoinRequest {
            event_id: self.sale.event_id,
            ticket_type_id: self.sale.ticket_types[0],
            user_id: self.sale.users[user],
            quantity,
        };
        Joins::start(&self.sale.db, &self.sale.inventory).join(request).await.unwrap();
    }

    async fn promote_twice(&self) {
        for _ in 0..2 {
            self.run(&PromoteWaitlist { event_id: self.sale.event_id }).await.unwrap();
        }
    }

    async fn keep_moving(&self) -> Report {
        let spec = workers::spec(domain::jobs::Pool::Waitlist);
        (spec.periodics[0].run)(self.ctx.clone()).await.unwrap()
    }

    async fn statuses(&self) -> String {
        self.value("SELECT string_agg(status, ',' ORDER BY place) FROM waitlist_entries").await
    }

    async fn mails(&self) -> String {
        let sql = "SELECT string_agg(kind || ':' || n, ',' ORDER BY kind) FROM
                   (SELECT kind, count(*) AS n FROM mails GROUP BY 1) AS counted";
        self.value(sql).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_are_made_once_run_out_once_and_the_next_one_has_them() {
    let shop = Shop::open(&[2], 6).await;
    let job = shop.begin(0, &[(0, 2)], "tok_ok").await;
    shop.run(&job).await.unwrap();
    shop.join(1, 1).await;
    shop.join(2, 1).await;
    shop.join(3, 2).await;
    assert_eq!(shop.keep_moving().await, Report::default());
    let done =
        domain::bookings::cancel(&mut shop.ctx.db.conn().await.unwrap(), job.hold_id, shop.sale.users[0])
            .await
            .unwrap();
    done.changes.tell(&shop.ctx.inventory).await;
    assert_eq!(shop.keep_moving().await.fixed, 1, "a promotion is enqueued");
    shop.promote_twice().await;
    assert_eq!(shop.statuses().await, "offered,offered,waiting");
    assert_eq!(shop.value("SELECT reserved FROM ticket_types").await, "2");
    let deadline = "SELECT count(*) FROM mails m JOIN waitlist_offers o ON o.id::text = m.cause
                    WHERE m.kind = 'waitlist_offer' AND m.deadline = o.expires_at";
    assert_eq!(shop.value(deadline).await, "2");
    let hashed = "SELECT count(*) FROM mails m JOIN waitlist_offers o ON o.id::text = m.cause
                  WHERE o.token_hash = sha256((m.data ->> 'token')::bytea)";
    assert_eq!(shop.value(hashed).await, "2");

    // One claims in time, and pays; the other lets it pass.
    let first = "SELECT data ->> 'token' FROM mails WHERE kind = 'waitlist_offer' ORDER BY id LIMIT 1";
    let token = shop.value(first).await;
    let claimed = waitlist::claim(&shop.ctx.db, &shop.ctx.inventory, &token, None).await.unwrap();
    let user = shop.sale.users.iter().position(|user| *user == claimed.hold.user_id).unwrap();
    shop.sale.database.execute("UPDATE waitlist_offers SET expires_at = now() - interval '1 second'").await;
    assert_eq!(shop.keep_moving().await.fixed, 1);
    assert_eq!(shop.keep_moving().await.fixed, 0, "nobody can use one seat");
    assert_eq!(
        shop.mails().await,
        "booking_cancelled:1,booking_confirmed:1,waitlist_offer:2,waitlist_offer_expired:1"
    );
    assert_eq!(shop.sale.counts().await[0].available(), 0);
    let confirm = shop.begin_again(user, claimed.hold.id, "tok_ok").await;
    for _ in 0..2 {
        shop.run(&confirm).await.unwrap();
    }
    assert_eq!(shop.value("SELECT sold || ':' || reserved FROM ticket_types").await, "1:0");
    assert_eq!(
        shop.value("SELECT string_agg(status, ',' ORDER BY status) FROM waitlist_offers").await,
        "expired,sold"
    );

    // What was bought with an offer and is cancelled brings its buyer no second one.
    let done = domain::bookings::cancel(
        &mut shop.ctx.db.conn().await.unwrap(),
        claimed.hold.id,
        claimed.hold.user_id,
    )
    .await
    .unwrap();
    done.changes.tell(&shop.ctx.inventory).await;
    shop.promote_twice().await;
    assert_eq!(shop.value("SELECT status FROM waitlist_entries WHERE quantity = 2").await, "offered");
    assert_eq!(shop.value("SELECT sold || ':' || reserved FROM ticket_types").await, "0:2");
    let count = shop.sale.counts().await[0];
    assert_eq!((count.offered, count.share, count.available()), (2, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claimed_hold_that_runs_out_gives_its_seats_back_once_and_not_while_it_is_paid() {
    let shop = Shop::open(&[1], 4).await;
    let held = shop.sale.place(0, &[(0, 1)], "k").await.unwrap().hold.id;
    shop.join(1, 1).await;
    shop.join(2, 1).await;
    domain::holds::release(&shop.ctx.inventory, shop.sale.event_id, held, shop.sale.users[0]).await.unwrap();
    shop.promote_twice().await;
    let token = shop.value("SELECT data ->> 'token' FROM mails").await;
    let claimed = waitlist::claim(&shop.ctx.db, &shop.ctx.inventory, &token, None).await.unwrap();
    let over =
        "UPDATE waitlist_offers SET hold_expires_at = now() - interval '1 second' WHERE hold_id IS NOT NULL";
    shop.sale.database.execute(over).await;
    // Redis, whose clock decides, says that it is held still; then that it is being paid.
    assert_eq!(shop.keep_moving().await.fixed, 0);
    let declined = shop.begin_again(1, claimed.hold.id, "tok_declined").await;
    assert_eq!(shop.keep_moving().await.fixed, 0);
    shop.run(&declined).await.unwrap();
    assert_eq!(shop.keep_moving().await.fixed, 0, "it may be paid with another card");
    shop.sale.let_run_out(claimed.hold.id).await;
    assert_eq!(shop.keep_moving().await.fixed, 2, "it lapses, and the next promotion is enqueued");
    shop.promote_twice().await;
    assert_eq!(shop.statuses().await, "claimed,offered");
    assert_eq!(shop.value("SELECT reserved FROM ticket_types").await, "1");
    shop.assert_consistent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_event_ends_its_waitlist_with_a_mail_to_each() {
    let shop = Shop::open(&[2], 5).await;
    let held = shop.sale.place(0, &[(0, 1)], "k").await.unwrap().hold.id;
    shop.sale.place(0, &[(0, 1)], "l").await.unwrap();
    for user in [1, 2, 3] {
        shop.join(user, 1).await;
    }
    domain::holds::release(&shop.ctx.inventory, shop.sale.event_id, held, shop.sale.users[0]).await.unwrap();
    shop.promote_twice().await;
    shop.sale.database.execute("UPDATE events SET status = 'cancelled', version = version + 1").await;
    for _ in 0..2 {
        shop.run(&CancelEventBookings { event_id: shop.sale.event_id }).await.ok();
    }
    assert_eq!(shop.statuses().await, "expired,expired,expired");
    assert_eq!(shop.mails().await, "waitlist_ended:3,waitlist_offer:1");
    let numbers = "SELECT reserved || ':' || waiting_entries || ':' || waiting_tickets FROM ticket_types";
    assert_eq!(shop.value(numbers).await, "0:0:0");
    shop.promote_twice().await;
    let token = shop.value("SELECT data ->> 'token' FROM mails WHERE kind = 'waitlist_offer'").await;
    let late = waitlist::claim(&shop.ctx.db, &shop.ctx.inventory, &token, None).await;
    assert!(matches!(late, Err(waitlist::ClaimError::Over)), "{late:?}");
}

/// Everybody wants one, and Postgres has counted them: still none of them is looked at for who may want six.
#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_reads_no_more_of_the_line_than_it_offers() {
    const WAITING: u32 = 3000;
    let shop = Shop::open(&[6], 1).await;
    let job = shop.begin(0, &[(0, 6)], "tok_ok").await;
    shop.run(&job).await.unwrap();
    let (event, ticket_type) = (shop.sale.event_id, shop.sale.ticket_types[0]);
    shop.sale
        .database
        .execute(&format!(
            "INSERT INTO users (id, email, name, password_hash) \
             SELECT gen_random_uuid(), n || '@evently.test', 'waits', '' FROM generate_series(1, {WAITING}) n; \
             INSERT INTO waitlist_entries (id, event_id, ticket_type_id, user_id, quantity, place) \
             SELECT gen_random_uuid(), '{event}', '{ticket_type}', id, 1, row_number() OVER () \
             FROM users WHERE name = 'waits'; \
             UPDATE ticket_types SET waiting_entries = {WAITING}, waiting_tickets = {WAITING}, \
                 last_place = {WAITING}; \
             ANALYZE waitlist_entries"
        ))
        .await;
    let done =
        domain::bookings::cancel(&mut shop.ctx.db.conn().await.unwrap(), job.hold_id, shop.sale.users[0])
            .await
            .unwrap();
    done.changes.tell(&shop.ctx.inventory).await;
    shop.promote_twice().await;
    assert_eq!(shop.value("SELECT count(*) FROM waitlist_offers").await, "6");
    // A connection says once a second, between two transactions, what it has done.
    let told = "SELECT n_tup_upd >= 6 FROM pg_stat_user_tables WHERE relname = 'waitlist_entries'";
    let mut looks = 0;
    while shop.value(told).await != "t" {
        looks += 1;
        assert!(looks < 100, "Postgres does not say what it has read");
        tokio::time::sleep(Duration::from_millis(300)).await;
        shop.promote_twice().await;
    }
    let read = "SELECT t.seq_tup_read + sum(i.idx_tup_read) FROM pg_stat_user_tables t \
                JOIN pg_stat_user_indexes i USING (relid) WHERE t.relname = 'waitlist_entries' \
                GROUP BY t.seq_tup_read";
    let read: u32 = shop.value(read).await.parse().unwrap();
    assert!(read < WAITING, "{read} rows were read for six offers");
}
