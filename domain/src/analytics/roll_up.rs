//! Counts the booking log into the figures: a batch and the offset behind it in one transaction, so that each row is
//! counted exactly once however often this is run, killed or run twice at once.

use std::{sync::LazyLock, time::Duration};

use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, Double},
};
use diesel_async::{AsyncConnection, RunQueryDsl};

use super::{columns::spell_out, holds, horizon};
use crate::{
    db::{Conn, Db},
    fault::Fault,
    statement::prepared,
};

/// How long writers to the log are waited for. A commit takes milliseconds; one that hangs holds up the figures only.
const PATIENCE: Duration = Duration::from_secs(10);
/// Rows a statement of a rebuild, which is one transaction anyway.
const REBUILD_BATCH: i64 = 200_000;

static COUNT: LazyLock<[String; 2]> =
    LazyLock::new(|| [include_str!("sql/meet_events.sql"), include_str!("sql/count.sql")].map(spell_out));

/// What one roll-up did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RolledUp {
    /// Rows counted.
    pub rows: u64,
    /// Whether more can be counted at once.
    pub more: bool,
    /// For how long the first uncounted row had waited.
    pub lag_secs: f64,
    /// How many figures differed when they were last compared with a recount.
    pub differences: i64,
}

#[derive(QueryableByName)]
struct Uncounted {
    #[diesel(sql_type = BigInt)]
    counted: i64,
    #[diesel(sql_type = BigInt)]
    newest: i64,
    #[diesel(sql_type = Double)]
    lag_secs: f64,
    #[diesel(sql_type = BigInt)]
    differences: i64,
}

#[derive(QueryableByName)]
struct Offset {
    #[diesel(sql_type = BigInt)]
    log_id: i64,
}

#[derive(QueryableByName)]
struct Batch {
    #[diesel(sql_type = BigInt)]
    rows: i64,
    #[diesel(sql_type = BigInt)]
    last: i64,
}

/// Counts at most `limit` rows. Safe to repeat, and to run twice at once: one of the two does nothing.
pub async fn roll_up(db: &Db, limit: i64) -> Result<RolledUp, Fault> {
    let conn = &mut *db.conn().await?;
    let Uncounted { counted, newest, lag_secs, differences } =
        prepared(sql_query(include_str!("sql/uncounted.sql"))).get_result(conn).await?;
    let idle = RolledUp { lag_secs, differences, ..RolledUp::default() };
    if newest <= counted {
        return Ok(idle);
    }
    let Some(horizon) = horizon::settled(conn, PATIENCE).await? else {
        tracing::warn!(
            "a transaction that writes to the booking log does not end; nothing is counted meanwhile"
        );
        return Ok(idle);
    };
    let rows = conn
        .transaction(async |conn: &mut Conn| {
            let offset: Vec<Offset> =
                prepared(sql_query("SELECT log_id FROM analytics_offset FOR UPDATE SKIP LOCKED"))
                    .load(conn)
                    .await?;
            // Another process is at it.
            let Some(Offset { log_id }) = offset.into_iter().next() else { return Ok(0) };
            let batch = next_batch(conn, log_id, horizon, limit).await?;
            if batch.rows > 0 {
                count(conn, log_id, batch.last).await?;
                move_offset(conn, batch.last).await?;
            }
            Ok::<_, Fault>(batch.rows)
        })
        .await?;
    Ok(RolledUp { rows: rows.unsigned_abs(), more: rows == limit, ..idle })
}

/// Forgets all figures and counts the log and the holds anew, in one transaction: whoever reads meanwhile reads the old ones. Answers
/// how many rows the log has. Zones are those of the venues now.
pub async fn rebuild(db: &Db) -> Result<u64, Fault> {
    let conn = &mut *db.conn().await?;
    let settled = horizon::settled(conn, PATIENCE).await?;
    conn.transaction(async |conn: &mut Conn| {
        let Offset { log_id } =
            sql_query("SELECT log_id FROM analytics_offset FOR UPDATE").get_result(conn).await?;
        // What was counted before was settled then.
        let horizon = settled.unwrap_or(0).max(log_id);
        for table in ["analytics_events", "analytics_days", "analytics_months", "analytics_totals"] {
            sql_query(format!("DELETE FROM {table}")).execute(conn).await?;
        }
        let (mut rows, mut last) = (0, 0);
        loop {
            let batch = next_batch(conn, last, horizon, REBUILD_BATCH).await?;
            if batch.rows == 0 {
                break;
            }
            count(conn, last, batch.last).await?;
            (rows, last) = (rows + batch.rows.unsigned_abs(), batch.last);
        }
        holds::recount(conn).await?;
        move_offset(conn, horizon).await?;
        Ok(rows)
    })
    .await
}

/// The next rows above an id and up to the horizon: how many, and the id of the last.
async fn next_batch(conn: &mut Conn, above: i64, horizon: i64, limit: i64) -> Result<Batch, Fault> {
    let batch = prepared(
        sql_query(
            "SELECT count(*) AS rows, coalesce(max(id), 0) AS last FROM
             (SELECT id FROM booking_log WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3) batch",
        )
        .bind::<BigInt, _>(above)
        .bind::<BigInt, _>(horizon)
        .bind::<BigInt, _>(limit),
    )
    .get_result(conn)
    .await?;
    Ok(batch)
}

/// Adds the rows between two ids to every table of figures.
async fn count(conn: &mut Conn, above: i64, last: i64) -> Result<(), Fault> {
    for statement in COUNT.iter() {
        let statement = sql_query(statement.as_str()).bind::<BigInt, _>(above).bind::<BigInt, _>(last);
        prepared(statement).execute(conn).await?;
    }
    Ok(())
}

async fn move_offset(conn: &mut Conn, last: i64) -> Result<(), Fault> {
    prepared(
        sql_query("UPDATE analytics_offset SET log_id = $1, counted_at = clock_timestamp()")
            .bind::<BigInt, _>(last),
    )
    .execute(conn)
    .await?;
    Ok(())
}
