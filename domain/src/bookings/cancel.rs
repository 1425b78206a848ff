//! Cancels bookings: tickets void, seats and counts given back, what is owed recorded, all in one transaction.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName, sql_query,
    sql_types::{Array, BigInt, Bool, Jsonb, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Booking, BookingStatus,
    log::{self, Happening},
    read, refund_due,
    stock::{self, Changes, Stock},
};
use crate::{
    db::{Conn, Db},
    events::RefundStep,
    fault::Fault,
    holds::HeldItem,
    jobs::SyncInventory,
    kill_point::kill_point,
    mails::{self, DueMail, MailContent},
    outbox::{self, OutboxEntry},
    payments::refunds,
    statement::prepared,
    trace::TraceContext,
};

/// Why a booking is not cancelled.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// There is none of this user.
    #[error("no such booking")]
    NotFound,
    /// It failed, its event has begun, or somebody has gone in with it.
    #[error("the booking can no longer be cancelled: {0}")]
    InvalidState(&'static str),
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<diesel::result::Error> for CancelError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Fault(error.into())
    }
}

/// What a cancellation changed, for Redis to take over.
#[derive(Debug, Default)]
pub struct Cancelled {
    pub bookings: Vec<Booking>,
    pub changes: Changes,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    event_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
    #[diesel(sql_type = Text)]
    email: String,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Jsonb)]
    items: Value,
    #[diesel(sql_type = BigInt)]
    total: i64,
    #[diesel(sql_type = Text)]
    currency: String,
    #[diesel(sql_type = Timestamptz)]
    starts_at: DateTime<Utc>,
    #[diesel(sql_type = Jsonb)]
    refund_policy: Value,
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
    #[diesel(sql_type = Bool)]
    used: bool,
}

const ROWS: &str = "SELECT b.id, b.event_id, b.user_id, u.email, b.status, b.items, b.total, b.currency,
                           e.starts_at, e.refund_policy, now() AS now,
                           EXISTS (SELECT FROM tickets t WHERE t.booking_id = b.id AND t.status = 'used') AS used
                    FROM bookings b JOIN events e ON e.id = b.event_id JOIN users u ON u.id = b.user_id ";

/// Cancels a booking for its owner, in the caller's transaction, with the refund that the event's policy gives.
/// One that is cancelled already is answered as it is. Only before the event begins.
pub async fn cancel(conn: &mut Conn, booking_id: Uuid, user_id: Uuid) -> Result<Cancelled, CancelError> {
    let rows: Vec<Row> = prepared(
        sql_query(format!("{ROWS} WHERE b.id = $1 AND b.user_id = $2"))
            .bind::<SqlUuid, _>(booking_id)
            .bind::<SqlUuid, _>(user_id),
    )
    .load(conn)
    .await
    .map_err(Fault::from)?;
    let row = rows.into_iter().next().ok_or(CancelError::NotFound)?;
    match row.status.as_str() {
        "cancelled" | "refunded" => {
            let bookings = read::by_ids(conn, &[booking_id]).await?;
            return Ok(Cancelled { bookings, ..Cancelled::default() });
        }
        "confirmed" => {}
        _ => return Err(CancelError::InvalidState("it failed")),
    }
    if row.now >= row.starts_at {
        return Err(CancelError::InvalidState("the event has begun"));
    }
    if row.used {
        return Err(CancelError::InvalidState("one of its tickets was used"));
    }
    let policy: Vec<RefundStep> = serde_json::from_value(row.refund_policy.clone()).map_err(Fault::from)?;
    let refund = refund_due(&policy, row.total, row.starts_at, row.now);
    let doing = Doing {
        reason: "owner",
        actor: Some(user_id),
        mail: |booking_id| MailContent::BookingCancelled { booking_id },
    };
    let mut cancelled = cancel_rows(conn, vec![(row, refund)], &doing).await?;
    if cancelled.bookings.is_empty() {
        // Another request cancelled it while this one waited for the seats' locks.
        cancelled.bookings = read::by_ids(conn, &[booking_id]).await?;
    }
    Ok(cancelled)
}

/// Cancels at most `limit` bookings of a cancelled event, with everything paid back; none left: an empty answer.
/// Safe to repeat: what is cancelled is not found again.
pub async fn cancel_batch_of_event(db: &Db, event_id: Uuid, limit: i64) -> Result<Cancelled, Fault> {
    let conn = &mut *db.conn().await?;
    conn.transaction(async |conn: &mut Conn| {
        let rows: Vec<Row> = prepared(
            sql_query(format!(
                "{ROWS} WHERE b.event_id = $1 AND b.status = 'confirmed' AND e.status = 'cancelled'
                 ORDER BY b.id LIMIT $2"
            ))
            .bind::<SqlUuid, _>(event_id)
            .bind::<BigInt, _>(limit),
        )
        .load(conn)
        .await?;
        let doing = Doing {
            reason: "event-cancelled",
            actor: None,
            mail: |booking_id| MailContent::EventCancelled { booking_id },
        };
        cancel_rows(
            conn,
            rows.into_iter()
                .map(|row| {
                    let total = row.total;
                    (row, total)
                })
                .collect(),
            &doing,
        )
        .await
    })
    .await
}

/// Notes that every booking of a cancelled event has ended; `false` while one is still confirmed. The caller has
/// made sure that no hold can become a booking any more.
pub async fn finish_event_cancellation(db: &Db, event_id: Uuid) -> Result<bool, Fault> {
    let conn = &mut *db.conn().await?;
    let finished = prepared(
        sql_query(
            "UPDATE events SET cancellation_done_at = coalesce(cancellation_done_at, now())
             WHERE id = $1 AND status = 'cancelled'
               AND NOT EXISTS (SELECT FROM bookings WHERE event_id = $1 AND status = 'confirmed')",
        )
        .bind::<SqlUuid, _>(event_id),
    )
    .execute(conn)
    .await?;
    Ok(finished == 1)
}

/// Who cancels, and what its owner is told.
struct Doing {
    reason: &'static str,
    actor: Option<Uuid>,
    mail: fn(Uuid) -> MailContent,
}

#[derive(QueryableByName)]
struct IdRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

async fn cancel_rows(conn: &mut Conn, rows: Vec<(Row, i64)>, doing: &Doing) -> Result<Cancelled, Fault> {
    if rows.is_empty() {
        return Ok(Cancelled::default());
    }
    let mut lines = BTreeMap::new();
    for (row, _) in &rows {
        lines.insert(row.id, serde_json::from_value::<Vec<HeldItem>>(row.items.clone())?);
    }
    // Seats first, as everywhere; a booking that somebody else cancels meanwhile is then not found confirmed.
    let types = lines.values().flatten().map(|item| item.ticket_type_id).collect();
    Stock::lock(conn, types).await?;
    // By key alone: see `PLAN_ONCE`.
    let changed: Vec<IdRow> = prepared(
        sql_query(
            "UPDATE bookings SET status = 'cancelled', cancelled_at = now(), updated_at = now(), cancel_reason = $2
             WHERE id = ANY($1) AND status || '' = 'confirmed' RETURNING id",
        )
        .bind::<Array<SqlUuid>, _>(lines.keys().copied().collect::<Vec<_>>())
        .bind::<Text, _>(doing.reason),
    )
    .load(conn)
    .await?;
    let ids: Vec<Uuid> = changed.iter().map(|row| row.id).collect();
    if ids.is_empty() {
        return Ok(Cancelled::default());
    }
    let rows: Vec<_> = rows.into_iter().filter(|(row, _)| ids.contains(&row.id)).collect();

    prepared(
        sql_query("UPDATE tickets SET status = 'cancelled' WHERE booking_id = ANY($1) AND status = 'valid'")
            .bind::<Array<SqlUuid>, _>(&ids),
    )
    .execute(conn)
    .await?;
    let (mut seats, mut buyers) = (BTreeMap::new(), BTreeMap::new());
    for (row, _) in &rows {
        let items = &lines[&row.id];
        for item in items {
            *seats.entry(item.ticket_type_id).or_insert(0) += stock::quantity(std::slice::from_ref(item));
        }
        *buyers.entry((row.event_id, row.user_id)).or_insert(0) += stock::quantity(items);
    }
    let seats = stock::give_back(conn, &seats).await?;
    let buyers = stock::discount_buyers(conn, &buyers).await?;
    let due: Vec<_> =
        rows.iter().map(|(row, amount)| refunds::Due { booking_id: row.id, amount: *amount }).collect();
    refunds::owe(conn, &due).await?;
    record(conn, &rows, &lines, doing).await?;
    kill_point("cancel.cancelling");
    let bookings = read::by_ids(conn, &ids).await?;
    Ok(Cancelled { bookings, changes: Changes { seats, buyers } })
}

/// Logs, mails, and the job that tells Redis if this process does not live to.
async fn record(
    conn: &mut Conn,
    rows: &[(Row, i64)],
    lines: &BTreeMap<Uuid, Vec<HeldItem>>,
    doing: &Doing,
) -> Result<(), Fault> {
    let trace = TraceContext::current();
    let happenings: Vec<_> = rows
        .iter()
        .map(|(row, refund)| Happening {
            kind: BookingStatus::Cancelled.name(),
            event_id: row.event_id,
            booking_id: row.id,
            user_id: row.user_id,
            quantity: stock::quantity(&lines[&row.id]),
            amount: *refund,
            currency: row.currency.clone(),
            items: row.items.clone(),
            actor: doing.actor,
            detail: json!({ "reason": doing.reason, "refund": refund }),
            trace_id: trace.map(TraceContext::trace_id_hex),
        })
        .collect();
    log::append(conn, &happenings).await?;
    let mails: Vec<_> = rows
        .iter()
        .map(|(row, _)| DueMail {
            cause: row.id.to_string(),
            user_id: row.user_id,
            recipient: row.email.clone(),
            content: (doing.mail)(row.id),
            deadline: None,
            traceparent: None,
        })
        .collect();
    mails::owe(conn, &mails).await?;
    let syncs: Vec<_> = rows
        .first()
        .map(|(row, _)| {
            OutboxEntry::new(&format!("cancelled:{}", row.id), &SyncInventory { event_id: row.event_id })
        })
        .into_iter()
        .collect();
    outbox::record(conn, &syncs).await
}
