//! Figures over time: day by day, by week or by month, without gaps.

use std::{collections::BTreeMap, sync::LazyLock};

use chrono::NaiveDate;
use diesel::{
    OptionalExtension, QueryableByName, sql_query,
    sql_types::{Date, Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    Scope,
    columns::spell_out,
    figures::{CountedIn, Totals},
    period::{Granularity, Period},
};
use crate::{clock, db::Conn, fault::Fault, statement::prepared};

/// How many days there are unless somebody says from when.
const DEFAULT_DAYS: i64 = 30;

/// Figures over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Series {
    pub granularity: Granularity,
    #[serde(flatten)]
    pub period: Period,
    /// The zone whose days these are; null: each event's days are those of its own venue.
    #[schema(example = "Europe/Berlin")]
    pub timezone: Option<String>,
    /// Every day, week or month of the period in its order, also those in which nothing happened.
    pub data: Vec<Bucket>,
}

/// A day, week or month.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Bucket {
    /// Its first day. What of it lies outside of the period is not counted.
    pub date: NaiveDate,
    #[serde(flatten)]
    pub totals: Totals,
}

#[derive(QueryableByName)]
struct DayRow {
    #[diesel(sql_type = Date)]
    day: NaiveDate,
    #[diesel(embed)]
    counted: CountedIn,
}

static TOTALS: LazyLock<String> = LazyLock::new(|| {
    spell_out(
        "SELECT c.day, c.currency, {counts} FROM analytics_totals c
         WHERE c.day BETWEEN $1 AND $2 AND c.organizer_id = $3 ORDER BY 1, 2",
    )
});
static EVENT: LazyLock<String> = LazyLock::new(|| {
    spell_out(
        "SELECT c.day, a.currency, {counts}
         FROM analytics_days c JOIN analytics_events a ON a.event_id = c.event_id
         WHERE c.day BETWEEN $1 AND $2 AND c.event_id = $3 ORDER BY 1",
    )
});

/// Of all events in the scope; of the last 30 days unless told otherwise.
pub async fn series(
    conn: &mut Conn,
    scope: Scope,
    period: Option<Period>,
    granularity: Granularity,
) -> Result<Series, Fault> {
    let period = period.unwrap_or_else(|| Period::ending(clock::now().date_naive(), DEFAULT_DAYS));
    let statement = sql_query(TOTALS.as_str())
        .bind::<Date, _>(period.from)
        .bind::<Date, _>(period.to)
        .bind::<SqlUuid, _>(scope.totals());
    let rows: Vec<DayRow> = prepared(statement).load(conn).await?;
    Ok(Series { granularity, period, timezone: None, data: fill(period, granularity, rows) })
}

/// Of one event. `None`: there is no such event in this scope.
pub async fn event_series(
    conn: &mut Conn,
    scope: Scope,
    event_id: Uuid,
    period: Option<Period>,
    granularity: Granularity,
) -> Result<Option<Series>, Fault> {
    #[derive(QueryableByName)]
    struct Calendar {
        #[diesel(sql_type = Text)]
        timezone: String,
        #[diesel(sql_type = Date)]
        today: NaiveDate,
    }
    let statement = sql_query(
        "SELECT z.timezone, (now() AT TIME ZONE z.timezone)::date AS today
         FROM events e JOIN venues v ON v.id = e.venue_id LEFT JOIN analytics_events a ON a.event_id = e.id,
              LATERAL (SELECT coalesce(a.timezone, known_zone(v.timezone)) AS timezone) z
         WHERE e.id = $1 AND ($2::uuid IS NULL OR e.organizer_id = $2)",
    )
    .bind::<SqlUuid, _>(event_id)
    .bind::<Nullable<SqlUuid>, _>(scope.organizer());
    let calendar: Option<Calendar> = prepared(statement).get_result(conn).await.optional()?;
    let Some(Calendar { timezone, today }) = calendar else { return Ok(None) };
    let period = period.unwrap_or_else(|| Period::ending(today, DEFAULT_DAYS));
    let statement = sql_query(EVENT.as_str())
        .bind::<Date, _>(period.from)
        .bind::<Date, _>(period.to)
        .bind::<SqlUuid, _>(event_id);
    let rows: Vec<DayRow> = prepared(statement).load(conn).await?;
    let data = fill(period, granularity, rows);
    Ok(Some(Series { granularity, period, timezone: Some(timezone), data }))
}

/// Sums the days of each bucket, currency by currency.
fn fill(period: Period, granularity: Granularity, rows: Vec<DayRow>) -> Vec<Bucket> {
    let mut sums: BTreeMap<NaiveDate, Vec<CountedIn>> = BTreeMap::new();
    for DayRow { day, counted } in rows {
        let bucket = sums.entry(granularity.bucket(day)).or_default();
        match bucket.iter_mut().find(|sum| sum.currency == counted.currency) {
            Some(sum) => sum.counted += counted.counted,
            None => bucket.push(counted),
        }
    }
    period
        .buckets(granularity)
        .map(|date| Bucket { date, totals: Totals::new(&sums.remove(&date).unwrap_or_default()) })
        .collect()
}
