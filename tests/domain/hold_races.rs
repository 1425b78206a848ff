//! Many at once: each seat once, each key once, each end once.

use std::{collections::HashSet, sync::Arc};

use domain::holds::{
    self, BeginConfirmError, ConfirmStart, HoldStatus, HoldTokens, PlaceError, Settled, Settlement,
    begin_confirm, expire_holds, settle,
};
use futures::future::join_all;

use super::seats::Sale;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_seats_for_a_thousand() {
    let sale = Arc::new(Sale::open(&[100], 1000, 10).await);
    let placed = join_all((0..1000).map(|user| {
        let sale = Arc::clone(&sale);
        tokio::spawn(async move { sale.place(user, &[(0, 1)], "k").await })
    }))
    .await;
    let (mut held, mut sold_out) = (HashSet::new(), 0);
    for outcome in placed {
        match outcome.unwrap() {
            Ok(placed) => assert!(held.insert(placed.hold.id)),
            Err(PlaceError::SoldOut { line: 0, replayed: false }) => sold_out += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((held.len(), sold_out), (100, 900));
    assert_eq!(sale.counts().await[0].available(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_fifty_times_is_one_hold() {
    let sale = Arc::new(Sale::open(&[100], 1, 10).await);
    let placed = join_all((0..50).map(|_| {
        let sale = Arc::clone(&sale);
        tokio::spawn(async move { sale.place(0, &[(0, 2)], "same").await.unwrap() })
    }))
    .await;
    let placed: Vec<_> = placed.into_iter().map(Result::unwrap).collect();
    assert_eq!(placed.iter().filter(|placed| !placed.replayed).count(), 1);
    assert!(placed.iter().all(|other| other.hold == placed[0].hold));
    assert_eq!(sale.counts().await[0].held, 2);
    assert!(matches!(sale.place(0, &[(0, 3)], "same").await, Err(PlaceError::KeyReused)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_kept_under_its_key() {
    let sale = Sale::open(&[1], 2, 10).await;
    let first = sale.place(0, &[(0, 1)], "a").await.unwrap();
    assert!(matches!(sale.place(1, &[(0, 1)], "b").await, Err(PlaceError::SoldOut { replayed: false, .. })));
    holds::release(&sale.inventory, sale.event_id, first.hold.id, sale.users[0]).await.unwrap();
    assert!(matches!(sale.place(1, &[(0, 1)], "b").await, Err(PlaceError::SoldOut { replayed: true, .. })));
    assert!(sale.place(1, &[(0, 1)], "c").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expiry_that_races_a_confirm_gives_the_seat_to_one_of_them() {
    let sale = Arc::new(Sale::open(&[40], 40, 10).await);
    let mut placed = Vec::new();
    for user in 0..40 {
        placed.push((user, sale.place(user, &[(0, 1)], "k").await.unwrap().hold));
    }
    let tasks = placed.iter().cloned().flat_map(|(user, hold)| {
        let (a, b, c) = (Arc::clone(&sale), Arc::clone(&sale), Arc::clone(&sale));
        let id = hold.id;
        [
            tokio::spawn(async move {
                a.let_run_out(id).await;
                false
            }),
            tokio::spawn(async move {
                match begin_confirm(&b.inventory, &b.db, &b.confirm(id, user)).await {
                    Ok(ConfirmStart::Started { .. }) => true,
                    Err(BeginConfirmError::Expired) => false,
                    other => panic!("{other:?}"),
                }
            }),
            tokio::spawn(async move {
                expire_holds(&c.inventory, c.event_id, 10).await.unwrap();
                false
            }),
        ]
    });
    let begun = join_all(tasks).await.into_iter().filter(|won| *won.as_ref().unwrap()).count();
    while expire_holds(&sale.inventory, sale.event_id, 100).await.unwrap().more {}
    let counts = sale.counts().await[0];
    assert_eq!(counts.held, i64::try_from(begun).unwrap());
    assert_eq!(counts.available(), 40 - i64::try_from(begun).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_overdue_comes_back_without_any_worker() {
    let sale = Sale::open(&[3], 3, 10).await;
    for user in 0..3 {
        let placed = sale.place(user, &[(0, 1)], "k").await.unwrap();
        sale.let_run_out(placed.hold.id).await;
        let read = holds::read(&sale.inventory, sale.event_id, placed.hold.id).await;
        if user == 0 {
            assert_eq!(read.unwrap().unwrap().status, HoldStatus::Expired);
        }
    }
    assert!(sale.place(0, &[(0, 3)], "again").await.is_ok());
    assert_eq!(sale.counts().await[0].available(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_refusal_does_not_touch_the_next_attempt() {
    let sale = Sale::open(&[3], 1, 10).await;
    let hold = sale.place(0, &[(0, 1)], "k").await.unwrap().hold;
    let settled =
        |attempt, outcome| Settlement { holds: vec![(hold.id, attempt, outcome)], ..Settlement::default() };
    begin_confirm(&sale.inventory, &sale.db, &sale.confirm(hold.id, 0)).await.unwrap();
    settle(&sale.inventory, sale.event_id, &settled(1, Settled::Declined)).await.unwrap();
    let second = begin_confirm(&sale.inventory, &sale.db, &sale.confirm(hold.id, 0)).await.unwrap();
    assert_eq!(second, ConfirmStart::Started { attempt: 2 });
    settle(&sale.inventory, sale.event_id, &settled(1, Settled::Declined)).await.unwrap();
    settle(&sale.inventory, sale.event_id, &settled(1, Settled::Failed)).await.unwrap();
    let read = holds::read(&sale.inventory, sale.event_id, hold.id).await.unwrap().unwrap();
    assert_eq!(read.status, HoldStatus::Confirming);
}

#[test]
fn a_token_says_what_was_held_and_nothing_else_passes() {
    let tokens = HoldTokens::new(&[7; 32]);
    let hold = holds::Hold {
        id: uuid::Uuid::now_v7(),
        event_id: uuid::Uuid::now_v7(),
        user_id: uuid::Uuid::now_v7(),
        status: HoldStatus::Held,
        items: vec![holds::HeldItem {
            ticket_type_id: uuid::Uuid::now_v7(),
            quantity: 2,
            seats: vec![],
            unit_price: 4500,
        }],
        total: 9000,
        currency: "EUR".to_owned(),
        created_at: chrono::DateTime::from_timestamp_millis(1_700_000_000_000).unwrap(),
        expires_at: chrono::DateTime::from_timestamp_millis(1_700_000_300_000).unwrap(),
        offered: false,
    };
    let token = tokens.sign(&hold);
    assert_eq!(tokens.verify(&token).unwrap().hold(), &hold);
    assert!(HoldTokens::new(&[8; 32]).verify(&token).is_err());
    for at in (0..token.len()).filter(|at| token.as_bytes()[*at] != b'.') {
        let mut altered = token.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'Q' } else { b'A' };
        let altered = String::from_utf8(altered).unwrap();
        // The last character of a part may carry unused bits; then the text differs and the claims do not.
        assert!(tokens.verify(&altered).map_or(true, |claims| claims.hold() == &hold), "{at}");
    }
}
