//! Commits the orders that arrived together in one transaction: seats, bookings, tickets, payments, logs, mails.
//!
//! Locks are taken in one order everywhere: events, ticket types by id, payments by id, bookings. An order that
//! was decided before (its job was delivered twice) keeps that decision: the locks of its ticket types make
//! deliveries of one order wait for each other, and the booking's row then tells.

mod statements;

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::AsyncConnection;
use serde_json::json;
use uuid::Uuid;

use self::statements::{
    ContextRow, in_memory, insert_bookings, insert_tickets, load_context, lock_events, lock_payments,
    settle_payments,
};
use super::{
    Booking, Failure,
    log::{self, Happening},
    read,
    stock::{self, Changes, Stock},
};
use crate::{
    db::{Conn, Db},
    fault::Fault,
    holds::HeldItem,
    kill_point::kill_point,
    mails::{self, DueMail, MailContent},
    trace::TraceContext,
    waitlist,
};

/// A hold whose payment has been dealt with: what becomes of it is to be decided.
#[derive(Clone, Debug)]
pub struct Order {
    /// The hold's id.
    pub booking_id: Uuid,
    pub event_id: Uuid,
    pub user_id: Uuid,
    pub attempt: u32,
    pub items: Vec<HeldItem>,
    pub total: i64,
    pub currency: String,
    /// When the hold was placed.
    pub created_at: DateTime<Utc>,
    /// Whether the hold was made out of an offer of the waitlist: it has the seats of that, and no others.
    pub offered: bool,
    pub payment: OrderPayment,
    pub trace: Option<TraceContext>,
}

/// How an order's payment stands.
#[derive(Clone, Debug)]
pub enum OrderPayment {
    /// There is nothing to pay.
    Free,
    Authorised {
        payment_id: Uuid,
        provider: String,
        reference: String,
    },
    Declined {
        payment_id: Uuid,
        provider: String,
        reason: String,
    },
    /// The order is given up: it fails. A payment that was begun for it is left to the sweep, which voids it.
    GivenUp(Failure),
}

impl OrderPayment {
    fn id(&self) -> Option<Uuid> {
        match self {
            Self::Free | Self::GivenUp(_) => None,
            Self::Authorised { payment_id, .. } | Self::Declined { payment_id, .. } => Some(*payment_id),
        }
    }

    fn provider(&self) -> Option<&str> {
        match self {
            Self::Free | Self::GivenUp(_) => None,
            Self::Authorised { provider, .. } | Self::Declined { provider, .. } => Some(provider),
        }
    }
}

/// What a batch came to.
#[derive(Debug)]
pub struct Committed {
    /// One for each order, in their order.
    pub bookings: Vec<Booking>,
    /// For each order whether its booking has just taken its payment, which is then to be captured. One that was
    /// decided before may have been paid by another payment: capturing this one as well would take the money twice.
    pub paid: Vec<bool>,
    pub changes: Changes,
}

/// What was decided about an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Confirm,
    Fail(Failure),
    /// Before, by another delivery: the row tells what.
    Decided,
    /// Its user is gone: there is nobody to book for.
    Nobody,
}

/// Decides and commits orders, at most some hundreds at once. All of it or, on a fault, nothing; when the commit
/// itself went unanswered it may be either, and the same call again finds out. Safe to repeat.
pub async fn commit(db: &Db, orders: &[Order]) -> Result<Committed, Fault> {
    // A reference may meet another one of 2^40: the index tells, and a second draw is as good.
    for _ in 0..3 {
        let mut conn = db.conn().await?;
        let result =
            (*conn).transaction(async |conn: &mut Conn| commit_in_transaction(conn, orders).await).await;
        match result {
            Err(Fault::Database(DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, info)))
                if info.constraint_name() == Some("bookings_reference_key") => {}
            other => return other,
        }
    }
    Err(Fault::Corrupt("three fresh references in a row were taken".to_owned()))
}

async fn commit_in_transaction(conn: &mut Conn, orders: &[Order]) -> Result<Committed, Fault> {
    // Two deliveries of one order may meet in a batch: the second gets the first one's answer.
    let mut seen = HashSet::new();
    let firsts: Vec<&Order> = orders.iter().filter(|order| seen.insert(order.booking_id)).collect();

    let open = lock_events(conn, &firsts).await?;
    let types = firsts.iter().flat_map(|order| &order.items).map(|item| item.ticket_type_id).collect();
    let mut stock = Stock::lock(conn, types).await?;
    let ids: Vec<Uuid> = firsts.iter().map(|order| order.booking_id).collect();
    let locked: &Conn = conn;
    // Sent together, in one round trip.
    let (payable, context, offered) = futures::try_join!(
        lock_payments(locked, &firsts),
        load_context(locked, &firsts),
        waitlist::lock_claimed(locked, &ids),
    )?;

    let verdicts: Vec<Verdict> = firsts
        .iter()
        .map(|order| {
            let offered = offered.contains(&order.booking_id);
            decide(order, &context, &open, &payable, &mut stock, offered)
        })
        .collect();
    let pick = |verdict: fn(&Verdict) -> bool| -> Vec<&Order> {
        firsts.iter().zip(&verdicts).filter(|(_, v)| verdict(v)).map(|(order, _)| *order).collect()
    };
    let confirmed = pick(|verdict| *verdict == Verdict::Confirm);
    let decided = pick(|verdict| *verdict == Verdict::Decided);

    let sold: Vec<Uuid> =
        confirmed.iter().map(|order| order.booking_id).filter(|id| offered.contains(id)).collect();
    let mut bought = BTreeMap::new();
    for order in &confirmed {
        *bought.entry((order.event_id, order.user_id)).or_insert(0) += stock::quantity(&order.items);
    }
    let fresh: Vec<(&Order, Option<Failure>)> = firsts
        .iter()
        .zip(&verdicts)
        .filter_map(|(order, verdict)| match verdict {
            Verdict::Confirm => Some((*order, None)),
            Verdict::Fail(failure) => Some((*order, Some(*failure))),
            Verdict::Decided | Verdict::Nobody => None,
        })
        .collect();
    let (happened, mails) = (happenings(&fresh)?, confirmations(&confirmed, &context));
    // Sent together too: none of these waits for what another answers, but where one `await` follows another.
    let (made, seats, marked, buyers, settled, logged, owed) = futures::join!(
        async {
            let mut bookings = insert_bookings(locked, &fresh).await?;
            insert_tickets(locked, &confirmed, &mut bookings).await?;
            Ok(bookings)
        },
        stock.sell(locked),
        waitlist::mark_sold(locked, &sold),
        stock::count_buyers(locked, &bought),
        settle_payments(locked, &firsts, &verdicts),
        log::append(locked, &happened),
        mails::owe(locked, &mails),
    );
    let rest = cause([marked, settled, logged, owed].map(Result::err));
    let (mut bookings, seats, mut buyers) = match (made, seats, buyers, rest) {
        (Ok(bookings), Ok(seats), Ok(buyers), None) => (bookings, seats, buyers),
        (made, seats, buyers, rest) => {
            let failed = cause([made.err(), seats.err(), buyers.err(), rest]);
            return Err(
                failed.unwrap_or_else(|| Fault::Corrupt("a batch failed without an error".to_owned()))
            );
        }
    };

    let ids: Vec<Uuid> = decided.iter().map(|order| order.booking_id).collect();
    if !ids.is_empty() {
        bookings.extend(read::by_ids(conn, &ids).await?.into_iter().map(|booking| (booking.id, booking)));
        // Whoever decided them may not have lived to tell Redis. Their seats' rows are locked above.
        buyers.extend(stock::rows_behind(conn, &ids).await?.buyers);
    }
    kill_point("confirm.committing");
    let taken: HashMap<Uuid, Option<Uuid>> =
        confirmed.iter().map(|order| (order.booking_id, order.payment.id())).collect();
    let paid = orders
        .iter()
        .map(|order| {
            order.payment.id().is_some() && taken.get(&order.booking_id) == Some(&order.payment.id())
        })
        .collect();
    let bookings = orders
        .iter()
        .map(|order| {
            let unkept = || in_memory(order, Failure::Internal);
            bookings.get(&order.booking_id).cloned().unwrap_or_else(unkept)
        })
        .collect();
    Ok(Committed { bookings, paid, changes: Changes { seats, buyers } })
}

/// Which of these errors is the reason of the others: once a statement has failed, Postgres refuses those after it.
fn cause(errors: [Option<Fault>; 4]) -> Option<Fault> {
    let is_aftermath = |fault: &Fault| {
        let Fault::Database(DieselError::DatabaseError(_, info)) = fault else { return false };
        info.message().contains("transaction is aborted")
    };
    let mut errors = errors.into_iter().flatten();
    let first = errors.next()?;
    if is_aftermath(&first) { errors.find(|fault| !is_aftermath(fault)).or(Some(first)) } else { Some(first) }
}

fn decide(
    order: &Order,
    context: &HashMap<Uuid, ContextRow>,
    open: &HashSet<Uuid>,
    payable: &HashSet<Uuid>,
    stock: &mut Stock,
    offered: bool,
) -> Verdict {
    let Some(known) = context.get(&order.booking_id) else { return Verdict::Nobody };
    if known.email.is_none() {
        return Verdict::Nobody;
    }
    let later =
        known.attempt.and_then(|attempt| u32::try_from(attempt).ok()).is_none_or(|n| n < order.attempt);
    match known.status.as_deref() {
        None => {}
        Some("failed") if later => {}
        Some(_) => return Verdict::Decided,
    }
    match &order.payment {
        OrderPayment::Declined { .. } => return Verdict::Fail(Failure::PaymentDeclined),
        OrderPayment::GivenUp(failure) => return Verdict::Fail(*failure),
        OrderPayment::Authorised { payment_id, .. } if !payable.contains(payment_id) => {
            return Verdict::Fail(Failure::HoldExpired);
        }
        OrderPayment::Authorised { .. } | OrderPayment::Free => {}
    }
    if !open.contains(&order.event_id) || !stock.sells(order.event_id, &order.items) {
        Verdict::Fail(Failure::SaleClosed)
    } else if order.offered && !offered {
        // Its offer has ended: what was kept for it is for those who wait.
        Verdict::Fail(Failure::HoldExpired)
    } else if stock.take(&order.items, offered) {
        Verdict::Confirm
    } else {
        Verdict::Fail(Failure::SoldOut)
    }
}

fn happenings(fresh: &[(&Order, Option<Failure>)]) -> Result<Vec<Happening>, Fault> {
    fresh
        .iter()
        .map(|(order, failure)| {
            Ok(Happening {
                kind: if failure.is_some() { "failed" } else { "confirmed" },
                event_id: order.event_id,
                booking_id: order.booking_id,
                user_id: order.user_id,
                quantity: stock::quantity(&order.items),
                amount: order.total,
                currency: order.currency.clone(),
                items: serde_json::to_value(&order.items)?,
                actor: Some(order.user_id),
                detail: failure.map_or_else(
                    || json!({ "attempt": order.attempt }),
                    |failure| json!({ "attempt": order.attempt, "failure": failure.code() }),
                ),
                trace_id: order.trace.map(TraceContext::trace_id_hex),
            })
        })
        .collect()
}

fn confirmations(confirmed: &[&Order], context: &HashMap<Uuid, ContextRow>) -> Vec<DueMail> {
    confirmed
        .iter()
        .filter_map(|order| {
            Some(DueMail {
                cause: order.booking_id.to_string(),
                user_id: order.user_id,
                recipient: context.get(&order.booking_id)?.email.clone()?,
                content: MailContent::BookingConfirmed { booking_id: order.booking_id },
                deadline: None,
                traceparent: order.trace.map(|trace| trace.to_string()),
            })
        })
        .collect()
}
