//! The figures of one event: what was sold of it, how fast, and how much of that came back.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, QueryableByName, sql_query,
    sql_types::{BigInt, Date, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    Scope,
    columns::spell_out,
    figures::{Change, Counted, CountedIn, Counts, Revenue, Totals},
    overview::{PeriodTotals, as_of},
    period::Period,
    utilization::{Band, share},
};
use crate::{db::Conn, fault::Fault, statement::prepared};

/// Figures of one event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventStatistics {
    pub event_id: Uuid,
    pub title: String,
    /// The zone whose days the event's days are: its venue's.
    #[schema(example = "Europe/Berlin")]
    pub timezone: String,
    /// The days that are counted; null: all there are.
    pub period: Option<Period>,
    #[serde(flatten)]
    pub counts: Counts,
    pub revenue: Revenue,
    /// As many days right before; null when all days are counted.
    pub previous: Option<PeriodTotals>,
    pub change: Option<Change>,
    /// Seats there are now.
    pub capacity: i64,
    /// Seats sold now.
    pub sold: i64,
    /// Sold to capacity, between 0 and 1.
    pub utilization: f64,
    pub band: Band,
    /// When the last seat was sold for the first time; null while it never was.
    pub sold_out_at: Option<DateTime<Utc>>,
    /// Seconds from the beginning of the sale to `sold_out_at`.
    pub time_to_sell_out_secs: Option<i64>,
    /// When something was last counted: a few seconds after it happened.
    pub as_of: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct EventRow {
    #[diesel(sql_type = Text)]
    title: String,
    #[diesel(sql_type = Text)]
    timezone: String,
    #[diesel(sql_type = Text)]
    currency: String,
    #[diesel(sql_type = Timestamptz)]
    sales_start_at: DateTime<Utc>,
    #[diesel(sql_type = BigInt)]
    capacity: i64,
    #[diesel(sql_type = BigInt)]
    sold: i64,
    #[diesel(sql_type = BigInt)]
    peak_tickets: i64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    peak_at: Option<DateTime<Utc>>,
    #[diesel(embed)]
    counted: Counted,
}

static EVENT: LazyLock<String> = LazyLock::new(|| {
    spell_out(
        "SELECT e.title, coalesce(c.timezone, v.timezone) AS timezone, coalesce(c.currency, e.currency) AS currency,
                e.sales_start_at, t.capacity, t.sold, coalesce(c.peak_tickets, 0) AS peak_tickets, c.peak_at, {counts}
         FROM events e JOIN venues v ON v.id = e.venue_id LEFT JOIN analytics_events c ON c.event_id = e.id,
              LATERAL (SELECT coalesce(sum(capacity), 0)::bigint AS capacity, coalesce(sum(sold), 0)::bigint AS sold
                       FROM ticket_types WHERE event_id = e.id AND deleted_at IS NULL) t
         WHERE e.id = $1 AND ($2::uuid IS NULL OR e.organizer_id = $2)",
    )
});
static WITHIN: LazyLock<String> = LazyLock::new(|| {
    spell_out(
        "SELECT $4::text AS currency, {sums} FROM analytics_days c
         WHERE c.event_id = $1 AND c.day BETWEEN $2 AND $3 HAVING count(*) > 0",
    )
});

/// Of a period, or of all time. `None`: there is no such event in this scope.
pub async fn event_statistics(
    conn: &mut Conn,
    scope: Scope,
    event_id: Uuid,
    period: Option<Period>,
) -> Result<Option<EventStatistics>, Fault> {
    let statement = sql_query(EVENT.as_str())
        .bind::<SqlUuid, _>(event_id)
        .bind::<Nullable<SqlUuid>, _>(scope.organizer());
    let Some(event): Option<EventRow> = prepared(statement).get_result(conn).await.optional()? else {
        return Ok(None);
    };
    let (mut counted, mut previous, mut change) = (event.counted, None, None);
    if let Some(period) = period {
        let now = within(conn, event_id, period, &event.currency).await?;
        let before = within(conn, event_id, period.before(), &event.currency).await?;
        counted = now.counted;
        let (now, totals) = (Totals::new(&[now]), Totals::new(&[before]));
        change = Some(Change::between(&totals, &now));
        previous = Some(PeriodTotals { period: period.before(), totals });
    }
    let sold_out_at = event.peak_at.filter(|_| event.capacity > 0 && event.peak_tickets >= event.capacity);
    Ok(Some(EventStatistics {
        event_id,
        title: event.title,
        timezone: event.timezone,
        period,
        counts: counted.into(),
        revenue: Revenue::new(&counted, &event.currency),
        previous,
        change,
        capacity: event.capacity,
        sold: event.sold,
        utilization: share(event.sold, event.capacity),
        band: Band::of(event.sold, event.capacity),
        sold_out_at,
        time_to_sell_out_secs: sold_out_at.map(|at| (at - event.sales_start_at).num_seconds().max(0)),
        as_of: as_of(conn).await?,
    }))
}

async fn within(conn: &mut Conn, event_id: Uuid, period: Period, currency: &str) -> Result<CountedIn, Fault> {
    let statement = sql_query(WITHIN.as_str())
        .bind::<SqlUuid, _>(event_id)
        .bind::<Date, _>(period.from)
        .bind::<Date, _>(period.to)
        .bind::<Text, _>(currency);
    let found: Option<CountedIn> = prepared(statement).get_result(conn).await.optional()?;
    Ok(found.unwrap_or_else(|| CountedIn { currency: currency.to_owned(), counted: Counted::default() }))
}
