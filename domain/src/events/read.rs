//! Events out of Postgres, whole: with their venue and ticket types.

use std::{collections::HashMap, str::FromStr};

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{Event, EventStatus, EventVenue, Seating, TicketType};
use crate::{
    db::Conn,
    fault::Fault,
    money::Money,
    schema::{events, ticket_types, venues},
};

/// An event, and what of it is not for everybody.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    pub organizer_id: Uuid,
    /// The seats that Postgres knows to be free stand in `available`: Redis knows of holds besides.
    pub event: Event,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = events, check_for_backend(diesel::pg::Pg))]
struct EventRow {
    id: Uuid,
    slug: String,
    organizer_id: Uuid,
    title: String,
    description: String,
    category: String,
    starts_at: DateTime<Utc>,
    ends_at: DateTime<Utc>,
    sales_start_at: DateTime<Utc>,
    sales_end_at: DateTime<Utc>,
    status: String,
    currency: String,
    max_tickets_per_user: i32,
    hold_ttl_secs: i32,
    offer_ttl_secs: i32,
    refund_policy: serde_json::Value,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = venues, check_for_backend(diesel::pg::Pg))]
struct VenueRow {
    id: Uuid,
    name: String,
    address: String,
    city: String,
    country: String,
    latitude: f64,
    longitude: f64,
    timezone: String,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = ticket_types, check_for_backend(diesel::pg::Pg))]
struct TicketTypeRow {
    id: Uuid,
    event_id: Uuid,
    name: String,
    description: String,
    seating: String,
    capacity: i32,
    sold: i32,
    reserved: i32,
    base_price: i64,
    price: i64,
    version: i64,
}

/// One event, whatever its status.
pub async fn find(conn: &mut Conn, id: Uuid) -> Result<Option<StoredEvent>, Fault> {
    Ok(find_many(conn, &[id]).await?.pop())
}

/// These events in this order, whatever their status; unknown ids are left out.
pub async fn find_many(conn: &mut Conn, ids: &[Uuid]) -> Result<Vec<StoredEvent>, Fault> {
    let rows: Vec<(EventRow, VenueRow)> = events::table
        .inner_join(venues::table)
        .filter(events::id.eq_any(ids))
        .select((EventRow::as_select(), VenueRow::as_select()))
        .load(conn)
        .await?;
    let types: Vec<TicketTypeRow> = ticket_types::table
        .filter(ticket_types::event_id.eq_any(ids).and(ticket_types::deleted_at.is_null()))
        .order((ticket_types::position, ticket_types::id))
        .select(TicketTypeRow::as_select())
        .load(conn)
        .await?;
    let mut types_of = HashMap::<Uuid, Vec<TicketTypeRow>>::new();
    for row in types {
        types_of.entry(row.event_id).or_default().push(row);
    }
    let mut found = rows
        .into_iter()
        .map(|(row, venue)| {
            let types = types_of.remove(&row.id).unwrap_or_default();
            Ok((row.id, assemble(row, venue, types)?))
        })
        .collect::<Result<HashMap<_, _>, Fault>>()?;
    Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
}

fn assemble(row: EventRow, venue: VenueRow, types: Vec<TicketTypeRow>) -> Result<StoredEvent, Fault> {
    let currency = row.currency;
    let ticket_types =
        types.into_iter().map(|row| ticket_type(row, &currency)).collect::<Result<Vec<_>, Fault>>()?;
    let event = Event {
        id: row.id,
        slug: row.slug,
        title: row.title,
        description: row.description,
        category: row.category,
        venue: EventVenue {
            id: venue.id,
            name: venue.name,
            address: venue.address,
            city: venue.city,
            country: venue.country,
            latitude: venue.latitude,
            longitude: venue.longitude,
            timezone: venue.timezone,
        },
        starts_at: row.starts_at,
        ends_at: row.ends_at,
        sales_start_at: row.sales_start_at,
        sales_end_at: row.sales_end_at,
        status: EventStatus::from_str(&row.status)?,
        max_tickets_per_user: row.max_tickets_per_user,
        hold_ttl_secs: row.hold_ttl_secs,
        offer_ttl_secs: row.offer_ttl_secs,
        refund_policy: serde_json::from_value(row.refund_policy)?,
        ticket_types,
        version: row.version,
        created_at: row.created_at,
        updated_at: row.updated_at,
    };
    Ok(StoredEvent { organizer_id: row.organizer_id, event })
}

fn ticket_type(row: TicketTypeRow, currency: &str) -> Result<TicketType, Fault> {
    let seating = match row.seating.as_str() {
        "general" => Seating::General,
        "reserved" => Seating::Reserved,
        other => return Err(Fault::Corrupt(format!("seating {other:?}"))),
    };
    Ok(TicketType {
        id: row.id,
        name: row.name,
        description: row.description,
        seating,
        capacity: row.capacity,
        base_price: Money::new(row.base_price, currency),
        price: Money::new(row.price, currency),
        available: i64::from(row.capacity) - i64::from(row.sold) - i64::from(row.reserved),
        version: row.version,
    })
}
