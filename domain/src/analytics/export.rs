//! Every day of every event, a page at a time: for spreadsheets.

use std::sync::LazyLock;

use chrono::NaiveDate;
use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, Date, Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{
    Scope,
    columns::spell_out,
    figures::{Counted, Counts, Revenue},
    period::Period,
};
use crate::{db::Conn, fault::Fault};

/// One day of one event.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportRow {
    pub event_id: Uuid,
    pub title: String,
    pub timezone: String,
    pub day: NaiveDate,
    pub counts: Counts,
    pub revenue: Revenue,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    event_id: Uuid,
    #[diesel(sql_type = Text)]
    title: String,
    #[diesel(sql_type = Text)]
    timezone: String,
    #[diesel(sql_type = Text)]
    currency: String,
    #[diesel(sql_type = Date)]
    day: NaiveDate,
    #[diesel(embed)]
    counted: Counted,
}

static PAGE: LazyLock<String> = LazyLock::new(|| {
    spell_out(
        "SELECT c.event_id, e.title, a.timezone, a.currency, c.day, {counts}
         FROM analytics_days c JOIN analytics_events a ON a.event_id = c.event_id JOIN events e ON e.id = c.event_id
         WHERE ($1::uuid IS NULL OR e.organizer_id = $1) AND ($2::uuid IS NULL OR c.event_id = $2)
           AND ($3::date IS NULL OR c.day BETWEEN $3 AND $4)
           AND ($5::uuid IS NULL OR (c.event_id, c.day) > ($5, $6))
         ORDER BY c.event_id, c.day LIMIT $7",
    )
});

/// At most `limit` rows after an event's day, by event and day; of one event, if one is named. What is counted between
/// two pages may be in the second only.
pub async fn export_page(
    conn: &mut Conn,
    scope: Scope,
    event_id: Option<Uuid>,
    period: Option<Period>,
    after: Option<(Uuid, NaiveDate)>,
    limit: i64,
) -> Result<Vec<ExportRow>, Fault> {
    let rows: Vec<Row> = sql_query(PAGE.as_str())
        .bind::<Nullable<SqlUuid>, _>(scope.organizer())
        .bind::<Nullable<SqlUuid>, _>(event_id)
        .bind::<Nullable<Date>, _>(period.map(|period| period.from))
        .bind::<Nullable<Date>, _>(period.map(|period| period.to))
        .bind::<Nullable<SqlUuid>, _>(after.map(|(event_id, _)| event_id))
        .bind::<Nullable<Date>, _>(after.map(|(_, day)| day))
        .bind::<BigInt, _>(limit)
        .load(conn)
        .await?;
    let export = |row: Row| ExportRow {
        event_id: row.event_id,
        title: row.title,
        timezone: row.timezone,
        day: row.day,
        counts: row.counted.into(),
        revenue: Revenue::new(&row.counted, &row.currency),
    };
    Ok(rows.into_iter().map(export).collect())
}
