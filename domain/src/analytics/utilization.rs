//! How full events are: seats sold to seats there are, as Postgres has them now.

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Scope, figures::rate};
use crate::{
    db::Conn,
    events::EventStatus,
    fault::Fault,
    listing::{Fingerprint, InvalidCursor, Page},
    statement::prepared,
};

/// How full an event is, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Band {
    /// At least 80 % sold.
    High,
    /// At least 50 % sold.
    Medium,
    Low,
}

impl Band {
    pub(super) fn of(sold: i64, capacity: i64) -> Self {
        match sold.saturating_mul(100) {
            // Nothing of nothing is not full.
            _ if capacity <= 0 => Self::Low,
            sold if sold >= capacity.saturating_mul(80) => Self::High,
            sold if sold >= capacity.saturating_mul(50) => Self::Medium,
            _ => Self::Low,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

/// Sold to capacity; nothing of nothing is nothing.
pub(super) fn share(sold: i64, capacity: i64) -> f64 {
    rate(sold, capacity).unwrap_or(0.0)
}

/// How full the published events are together, and how many are in each band.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Utilization {
    pub capacity: i64,
    pub sold: i64,
    /// Sold to capacity, between 0 and 1.
    #[schema(example = 0.64)]
    pub utilization: f64,
    /// Events of which at least 80 % are sold.
    pub high: i64,
    /// Events of which at least 50 % are sold, and less than 80 %.
    pub medium: i64,
    /// The other events.
    pub low: i64,
}

/// The seats of one event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventUtilization {
    pub event_id: Uuid,
    pub title: String,
    pub status: EventStatus,
    pub starts_at: DateTime<Utc>,
    pub capacity: i64,
    pub sold: i64,
    /// Sold to capacity, between 0 and 1.
    #[schema(example = 0.64)]
    pub utilization: f64,
    pub band: Band,
}

/// Which events are listed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct UtilizationFilter {
    pub organizer_id: Option<Uuid>,
    pub status: EventStatus,
    /// In this band only.
    pub band: Option<Band>,
}

impl UtilizationFilter {
    pub fn new(scope: Scope, status: EventStatus, band: Option<Band>) -> Self {
        Self { organizer_id: scope.organizer(), status, band }
    }
}

/// Each event of organizer `$1`, or of all, in status `$2`: its seats, and in ten-thousandths how full it is. The
/// bands are cut where [`Band::of`] cuts them.
const EVENTS: &str = "SELECT e.id AS event_id, e.title, e.status, e.starts_at, t.capacity, t.sold,
           CASE WHEN t.capacity > 0 THEN t.sold * 10000 / t.capacity ELSE 0 END AS fullness
    FROM events e
    JOIN (SELECT event_id, sum(capacity)::bigint AS capacity, sum(sold)::bigint AS sold
          FROM ticket_types WHERE deleted_at IS NULL GROUP BY 1) t ON t.event_id = e.id
    WHERE e.status = $2 AND ($1::uuid IS NULL OR e.organizer_id = $1)";

/// Of all published events in the scope.
pub(super) async fn utilization(conn: &mut Conn, scope: Scope) -> Result<Utilization, Fault> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        capacity: i64,
        #[diesel(sql_type = BigInt)]
        sold: i64,
        #[diesel(sql_type = BigInt)]
        high: i64,
        #[diesel(sql_type = BigInt)]
        medium: i64,
        #[diesel(sql_type = BigInt)]
        low: i64,
    }
    let statement = sql_query(format!(
        "SELECT coalesce(sum(capacity), 0)::bigint AS capacity, coalesce(sum(sold), 0)::bigint AS sold,
                count(*) FILTER (WHERE fullness >= 8000) AS high,
                count(*) FILTER (WHERE fullness >= 5000 AND fullness < 8000) AS medium,
                count(*) FILTER (WHERE fullness < 5000) AS low
         FROM ({EVENTS}) e"
    ))
    .bind::<Nullable<SqlUuid>, _>(scope.organizer())
    .bind::<Text, _>(EventStatus::Published.name());
    let row: Row = prepared(statement).get_result(conn).await?;
    let Row { capacity, sold, high, medium, low } = row;
    Ok(Utilization { capacity, sold, utilization: share(sold, capacity), high, medium, low })
}

/// An event's place in the list: how full it is, in ten-thousandths, and its id.
pub type UtilizationPosition = (i64, Uuid);

#[derive(QueryableByName)]
struct EventRow {
    #[diesel(sql_type = SqlUuid)]
    event_id: Uuid,
    #[diesel(sql_type = Text)]
    title: String,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Timestamptz)]
    starts_at: DateTime<Utc>,
    #[diesel(sql_type = BigInt)]
    capacity: i64,
    #[diesel(sql_type = BigInt)]
    sold: i64,
    #[diesel(sql_type = BigInt)]
    fullness: i64,
}

/// Events after a place in the list, fullest first, each with its own place.
pub async fn utilizations(
    conn: &mut Conn,
    filter: &UtilizationFilter,
    after: Option<UtilizationPosition>,
    limit: u32,
) -> Result<Vec<(EventUtilization, UtilizationPosition)>, Fault> {
    let (least, below) = match filter.band {
        None => (0, i32::MAX),
        Some(Band::High) => (8_000, i32::MAX),
        Some(Band::Medium) => (5_000, 8_000),
        Some(Band::Low) => (0, 5_000),
    };
    let rows: Vec<EventRow> = sql_query(format!(
        "SELECT * FROM ({EVENTS}) e WHERE fullness >= $3 AND fullness < $4
           AND ($5::bigint IS NULL OR (-fullness, event_id) > (-$5, $6))
         ORDER BY -fullness, event_id LIMIT $7"
    ))
    .bind::<Nullable<SqlUuid>, _>(filter.organizer_id)
    .bind::<Text, _>(filter.status.name())
    .bind::<Integer, _>(least)
    .bind::<Integer, _>(below)
    .bind::<Nullable<BigInt>, _>(after.map(|(fullness, _)| fullness))
    .bind::<Nullable<SqlUuid>, _>(after.map(|(_, id)| id))
    .bind::<BigInt, _>(i64::from(limit))
    .load(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let event = EventUtilization {
                event_id: row.event_id,
                title: row.title,
                status: row.status.parse()?,
                starts_at: row.starts_at,
                capacity: row.capacity,
                sold: row.sold,
                utilization: share(row.sold, row.capacity),
                band: Band::of(row.sold, row.capacity),
            };
            Ok((event, (row.fullness, row.event_id)))
        })
        .collect()
}

/// The list could not be read.
#[derive(Debug, thiserror::Error)]
pub enum UtilizationError {
    #[error(transparent)]
    Cursor(#[from] InvalidCursor),
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A page of the list.
pub async fn utilization_page(
    conn: &mut Conn,
    filter: &UtilizationFilter,
    limit: u32,
    cursor: Option<&str>,
) -> Result<Page<EventUtilization>, UtilizationError> {
    let fingerprint = Fingerprint::of("capacity_utilization", filter);
    let after = cursor.map(|cursor| fingerprint.position(cursor)).transpose()?;
    let found = utilizations(conn, filter, after, limit + 1).await?;
    let page = fingerprint.page(found, limit, |(_, place)| *place);
    let data = page.data.into_iter().map(|(event, _)| event).collect();
    Ok(Page { data, next_cursor: page.next_cursor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_begin_at_half_and_at_four_fifths() {
        for (sold, capacity, band) in [
            (0, 0, Band::Low),
            (0, 10, Band::Low),
            (49, 100, Band::Low),
            (4_999, 10_000, Band::Low),
            (1, 2, Band::Medium),
            (799, 1_000, Band::Medium),
            (4, 5, Band::High),
            (10, 10, Band::High),
        ] {
            assert_eq!(Band::of(sold, capacity), band, "{sold} of {capacity}");
        }
    }
}
