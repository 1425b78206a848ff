//! Which events' prices are due, and when next.

use diesel::{
    OptionalExtension, QueryableByName, sql_query,
    sql_types::{BigInt, Jsonb, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use serde_json::Value;
use uuid::Uuid;

use super::rules::PricingRules;
use crate::{
    db::{Conn, Db},
    fault::Fault,
    statement::prepared,
};

/// An event whose prices are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, QueryableByName)]
pub struct Due {
    #[diesel(sql_type = SqlUuid)]
    pub event_id: Uuid,
    /// Unix time.
    #[diesel(sql_type = BigInt)]
    pub due_second: i64,
}

/// Up to `limit` events whose prices are due, longest first, after this one.
pub async fn due(db: &Db, after: Option<Due>, limit: i64) -> Result<Vec<Due>, Fault> {
    Ok(prepared(
        sql_query(
            "SELECT event_id, floor(extract(epoch FROM next_due_at))::bigint AS due_second FROM pricing_rules
             WHERE next_due_at <= now() AND (next_due_at, event_id) > (to_timestamp($1), $2)
             ORDER BY next_due_at, event_id LIMIT $3",
        )
        .bind::<BigInt, _>(after.map_or(0, |after| after.due_second))
        .bind::<SqlUuid, _>(after.map_or(Uuid::nil(), |after| after.event_id))
        .bind::<BigInt, _>(limit),
    )
    .load(&mut *db.conn().await?)
    .await?)
}

/// Gives up to `limit` events that have been due for an hour a new due time, now: after a long outage each is evaluated
/// once, and one whose job has died gets another. Answers how many. Safe to repeat.
pub async fn renew(db: &Db, limit: i64) -> Result<usize, Fault> {
    Ok(prepared(
        sql_query(
            "UPDATE pricing_rules SET next_due_at = date_trunc('second', now())
             WHERE event_id IN (SELECT event_id FROM pricing_rules WHERE next_due_at < now() - interval '1 hour'
                                ORDER BY next_due_at LIMIT $1 FOR UPDATE SKIP LOCKED)",
        )
        .bind::<BigInt, _>(limit),
    )
    .execute(&mut *db.conn().await?)
    .await?)
}

#[derive(QueryableByName)]
struct RulesRow {
    #[diesel(sql_type = Jsonb)]
    rules: Value,
    #[diesel(sql_type = BigInt)]
    version: i64,
}

pub(super) struct DueRules {
    pub rules: PricingRules,
    pub version: i64,
}

/// The rules, if they are due at this very second.
pub(super) async fn find_due(conn: &mut Conn, due: Due) -> Result<Option<DueRules>, Fault> {
    let row: Option<RulesRow> = prepared(
        sql_query(
            "SELECT rules, version FROM pricing_rules
             WHERE event_id = $1 AND floor(extract(epoch FROM next_due_at))::bigint = $2",
        )
        .bind::<SqlUuid, _>(due.event_id)
        .bind::<BigInt, _>(due.due_second),
    )
    .get_result(conn)
    .await
    .optional()?;
    let read = |row: RulesRow| {
        let rules = serde_json::from_value(row.rules)?;
        Ok(DueRules { rules, version: row.version })
    };
    row.map(read).transpose()
}

/// Due next at the first multiple of the interval that is still to come, however many have passed.
pub(super) async fn advance(conn: &mut Conn, event_id: Uuid) -> Result<(), Fault> {
    prepared(
        sql_query(
            "UPDATE pricing_rules SET next_due_at = next_due_at + make_interval(mins => every_minutes)
                 * (floor(extract(epoch FROM now() - next_due_at) / (every_minutes * 60)) + 1)::float8
             WHERE event_id = $1 AND next_due_at IS NOT NULL",
        )
        .bind::<SqlUuid, _>(event_id),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Due one interval after sales have begun, if they are yet to begin; else when a change of the event arms it again.
pub(super) async fn put_off(conn: &mut Conn, event_id: Uuid) -> Result<(), Fault> {
    prepared(
        sql_query(
            "UPDATE pricing_rules p
             SET next_due_at = CASE WHEN e.status = 'published' AND now() < e.sales_start_at
                 THEN date_trunc('second', e.sales_start_at) + make_interval(mins => p.every_minutes) END
             FROM events e WHERE p.event_id = $1 AND e.id = $1",
        )
        .bind::<SqlUuid, _>(event_id),
    )
    .execute(conn)
    .await?;
    Ok(())
}
