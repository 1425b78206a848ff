//! The statements of a commit, each for all of its orders at once. Those that take the connection by a shared
//! reference may be sent together with others.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName, sql_query,
    sql_types::{Array, BigInt, Bool, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{
    super::{
        Booking, BookingStatus, Failure, FailureInfo, PaymentInfo, Ticket, TicketStatus, booked_items, codes,
        stock,
    },
    Order, OrderPayment, Verdict,
};
use crate::{
    db::Conn,
    fault::Fault,
    jobs::VoidPayment,
    money::Money,
    outbox::{self, OutboxEntry},
    payments::PaymentStatus,
    statement::prepared,
};

#[derive(QueryableByName)]
struct EventRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    status: String,
}

#[derive(QueryableByName)]
pub(super) struct ContextRow {
    #[diesel(sql_type = SqlUuid)]
    booking_id: Uuid,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) email: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) status: Option<String>,
    #[diesel(sql_type = Nullable<Integer>)]
    pub(super) attempt: Option<i32>,
}

#[derive(QueryableByName)]
struct PaymentRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Bool)]
    payable: bool,
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

/// Locks the events against being cancelled meanwhile; answers those on sale.
pub(super) async fn lock_events(conn: &mut Conn, orders: &[&Order]) -> Result<HashSet<Uuid>, Fault> {
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
pub(super) async fn lock_payments(mut conn: &Conn, orders: &[&Order]) -> Result<HashSet<Uuid>, Fault> {
    let ids: Vec<Uuid> = orders.iter().filter_map(|order| order.payment.id()).collect();
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let rows: Vec<PaymentRow> = prepared(
        sql_query(
            "SELECT id, status = 'unknown' AND failure IS NULL AS payable FROM payments WHERE id = ANY($1)
             ORDER BY id FOR NO KEY UPDATE",
        )
        .bind::<Array<SqlUuid>, _>(ids),
    )
    .load(&mut conn)
    .await?;
    Ok(rows.into_iter().filter(|row| row.payable).map(|row| row.id).collect())
}

pub(super) async fn load_context(
    mut conn: &Conn,
    orders: &[&Order],
) -> Result<HashMap<Uuid, ContextRow>, Fault> {
    let rows: Vec<ContextRow> = prepared(
        sql_query(include_str!("../sql/order_context.sql"))
            .bind::<Array<SqlUuid>, _>(orders.iter().map(|order| order.booking_id).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(orders.iter().map(|order| order.user_id).collect::<Vec<_>>()),
    )
    .load(&mut conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.booking_id, row)).collect())
}

pub(super) async fn insert_bookings(
    mut conn: &Conn,
    fresh: &[(&Order, Option<Failure>)],
) -> Result<HashMap<Uuid, Booking>, Fault> {
    if fresh.is_empty() {
        return Ok(HashMap::new());
    }
    let items =
        fresh.iter().map(|(order, _)| serde_json::to_value(&order.items)).collect::<Result<Vec<_>, _>>()?;
    let column = fresh.iter();
    let rows: Vec<InsertedRow> = prepared(
        sql_query(include_str!("../sql/insert_bookings.sql"))
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
    .load(&mut conn)
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

pub(super) async fn insert_tickets(
    mut conn: &Conn,
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
        sql_query(include_str!("../sql/insert_tickets.sql"))
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
    .execute(&mut conn)
    .await?;
    for (order, _, ticket) in rows {
        if let Some(booking) = bookings.get_mut(&order.booking_id) {
            booking.tickets.push(ticket);
        }
    }
    Ok(())
}

/// Writes how each payment ended up, and owes a void for what was authorised in vain.
pub(super) async fn settle_payments(
    mut conn: &Conn,
    orders: &[&Order],
    verdicts: &[Verdict],
) -> Result<(), Fault> {
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
        sql_query(include_str!("../sql/settle_payments.sql"))
            .bind::<Array<SqlUuid>, _>(column.clone().map(|row| row.0).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(column.clone().map(|row| row.1).collect::<Vec<_>>())
            .bind::<Array<Nullable<Text>>, _>(column.clone().map(|row| row.2).collect::<Vec<_>>())
            .bind::<Array<Nullable<Text>>, _>(column.map(|row| row.3).collect::<Vec<_>>()),
    )
    .execute(&mut conn)
    .await?;
    outbox::record(conn, &voids).await
}

fn void(order: &Order, payment_id: Uuid) -> OutboxEntry {
    OutboxEntry::new(&payment_id.to_string(), &VoidPayment { payment_id })
        .in_trace(order.trace.map(|trace| trace.to_string()))
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
pub(super) fn in_memory(order: &Order, failure: Failure) -> Booking {
    let row = InsertedRow {
        id: order.booking_id,
        reference: String::new(),
        created_at: order.created_at,
        confirmed_at: None,
    };
    Booking { reference: None, ..view(order, Some(failure), row) }
}
