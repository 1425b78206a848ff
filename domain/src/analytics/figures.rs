//! What is counted, and what is worked out from it: rates, revenue, the change from one period to the next.

use std::ops::AddAssign;

use diesel::{
    QueryableByName,
    sql_types::{BigInt, Text},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Sums over rows of the log, as the tables of figures have them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, QueryableByName)]
pub(super) struct Counted {
    #[diesel(sql_type = BigInt)]
    pub bookings: i64,
    #[diesel(sql_type = BigInt)]
    pub tickets: i64,
    #[diesel(sql_type = BigInt)]
    pub gross: i64,
    #[diesel(sql_type = BigInt)]
    pub failed: i64,
    #[diesel(sql_type = BigInt)]
    pub cancellations: i64,
    #[diesel(sql_type = BigInt)]
    pub cancelled_tickets: i64,
    #[diesel(sql_type = BigInt)]
    pub refunds: i64,
    #[diesel(sql_type = BigInt)]
    pub refunded_bookings: i64,
    #[diesel(sql_type = BigInt)]
    pub refunded: i64,
    #[diesel(sql_type = BigInt)]
    pub holds: i64,
}

impl AddAssign for Counted {
    fn add_assign(&mut self, other: Self) {
        self.bookings += other.bookings;
        self.tickets += other.tickets;
        self.gross += other.gross;
        self.failed += other.failed;
        self.cancellations += other.cancellations;
        self.cancelled_tickets += other.cancelled_tickets;
        self.refunds += other.refunds;
        self.refunded_bookings += other.refunded_bookings;
        self.refunded += other.refunded;
        self.holds += other.holds;
    }
}

/// The sums in one currency.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub(super) struct CountedIn {
    #[diesel(sql_type = Text)]
    pub currency: String,
    #[diesel(embed)]
    pub counted: Counted,
}

/// An amount that may be below zero, in a currency's minor unit: a day may pay back more than it takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Balance {
    #[schema(example = 4500)]
    pub amount: i64,
    /// ISO 4217, three capital letters.
    #[schema(example = "EUR")]
    pub currency: String,
}

/// Money, in one currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Revenue {
    /// What was booked.
    pub gross: Balance,
    /// What was given back to those who cancelled, paid or still to be paid.
    pub refunds: Balance,
    /// What of that is still to be paid.
    pub refunds_pending: Balance,
    /// Gross less refunds.
    pub net: Balance,
}

impl Revenue {
    pub(super) fn new(counted: &Counted, currency: &str) -> Self {
        let balance = |amount| Balance { amount, currency: currency.to_owned() };
        Self {
            gross: balance(counted.gross),
            refunds: balance(counted.refunds),
            refunds_pending: balance(counted.refunds - counted.refunded),
            net: balance(counted.gross - counted.refunds),
        }
    }
}

/// Counts, and the rates between them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// Bookings confirmed.
    pub bookings: i64,
    /// Tickets of these bookings.
    pub tickets: i64,
    /// Bookings cancelled, whenever they were made.
    pub cancellations: i64,
    pub cancelled_tickets: i64,
    /// Cancelled bookings whose money is back.
    pub refunded_bookings: i64,
    /// Confirmations that did not become a booking: a declined payment, a sale that had closed.
    pub failed: i64,
    /// Holds placed, out of offers to the waitlist too, whatever became of them. Redis counts them: should it lose all
    /// its data, the holds of its last seconds are missing here.
    pub holds: i64,
    /// Cancellations to bookings, between 0 and 1 over all time; null without bookings.
    #[schema(example = 0.125)]
    pub cancellation_rate: Option<f64>,
    /// Bookings to holds, between 0 and 1; null without holds.
    #[schema(example = 0.64)]
    pub conversion_rate: Option<f64>,
}

impl From<Counted> for Counts {
    fn from(counted: Counted) -> Self {
        Self {
            bookings: counted.bookings,
            tickets: counted.tickets,
            cancellations: counted.cancellations,
            cancelled_tickets: counted.cancelled_tickets,
            refunded_bookings: counted.refunded_bookings,
            failed: counted.failed,
            holds: counted.holds,
            cancellation_rate: rate(counted.cancellations, counted.bookings),
            conversion_rate: rate(counted.bookings.min(counted.holds), counted.holds),
        }
    }
}

/// Counts and money of many events, the money by currency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Totals {
    #[serde(flatten)]
    pub counts: Counts,
    pub revenue: Vec<Revenue>,
}

impl Totals {
    pub(super) fn new(rows: &[CountedIn]) -> Self {
        let mut all = Counted::default();
        for row in rows {
            all += row.counted;
        }
        let revenue = rows.iter().map(|row| Revenue::new(&row.counted, &row.currency)).collect();
        Self { counts: all.into(), revenue }
    }
}

/// By how much a period differs from the one before it: 0.25 is a quarter more. Null where there was nothing before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    pub bookings: Option<f64>,
    pub tickets: Option<f64>,
    pub cancellations: Option<f64>,
    /// Of the net revenue; null also where it was not of one currency.
    pub net: Option<f64>,
}

impl Change {
    pub(super) fn between(before: &Totals, now: &Totals) -> Self {
        let net = match (before.revenue.as_slice(), now.revenue.as_slice()) {
            ([before], [now]) if before.net.currency == now.net.currency => {
                change(before.net.amount, now.net.amount)
            }
            _ => None,
        };
        Self {
            bookings: change(before.counts.bookings, now.counts.bookings),
            tickets: change(before.counts.tickets, now.counts.tickets),
            cancellations: change(before.counts.cancellations, now.counts.cancellations),
            net,
        }
    }
}

fn change(before: i64, now: i64) -> Option<f64> {
    rate(now - before, before)
}

/// A share, to four decimals; none of nothing.
#[expect(clippy::cast_precision_loss, reason = "a share of more than 2^52 is as good with its last bits off")]
pub(super) fn rate(part: i64, whole: i64) -> Option<f64> {
    (whole > 0).then(|| (part as f64 / whole as f64 * 10_000.0).round() / 10_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_nothing_are_none() {
        assert_eq!(rate(1, 3), Some(0.3333));
        assert_eq!(rate(0, 3), Some(0.0));
        assert_eq!(rate(3, 0), None);
        assert_eq!(change(4, 5), Some(0.25));
        assert_eq!(change(4, 0), Some(-1.0));
        assert_eq!(change(0, 5), None);
    }

    #[test]
    fn money_of_two_currencies_is_kept_apart() {
        let counted = Counted { bookings: 2, gross: 100, refunds: 130, refunded: 30, ..Counted::default() };
        let rows = ["CHF", "EUR"].map(|currency| CountedIn { currency: currency.to_owned(), counted });
        let totals = Totals::new(&rows);
        assert_eq!(totals.counts.bookings, 4);
        assert_eq!(totals.revenue.len(), 2);
        assert_eq!(totals.revenue[1].net, Balance { amount: -30, currency: "EUR".to_owned() });
        assert_eq!(totals.revenue[1].refunds_pending.amount, 100);
        assert_eq!(Change::between(&totals, &totals).net, None);
        assert_eq!(Change::between(&totals, &totals).bookings, Some(0.0));
    }
}
