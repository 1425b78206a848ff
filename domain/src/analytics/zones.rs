//! Follows venues whose zone was corrected, and events that moved to a venue in another: their days are counted anew.

use std::sync::LazyLock;

use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use uuid::Uuid;

use super::columns::spell_out;
use crate::{
    db::{Conn, Db},
    fault::Fault,
};

static TAKE: LazyLock<String> = LazyLock::new(|| spell_out(include_str!("sql/take_from_totals.sql")));
static RECOUNT: LazyLock<String> = LazyLock::new(|| spell_out(include_str!("sql/rezone_days.sql")));

#[derive(QueryableByName)]
struct Moved {
    #[diesel(sql_type = SqlUuid)]
    event_id: Uuid,
    #[diesel(sql_type = Text)]
    zone: String,
}

/// Counts the days of at most `limit` events anew whose zone is another now; answers how many there were. Safe to
/// repeat: what has its zone is not found again.
pub async fn follow_zones(db: &Db, limit: i64) -> Result<u64, Fault> {
    let conn = &mut *db.conn().await?;
    let moved: Vec<Moved> = sql_query(
        "SELECT a.event_id, known_zone(v.timezone) AS zone
         FROM analytics_events a JOIN events e ON e.id = a.event_id JOIN venues v ON v.id = e.venue_id
         WHERE v.timezone <> a.timezone AND known_zone(v.timezone) <> a.timezone
         ORDER BY a.event_id LIMIT $1",
    )
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?;
    for Moved { event_id, zone } in &moved {
        conn.transaction(async |conn: &mut Conn| {
            // No roll-up, no rebuild, and nobody else who does this.
            sql_query("SELECT FROM analytics_offset FOR UPDATE").execute(conn).await?;
            move_days(conn, *event_id, zone).await
        })
        .await?;
    }
    Ok(moved.len() as u64)
}

async fn move_days(conn: &mut Conn, event_id: Uuid, zone: &str) -> Result<(), Fault> {
    sql_query(TAKE.as_str()).bind::<SqlUuid, _>(event_id).execute(conn).await?;
    for table in ["analytics_days", "analytics_months"] {
        sql_query(format!("DELETE FROM {table} WHERE event_id = $1"))
            .bind::<SqlUuid, _>(event_id)
            .execute(conn)
            .await?;
    }
    sql_query("UPDATE analytics_events SET timezone = $2 WHERE event_id = $1")
        .bind::<SqlUuid, _>(event_id)
        .bind::<Text, _>(zone)
        .execute(conn)
        .await?;
    sql_query(RECOUNT.as_str()).bind::<SqlUuid, _>(event_id).execute(conn).await?;
    Ok(())
}
