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

/// They reach Redis in few scripts, which take what is there from each other as if each had come alone.
#[tokio::test(flavor = "multi_thread")]
async fn holds_that_are_placed_together_are_decided_one_after_the_other() {
    let sale = Sale::open(&[5, 2], 40, 3).await;
    let overdue = sale.place(9, &[(0, 3)], "overdue").await.unwrap().hold;
    sale.let_run_out(overdue.id).await;
    let mut unknown = sale.basket(1, &[(0, 1)], "unknown");
    unknown.items[0].ticket_type_id = uuid::Uuid::now_v7();
    let (first, second) = tokio::join!(
        join_all(vec![
            sale.place(0, &[(0, 2)], "a"),
            sale.place(0, &[(0, 2)], "b"),
            sale.place(0, &[(1, 1)], "c"),
            sale.place(2, &[(0, 1), (1, 2)], "d"),
            sale.place(3, &[(0, 3)], "e"),
            sale.place(4, &[(0, 1)], "f"),
            sale.place(0, &[(0, 2)], "a"),
            sale.place(5, &[(1, 1)], "g"),
        ]),
        sale.placer.place(unknown),
    );
    let told: Vec<String> = first
        .iter()
        .map(|one| match one {
            Ok(placed) => format!("{} {}", placed.replayed, placed.hold.items.len()),
            Err(error) => error.to_string(),
        })
        .collect();
    let short = |line: usize| format!("line {line} asks for more than is left");
    // The three that are overdue come back as soon as somebody would be refused without them.
    let expected = [
        "false 1".to_owned(),
        "the user has 2 tickets of 3".to_owned(),
        "false 1".to_owned(),
        short(1),
        "false 1".to_owned(),
        short(0),
        "true 1".to_owned(),
        "false 1".to_owned(),
    ];
    assert_eq!(told, expected);
    assert!(matches!(second, Err(PlaceError::UnknownTicketType(0))), "{second:?}");
    assert_eq!(first[0].as_ref().unwrap().hold.id, first[6].as_ref().unwrap().hold.id);
    let held: Vec<_> = sale.counts().await.iter().map(|count| (count.held, count.available())).collect();
    assert_eq!(held, [(5, 0), (2, 0)]);
}

/// More lines than Lua passes on at once, in baskets that come together.
#[tokio::test(flavor = "multi_thread")]
async fn large_baskets_that_come_together_are_held_whole() {
    let sale = Sale::open(&[100; 50], 40, 100).await;
    let lines: Vec<_> = (0..50).map(|kind| (kind, 2)).collect();
    let placed = join_all((0..40).map(|user| sale.place(user, &lines, "k"))).await;
    assert!(placed.iter().all(|one| one.as_ref().is_ok_and(|placed| placed.hold.items.len() == 50)));
    assert!(sale.counts().await.iter().all(|count| (count.held, count.available()) == (80, 20)));
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
