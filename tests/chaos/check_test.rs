//! The checker, checked: a history that is right, and one that is wrong on purpose for each rule.

use std::time::Duration;

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    check::{check, sub_history},
    ending::{
        BookingRow, ChargeRow, Delivered, Ending, EntryRow, EventRow, OfferRow, PaymentRow, Read, RefundRow,
        SeatRow,
    },
    history::{Entry, Happened, History, Op, Outcome, Sample},
};

const EVENT: Uuid = Uuid::from_u128(1);
const SEATS: Uuid = Uuid::from_u128(2);
/// Confirmed and kept; confirmed and cancelled; failed.
const KEPT: Uuid = Uuid::from_u128(10);
const BACK: Uuid = Uuid::from_u128(11);
const FAILED: Uuid = Uuid::from_u128(12);
/// Those who waited: one bought what was offered to him, one declined, one let it run out.
const WAITED: [Uuid; 3] = [Uuid::from_u128(20), Uuid::from_u128(21), Uuid::from_u128(22)];
const OFFERS: [Uuid; 3] = [Uuid::from_u128(30), Uuid::from_u128(31), Uuid::from_u128(32)];
const TOKENS: [&str; 3] = ["bought", "declined", "forgotten"];

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

fn join(at: u64, person: usize) -> Entry {
    let op = Op::Join { event: EVENT, ticket_type: SEATS, quantity: 1 };
    Entry { person, ..entry(at, op, 201, json!({"id": WAITED[person]})) }
}

fn claim(at: u64, status: u16, hold: Uuid) -> Entry {
    let op = Op::Claim { token: TOKENS[0].to_owned() };
    entry(at, op, status, json!({"id": hold, "total": {"amount": 9001}}))
}

fn decline(at: u64, n: usize) -> Entry {
    entry(at, Op::Decline { token: TOKENS[n].to_owned() }, 204, Value::Null)
}

fn offer(n: usize, status: &str, hold: Option<Uuid>) -> OfferRow {
    let hash = digest(&SHA256, TOKENS[n].as_bytes());
    let token_hash = hash.as_ref().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    OfferRow { id: OFFERS[n], entry: WAITED[n], token_hash, status: status.to_owned(), hold, made_ms: 100 }
}

fn offer_mail(n: usize, kind: &str) -> Delivered {
    let message_id = format!("{kind}-{n}");
    Delivered { message_id, booking: None, offer: Some(OFFERS[n]), kind: kind.to_owned() }
}

fn waited(n: usize, status: &str) -> EntryRow {
    EntryRow { id: WAITED[n], ticket_type: SEATS, quantity: 1, status: status.to_owned() }
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
    let message_id = format!("{kind}-{booking}");
    Delivered { message_id, booking: Some(booking), offer: None, kind: kind.to_owned() }
}

fn read(status: &str) -> Read {
    Read { at_ms: 2_000, status: status.to_owned() }
}

/// Two were booked, one of them cancelled at half the price, one was declined; three waited, and one of them got the
/// first; a mail came twice.
fn right() -> (History, Ending) {
    let sample = Sample {
        at_ms: 50,
        ticket_type: SEATS,
        capacity: 4,
        sold: 4,
        reserved: 0,
        tickets: 4,
        passed_over: 0,
    };
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
            join(4, 0),
            join(5, 1),
            join(6, 2),
            claim(110, 201, KEPT),
            claim(111, 200, KEPT),
            decline(112, 1),
        ],
        faults: vec![],
        samples: vec![sample],
        healed_ms: 1_000,
    };
    let seats = SeatRow {
        ticket_type: SEATS,
        capacity: 4,
        sold: 2,
        reserved: 0,
        tickets: 2,
        redis: Some((4, 2, 0)),
        waiting: 0,
    };
    let event = EventRow {
        event: EVENT,
        refund_percent: 50,
        sold: 2,
        booked: 2,
        bought: 2,
        logged: 2,
        rolled_up: 2,
        drift: 0,
    };
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
            offer_mail(0, "waitlist_offer"),
            offer_mail(1, "waitlist_offer"),
            offer_mail(1, "waitlist_offer"),
            offer_mail(2, "waitlist_offer_expired"),
        ],
        entries: vec![waited(0, "claimed"), waited(1, "declined"), waited(2, "expired")],
        offers: vec![offer(0, "sold", Some(KEPT)), offer(1, "declined", None), offer(2, "expired", None)],
        reads: [(KEPT, read("confirmed")), (BACK, read("refunded")), (FAILED, read("failed"))].into(),
        figures: vec![],
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
    assert_eq!(sub_history(&history, KEPT).len(), 7);
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
    finds("counts", |_, ending| ending.events[0].rolled_up = 1);
    finds("counts", |_, ending| ending.figures.push("a day".to_owned()));
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

#[test]
fn one_who_was_passed_over() {
    finds("order", |history, _| history.samples[0].passed_over = 1);
}

#[test]
fn a_seat_for_a_stranger_while_somebody_waits() {
    let stranger = || place(50, Uuid::from_u128(40));
    finds("stranger", |history, _| history.entries.push(stranger()));
    let passes = |spoil: fn(&mut History, &mut Ending)| {
        let (mut history, mut ending) = right();
        history.entries.push(stranger());
        spoil(&mut history, &mut ending);
        assert!(!verdict(&history, &ending).contains(&"stranger"));
    };
    // They may have had their offers by then, or have left, or the answer may be an old one.
    passes(|_, ending| ending.offers.iter_mut().for_each(|offer| offer.made_ms = 40));
    passes(|history, _| {
        let left = |person| Entry { person, ..entry(45, Op::Leave { event: EVENT }, 204, Value::Null) };
        history.entries.extend((0..3).map(left));
    });
    passes(|history, _| {
        let Op::Place { key, .. } = history.entries.last().unwrap().op.clone() else { unreachable!() };
        let mut first = place(3, Uuid::from_u128(40));
        first.op = Op::Place { event: EVENT, key, items: vec![(SEATS, 2)] };
        first.outcome = Outcome::Unknown("lost".to_owned());
        history.entries.push(first);
    });
    // Where two are waited for, one may be the public's; and what that is, is lost with Redis.
    passes(|history, ending| {
        for entry in &mut history.entries {
            if let Op::Join { quantity, .. } = &mut entry.op {
                *quantity = 2;
            }
        }
        ending.entries.iter_mut().for_each(|row| row.quantity = 2);
    });
    passes(|history, _| {
        history.faults.push(Happened { begun_ms: 5, ended_ms: 9, what: "flush".to_owned(), flush: true });
    });
}

#[test]
fn a_place_that_was_lost_or_served_twice() {
    finds("waitlist", |_, ending| drop(ending.entries.remove(1)));
    finds("waitlist", |_, ending| ending.entries[1].quantity = 2);
    finds("waitlist", |_, ending| ending.offers[1].entry = WAITED[0]);
}

#[test]
fn an_offer_that_was_answered_and_does_not_stand_so() {
    finds("waitlist", |history, _| history.entries.push(claim(120, 200, FAILED)));
    finds("waitlist", |history, _| history.entries.push(claim(120, 201, KEPT)));
    finds("waitlist", |history, _| history.entries.push(decline(120, 0)));
    finds("waitlist", |history, _| history.entries.push(decline(120, 1)));
    finds("waitlist", |history, _| history.entries.push(decline(120, 2)));
    finds("waitlist", |_, ending| ending.offers[0].hold = Some(BACK));
    finds("waitlist", |_, ending| ending.offers[1].status = "expired".to_owned());
    finds("waitlist", |_, ending| drop(ending.offers.remove(1)));
}

#[test]
fn a_freed_seat_that_is_neither_sold_nor_the_publics() {
    finds("waitlist", |_, ending| ending.offers[0].hold = Some(FAILED));
    finds("waitlist", |_, ending| ending.offers[0].status = "lapsed".to_owned());
    finds("waitlist", |_, ending| ending.offers[0].status = "claimed".to_owned());
    finds("waitlist", |_, ending| ending.offers[2].status = "open".to_owned());
    finds("waitlist", |_, ending| ending.entries[2].status = "waiting".to_owned());
    finds("waitlist", |_, ending| ending.seats[0].reserved = 1);
    finds("waitlist", |_, ending| ending.seats[0].waiting = 1);
}

#[test]
fn mail_of_an_offer_that_is_missing_or_too_much() {
    let second = || Delivered { message_id: "second".to_owned(), ..offer_mail(0, "waitlist_offer") };
    finds("mail", |_, ending| ending.delivered.push(second()));
    finds("mail", |_, ending| ending.delivered.retain(|mail| mail.kind != "waitlist_offer_expired"));
    finds("mail", |_, ending| ending.delivered.push(offer_mail(0, "waitlist_offer_expired")));
    finds("mail", |_, ending| {
        let stray = Delivered { offer: Some(Uuid::from_u128(39)), ..offer_mail(0, "waitlist_offer") };
        ending.delivered.push(stray);
    });
    // One that came too late is not sent.
    let (history, mut ending) = right();
    ending.delivered.retain(|mail| mail.kind != "waitlist_offer");
    assert_eq!(verdict(&history, &ending), Vec::<&str>::new());
}
