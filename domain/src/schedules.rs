//! What workers do over and over: when each last ran and how it ended, and whether an operator wants it at once.
//!
//! All times are Postgres's. Who runs what is decided by [`leader`](crate::leader); this is how processes that take
//! turns keep to one rhythm, and how that is seen.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::{dsl::now, prelude::*, sql_query, sql_types};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    db::{Conn, Db},
    fault::Fault,
    jobs::Pool,
    schema::schedules,
};

/// After a failure a run is due again no later than this.
const RETRY: Duration = Duration::from_mins(1);

/// One thing that is done over and over.
#[derive(Clone, Debug, Serialize, ToSchema, Queryable, Selectable)]
#[diesel(table_name = schedules, check_for_backend(diesel::pg::Pg))]
pub struct Schedule {
    #[schema(example = "reconcile_inventory")]
    pub name: String,
    /// The pool whose workers do it.
    #[schema(example = "upkeep")]
    pub pool: String,
    /// The pause between two runs, give or take a fifth.
    pub every_ms: i64,
    /// Whether one process at a time does it.
    pub exclusive: bool,
    /// What runs several times a second is noted every ten seconds.
    pub last_started_at: Option<DateTime<Utc>>,
    pub last_ended_at: Option<DateTime<Utc>>,
    /// `done`, `failed`, `timeout` or `panicked`.
    #[schema(example = "done")]
    pub outcome: Option<String>,
    /// Why the last run failed.
    pub error: Option<String>,
    /// What called for something to be done.
    pub found: i64,
    /// What was done about it.
    pub fixed: i64,
    /// Which process ran it last.
    pub process: Option<String>,
    /// Since when it is to run at once; null when that was done.
    pub wanted_at: Option<DateTime<Utc>>,
    /// When a live process last said that it does this.
    pub seen_at: DateTime<Utc>,
}

/// What a process does over and over, as it says at its start.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub name: &'static str,
    pub pool: Pool,
    pub every: Duration,
    pub exclusive: bool,
}

/// How one run went.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// How long ago it began.
    pub took: Duration,
    pub outcome: &'static str,
    pub error: Option<&'a str>,
    pub found: u64,
    pub fixed: u64,
    /// Which process ran it.
    pub process: &'a str,
}

/// Every schedule, by pool and name.
pub async fn list(db: &Db) -> Result<Vec<Schedule>, Fault> {
    let mut conn = db.conn().await?;
    let rows = schedules::table.order((schedules::pool, schedules::name)).select(Schedule::as_select());
    Ok(rows.load(&mut *conn).await?)
}

/// One schedule.
pub async fn read(db: &Db, name: &str) -> Result<Option<Schedule>, Fault> {
    let mut conn = db.conn().await?;
    let row = schedules::table.find(name).select(Schedule::as_select());
    Ok(row.first(&mut *conn).await.optional()?)
}

/// Says that this process lives and does these. Safe to repeat.
pub async fn register(conn: &mut Conn, known: &[Known]) -> Result<(), Fault> {
    for Known { name, pool, every, exclusive } in known.iter().copied() {
        let terms = || {
            (
                schedules::pool.eq(pool.name()),
                schedules::every_ms.eq(millis(every)),
                schedules::exclusive.eq(exclusive),
                schedules::seen_at.eq(now),
            )
        };
        diesel::insert_into(schedules::table)
            .values((schedules::name.eq(name), terms()))
            .on_conflict(schedules::name)
            .do_update()
            .set(terms())
            .execute(conn)
            .await?;
    }
    Ok(())
}

/// Those of these pools that are wanted at once.
pub async fn wanted(conn: &mut Conn, pools: &[Pool]) -> Result<Vec<String>, Fault> {
    let pools: Vec<_> = pools.iter().map(|pool| pool.name()).collect();
    let names = schedules::table
        .filter(schedules::wanted_at.is_not_null().and(schedules::pool.eq_any(pools)))
        .select(schedules::name);
    Ok(names.load(conn).await?)
}

/// Wants it at once; answers whether it is known. Safe to repeat.
pub(crate) async fn want(conn: &mut Conn, name: &str) -> Result<bool, Fault> {
    let wanted = diesel::update(schedules::table.find(name)).set(schedules::wanted_at.eq(now));
    Ok(wanted.execute(conn).await? > 0)
}

/// How long until the next run is due, whoever had the last one; nothing left when it is due, or wanted at once.
/// `every` is the least time between the starts of two runs.
pub async fn left(conn: &mut Conn, name: &str, every: Duration) -> Result<Duration, Fault> {
    #[derive(diesel::QueryableByName)]
    struct Left {
        #[diesel(sql_type = sql_types::BigInt)]
        left_ms: i64,
    }
    let row: Option<Left> = sql_query(
        "SELECT CASE WHEN wanted_at IS NOT NULL OR last_started_at IS NULL THEN 0 \
                ELSE (extract(epoch FROM last_started_at - now()) * 1000 \
                      + CASE WHEN outcome = 'done' THEN $2 ELSE least($2, $3) END)::bigint \
                END AS left_ms \
         FROM schedules WHERE name = $1",
    )
    .bind::<sql_types::Text, _>(name)
    .bind::<sql_types::BigInt, _>(millis(every))
    .bind::<sql_types::BigInt, _>(millis(RETRY))
    .get_result(conn)
    .await
    .optional()?;
    Ok(row.map_or(Duration::ZERO, |row| Duration::from_millis(row.left_ms.try_into().unwrap_or(0))))
}

/// Notes how a run went, and that it is no longer wanted unless somebody asked after it began.
pub async fn ended(conn: &mut Conn, known: Known, run: Run<'_>) -> Result<(), Fault> {
    sql_query(
        "INSERT INTO schedules (name, pool, every_ms, exclusive, last_started_at, last_ended_at, outcome, error, \
                                found, fixed, process) \
         VALUES ($1, $2, $3, $4, now() - $5 * interval '1 millisecond', now(), $6, $7, $8, $9, $10) \
         ON CONFLICT (name) DO UPDATE SET \
             last_started_at = excluded.last_started_at, last_ended_at = excluded.last_ended_at, \
             outcome = excluded.outcome, error = excluded.error, found = excluded.found, fixed = excluded.fixed, \
             process = excluded.process, \
             wanted_at = CASE WHEN schedules.wanted_at > excluded.last_started_at THEN schedules.wanted_at END",
    )
    .bind::<sql_types::Text, _>(known.name)
    .bind::<sql_types::Text, _>(known.pool.name())
    .bind::<sql_types::BigInt, _>(millis(known.every))
    .bind::<sql_types::Bool, _>(known.exclusive)
    .bind::<sql_types::BigInt, _>(millis(run.took))
    .bind::<sql_types::Text, _>(run.outcome)
    .bind::<sql_types::Nullable<sql_types::Text>, _>(run.error)
    .bind::<sql_types::BigInt, _>(i64::try_from(run.found).unwrap_or(i64::MAX))
    .bind::<sql_types::BigInt, _>(i64::try_from(run.fixed).unwrap_or(i64::MAX))
    .bind::<sql_types::Text, _>(run.process)
    .execute(conn)
    .await?;
    Ok(())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
