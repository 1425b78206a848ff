//! What is known of a sale, as it was recorded.

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, Bool, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use serde_json::Value;
use uuid::Uuid;

use super::{
    evaluate::{Seen, SeenKind},
    replay::{Change, Instant, LogEntry, Observed},
};
use crate::{db::Conn, fault::Fault, holds::HeldItem, statement::prepared};

/// The most evaluations that are read: a week of minutes.
pub(super) const MAX_INSTANTS: usize = 10_080;
/// The most entries of the booking log, and the most changes of prices.
pub(super) const MAX_ENTRIES: usize = 50_000;

#[derive(QueryableByName)]
pub(super) struct EventRow {
    #[diesel(sql_type = Text)]
    pub currency: String,
    #[diesel(sql_type = Timestamptz)]
    pub sales_start_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub sales_over_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub starts_at: DateTime<Utc>,
    #[diesel(sql_type = Bool)]
    pub published: bool,
    #[diesel(sql_type = Nullable<Integer>)]
    pub every_minutes: Option<i32>,
    #[diesel(sql_type = Timestamptz)]
    pub now: DateTime<Utc>,
}

/// The event, and the interval of its rules if it has any.
pub(super) async fn read_event(conn: &mut Conn, event_id: Uuid) -> Result<EventRow, Fault> {
    Ok(prepared(
        sql_query(
            "SELECT e.currency, e.sales_start_at, least(e.sales_end_at, e.starts_at) AS sales_over_at, e.starts_at,
                    e.status <> 'draft' AS published, p.every_minutes, now() AS now
             FROM events e LEFT JOIN pricing_rules p ON p.event_id = e.id WHERE e.id = $1",
        )
        .bind::<SqlUuid, _>(event_id),
    )
    .get_result(conn)
    .await?)
}

#[derive(QueryableByName)]
pub(super) struct KindRow {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = Text)]
    pub name: String,
    #[diesel(sql_type = Integer)]
    pub capacity: i32,
    #[diesel(sql_type = BigInt)]
    pub base_price: i64,
    #[diesel(sql_type = BigInt)]
    pub price: i64,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    #[diesel(sql_type = Bool)]
    pub present: bool,
}

/// Its ticket types, those that were deleted among them.
pub(super) async fn read_kinds(conn: &mut Conn, event_id: Uuid) -> Result<Vec<KindRow>, Fault> {
    Ok(prepared(
        sql_query(
            "SELECT id, name, capacity, base_price, price, created_at, deleted_at IS NULL AS present
             FROM ticket_types WHERE event_id = $1 ORDER BY position, id",
        )
        .bind::<SqlUuid, _>(event_id),
    )
    .load(conn)
    .await?)
}

#[derive(QueryableByName)]
struct EvaluationRow {
    #[diesel(sql_type = BigInt)]
    pub step: i64,
    #[diesel(sql_type = BigInt)]
    pub log_position: i64,
    #[diesel(sql_type = Jsonb)]
    pub seen: Value,
}

/// Its evaluations in their order, one more than may be used if there are so many.
pub(super) async fn read_instants(conn: &mut Conn, event_id: Uuid) -> Result<Vec<Instant>, Fault> {
    let rows: Vec<EvaluationRow> = prepared(
        sql_query(
            "SELECT step, log_position, seen FROM price_evaluations WHERE event_id = $1 ORDER BY step LIMIT $2",
        )
        .bind::<SqlUuid, _>(event_id)
        .bind::<BigInt, _>(one_more(MAX_INSTANTS)),
    )
    .load(conn)
    .await?;
    rows.into_iter().map(EvaluationRow::read).collect()
}

impl EvaluationRow {
    fn read(self) -> Result<Instant, Fault> {
        let Seen { moment, ticket_types } = serde_json::from_value(self.seen)?;
        let observed = |kind: &SeenKind| Observed {
            base_price: kind.base_price,
            capacity: kind.capacity,
            held: kind.held,
            waiting: kind.waiting,
            to: Some(kind.to),
        };
        let kinds = ticket_types.iter().map(|kind| (kind.id, observed(kind))).collect();
        Ok(Instant { step: self.step, moment, log_position: self.log_position, kinds })
    }
}

#[derive(Clone, QueryableByName)]
pub(super) struct ChangeRow {
    #[diesel(sql_type = BigInt)]
    pub step: i64,
    #[diesel(sql_type = SqlUuid)]
    pub ticket_type_id: Uuid,
    #[diesel(sql_type = Timestamptz)]
    pub at: DateTime<Utc>,
    #[diesel(sql_type = Bool)]
    pub manual: bool,
    #[diesel(sql_type = BigInt)]
    pub old_price: i64,
    #[diesel(sql_type = BigInt)]
    pub new_price: i64,
    #[diesel(sql_type = BigInt)]
    pub old_base_price: i64,
    #[diesel(sql_type = BigInt)]
    pub new_base_price: i64,
}

/// Every change of its prices in their order, likewise.
pub(super) async fn read_changes(conn: &mut Conn, event_id: Uuid) -> Result<Vec<ChangeRow>, Fault> {
    Ok(prepared(
        sql_query(
            "SELECT step, ticket_type_id, at, cause = 'manual' AS manual, old_price, new_price, old_base_price,
                    new_base_price
             FROM price_history WHERE event_id = $1 ORDER BY step LIMIT $2",
        )
        .bind::<SqlUuid, _>(event_id)
        .bind::<BigInt, _>(one_more(MAX_ENTRIES)),
    )
    .load(conn)
    .await?)
}

#[derive(QueryableByName)]
struct LogRow {
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    #[diesel(sql_type = Timestamptz)]
    pub at: DateTime<Utc>,
    #[diesel(sql_type = SqlUuid)]
    pub booking_id: Uuid,
    #[diesel(sql_type = Bool)]
    pub cancelled: bool,
    #[diesel(sql_type = Timestamptz)]
    pub quoted_at: DateTime<Utc>,
    #[diesel(sql_type = BigInt)]
    pub amount: i64,
    #[diesel(sql_type = Jsonb)]
    pub items: Value,
}

/// Its bookings and cancellations by their times, likewise.
pub(super) async fn read_log(conn: &mut Conn, event_id: Uuid) -> Result<Vec<LogEntry>, Fault> {
    let rows: Vec<LogRow> = prepared(
        sql_query(
            "SELECT l.id, l.at, l.booking_id, l.kind = 'cancelled' AS cancelled,
                    coalesce(b.created_at, l.at) AS quoted_at, l.amount, l.items
             FROM booking_log l LEFT JOIN bookings b ON b.id = l.booking_id
             WHERE l.event_id = $1 AND l.kind IN ('confirmed', 'cancelled')
             ORDER BY l.at, l.id LIMIT $2",
        )
        .bind::<SqlUuid, _>(event_id)
        .bind::<BigInt, _>(one_more(MAX_ENTRIES)),
    )
    .load(conn)
    .await?;
    rows.into_iter().map(LogRow::read).collect()
}

impl LogRow {
    fn read(self) -> Result<LogEntry, Fault> {
        let items: Vec<HeldItem> = serde_json::from_value(self.items)?;
        let item = |item: HeldItem| (item.ticket_type_id, i64::from(item.quantity), item.unit_price);
        Ok(LogEntry {
            id: self.id,
            at: self.at,
            booking_id: self.booking_id,
            cancelled: self.cancelled,
            quoted_at: self.quoted_at,
            amount: self.amount,
            items: items.into_iter().map(item).collect(),
        })
    }
}

/// So that it shows whether there are more.
fn one_more(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1
}

impl ChangeRow {
    pub const fn change(&self) -> Change {
        Change {
            step: self.step,
            ticket_type_id: self.ticket_type_id,
            at: self.at,
            price: self.new_price,
            manual: self.manual,
        }
    }
}
