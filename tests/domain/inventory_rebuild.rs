//! The inventory lost, stale or wrong: Postgres brings it back.

use std::{sync::Arc, time::Duration};

use domain::{
    holds::{BeginConfirmError, ConfirmStart, HoldClaims, HoldTokens, PlaceError, begin_confirm},
    inventory::{LowerCapacity, SeatSnapshot, forget, long_over, reconcile_event, sync_event},
};
use futures::future::join_all;

use super::seats::Sale;

async fn flush(sale: &Sale) {
    let _: () = redis::cmd("FLUSHALL").query_async(&mut sale.redis.connect().await).await.unwrap();
}

/// Sells seats behind Redis's back.
async fn sell_in_postgres(sale: &Sale, sold: u32) {
    let id = sale.ticket_types[0];
    let sql = format!(
        "UPDATE ticket_types SET sold = {sold}, inventory_version = inventory_version + 1 WHERE id = '{id}'"
    );
    sale.database.execute(&sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_redis_is_never_full_capacity() {
    let sale = Arc::new(Sale::open(&[10], 100, 10).await);
    sell_in_postgres(&sale, 7).await;
    flush(&sale).await;
    let placed = join_all((0..100).map(|user| {
        let sale = Arc::clone(&sale);
        tokio::spawn(async move { sale.place(user, &[(0, 1)], "k").await })
    }))
    .await;
    let held = placed.iter().filter(|outcome| outcome.as_ref().unwrap().is_ok()).count();
    assert_eq!(held, 3);
    let sql = format!("SELECT inventory_epoch FROM events WHERE id = '{}'", sale.event_id);
    let epoch = sale.database.value(&sql).await;
    assert_eq!(epoch.as_deref(), Some("1"), "a hundred callers share one rebuild");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarted_is_not_trusted_before_postgres_was_asked() {
    let mut sale = Sale::open(&[10], 3, 10).await;
    // The hold must be there again, however slow the disk is just now.
    let always = ["SET", "appendfsync", "always"];
    let () = redis::cmd("CONFIG").arg(&always).query_async(&mut sale.redis.connect().await).await.unwrap();
    let hold = sale.place(0, &[(0, 2)], "k").await.unwrap().hold;
    sale.redis.kill();
    sale.redis.restart();
    // While Redis was away, Postgres moved on.
    sell_in_postgres(&sale, 5).await;
    // The first command may find the broken connection.
    let mut again = sale.place(1, &[(0, 3)], "k2").await;
    for _ in 0..50 {
        if !matches!(again, Err(PlaceError::Fault(_))) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        again = sale.place(1, &[(0, 3)], "k2").await;
    }
    again.unwrap();
    let counts = sale.counts().await[0];
    assert_eq!((counts.sold, counts.held, counts.available()), (5, 5, 0));
    assert!(
        begin_confirm(&sale.inventory, &sale.db, &sale.confirm(hold.id, 0)).await.is_ok(),
        "the hold survived"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_brings_a_lost_hold_back_if_the_seats_are_free() {
    let sale = Sale::open(&[4], 3, 10).await;
    let tokens = HoldTokens::new(&[1; 32]);
    let mut claims: Vec<HoldClaims> = Vec::new();
    for user in 0..2 {
        let hold = sale.place(user, &[(0, 2)], "k").await.unwrap().hold;
        claims.push(tokens.verify(&tokens.sign(&hold)).unwrap());
    }
    flush(&sale).await;
    let id = claims[0].hold().id;
    let begin = begin_confirm(&sale.inventory, &sale.db, &sale.confirm(id, 0)).await;
    assert!(matches!(begin, Err(BeginConfirmError::NotFound)), "nothing is known without the token");

    sale.place(2, &[(0, 1)], "k").await.unwrap();
    let with = |user: usize, claims: &HoldClaims| {
        let mut request = sale.confirm(claims.hold().id, user);
        request.token = Some(claims.clone());
        request
    };
    let first = begin_confirm(&sale.inventory, &sale.db, &with(0, &claims[0])).await.unwrap();
    let ConfirmStart::Started { attempt } = first else { panic!("{first:?}") };
    assert!(attempt > 1, "an attempt from before the loss is not taken for this one");
    let again = begin_confirm(&sale.inventory, &sale.db, &with(0, &claims[0])).await.unwrap();
    assert_eq!(again, ConfirmStart::Running { attempt });
    let second = begin_confirm(&sale.inventory, &sale.db, &with(1, &claims[1])).await;
    assert!(matches!(second, Err(BeginConfirmError::SoldOut)), "{second:?}");
    assert_eq!(sale.counts().await[0].held, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_counts_what_was_bought_before_the_loss() {
    let sale = Sale::open(&[10], 1, 4).await;
    let sql = format!(
        "INSERT INTO event_buyers (event_id, user_id, sold) VALUES ('{}', '{}', 3)",
        sale.event_id, sale.users[0]
    );
    sale.database.execute(&sql).await;
    assert!(matches!(
        sale.place(0, &[(0, 2)], "k").await,
        Err(PlaceError::LimitExceeded { have: 3, may: 4 })
    ));
    assert!(sale.place(0, &[(0, 1)], "k2").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reconciler_mends_every_kind_of_drift_and_is_silent_without_any() {
    let sale = Sale::open(&[10], 1, 10).await;
    sale.place(0, &[(0, 2)], "k").await.unwrap();
    let clean = reconcile_event(&sale.inventory, &sale.db, sale.event_id).await.unwrap();
    assert_eq!((clean.total(), clean.rebuilt), (0, false));

    sell_in_postgres(&sale, 4).await;
    let behind = reconcile_event(&sale.inventory, &sale.db, sale.event_id).await.unwrap();
    assert_eq!(behind.behind, 1);
    assert_eq!(sale.counts().await[0].sold, 4);

    let inventory = format!("ev:{{{}}}", sale.event_id);
    let mut redis = sale.redis.connect().await;
    let field = |name: &str| format!("{name}:{}", sale.ticket_types[0]);
    let _: () =
        redis::cmd("HSET").arg(&inventory).arg(field("h")).arg(9).query_async(&mut redis).await.unwrap();
    let held = reconcile_event(&sale.inventory, &sale.db, sale.event_id).await.unwrap();
    assert_eq!(held.held, 1);
    assert_eq!(sale.counts().await[0].held, 2);

    let _: () = redis::cmd("HSET")
        .arg(&inventory)
        .arg(field("s"))
        .arg(1)
        .arg(field("v"))
        .arg(99)
        .query_async(&mut redis)
        .await
        .unwrap();
    let ahead = reconcile_event(&sale.inventory, &sale.db, sale.event_id).await.unwrap();
    assert_eq!(ahead.ahead, 1);
    assert_eq!(sale.counts().await[0].sold, 4);
    assert_eq!(reconcile_event(&sale.inventory, &sale.db, sale.event_id).await.unwrap().total(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capacity_is_lowered_before_postgres_and_never_below_what_is_in_use() {
    let sale = Sale::open(&[10], 1, 10).await;
    sale.place(0, &[(0, 4)], "k").await.unwrap();
    let row = |capacity| SeatSnapshot {
        ticket_type_id: sale.ticket_types[0],
        capacity,
        sold: 0,
        reserved: 0,
        price: 1000,
        version: 2,
        waiting: 0,
    };
    let refused = sale.inventory.lower_capacity(sale.event_id, &row(3)).await.unwrap();
    assert_eq!(refused, LowerCapacity::InUse(4));
    assert_eq!(sale.inventory.lower_capacity(sale.event_id, &row(4)).await.unwrap(), LowerCapacity::Lowered);
    assert!(matches!(sale.place(0, &[(0, 1)], "k2").await, Err(PlaceError::SoldOut { .. })));
    // Postgres did not follow.
    sync_event(&sale.inventory, &sale.db, sale.event_id, true).await.unwrap();
    assert!(sale.place(0, &[(0, 1)], "k3").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_long_over_is_forgotten_and_what_is_not_stays() {
    let mut sale = Sale::open(&[10], 1, 10).await;
    let over = sale.event_id;
    sale.place(0, &[(0, 1)], "k").await.unwrap();
    let sql = format!(
        "UPDATE events SET starts_at = now() - interval '4 days', ends_at = now() - interval '3 days' WHERE id = '{over}'"
    );
    sale.database.execute(&sql).await;
    sale.next_event(&[10], 10).await;
    sale.place(0, &[(0, 1)], "k").await.unwrap();
    assert_eq!(long_over(&sale.db).await.unwrap(), [over]);
    assert!(forget(&sale.inventory, &[over]).await.unwrap() >= 3);
    assert!(sale.inventory.availability(over, &[]).await.unwrap().is_none());
    assert_eq!(sale.counts().await[0].held, 1);
}
