//! The waitlist's share: what comes free while somebody waits is never the public's, whatever happens in between.

use domain::{
    holds::{PlaceError, Settled, Settlement, begin_confirm, expire_holds, release, settle},
    inventory::{Drift, SeatCount, SeatSnapshot, ensure_ready, reconcile_event, sync_event},
    waitlist::{self, EntryStatus, JoinError, JoinRequest, Joins, promote},
};
use futures::future::join_all;
use uuid::Uuid;

use super::seats::Sale;

fn wish(sale: &Sale, user: usize, quantity: i32) -> JoinRequest {
    JoinRequest {
        event_id: sale.event_id,
        ticket_type_id: sale.ticket_types[0],
        user_id: sale.users[user],
        quantity,
    }
}

async fn count(sale: &Sale) -> SeatCount {
    let count = sale.counts().await[0];
    let parts = count.sold + count.held + count.offered + count.available();
    assert_eq!(parts, count.capacity, "every seat is somewhere: {count:?}");
    count
}

/// Who was offered how many, in the order of the offers.
async fn offers(sale: &Sale) -> Vec<(usize, i32)> {
    let sql = "SELECT user_id, quantity FROM waitlist_offers ORDER BY created_at, id";
    let rows = sale.database.rows(sql).await;
    let user = |id: &str| sale.users.iter().position(|user| user.to_string() == id).unwrap();
    rows.iter()
        .map(|row| (user(row[0].as_ref().unwrap()), row[1].as_ref().unwrap().parse().unwrap()))
        .collect()
}

async fn promoted(sale: &Sale) -> usize {
    promote(&sale.db, &sale.inventory, sale.event_id).await.unwrap().offers
}

async fn free(sale: &Sale, hold: Uuid, user: usize) {
    release(&sale.inventory, sale.event_id, hold, sale.users[user]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_free_is_kept_offered_and_when_nobody_waits_public() {
    let sale = Sale::open(&[5], 6, 10).await;
    let joins = Joins::start(&sale.db, &sale.inventory);
    let three = sale.place(0, &[(0, 3)], "a").await.unwrap().hold.id;
    let two = sale.place(0, &[(0, 2)], "b").await.unwrap().hold.id;
    for (user, quantity) in [(1, 4), (2, 2), (3, 2)] {
        assert!(joins.join(wish(&sale, user, quantity)).await.unwrap().created);
    }
    free(&sale, three, 0).await;
    let kept = count(&sale).await;
    assert_eq!((kept.share, kept.available(), kept.waitlisted), (3, 0, 8));
    assert!(matches!(sale.place(4, &[(0, 1)], "x").await, Err(PlaceError::SoldOut { .. })));
    // A party of four is passed over; of three seats the one that is left fits nobody, and stays.
    assert_eq!(promoted(&sale).await, 1);
    assert_eq!(offers(&sale).await, [(2, 2)]);
    assert_eq!(promoted(&sale).await, 0);
    let kept = count(&sale).await;
    assert_eq!((kept.share, kept.offered, kept.available(), kept.held), (1, 3, 0, 2));
    free(&sale, two, 0).await;
    assert_eq!(promoted(&sale).await, 1);
    assert_eq!(offers(&sale).await, [(2, 2), (3, 2)]);

    // The last one leaves: what nobody waits for is everybody's, once.
    let left = waitlist::leave(&sale.db, sale.event_id, sale.users[1], None).await.unwrap();
    assert_eq!(left.count, 1);
    left.changes.tell(&sale.inventory).await;
    left.changes.tell(&sale.inventory).await;
    let open = count(&sale).await;
    assert_eq!((open.share, open.available(), open.offered), (0, 1, 4));
    assert_eq!(sale.database.value("SELECT reserved FROM ticket_types").await.as_deref(), Some("4"));
    assert_eq!(reconcile_event(&sale.inventory, &sale.db, sale.event_id).await.unwrap(), Drift::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_that_is_sold_back_is_kept_in_whatever_order_redis_hears_of_it() {
    let sale = Sale::open(&[2], 4, 10).await;
    let joins = Joins::start(&sale.db, &sale.inventory);
    let hold = sale.place(0, &[(0, 1)], "a").await.unwrap().hold.id;
    begin_confirm(&sale.inventory, &sale.db, &sale.confirm(hold, 0)).await.unwrap();
    sale.place(1, &[(0, 1)], "b").await.unwrap();
    joins.join(wish(&sale, 2, 1)).await.unwrap();
    let row = |version, sold| SeatSnapshot {
        ticket_type_id: sale.ticket_types[0],
        capacity: 2,
        sold,
        reserved: 0,
        price: 1000,
        version,
        waiting: 1,
    };
    // One booking was committed (version 11) and another cancelled (12); the later row comes first.
    let late = |holds, seats| Settlement { holds, seats: vec![seats], buyers: vec![] };
    settle(&sale.inventory, sale.event_id, &late(vec![], row(12, 0))).await.unwrap();
    let confirmed = late(vec![(hold, 1, Settled::Confirmed)], row(11, 1));
    settle(&sale.inventory, sale.event_id, &confirmed).await.unwrap();
    let kept = count(&sale).await;
    assert_eq!((kept.share, kept.available(), kept.held), (1, 0, 1));
    assert!(matches!(sale.place(3, &[(0, 1)], "x").await, Err(PlaceError::SoldOut { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_and_freed_seats_that_race_leave_nothing_to_strangers() {
    let sale = Sale::open(&[40], 130, 10).await;
    let joins = Joins::start(&sale.db, &sale.inventory);
    let holds: Vec<Uuid> = {
        let placed = join_all((0..40).map(|user| sale.place(user, &[(0, 1)], "k"))).await;
        placed.into_iter().map(|placed| placed.unwrap().hold.id).collect()
    };
    joins.join(wish(&sale, 40, 1)).await.unwrap();
    let strangers = async {
        let mut taken = 0;
        for round in 0..20 {
            let tries = (100..130).map(async |user| sale.place(user, &[(0, 1)], &format!("s{round}")).await);
            taken += join_all(tries).await.iter().filter(|placed| placed.is_ok()).count();
        }
        taken
    };
    let freed = join_all(holds.iter().enumerate().map(async |(user, hold)| free(&sale, *hold, user).await));
    let joined = join_all((41..100).map(|user| joins.join(wish(&sale, user, 1))));
    let promoting = async {
        let mut offers = 0;
        for _ in 0..10 {
            offers += promoted(&sale).await;
        }
        offers
    };
    let (taken, _, joined, offers_made) = tokio::join!(strangers, freed, joined, promoting);
    assert_eq!(taken, 0, "no stranger gets a seat");
    assert!(joined.iter().all(Result::is_ok));
    assert_eq!(offers_made + promoted(&sale).await, 40);
    let wrong = "SELECT count(*) FROM waitlist_entries o JOIN waitlist_entries w ON w.place < o.place
                 WHERE o.status = 'offered' AND w.status = 'waiting'";
    assert_eq!(sale.database.value(wrong).await.as_deref(), Some("0"), "strictly in order");
    let numbers = "SELECT waiting_entries || ':' || waiting_tickets || ':' || reserved FROM ticket_types";
    assert_eq!(sale.database.value(numbers).await.as_deref(), Some("20:20:40"));
    let at_rest = count(&sale).await;
    assert_eq!((at_rest.offered, at_rest.share, at_rest.available(), at_rest.held), (40, 0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_to_the_public_only_shrinks_while_somebody_waits() {
    let sale = Sale::open(&[6], 3, 10).await;
    let joins = Joins::start(&sale.db, &sale.inventory);
    let hold = sale.place(0, &[(0, 3)], "a").await.unwrap().hold.id;
    joins.join(wish(&sale, 1, 4)).await.unwrap();
    assert_eq!((count(&sale).await.available(), count(&sale).await.share), (3, 0));
    let lower = "UPDATE ticket_types SET capacity = 4, inventory_version = inventory_version + 1";
    sale.database.execute(lower).await;
    sync_event(&sale.inventory, &sale.db, sale.event_id, false).await.unwrap();
    assert_eq!(count(&sale).await.available(), 1);
    free(&sale, hold, 0).await;
    assert_eq!((count(&sale).await.available(), count(&sale).await.share), (1, 3));
    sale.place(2, &[(0, 1)], "b").await.unwrap();
    assert!(matches!(sale.place(2, &[(0, 1)], "c").await, Err(PlaceError::SoldOut { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn parties_are_served_in_order_also_where_one_transaction_does_not_offer_everything() {
    let sale = Sale::open(&[300], 5, 300).await;
    let joins = Joins::start(&sale.db, &sale.inventory);
    let hold = sale.place(0, &[(0, 300)], "a").await.unwrap().hold.id;
    for (user, quantity) in [(1, 60), (2, 60), (3, 150), (4, 40)] {
        joins.join(wish(&sale, user, quantity)).await.unwrap();
    }
    free(&sale, hold, 0).await;
    assert_eq!(promoted(&sale).await, 3);
    assert_eq!(offers(&sale).await, [(1, 60), (2, 60), (3, 150)]);
    assert_eq!(count(&sale).await.share, 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_that_dies_gives_its_seats_back_to_those_who_wait() {
    let sale = Sale::open(&[2], 4, 10).await;
    let joins = Joins::start(&sale.db, &sale.inventory);
    let hold = sale.place(0, &[(0, 2)], "a").await.unwrap().hold.id;
    joins.join(wish(&sale, 1, 2)).await.unwrap();
    // Before its commit: Postgres refuses, as if it were gone.
    sale.database.execute("ALTER TABLE waitlist_offers RENAME TO away").await;
    free(&sale, hold, 0).await;
    assert!(promote(&sale.db, &sale.inventory, sale.event_id).await.is_err());
    sale.database.execute("ALTER TABLE away RENAME TO waitlist_offers").await;
    let kept = count(&sale).await;
    assert_eq!((kept.share, kept.held, kept.available()), (2, 0, 0));
    assert_eq!(promoted(&sale).await, 1);
    // After it, before Redis was told: the row comes with the outbox, and again, and nothing is counted twice.
    for _ in 0..2 {
        sync_event(&sale.inventory, &sale.db, sale.event_id, true).await.unwrap();
        assert_eq!(count(&sale).await.offered, 2);
    }
    let jobs = "SELECT string_agg(DISTINCT job, ',' ORDER BY job) FROM outbox";
    assert_eq!(sale.database.value(jobs).await.as_deref(), Some("send_mail,sync_inventory"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_lost_everything_keeps_what_is_free_for_those_who_wait() {
    let sale = Sale::open(&[6], 6, 10).await;
    let joins = Joins::start(&sale.db, &sale.inventory);
    let hold = sale.place(0, &[(0, 4)], "a").await.unwrap().hold.id;
    sale.place(0, &[(0, 2)], "b").await.unwrap();
    joins.join(wish(&sale, 1, 2)).await.unwrap();
    joins.join(wish(&sale, 2, 3)).await.unwrap();
    joins.join(wish(&sale, 3, 3)).await.unwrap();
    free(&sale, hold, 0).await;
    assert_eq!(promoted(&sale).await, 1);
    let token = sale.database.value("SELECT data ->> 'token' FROM mails").await.unwrap();
    let claimed = waitlist::claim(&sale.db, &sale.inventory, &token, None).await.unwrap();

    let _: () = redis::cmd("FLUSHALL").query_async(&mut sale.redis.connect().await).await.unwrap();
    ensure_ready(&sale.inventory, &sale.db, sale.event_id).await.unwrap();
    let lost = count(&sale).await;
    assert_eq!((lost.share, lost.offered, lost.available(), lost.waitlisted), (4, 6, 0, 6));
    assert!(matches!(sale.place(4, &[(0, 1)], "x").await, Err(PlaceError::SoldOut { .. })));
    // The claim again makes the same hold; its seats were reserved all the time.
    let again = waitlist::claim(&sale.db, &sale.inventory, &token, Some(sale.users[1])).await.unwrap();
    assert_eq!((again.hold.id, again.first), (claimed.hold.id, false));
    assert_eq!(count(&sale).await.held, 2);
    assert_eq!(promoted(&sale).await, 1);
    assert_eq!(offers(&sale).await, [(1, 2), (2, 3)]);
    assert_eq!(reconcile_event(&sale.inventory, &sale.db, sale.event_id).await.unwrap(), Drift::default());

    // The hold runs out: its seats are given back by Postgres, once.
    sale.let_run_out(again.hold.id).await;
    expire_holds(&sale.inventory, sale.event_id, 10).await.unwrap();
    assert_eq!(count(&sale).await.offered, 6);
    for ended in [1, 0] {
        let lapsed = waitlist::lapse(&sale.db, &[again.hold.id]).await.unwrap();
        assert_eq!(lapsed.count, ended);
        lapsed.changes.tell(&sale.inventory).await;
    }
    assert_eq!(promoted(&sale).await, 1);
    assert_eq!(offers(&sale).await, [(1, 2), (2, 3), (3, 3)]);
    let numbers = "SELECT sold || ':' || reserved || ':' || waiting_entries FROM ticket_types";
    assert_eq!(sale.database.value(numbers).await.as_deref(), Some("0:6:0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_bought_elsewhere_is_passed_over_and_a_join_left_behind_is_cleared() {
    let sale = Sale::open(&[2], 4, 3).await;
    let joins = Joins::start(&sale.db, &sale.inventory);
    let hold = sale.place(0, &[(0, 2)], "a").await.unwrap().hold.id;
    for user in [1, 2] {
        joins.join(wish(&sale, user, 2)).await.unwrap();
    }
    assert!(matches!(joins.join(wish(&sale, 0, 2)).await, Err(JoinError::LimitExceeded { have: 2, may: 3 })));
    let bought = format!(
        "INSERT INTO event_buyers (event_id, user_id, sold) VALUES ('{}', '{}', 2)",
        sale.event_id, sale.users[1]
    );
    sale.database.execute(&bought).await;
    free(&sale, hold, 0).await;
    assert_eq!(promoted(&sale).await, 1);
    assert_eq!(offers(&sale).await, [(2, 2)]);
    let mut conn = sale.db.conn().await.unwrap();
    let entry = waitlist::mine(&mut conn, sale.event_id, sale.users[1]).await.unwrap().remove(0);
    assert_eq!((entry.status, entry.position), (EntryStatus::Waiting, Some(1)));

    // A process began a join and died; nobody waits, and until that is found out nothing is the public's.
    let event = format!("ev:{{{}}}", sale.event_id);
    let kind = sale.ticket_types[0];
    let mut redis = sale.redis.connect().await;
    redis::pipe()
        .cmd("ZADD")
        .arg(format!("{event}:joining"))
        .arg(1)
        .arg(format!("{kind}:{}", Uuid::now_v7()))
        .ignore()
        .cmd("HSET")
        .arg(&event)
        .arg(format!("j:{kind}"))
        .arg(1)
        .arg(format!("pb:{kind}"))
        .arg(0)
        .ignore()
        .exec_async(&mut redis)
        .await
        .unwrap();
    let declined = waitlist::leave(&sale.db, sale.event_id, sale.users[2], None).await.unwrap();
    declined.changes.tell(&sale.inventory).await;
    assert_eq!(count(&sale).await.share, 2);
    // Only one waits who may not have so many any more: what nobody can use is not kept.
    assert_eq!(promoted(&sale).await, 0);
    let entry = waitlist::mine(&mut conn, sale.event_id, sale.users[1]).await.unwrap().remove(0);
    assert_eq!((entry.status, entry.position), (EntryStatus::Expired, None));
    let kept = count(&sale).await;
    assert_eq!((kept.share, kept.held, kept.waitlisted), (2, 0, 0));
    reconcile_event(&sale.inventory, &sale.db, sale.event_id).await.unwrap();
    assert_eq!((count(&sale).await.share, count(&sale).await.available()), (0, 2));
    assert!(matches!(joins.join(wish(&sale, 3, 1)).await, Err(JoinError::SeatsAvailable)));
}
