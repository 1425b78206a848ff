//! The list of events: filters, orders and facets, in one statement each.
//!
//! Every order is an ascending 64-bit number with the id behind it, so one kind of cursor serves them all. The
//! cursor also carries the moment at which the first page was read: "upcoming" means the same on every page.

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    pg::Pg,
    query_builder::{BoxedSqlQuery, SqlQuery},
    sql_types::{Array, BigInt, Double, HasSqlType, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    clock,
    db::Conn,
    fault::Fault,
    listing::{Fingerprint, InvalidCursor, Page},
};

/// The order of the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// Upcoming first, soonest first; what has begun follows.
    #[default]
    StartsAt,
    /// Cheapest ticket first.
    Price,
    /// Most tickets sold in the last 7 days first.
    Popularity,
    /// Best match of `q` first; needs `q`.
    Relevance,
    /// Nearest first; needs `near`.
    Distance,
}

/// Which events; what is `None` does not filter.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EventFilter {
    /// Words, as people type them into a search box.
    pub q: Option<String>,
    pub category: Option<String>,
    pub city: Option<String>,
    /// Start not before this.
    pub from: Option<DateTime<Utc>>,
    /// Start not after this.
    pub to: Option<DateTime<Utc>>,
    /// Some ticket costs at least this, in minor units.
    pub price_min: Option<i64>,
    /// Some ticket costs at most this, in minor units.
    pub price_max: Option<i64>,
    /// Latitude and longitude.
    pub near: Option<(f64, f64)>,
    pub radius_km: Option<f64>,
    /// Only events with unsold tickets.
    pub available: bool,
    pub sort: Sort,
}

/// The list could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    #[error(transparent)]
    Cursor(#[from] InvalidCursor),
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What a facet counts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FacetName {
    Category,
    City,
}

/// How many events of the list have this value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, QueryableByName)]
pub struct FacetCount {
    #[diesel(sql_type = Text)]
    pub value: String,
    #[diesel(sql_type = BigInt)]
    pub count: i64,
}

/// The facets that were asked for, most frequent value first, 100 values at most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Facets {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<Vec<FacetCount>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub city: Option<Vec<FacetCount>>,
}

/// A statement that grows: text, and values whose places in it are numbered.
struct Statement<'a> {
    query: BoxedSqlQuery<'a, Pg, SqlQuery>,
    binds: usize,
}

impl<'a> Statement<'a> {
    fn new() -> Self {
        Self { query: diesel::sql_query("").into_boxed(), binds: 0 }
    }

    fn text(mut self, text: &str) -> Self {
        self.query = self.query.sql(text);
        self
    }

    /// Adds text in which every `?` stands for this one value.
    fn with<St, V>(mut self, text: &str, value: V) -> Self
    where
        Pg: HasSqlType<St>,
        V: diesel::serialize::ToSql<St, Pg> + Send + 'a,
        St: Send + 'a,
    {
        self.binds += 1;
        self.query = self.query.sql(text.replace('?', &format!("${}", self.binds))).bind::<St, V>(value);
        self
    }
}

/// Great-circle distance in kilometres from the point that `here` holds to the venue.
const DISTANCE_KM: &str = "(12742.0 * asin(least(1.0, sqrt(power(sin(radians(v.latitude - here.lat) / 2), 2)
    + cos(radians(here.lat)) * cos(radians(v.latitude)) * power(sin(radians(v.longitude - here.lng) / 2), 2)))))";

/// `FROM` and `WHERE`: the events of the list, `e`, with their venues, `v`.
fn matching<'a>(
    mut sql: Statement<'a>,
    filter: &'a EventFilter,
    popular: &'a [(Uuid, i64)],
    as_of: DateTime<Utc>,
) -> Statement<'a> {
    sql = sql.text(" FROM events e JOIN venues v ON v.id = e.venue_id");
    if let Some((lat, lng)) = filter.near {
        sql = sql.with::<Double, _>(" CROSS JOIN (SELECT ?::float8 AS lat,", lat);
        sql = sql.with::<Double, _>(" ?::float8 AS lng) here", lng);
    }
    if let Some(q) = &filter.q {
        sql = sql.with::<Text, _>(" CROSS JOIN websearch_to_tsquery('simple', ?) query", q);
    }
    if filter.sort == Sort::Popularity {
        let (ids, sold): (Vec<Uuid>, Vec<i64>) = popular.iter().copied().unzip();
        sql = sql.with::<Array<SqlUuid>, _>(" LEFT JOIN unnest(?::uuid[],", ids);
        sql = sql.with::<Array<BigInt>, _>(
            " ?::bigint[]) popular(event_id, sold) ON popular.event_id = e.id",
            sold,
        );
    }
    sql = sql.with::<Timestamptz, _>(" WHERE e.status = 'published' AND e.ends_at > ?", as_of);
    if filter.q.is_some() {
        sql = sql.text(" AND e.search @@ query");
    }
    if let Some(category) = &filter.category {
        sql = sql.with::<Text, _>(" AND lower(e.category) = lower(?)", category);
    }
    if let Some(city) = &filter.city {
        sql = sql.with::<Text, _>(" AND lower(v.city) = lower(?)", city);
    }
    if let Some(from) = filter.from {
        sql = sql.with::<Timestamptz, _>(" AND e.starts_at >= ?", from);
    }
    if let Some(to) = filter.to {
        sql = sql.with::<Timestamptz, _>(" AND e.starts_at <= ?", to);
    }
    if let Some(radius) = filter.radius_km {
        sql = sql.with::<Double, _>(&format!(" AND {DISTANCE_KM} <= ?"), radius);
    }
    if filter.price_min.is_some() || filter.price_max.is_some() || filter.available {
        sql = sql
            .text(" AND EXISTS (SELECT FROM ticket_types t WHERE t.event_id = e.id AND t.deleted_at IS NULL");
        if let Some(min) = filter.price_min {
            sql = sql.with::<BigInt, _>(" AND t.price >= ?", min);
        }
        if let Some(max) = filter.price_max {
            sql = sql.with::<BigInt, _>(" AND t.price <= ?", max);
        }
        if filter.available {
            sql = sql.text(" AND t.sold + t.reserved < t.capacity");
        }
        sql = sql.text(")");
    }
    sql
}

/// The order as a number: smaller comes first.
fn sort_key(sort: Sort) -> String {
    match sort {
        // What has begun comes after everything that has not: 2^60 µs are 36,000 years.
        Sort::StartsAt => "(extract(epoch FROM e.starts_at) * 1000000)::bigint
            + CASE WHEN e.starts_at <= $1 THEN 1152921504606846976 ELSE 0 END"
            .to_owned(),
        Sort::Price => "coalesce((SELECT min(t.price) FROM ticket_types t
            WHERE t.event_id = e.id AND t.deleted_at IS NULL), 9223372036854775807)"
            .to_owned(),
        Sort::Popularity => "-coalesce(popular.sold, 0)".to_owned(),
        Sort::Relevance => "-(ts_rank(e.search, query) * 1000000000)::bigint".to_owned(),
        Sort::Distance => format!("({DISTANCE_KM} * 1000000)::bigint"),
    }
}

/// An event's place in the list: when the list was opened (µs), its sort key, its id.
type Position = (i64, i64, Uuid);

/// The ids of one page. `popular` is what [`crate::analytics::popularity`] answered, for the order of that name.
pub async fn search(
    conn: &mut Conn,
    filter: &EventFilter,
    popular: &[(Uuid, i64)],
    limit: u32,
    cursor: Option<&str>,
) -> Result<Page<Uuid>, SearchError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
        #[diesel(sql_type = BigInt)]
        sort_key: i64,
    }
    let fingerprint = Fingerprint::of("events", filter);
    let after: Option<Position> = cursor.map(|cursor| fingerprint.position(cursor)).transpose()?;
    let as_of = match after {
        Some((micros, ..)) => DateTime::from_timestamp_micros(micros).ok_or(InvalidCursor)?,
        None => clock::now(),
    };
    let head = format!("::timestamptz AS as_of, e.id, {} AS sort_key", sort_key(filter.sort));
    let sql =
        Statement::new().with::<Timestamptz, _>("SELECT id, sort_key FROM (SELECT ?", as_of).text(&head);
    let mut sql = matching(sql, filter, popular, as_of).text(") found");
    if let Some((_, key, id)) = after {
        sql = sql.with::<BigInt, _>(" WHERE (sort_key, id) > (?,", key).with::<SqlUuid, _>(" ?)", id);
    }
    sql = sql.with::<BigInt, _>(" ORDER BY sort_key, id LIMIT ?", i64::from(limit) + 1);
    let rows: Vec<Row> = sql.query.load(conn).await.map_err(Fault::from)?;
    let page = fingerprint.page(rows, limit, |row| (as_of.timestamp_micros(), row.sort_key, row.id));
    Ok(Page { data: page.data.into_iter().map(|row| row.id).collect(), next_cursor: page.next_cursor })
}

/// Counts the whole list, all its pages, by these facets.
pub async fn facets(conn: &mut Conn, filter: &EventFilter, names: &[FacetName]) -> Result<Facets, Fault> {
    let mut facets = Facets::default();
    for name in names {
        let (column, facet) = match name {
            FacetName::Category => ("e.category", &mut facets.category),
            FacetName::City => ("v.city", &mut facets.city),
        };
        let head = format!("SELECT {column} AS value, count(*) AS count");
        let sql = matching(Statement::new().text(&head), filter, &[], clock::now())
            .text(" GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 100");
        *facet = Some(sql.query.load(conn).await?);
    }
    Ok(facets)
}
