//! The checker's rules on money: what the provider took is what was booked, at the price that was held.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{
    check::{Violation, broken},
    ending::{BookingRow, ChargeRow, Ending, PaymentRow, RefundRow},
    history::{History, Op},
};

const RULE: &str = "money";

#[derive(Default)]
struct Books<'a> {
    booking: Option<&'a BookingRow>,
    payments: Vec<&'a PaymentRow>,
    charges: Vec<&'a ChargeRow>,
    refunds: Vec<&'a RefundRow>,
}

pub(super) fn check(history: &History, ending: &Ending) -> Vec<Violation> {
    let mut books: BTreeMap<Uuid, Books<'_>> = BTreeMap::new();
    for row in &ending.bookings {
        books.entry(row.id).or_default().booking = Some(row);
    }
    for row in &ending.payments {
        books.entry(row.booking).or_default().payments.push(row);
    }
    for row in &ending.charges {
        books.entry(row.booking).or_default().charges.push(row);
    }
    for row in &ending.refunds {
        books.entry(row.booking).or_default().refunds.push(row);
    }
    let mut found: Vec<_> = books.iter().flat_map(|(id, books)| one(*id, books, ending)).collect();
    found.extend(quotes(history, ending));
    found
}

fn one(id: Uuid, books: &Books<'_>, ending: &Ending) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut say = |what: String| found.push(broken(RULE, Some(id), what));
    for payment in &books.payments {
        if matches!(payment.status.as_str(), "unknown" | "authorised") {
            say(format!("a payment has not ended: {payment:?}"));
        }
    }
    for charge in &books.charges {
        if charge.status == "authorised" {
            say(format!("money is set aside for nothing: {charge:?}"));
        }
    }
    let captured: Vec<_> = books.charges.iter().filter(|charge| charge.captured > 0).collect();
    let (confirmed, total) =
        books.booking.map_or((false, 0), |booking| (booking.was_confirmed(), booking.total));
    if !confirmed || total == 0 {
        if !captured.is_empty() || !books.refunds.is_empty() {
            say(format!("it is {:?}, and there is {captured:?} {:?}", books.booking, books.refunds));
        }
        return found;
    }
    let taken: Vec<_> =
        books.payments.iter().filter(|p| matches!(p.status.as_str(), "captured" | "refunded")).collect();
    let ([charge], [payment]) = (captured.as_slice(), taken.as_slice()) else {
        say(format!("{captured:?} and {taken:?} instead of one capture of {total}"));
        return found;
    };
    if charge.captured != total || payment.amount != total {
        say(format!("{total} was owed, {charge:?} and {payment:?}"));
    }
    let is_over = books.booking.is_some_and(|booking| booking.status != "confirmed");
    let due = if is_over { refund_due(books.booking, total, ending) } else { 0 };
    let owed: i64 = books.refunds.iter().map(|refund| refund.amount).sum();
    if [charge.refunded, payment.refunded, owed] != [due; 3]
        || charge.refunds != i64::from(due > 0)
        || books.refunds.iter().any(|refund| refund.status != "done")
    {
        say(format!("{due} was to go back: {charge:?}, {payment:?}, {:?}", books.refunds));
    }
    found
}

/// What the event gives back, rounded down.
fn refund_due(booking: Option<&BookingRow>, total: i64, ending: &Ending) -> i64 {
    let percent = booking.and_then(|booking| {
        Some(ending.events.iter().find(|event| event.event == booking.event)?.refund_percent)
    });
    total * percent.unwrap_or(0) / 100
}

/// A booking costs what its hold was quoted.
fn quotes(history: &History, ending: &Ending) -> Vec<Violation> {
    let quoted: BTreeMap<_, _> = history
        .entries
        .iter()
        .filter(|entry| {
            matches!(entry.op, Op::Place { .. } | Op::Claim { .. }) && entry.outcome.status() == 201
        })
        .filter_map(|entry| Some((entry.hold()?, entry.outcome.body()["total"]["amount"].as_i64()?)))
        .collect();
    let wrong =
        ending.bookings.iter().filter(|row| quoted.get(&row.id).is_some_and(|amount| *amount != row.total));
    wrong
        .map(|row| broken(RULE, Some(row.id), format!("quoted {:?}: {row:?}", quoted.get(&row.id))))
        .collect()
}
