//! Money that comes after its hold is over takes seats of the public, and none of those who wait.

use std::time::Duration;

use domain::{
    bookings::{
        Failure,
        commit::{Order, OrderPayment, commit},
    },
    holds::{
        self, BeginConfirm, BeginConfirmError, ConfirmStart, Hold, HoldClaims, HoldStatus, begin_confirm,
        expire_holds,
    },
    payments::{
        actions,
        attempts::{self, Attempt, ToPay},
    },
    waitlist::{self, JoinRequest, Joins, promote},
};

use super::seats::Sale;

impl Sale {
    async fn join(&self, user: usize, quantity: i32) {
        let request = JoinRequest {
            event_id: self.event_id,
            ticket_type_id: self.ticket_types[0],
            user_id: self.users[user],
            quantity,
        };
        assert!(Joins::start(&self.db, &self.inventory).join(request).await.unwrap().created);
    }

    /// Lets a hold run out, and the sweep find it.
    async fn end(&self, hold: &Hold) {
        self.let_run_out(hold.id).await;
        expire_holds(&self.inventory, self.event_id, 10).await.unwrap();
    }

    /// What `refresh_payment` does with money for a hold that is over.
    async fn money_comes(&self, hold: &Hold) -> Result<ConfirmStart, BeginConfirmError> {
        let user = self.users.iter().position(|user| *user == hold.user_id).unwrap();
        let token = Some(HoldClaims::of_late_payment(hold.clone()));
        begin_confirm(&self.inventory, &self.db, &BeginConfirm { token, ..self.confirm(hold.id, user) }).await
    }

    /// (available, the waitlist's share, offered and not in holds, held)
    async fn numbers(&self) -> (i64, i64, i64, i64) {
        let count = self.counts().await[0];
        assert_eq!(count.sold + count.held + count.offered + count.available(), count.capacity, "{count:?}");
        (count.available(), count.share, count.offered, count.held)
    }

    async fn status(&self, hold: &Hold) -> HoldStatus {
        holds::read(&self.inventory, self.event_id, hold.id).await.unwrap().unwrap().status
    }

    /// A payment for a hold, which waits for its customer.
    async fn payment(&self, hold: &Hold) -> Attempt {
        let to_pay = ToPay {
            booking_id: hold.id,
            event_id: hold.event_id,
            user_id: hold.user_id,
            attempt: 1,
            provider: "sandbox".to_owned(),
            token: "tok_ok".to_owned(),
            amount: hold.total,
            currency: hold.currency.clone(),
        };
        let payment = attempts::record(&self.db, &[to_pay]).await.unwrap().remove(0);
        let patience = Duration::from_mins(15);
        actions::begin(&self.db, payment.payment_id, "secret", hold, patience).await.unwrap().unwrap();
        payment
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn late_money_takes_what_is_the_publics_and_leaves_what_is_waited_for() {
    let sale = Sale::open(&[3], 5, 10).await;
    let first = sale.place(0, &[(0, 1)], "a").await.unwrap().hold;
    let second = sale.place(1, &[(0, 1)], "b").await.unwrap().hold;
    // One seat is left, and two are wanted: the one stays the public's, and nothing that comes free does.
    sale.join(2, 2).await;
    sale.end(&first).await;
    assert_eq!(sale.numbers().await, (1, 1, 1, 1));
    assert!(matches!(sale.money_comes(&first).await, Ok(ConfirmStart::Started { .. })));
    assert_eq!(sale.status(&first).await, HoldStatus::Confirming);
    assert_eq!(sale.numbers().await, (0, 1, 1, 2), "the public's seat, not the one that is waited for");
    // Told twice: it is under way.
    assert!(matches!(sale.money_comes(&first).await, Ok(ConfirmStart::Running { .. })));

    sale.end(&second).await;
    for _ in 0..2 {
        assert!(matches!(sale.money_comes(&second).await, Err(BeginConfirmError::SoldOut)));
        assert_eq!(sale.status(&second).await, HoldStatus::Expired, "it is over, and reads so");
    }
    assert_eq!(sale.numbers().await, (0, 2, 2, 1));
    assert_eq!(promote(&sale.db, &sale.inventory, sale.event_id).await.unwrap().offers, 1);
    assert!(matches!(sale.money_comes(&second).await, Err(BeginConfirmError::SoldOut)));

    // Nobody waits any more, and what was offered is everybody's: also his whose money came late.
    let declined = sale.database.value("SELECT data ->> 'token' FROM mails").await.unwrap();
    let declined = waitlist::decline(&sale.db, &declined, None).await.unwrap();
    declined.changes.tell(&sale.inventory).await;
    assert_eq!(sale.numbers().await, (2, 0, 0, 1));
    assert!(matches!(sale.money_comes(&second).await, Ok(ConfirmStart::Started { .. })));
    assert_eq!(sale.numbers().await, (1, 0, 0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn late_money_for_an_offer_finds_its_seats_while_they_are_kept_and_not_afterwards() {
    let sale = Sale::open(&[1], 4, 10).await;
    let bought_out = sale.place(0, &[(0, 1)], "a").await.unwrap().hold;
    for user in [1, 2] {
        sale.join(user, 1).await;
    }
    sale.end(&bought_out).await;
    assert_eq!(promote(&sale.db, &sale.inventory, sale.event_id).await.unwrap().offers, 1);
    let token = sale.database.value("SELECT data ->> 'token' FROM mails").await.unwrap();
    let claimed = waitlist::claim(&sale.db, &sale.inventory, &token, None).await.unwrap().hold;
    let payment = sale.payment(&claimed).await;
    let quoted = async || actions::hold_of(&sale.db, payment.payment_id).await.unwrap().unwrap();

    // The hold is over in Redis; Postgres still has the seat for it.
    sale.end(&claimed).await;
    let kept = quoted().await;
    assert!(kept.offered);
    assert!(matches!(sale.money_comes(&kept).await, Ok(ConfirmStart::Started { .. })));
    assert_eq!(sale.numbers().await, (0, 0, 0, 1));

    // Just before its order is decided the offer lapses: its seat is the next one's, whoever has paid.
    let lapsed = waitlist::lapse(&sale.db, &[claimed.id]).await.unwrap();
    lapsed.changes.tell(&sale.inventory).await;
    let order = Order {
        booking_id: kept.id,
        event_id: kept.event_id,
        user_id: kept.user_id,
        attempt: 2,
        items: kept.items.clone(),
        total: kept.total,
        currency: kept.currency.clone(),
        created_at: kept.created_at,
        offered: true,
        payment: OrderPayment::Authorised {
            payment_id: payment.payment_id,
            provider: "sandbox".to_owned(),
            reference: "ref".to_owned(),
        },
        trace: None,
    };
    for _ in 0..2 {
        let committed = commit(&sale.db, std::slice::from_ref(&order)).await.unwrap();
        assert_eq!(committed.bookings[0].failed_with(), Some(Failure::HoldExpired));
        assert_eq!(committed.paid, [false]);
    }
    // Asked anew, it is an order like any other, and somebody waits.
    assert!(!quoted().await.offered);
    let again = Hold { id: uuid::Uuid::now_v7(), ..quoted().await };
    assert!(matches!(sale.money_comes(&again).await, Err(BeginConfirmError::SoldOut)));
    assert_eq!(promote(&sale.db, &sale.inventory, sale.event_id).await.unwrap().offers, 1);
    let next = format!("SELECT status FROM waitlist_entries WHERE user_id = '{}'", sale.users[2]);
    assert_eq!(sale.database.value(&next).await.as_deref(), Some("offered"));
    let seats = "SELECT sold || ':' || reserved FROM ticket_types";
    assert_eq!(sale.database.value(seats).await.as_deref(), Some("0:1"));
}
