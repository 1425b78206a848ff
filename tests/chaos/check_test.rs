//! The checker, checked: a history that is right, and one that is wrong on purpose for each rule.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    check::{check, sub_history},
    ending::{BookingRow, ChargeRow, Delivered, Ending, EventRow, PaymentRow, Read, RefundRow, SeatRow},
    history::{Entry, Happened, History, Op, Outcome, Sample},
};

const EVENT: Uuid = Uuid::from_u128(1);
const SEATS: Uuid = Uuid::from_u128(2);
/// Confirmed and kept; confirmed and cancelled; failed.
const KEPT: Uuid = Uuid::from_u128(10);
const BACK: Uuid = Uuid::from_u128(11);
const FAILED: Uuid = Uuid::from_u128(12);

fn entry(at: u64, op: Op, status: u16, body: Value) -> Entry {
    Entry { person: 0, begun_ms: at, ended_ms: at + 5, op, outcome: Outcome::Answer { status, body } }
}

fn place(at: u64, hold: Uuid) -> Entry {
    let op = Op::Place { event: EVENT, key: hold.to_string(), items: vec![(SEATS, 2)] };
    entry(at, op, 201, json!({"id": hold, "total": {"amount": 9001}}))
}

fn confirm(at: u64, hold: Uuid, status: u16) -> Entry {
    let op = Op::Confirm { hold, card: "tok_ok".to_owned(), with_token: true, wait_secs: 1 };
    let body = match status {
        201 => json!({"id": hold, "reference": hold.to_string(), "total": {"amount": 9001},
            "tickets": [{"code": "A"}, {"code": "B"}]}),
        _ => json!({"code": "payment-declined"}),
    };
    entry(at, op, status, body)
}

fn cancel(at: u64, status: &str) -> Entry {
    let op = Op::Cancel { booking: BACK, key: "c".to_owned() };
    entry(at, op, 200, json!({"id": BACK, "status": status}))
}

fn booking(id: Uuid, status: &str) -> BookingRow {
    let tickets = if status == "confirmed" { 2 } else { 0 };
    let (reference, status) = (id.to_string(), status.to_owned());
    BookingRow { id, event: EVENT, status, reference, quantity: 2, total: 9001, tickets }
}

fn payment(booking: Uuid, status: &str, refunded: i64) -> PaymentRow {
    PaymentRow { booking, status: status.to_owned(), amount: 9001, refunded }
}

fn charge(booking: Uuid, status: &str, refunded: i64) -> ChargeRow {
    let captured = if status == "captured" { 9001 } else { 0 };
    let refunds = i64::from(refunded > 0);
    ChargeRow { booking, status: status.to_owned(), amount: 9001, captured, refunded, refunds }
}

fn mail(booking: Uuid, kind: &str) -> Delivered {
    Delivered { message_id: format!("{kind}-{booking}"), booking: Some(booking), kind: kind.to_owned() }
}

fn read(status: &str) -> Read {
    Read { at_ms: 2_000, status: status.to_owned() }
}

/// Two were booked, one of them cancelled at half the price, one was declined; a mail came twice.
fn right() -> (History, Ending) {
    let sample = Sample { at_ms: 50, ticket_type: SEATS, capacity: 4, sold: 4, reserved: 0, tickets: 4 };
    let history = History {
        entries: vec![
            place(0, KEPT),
            place(1, KEPT),
            place(2, BACK),
            place(3, FAILED),
            confirm(10, KEPT, 201),
            confirm(20, KEPT, 201),
            confirm(11, BACK, 202),
            confirm(30, BACK, 201),
            confirm(12, FAILED, 402),
            entry(40, Op::Read { booking: KEPT }, 200, json!({"id": KEPT, "status": "confirmed"})),
            cancel(60, "cancelled"),
            cancel(70, "cancelled"),
        ],
        faults: vec![],
        samples: vec![sample],
        healed_ms: 1_000,
    };
    let seats =
        SeatRow { ticket_type: SEATS, capacity: 4, sold: 2, reserved: 0, tickets: 2, redis: Some((4, 2, 0)) };
    let event =
        EventRow { event: EVENT, refund_percent: 50, sold: 2, booked: 2, bought: 2, logged: 2, drift: 0 };
    let ending = Ending {
        bookings: vec![booking(KEPT, "confirmed"), booking(BACK, "refunded"), booking(FAILED, "failed")],
        seats: vec![seats],
        events: vec![event],
        payments: vec![
            payment(KEPT, "captured", 0),
            payment(BACK, "refunded", 4500),
            payment(FAILED, "failed", 0),
        ],
        charges: vec![
            charge(KEPT, "captured", 0),
            charge(BACK, "captured", 4500),
            charge(FAILED, "declined", 0),
        ],
        refunds: vec![RefundRow { booking: BACK, status: "done".to_owned(), amount: 4500 }],
        delivered: vec![
            mail(KEPT, "booking_confirmed"),
            mail(KEPT, "booking_confirmed"),
            mail(BACK, "booking_confirmed"),
            mail(BACK, "booking_cancelled"),
            mail(BACK, "booking_refunded"),
        ],
        reads: [(KEPT, read("confirmed")), (BACK, read("refunded")), (FAILED, read("failed"))].into(),
        left_over: vec![],
    };
    (history, ending)
}

fn verdict(history: &History, ending: &Ending) -> Vec<&'static str> {
    let mut rules: Vec<_> =
        check(history, ending, Duration::from_mins(1)).into_iter().map(|found| found.rule).collect();
    rules.dedup();
    rules
}

#[test]
fn what_is_right_passes() {
    let (history, ending) = right();
    assert_eq!(check(&history, &ending, Duration::from_mins(1)), vec![]);
    assert_eq!(sub_history(&history, KEPT).len(), 5);
}

/// Breaks what was right, and expects this rule to say so.
#[track_caller]
fn finds(rule: &str, spoil: impl FnOnce(&mut History, &mut Ending)) {
    let (mut history, mut ending) = right();
    spoil(&mut history, &mut ending);
    assert!(verdict(&history, &ending).contains(&rule), "{:?}", verdict(&history, &ending));
}

#[test]
fn more_sold_than_there_is() {
    finds("capacity", |history, _| history.samples[0].capacity = 3);
    finds("capacity", |history, _| history.samples[0].reserved = 1);
    finds("capacity", |history, _| history.samples[0].tickets = 5);
}

#[test]
fn a_booking_that_was_acknowledged_and_lost() {
    finds("durable", |_, ending| ending.bookings.retain(|row| row.id != KEPT));
    finds("durable", |_, ending| ending.bookings[0] = booking(KEPT, "failed"));
    finds("durable", |_, ending| ending.bookings[0].reference = "another".to_owned());
    finds("durable", |_, ending| ending.reads.get_mut(&KEPT).unwrap().status = "absent".to_owned());
    finds("durable", |_, ending| ending.bookings[1] = booking(BACK, "confirmed"));
    finds("durable", |_, ending| ending.bookings.push(booking(Uuid::from_u128(99), "failed")));
}

#[test]
fn a_booking_that_was_acknowledged_and_cannot_be_read() {
    finds("readable", |history, _| history.entries[9].outcome = confirm(0, KEPT, 404).outcome);
    finds("readable", |history, _| history.entries.push(confirm(50, KEPT, 410)));
    finds("readable", |history, _| history.entries.push(confirm(50, KEPT, 202)));
    // What Redis lost is under way once more.
    let (mut history, ending) = right();
    history.entries.push(confirm(50, KEPT, 202));
    history.faults.push(Happened { begun_ms: 40, ended_ms: 41, what: "flush".to_owned(), flush: true });
    assert!(!verdict(&history, &ending).contains(&"readable"));
}

#[test]
fn a_confirm_that_never_ends_or_ends_late() {
    finds("terminal", |_, ending| ending.reads.get_mut(&BACK).unwrap().status = "confirming".to_owned());
    finds("terminal", |_, ending| ending.reads.get_mut(&BACK).unwrap().at_ms = 61_001);
    finds("terminal", |_, ending| drop(ending.reads.remove(&FAILED)));
    let vanish = |history: &mut History, ending: &mut Ending| {
        history.entries.retain(|entry| entry.hold() != Some(BACK) || entry.outcome.status() == 202);
        ending.reads.get_mut(&BACK).unwrap().status = "absent".to_owned();
    };
    finds("terminal", vanish);
    // What Redis lost may be gone.
    let (mut history, mut ending) = right();
    vanish(&mut history, &mut ending);
    history.faults.push(Happened { begun_ms: 15, ended_ms: 16, what: "flush".to_owned(), flush: true });
    assert!(!verdict(&history, &ending).contains(&"terminal"));
}

#[test]
fn a_replay_that_answers_otherwise() {
    let other = |history: &mut History| history.entries[1] = place(1, Uuid::from_u128(13));
    let same_key = |history: &mut History| {
        let Op::Place { key, .. } = &mut history.entries[1].op else { unreachable!() };
        *key = KEPT.to_string();
    };
    finds("replay", |history, _| {
        other(history);
        same_key(history);
    });
    finds("replay", |history, _| history.entries[11] = cancel(70, "refunded"));
    finds("replay", |history, _| {
        let Outcome::Answer { body, .. } = &mut history.entries[5].outcome else { unreachable!() };
        body["tickets"][0]["code"] = json!("C");
    });
    // Redis remembers the keys of holds, unless it lost everything in between.
    let (mut history, ending) = right();
    other(&mut history);
    same_key(&mut history);
    history.faults.push(Happened { begun_ms: 1, ended_ms: 1, what: "flush".to_owned(), flush: true });
    assert_eq!(verdict(&history, &ending), Vec::<&str>::new());
}

#[test]
fn money_that_does_not_match() {
    finds("money", |_, ending| ending.charges.push(charge(KEPT, "captured", 0)));
    finds("money", |_, ending| drop(ending.charges.remove(0)));
    finds("money", |_, ending| ending.charges[0].captured = 9000);
    finds("money", |_, ending| ending.charges.push(charge(FAILED, "captured", 0)));
    finds("money", |_, ending| ending.charges.push(charge(FAILED, "authorised", 0)));
    finds("money", |_, ending| ending.charges.push(charge(Uuid::from_u128(77), "captured", 0)));
    finds("money", |_, ending| ending.payments[0].status = "authorised".to_owned());
    finds("money", |_, ending| ending.payments.push(payment(FAILED, "unknown", 0)));
    finds("money", |_, ending| ending.charges[1].refunds = 2);
    finds("money", |_, ending| ending.charges[1].refunded = 9000);
    finds("money", |_, ending| ending.refunds[0].status = "pending".to_owned());
    finds("money", |_, ending| ending.refunds.clear());
    finds("money", |_, ending| ending.bookings[0].total = 1);
}

#[test]
fn mail_that_is_missing_or_too_much() {
    finds("mail", |_, ending| ending.delivered.retain(|mail| mail.booking != Some(KEPT)));
    finds("mail", |_, ending| {
        let second = Delivered { message_id: "second".to_owned(), ..mail(KEPT, "booking_confirmed") };
        ending.delivered.push(second);
    });
    finds("mail", |_, ending| ending.delivered.push(mail(FAILED, "booking_confirmed")));
    finds("mail", |_, ending| ending.delivered.push(mail(Uuid::from_u128(5), "booking_confirmed")));
    finds("mail", |_, ending| ending.delivered[0].booking = None);
}

#[test]
fn counts_that_do_not_add_up() {
    finds("counts", |_, ending| ending.events[0].booked = 3);
    finds("counts", |_, ending| ending.events[0].bought = 1);
    finds("counts", |_, ending| ending.events[0].logged = 0);
    finds("counts", |_, ending| ending.seats[0].tickets = 3);
    finds("counts", |_, ending| ending.bookings[1].tickets = 1);
}

#[test]
fn redis_and_postgres_that_differ() {
    finds("redis", |_, ending| ending.seats[0].redis = Some((4, 1, 0)));
    finds("redis", |_, ending| ending.seats[0].redis = None);
    finds("redis", |_, ending| ending.events[0].drift = 1);
}

#[test]
fn work_that_was_left_over() {
    finds("left over", |_, ending| ending.left_over.push("a dead job".to_owned()));
}
