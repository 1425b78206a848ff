//! The outbox: jobs that a commit causes, written in its transaction and enqueued by the relay of `upkeep`.
//!
//! A row lives until its job is done or dead, so a queue that loses everything loses no job: rows that stay
//! too long are enqueued again, under the same deterministic id.

use chrono::{DateTime, Utc};
use diesel::{
    dsl::{now, sql},
    prelude::*,
    sql_query,
    sql_types::{Array, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use futures::future::BoxFuture;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    db::Conn, fault::Fault, jobs::Job, kill_point::kill_point, schema::outbox, statement::prepared,
    trace::TraceContext,
};

/// What was enqueued before this, and is neither done nor dead, is enqueued again.
const OVERDUE: &str = "now() - interval '60 seconds'";

/// When a row is looked at again whose job runs for another one.
const LATER: &str = "now() + interval '1 second'";

/// A job to be enqueued once the surrounding transaction commits.
#[derive(Debug)]
pub struct OutboxEntry {
    id: Uuid,
    cause: String,
    pool: &'static str,
    job: &'static str,
    job_key: String,
    payload: Value,
    traceparent: Option<String>,
}

impl OutboxEntry {
    /// A job to run as soon as it can. `cause` names what brought it about; with the job's name it is unique, so
    /// that recording it twice records it once.
    pub fn new<J: Job>(cause: &str, job: &J) -> Self {
        Self {
            id: Uuid::now_v7(),
            cause: format!("{}:{cause}", J::NAME),
            pool: J::POOL.name(),
            job: J::NAME,
            job_key: job.key(),
            // A payload is a struct of ids, which always has a JSON form.
            payload: serde_json::to_value(job).expect("payloads serialise"),
            traceparent: TraceContext::current().map(|context| context.to_string()),
        }
    }

    /// The same, in the trace that `traceparent` names instead of the current one.
    #[must_use]
    pub fn in_trace(self, traceparent: Option<String>) -> Self {
        Self { traceparent, ..self }
    }
}

/// Records entries, due at once by Postgres's clock: this process's may be wrong. Call it inside the transaction that
/// causes them. Safe to repeat.
pub async fn record(mut conn: &Conn, entries: &[OutboxEntry]) -> Result<(), Fault> {
    if entries.is_empty() {
        return Ok(());
    }
    let column = entries.iter();
    prepared(
        sql_query(
            "INSERT INTO outbox (id, cause, pool, job, job_key, payload, traceparent)
             SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::jsonb[],
                                  $7::text[])
             ON CONFLICT DO NOTHING",
        )
        .bind::<Array<SqlUuid>, _>(column.clone().map(|entry| entry.id).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(column.clone().map(|entry| entry.cause.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(column.clone().map(|entry| entry.pool).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(column.clone().map(|entry| entry.job).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(column.clone().map(|entry| entry.job_key.as_str()).collect::<Vec<_>>())
        .bind::<Array<Jsonb>, _>(column.clone().map(|entry| &entry.payload).collect::<Vec<_>>())
        .bind::<Array<Nullable<Text>>, _>(
            column.map(|entry| entry.traceparent.as_deref()).collect::<Vec<_>>(),
        ),
    )
    .execute(&mut conn)
    .await?;
    Ok(())
}

/// A row as the relay enqueues it.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = outbox, check_for_backend(diesel::pg::Pg))]
pub struct OutboxRow {
    pub id: Uuid,
    pub pool: String,
    pub job: String,
    pub job_key: String,
    pub payload: Value,
    pub traceparent: Option<String>,
}

/// Which rows to hand over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// Those whose time has come and which no queue has seen.
    Due,
    /// Those whose job was enqueued a minute ago and has not ended: the queue may have lost it.
    Overdue,
}

/// What the queue made of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Its job is there.
    Enqueued,
    /// The same job of another row is there and has not begun: it does for both, and this row is needless.
    Covered,
    /// The same job of another row runs, and may have looked before this row was there.
    Later,
}

/// Locks up to `limit` rows, lets `enqueue` put them into the queue, and notes what it answers of those that the
/// queue took, all in one transaction: killed in between, they are enqueued again, under the same ids. Relays that
/// run at once take different rows. Answers how many rows were found and how many taken.
pub async fn hand_over<F>(
    conn: &mut Conn,
    which: Handover,
    limit: i64,
    enqueue: F,
) -> Result<(usize, usize), Fault>
where
    F: FnOnce(Vec<OutboxRow>) -> BoxFuture<'static, Vec<(Uuid, Taken)>> + Send,
{
    conn.transaction(async move |conn| {
        let rows = lock(conn, which, limit).await?;
        if rows.is_empty() {
            return Ok((0, 0));
        }
        let found = rows.len();
        let taken = enqueue(rows).await;
        kill_point("relay.enqueued");
        let ids = |fate: Taken| taken.iter().filter(|row| row.1 == fate).map(|row| row.0).collect::<Vec<_>>();
        let (enqueued, covered, later) = (ids(Taken::Enqueued), ids(Taken::Covered), ids(Taken::Later));
        diesel::update(outbox::table.filter(outbox::id.eq_any(enqueued)))
            .set(outbox::enqueued_at.eq(now))
            .execute(conn)
            .await?;
        if !covered.is_empty() {
            finish(conn, &covered).await?;
        }
        if !later.is_empty() {
            diesel::update(outbox::table.filter(outbox::id.eq_any(later)))
                .set((
                    outbox::enqueued_at.eq(None::<DateTime<Utc>>),
                    outbox::run_at.eq(sql::<Timestamptz>(LATER)),
                ))
                .execute(conn)
                .await?;
        }
        kill_point("relay.noted");
        Ok((found, taken.len()))
    })
    .await
}

async fn lock(conn: &mut Conn, which: Handover, limit: i64) -> Result<Vec<OutboxRow>, Fault> {
    let rows = outbox::table.select(OutboxRow::as_select()).limit(limit).for_update().skip_locked();
    Ok(match which {
        Handover::Due => {
            rows.filter(outbox::enqueued_at.is_null().and(outbox::run_at.le(now)))
                .order(outbox::run_at)
                .load(conn)
                .await?
        }
        Handover::Overdue => {
            rows.filter(
                outbox::enqueued_at.lt(sql::<Nullable<Timestamptz>>(OVERDUE)).and(outbox::dead_at.is_null()),
            )
            .order(outbox::enqueued_at)
            .load(conn)
            .await?
        }
    })
}

/// The jobs of these rows are done: their rows go. Safe to repeat.
pub async fn finish(conn: &mut Conn, ids: &[Uuid]) -> Result<(), Fault> {
    diesel::delete(outbox::table.filter(outbox::id.eq_any(ids))).execute(conn).await?;
    Ok(())
}

/// This row's job has given up: it is not enqueued again, unless an operator revives it.
pub async fn bury(conn: &mut Conn, id: Uuid, error: &str) -> Result<(), Fault> {
    diesel::update(outbox::table.find(id))
        .set((outbox::dead_at.eq(now), outbox::error.eq(error)))
        .execute(conn)
        .await?;
    Ok(())
}

/// An operator retries this row's job: it is alive again.
pub async fn revive(conn: &mut Conn, id: Uuid) -> Result<(), Fault> {
    diesel::update(outbox::table.find(id))
        .set((outbox::dead_at.eq(None::<DateTime<Utc>>), outbox::enqueued_at.eq(now)))
        .execute(conn)
        .await?;
    Ok(())
}

/// How far the relay is behind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backlog {
    /// Rows whose time has come and which no queue has seen.
    pub rows: i64,
    /// How long the oldest of them waits, in seconds.
    pub oldest_secs: f64,
}

/// What waits for the relay, by Postgres's clock.
pub async fn backlog(conn: &mut Conn) -> Result<Backlog, Fault> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        rows: i64,
        #[diesel(sql_type = diesel::sql_types::Double)]
        oldest_secs: f64,
    }
    let Row { rows, oldest_secs } = diesel::sql_query(
        "SELECT count(*) AS rows, coalesce(extract(epoch FROM now() - min(run_at)), 0)::float8 AS oldest_secs \
         FROM outbox WHERE enqueued_at IS NULL AND run_at <= now()",
    )
    .get_result(conn)
    .await?;
    Ok(Backlog { rows, oldest_secs })
}
