//! Reads bookings: one, several, and lists a page at a time, newest first.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName, sql_query,
    sql_types::{Array, BigInt, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{Booking, BookingStatus, FailureInfo, PaymentInfo, Ticket, TicketStatus, booked_items};
use crate::{
    db::Conn,
    fault::Fault,
    holds::HeldItem,
    listing::{Fingerprint, InvalidCursor, Page},
    money::Money,
    payments::PaymentStatus,
    statement::prepared,
};

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    reference: String,
    #[diesel(sql_type = SqlUuid)]
    event_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Nullable<Text>)]
    failure: Option<String>,
    #[diesel(sql_type = Jsonb)]
    items: Value,
    #[diesel(sql_type = BigInt)]
    total: i64,
    #[diesel(sql_type = Text)]
    currency: String,
    #[diesel(sql_type = Integer)]
    attempt: i32,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    confirmed_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    cancelled_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Text>)]
    payment_status: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    provider: Option<String>,
}

#[derive(QueryableByName)]
struct TicketRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    booking_id: Uuid,
    #[diesel(sql_type = Text)]
    code: String,
    #[diesel(sql_type = Nullable<Text>)]
    seat: Option<String>,
    #[diesel(sql_type = Text)]
    status: String,
}

/// A booking with what its client does not see.
#[derive(Clone, Debug)]
pub struct KeptBooking {
    pub booking: Booking,
    pub user_id: Uuid,
    /// The confirm that decided it.
    pub attempt: u32,
}

/// Which bookings a list shows. All that is given must hold.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BookingFilter {
    /// Of this user.
    pub user_id: Option<Uuid>,
    /// Of events of this organiser.
    pub organizer_id: Option<Uuid>,
    pub event_id: Option<Uuid>,
    pub status: Option<BookingStatus>,
}

fn named<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Fault> {
    Ok(serde_json::from_value(Value::String(text.to_owned()))?)
}

impl Row {
    fn kept(self, tickets: Vec<Ticket>) -> Result<KeptBooking, Fault> {
        let items: Vec<HeldItem> = serde_json::from_value(self.items)?;
        let payment = match (self.payment_status, self.provider) {
            (Some(status), Some(provider)) => {
                Some(PaymentInfo { status: named::<PaymentStatus>(&status)?, provider, action: None })
            }
            _ => None,
        };
        let booking = Booking {
            id: self.id,
            reference: Some(self.reference),
            event_id: self.event_id,
            status: named::<BookingStatus>(&self.status)?,
            failure: self.failure.map(|code| FailureInfo { code }),
            items: booked_items(&items, &self.currency),
            total: Money::new(self.total, &self.currency),
            payment,
            tickets,
            created_at: self.created_at,
            confirmed_at: self.confirmed_at,
            cancelled_at: self.cancelled_at,
        };
        let attempt = u32::try_from(self.attempt).map_err(|error| Fault::Corrupt(error.to_string()))?;
        Ok(KeptBooking { booking, user_id: self.user_id, attempt })
    }
}

async fn with_tickets(conn: &mut Conn, rows: Vec<Row>) -> Result<Vec<KeptBooking>, Fault> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let found: Vec<TicketRow> = prepared(
        sql_query(
            "SELECT id, booking_id, code, seat, status FROM tickets WHERE booking_id = ANY($1) ORDER BY id",
        )
        .bind::<Array<SqlUuid>, _>(rows.iter().map(|row| row.id).collect::<Vec<_>>()),
    )
    .load(conn)
    .await?;
    let mut tickets: HashMap<Uuid, Vec<Ticket>> = HashMap::new();
    for row in found {
        let status = named::<TicketStatus>(&row.status)?;
        let ticket = Ticket { id: row.id, code: row.code, seat: row.seat, status };
        tickets.entry(row.booking_id).or_default().push(ticket);
    }
    rows.into_iter()
        .map(|row| {
            let own = tickets.remove(&row.id).unwrap_or_default();
            row.kept(own)
        })
        .collect()
}

/// These bookings, as far as there are any, in no particular order.
pub async fn kept_by_ids(conn: &mut Conn, ids: &[Uuid]) -> Result<Vec<KeptBooking>, Fault> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = concat!(include_str!("sql/read.sql"), "WHERE b.id = ANY($1)");
    let rows: Vec<Row> = prepared(sql_query(sql).bind::<Array<SqlUuid>, _>(ids)).load(conn).await?;
    with_tickets(conn, rows).await
}

/// The same, as clients see them.
pub(super) async fn by_ids(conn: &mut Conn, ids: &[Uuid]) -> Result<Vec<Booking>, Fault> {
    Ok(kept_by_ids(conn, ids).await?.into_iter().map(|kept| kept.booking).collect())
}

/// One booking of this user or, without a user, whoever's it is.
pub async fn read(conn: &mut Conn, id: Uuid, user_id: Option<Uuid>) -> Result<Option<KeptBooking>, Fault> {
    let found = kept_by_ids(conn, &[id]).await?.pop();
    Ok(found.filter(|kept| user_id.is_none_or(|user_id| kept.user_id == user_id)))
}

/// Whether the event of a booking is this organiser's.
pub async fn is_organizers(conn: &mut Conn, event_id: Uuid, organizer_id: Uuid) -> Result<bool, Fault> {
    let found = prepared(
        sql_query("SELECT 1 FROM events WHERE id = $1 AND organizer_id = $2")
            .bind::<SqlUuid, _>(event_id)
            .bind::<SqlUuid, _>(organizer_id),
    )
    .execute(conn)
    .await?;
    Ok(found == 1)
}

/// What a calendar shows of a booking's event.
#[derive(Clone, Debug, QueryableByName)]
pub struct Occasion {
    #[diesel(sql_type = Text)]
    pub title: String,
    #[diesel(sql_type = Timestamptz)]
    pub starts_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub ends_at: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    pub venue: String,
    #[diesel(sql_type = Text)]
    pub address: String,
    #[diesel(sql_type = Text)]
    pub city: String,
    #[diesel(sql_type = Text)]
    pub country: String,
}

/// The occasion for which a booking of this event is.
pub async fn occasion(conn: &mut Conn, event_id: Uuid) -> Result<Option<Occasion>, Fault> {
    let rows: Vec<Occasion> = prepared(
        sql_query(
            "SELECT e.title, e.starts_at, e.ends_at, v.name AS venue, v.address, v.city, v.country
             FROM events e JOIN venues v ON v.id = e.venue_id WHERE e.id = $1",
        )
        .bind::<SqlUuid, _>(event_id),
    )
    .load(conn)
    .await?;
    Ok(rows.into_iter().next())
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    #[error(transparent)]
    InvalidCursor(#[from] InvalidCursor),
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A page of bookings, newest first.
pub async fn page(
    conn: &mut Conn,
    filter: &BookingFilter,
    limit: u32,
    cursor: Option<&str>,
) -> Result<Page<Booking>, ListError> {
    let list = Fingerprint::of("bookings", filter);
    let before: Option<Uuid> = cursor.map(|cursor| list.position(cursor)).transpose()?;
    let sql = concat!(
        include_str!("sql/read.sql"),
        "WHERE ($1::uuid IS NULL OR b.user_id = $1) AND ($2::uuid IS NULL OR b.event_id = $2)
           AND ($3::text IS NULL OR b.status = $3) AND ($4::uuid IS NULL OR b.id < $4)
           AND ($5::uuid IS NULL OR EXISTS (SELECT FROM events e WHERE e.id = b.event_id AND e.organizer_id = $5))
         ORDER BY b.id DESC LIMIT $6"
    );
    // Not kept: which index serves depends on which filters are given.
    let rows: Vec<Row> = sql_query(sql)
        .bind::<Nullable<SqlUuid>, _>(filter.user_id)
        .bind::<Nullable<SqlUuid>, _>(filter.event_id)
        .bind::<Nullable<Text>, _>(filter.status.map(BookingStatus::name))
        .bind::<Nullable<SqlUuid>, _>(before)
        .bind::<Nullable<SqlUuid>, _>(filter.organizer_id)
        .bind::<BigInt, _>(i64::from(limit) + 1)
        .load(conn)
        .await
        .map_err(Fault::from)?;
    let found = with_tickets(conn, rows).await?.into_iter().map(|kept| kept.booking).collect();
    Ok(list.page(found, limit, |booking: &Booking| booking.id))
}
