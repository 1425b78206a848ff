//! What sells best: tickets sold and not given back, in the last days, in a period, ever.

use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, Date, Integer, Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Scope, figures::Balance, period::Period};
use crate::{db::Conn, fault::Fault, statement::prepared};

/// How many events a list of the best has.
const BEST: i64 = 10;

/// An event that sells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PopularEvent {
    pub event_id: Uuid,
    pub title: String,
    /// Tickets sold, less those given back.
    pub tickets: i64,
    /// Bookings made.
    pub bookings: i64,
    /// Gross revenue less refunds.
    pub net: Balance,
}

/// The ten best of three stretches of time. Days are those of each event's venue, the present one included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TopEvents {
    pub last_7_days: Vec<PopularEvent>,
    pub last_30_days: Vec<PopularEvent>,
    pub all_time: Vec<PopularEvent>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    event_id: Uuid,
    #[diesel(sql_type = Text)]
    title: String,
    #[diesel(sql_type = Text)]
    currency: String,
    #[diesel(sql_type = BigInt)]
    tickets: i64,
    #[diesel(sql_type = BigInt)]
    bookings: i64,
    #[diesel(sql_type = BigInt)]
    net: i64,
}

impl From<Row> for PopularEvent {
    fn from(row: Row) -> Self {
        let net = Balance { amount: row.net, currency: row.currency };
        Self { event_id: row.event_id, title: row.title, tickets: row.tickets, bookings: row.bookings, net }
    }
}

/// Today where the event takes place is at most a day away from today in UTC: that bounds what is read.
const LATELY: &str = "SELECT c.event_id, sum(c.tickets - c.cancelled_tickets)::bigint AS tickets,
           sum(c.bookings)::bigint AS bookings, sum(c.gross - c.refunds)::bigint AS net
    FROM analytics_days c JOIN analytics_events a ON a.event_id = c.event_id
    WHERE c.day >= (now() AT TIME ZONE 'UTC')::date - $2
      AND c.day > (now() AT TIME ZONE a.timezone)::date - $2
    GROUP BY 1";
/// The days from `$2` to `$3`; those of whole months, from `$4` until `$5`, by the month.
const WITHIN: &str =
    "SELECT c.event_id, sum(c.tickets)::bigint AS tickets, sum(c.bookings)::bigint AS bookings,
           sum(c.net)::bigint AS net
    FROM (SELECT event_id, tickets - cancelled_tickets AS tickets, bookings, gross - refunds AS net
          FROM analytics_days WHERE day >= $2 AND day < $4
          UNION ALL
          SELECT event_id, tickets - cancelled_tickets, bookings, gross - refunds
          FROM analytics_months WHERE day >= $4 AND day < $5
          UNION ALL
          SELECT event_id, tickets - cancelled_tickets, bookings, gross - refunds
          FROM analytics_days WHERE day >= $5 AND day <= $3) c
    GROUP BY 1";
const EVER: &str = "SELECT c.event_id, c.tickets - c.cancelled_tickets AS tickets, c.bookings,
           c.gross - c.refunds AS net
    FROM analytics_events c";

/// The best of what such a statement sums up, of organizer `$1` or of all.
fn best(sums: &str) -> String {
    format!(
        "SELECT e.id AS event_id, e.title, a.currency, s.tickets, s.bookings, s.net
         FROM ({sums}) s JOIN events e ON e.id = s.event_id JOIN analytics_events a ON a.event_id = e.id
         WHERE s.tickets > 0 AND ($1::uuid IS NULL OR e.organizer_id = $1)
         ORDER BY s.tickets DESC, e.id LIMIT {BEST}"
    )
}

pub(super) async fn top_events(conn: &mut Conn, scope: Scope) -> Result<TopEvents, Fault> {
    let mut lately = Vec::new();
    for days in [7, 30] {
        let statement = sql_query(best(LATELY)).bind::<Nullable<SqlUuid>, _>(scope.organizer());
        let rows: Vec<Row> = prepared(statement.bind::<Integer, _>(days)).load(conn).await?;
        lately.push(rows.into_iter().map(Into::into).collect());
    }
    let statement = sql_query(best(EVER)).bind::<Nullable<SqlUuid>, _>(scope.organizer());
    let ever: Vec<Row> = prepared(statement).load(conn).await?;
    let last_30_days = lately.pop().unwrap_or_default();
    let last_7_days = lately.pop().unwrap_or_default();
    Ok(TopEvents { last_7_days, last_30_days, all_time: ever.into_iter().map(Into::into).collect() })
}

pub(super) async fn in_period(
    conn: &mut Conn,
    scope: Scope,
    period: Period,
) -> Result<Vec<PopularEvent>, Fault> {
    let months = period.whole_months();
    let statement = sql_query(best(WITHIN))
        .bind::<Nullable<SqlUuid>, _>(scope.organizer())
        .bind::<Date, _>(period.from)
        .bind::<Date, _>(period.to)
        .bind::<Date, _>(months.start)
        .bind::<Date, _>(months.end);
    let rows: Vec<Row> = prepared(statement).load(conn).await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// What the last 7 days sold: (event, tickets), most first, at most `limit` events.
pub async fn popularity(conn: &mut Conn, limit: i64) -> Result<Vec<(Uuid, i64)>, Fault> {
    #[derive(QueryableByName)]
    struct Sold {
        #[diesel(sql_type = SqlUuid)]
        event_id: Uuid,
        #[diesel(sql_type = BigInt)]
        tickets: i64,
    }
    let statement = format!(
        "SELECT event_id, tickets FROM ({LATELY}) s WHERE tickets > 0
         ORDER BY tickets DESC, event_id LIMIT $1"
    );
    let rows: Vec<Sold> =
        prepared(sql_query(statement).bind::<BigInt, _>(limit).bind::<Integer, _>(7)).load(conn).await?;
    Ok(rows.into_iter().map(|row| (row.event_id, row.tickets)).collect())
}
