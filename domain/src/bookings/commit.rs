//! Commits the orders that arrived together in one transaction: seats, bookings, tickets, payments, logs, mails.
//!
//! Locks are taken in one order everywhere: events, ticket types by id, payments by id, bookings. An order that
//! was decided before (its job was delivered twice) keeps that decision: the locks of its ticket types make
//! deliveries of one order wait for each other, and the booking's row then tells.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    result::{DatabaseErrorKind, Error as DieselError},
    sql_query,
    sql_types::{Array, BigInt, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use serde_json::json;
use uuid::Uuid;

use super::{
    Booking, BookingStatus, Failure, FailureInfo, PaymentInfo, Ticket, TicketStatus, booked_items, codes,
    log::{self, Happening},
    read,
    stock::{self, Changes, Stock},
};
use crate::{
    db::{Conn, Db},
    fault::Fault,
    holds::HeldItem,
    jobs::VoidPayment,
    kill_point::kill_point,
    mails::{self, DueMail, MailContent},
    money::Money,
    outbox::{self, OutboxEntry},
    payments::PaymentStatus,
    statement::prepared,
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

#[derive(QueryableByName)]
struct EventRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    status: String,
}

#[derive(QueryableByName)]
struct ContextRow {
    #[diesel(sql_type = SqlUuid)]
    booking_id: Uuid,
    #[diesel(sql_type = Nullable<Text>)]
    email: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    status: Option<String>,
    #[diesel(sql_type = Nullable<Integer>)]
    attempt: Option<i32>,
}

#[derive(QueryableByName)]
struct PaymentRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

#[derive(QueryableByName)]
struct InsertedRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    reference: String,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    confirmed_at: Option<DateTime<Utc>>,
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
    let payable = lock_payments(conn, &firsts).await?;
    let context = load_context(conn, &firsts).await?;
    let ids: Vec<Uuid> = firsts.iter().map(|order| order.booking_id).collect();
    let offered = waitlist::lock_claimed(conn, &ids).await?;

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

    let seats = stock.sell(conn).await?;
    let sold: Vec<Uuid> =
        confirmed.iter().map(|order| order.booking_id).filter(|id| offered.contains(id)).collect();
    waitlist::mark_sold(conn, &sold).await?;
    let mut bought = BTreeMap::new();
    for order in &confirmed {
        *bought.entry((order.event_id, order.user_id)).or_insert(0) += stock::quantity(&order.items);
    }
    let mut buyers = stock::count_buyers(conn, &bought).await?;
    let fresh: Vec<(&Order, Option<Failure>)> = firsts
        .iter()
        .zip(&verdicts)
        .filter_map(|(order, verdict)| match verdict {
            Verdict::Confirm => Some((*order, None)),
            Verdict::Fail(failure) => Some((*order, Some(*failure))),
            Verdict::Decided | Verdict::Nobody => None,
        })
        .collect();
    let mut bookings = insert_bookings(conn, &fresh).await?;
    insert_tickets(conn, &confirmed, &mut bookings).await?;
    settle_payments(conn, &firsts, &verdicts).await?;
    log::append(conn, &happenings(&fresh)?).await?;
    mails::owe(conn, &confirmations(&confirmed, &context)).await?;

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

/// Locks the events against being cancelled meanwhile; answers those on sale.
async fn lock_events(conn: &mut Conn, orders: &[&Order]) -> Result<HashSet<Uuid>, Fault> {
    let ids: HashSet<Uuid> = orders.iter().map(|order| order.event_id).collect();
    let rows: Vec<EventRow> = prepared(
        sql_query("SELECT id, status FROM events WHERE id = ANY($1) ORDER BY id FOR SHARE")
            .bind::<Array<SqlUuid>, _>(ids.into_iter().collect::<Vec<_>>()),
    )
    .load(conn)
    .await?;
    Ok(rows.into_iter().filter(|row| row.status == "published").map(|row| row.id).collect())
}

/// Locks the payments; answers those that are still waited for.
async fn lock_payments(conn: &mut Conn, orders: &[&Order]) -> Result<HashSet<Uuid>, Fault> {
    let ids: Vec<Uuid> = orders.iter().filter_map(|order| order.payment.id()).collect();
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let rows: Vec<PaymentRow> = prepared(
        sql_query(
            "SELECT id FROM payments WHERE id = ANY($1) AND status = 'unknown' AND failure IS NULL
             ORDER BY id FOR NO KEY UPDATE",
        )
        .bind::<Array<SqlUuid>, _>(ids),
    )
    .load(conn)
    .await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

async fn load_context(conn: &mut Conn, orders: &[&Order]) -> Result<HashMap<Uuid, ContextRow>, Fault> {
    let rows: Vec<ContextRow> = prepared(
        sql_query(include_str!("sql/order_context.sql"))
            .bind::<Array<SqlUuid>, _>(orders.iter().map(|order| order.booking_id).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(orders.iter().map(|order| order.user_id).collect::<Vec<_>>()),
    )
    .load(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.booking_id, row)).collect())
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
    } else if stock.take(&order.items, offered) {
        Verdict::Confirm
    } else {
        Verdict::Fail(Failure::SoldOut)
    }
}

async fn insert_bookings(
    conn: &mut Conn,
    fresh: &[(&Order, Option<Failure>)],
) -> Result<HashMap<Uuid, Booking>, Fault> {
    if fresh.is_empty() {
        return Ok(HashMap::new());
    }
    let items =
        fresh.iter().map(|(order, _)| serde_json::to_value(&order.items)).collect::<Result<Vec<_>, _>>()?;
    let column = fresh.iter();
    let rows: Vec<InsertedRow> = prepared(
        sql_query(include_str!("sql/insert_bookings.sql"))
            .bind::<Array<SqlUuid>, _>(column.clone().map(|(o, _)| o.booking_id).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(column.clone().map(|_| codes::reference()).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(column.clone().map(|(o, _)| o.event_id).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(column.clone().map(|(o, _)| o.user_id).collect::<Vec<_>>())
            .bind::<Array<Nullable<Text>>, _>(
                column.clone().map(|(_, f)| f.map(Failure::code)).collect::<Vec<_>>(),
            )
            .bind::<Array<Jsonb>, _>(items)
            .bind::<Array<Integer>, _>(
                column.clone().map(|(o, _)| stock::quantity(&o.items)).collect::<Vec<_>>(),
            )
            .bind::<Array<BigInt>, _>(column.clone().map(|(o, _)| o.total).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(column.clone().map(|(o, _)| o.currency.as_str()).collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(column.clone().map(|(o, _)| attempt(o)).collect::<Vec<_>>())
            .bind::<Array<Timestamptz>, _>(column.clone().map(|(o, _)| o.created_at).collect::<Vec<_>>()),
    )
    .load(conn)
    .await?;
    if rows.len() != fresh.len() {
        return Err(Fault::Corrupt("a booking was decided in spite of its locks".to_owned()));
    }
    let orders: HashMap<Uuid, _> =
        column.map(|(order, failure)| (order.booking_id, (*order, *failure))).collect();
    Ok(rows
        .into_iter()
        .filter_map(|row| orders.get(&row.id).map(|(order, failure)| (row.id, view(order, *failure, row))))
        .collect())
}

fn attempt(order: &Order) -> i32 {
    i32::try_from(order.attempt).unwrap_or(i32::MAX)
}

async fn insert_tickets(
    conn: &mut Conn,
    confirmed: &[&Order],
    bookings: &mut HashMap<Uuid, Booking>,
) -> Result<(), Fault> {
    let mut rows: Vec<(&Order, Uuid, Ticket)> = Vec::new();
    for order in confirmed {
        for item in &order.items {
            for n in 0..item.quantity as usize {
                let ticket = Ticket {
                    id: Uuid::now_v7(),
                    code: codes::ticket_code(),
                    seat: item.seats.get(n).cloned(),
                    status: TicketStatus::Valid,
                };
                rows.push((order, item.ticket_type_id, ticket));
            }
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let column = rows.iter();
    prepared(
        sql_query(include_str!("sql/insert_tickets.sql"))
            .bind::<Array<SqlUuid>, _>(column.clone().map(|(_, _, ticket)| ticket.id).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(column.clone().map(|(order, ..)| order.booking_id).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(column.clone().map(|(order, ..)| order.event_id).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(column.clone().map(|(_, kind, _)| *kind).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(
                column.clone().map(|(_, _, ticket)| ticket.code.as_str()).collect::<Vec<_>>(),
            )
            .bind::<Array<Nullable<Text>>, _>(
                column.map(|(_, _, ticket)| ticket.seat.as_deref()).collect::<Vec<_>>(),
            ),
    )
    .execute(conn)
    .await?;
    for (order, _, ticket) in rows {
        if let Some(booking) = bookings.get_mut(&order.booking_id) {
            booking.tickets.push(ticket);
        }
    }
    Ok(())
}

/// Writes how each payment ended up, and owes a void for what was authorised in vain.
async fn settle_payments(conn: &mut Conn, orders: &[&Order], verdicts: &[Verdict]) -> Result<(), Fault> {
    let mut rows: Vec<(Uuid, &'static str, Option<&str>, Option<&str>)> = Vec::new();
    let mut voids = Vec::new();
    for (order, verdict) in orders.iter().zip(verdicts) {
        let Some(payment_id) = order.payment.id() else { continue };
        let reference = match &order.payment {
            OrderPayment::Authorised { reference, .. } => Some(reference.as_str()),
            _ => None,
        };
        match (&order.payment, verdict) {
            (OrderPayment::Declined { reason, .. }, _) => {
                rows.push((payment_id, "failed", None, Some(reason.as_str())));
            }
            (_, Verdict::Confirm) => rows.push((payment_id, "authorised", reference, None)),
            // What another delivery decided, it decided about this payment too, unless it was about another one:
            // that one is left to the sweep, which finds it unknown.
            (_, Verdict::Decided) => {}
            (_, Verdict::Fail(failure)) => {
                rows.push((payment_id, "unknown", reference, Some(failure.code())));
                voids.push(void(order, payment_id));
            }
            (_, Verdict::Nobody) => {
                rows.push((payment_id, "unknown", reference, Some(Failure::Internal.code())));
                voids.push(void(order, payment_id));
            }
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let column = rows.iter();
    prepared(
        sql_query(include_str!("sql/settle_payments.sql"))
            .bind::<Array<SqlUuid>, _>(column.clone().map(|row| row.0).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(column.clone().map(|row| row.1).collect::<Vec<_>>())
            .bind::<Array<Nullable<Text>>, _>(column.clone().map(|row| row.2).collect::<Vec<_>>())
            .bind::<Array<Nullable<Text>>, _>(column.map(|row| row.3).collect::<Vec<_>>()),
    )
    .execute(conn)
    .await?;
    outbox::record(conn, &voids).await
}

fn void(order: &Order, payment_id: Uuid) -> OutboxEntry {
    OutboxEntry::new(&payment_id.to_string(), &VoidPayment { payment_id })
        .in_trace(order.trace.map(|trace| trace.to_string()))
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

fn view(order: &Order, failure: Option<Failure>, row: InsertedRow) -> Booking {
    let payment = order.payment.provider().map(|provider| PaymentInfo {
        status: match (&order.payment, failure) {
            (OrderPayment::Declined { .. }, _) => PaymentStatus::Failed,
            (_, None) => PaymentStatus::Authorised,
            (_, Some(_)) => PaymentStatus::Unknown,
        },
        provider: provider.to_owned(),
        action: None,
    });
    Booking {
        id: order.booking_id,
        reference: Some(row.reference),
        event_id: order.event_id,
        status: if failure.is_some() { BookingStatus::Failed } else { BookingStatus::Confirmed },
        failure: failure.map(|failure| FailureInfo { code: failure.code().to_owned() }),
        items: booked_items(&order.items, &order.currency),
        total: Money::new(order.total, &order.currency),
        payment,
        tickets: Vec::new(),
        created_at: row.created_at,
        confirmed_at: row.confirmed_at,
        cancelled_at: None,
    }
}

/// A failed booking that is not kept.
fn in_memory(order: &Order, failure: Failure) -> Booking {
    let row = InsertedRow {
        id: order.booking_id,
        reference: String::new(),
        created_at: order.created_at,
        confirmed_at: None,
    };
    Booking { reference: None, ..view(order, Some(failure), row) }
}
