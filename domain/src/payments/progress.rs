//! How payments move on after their orders are decided: captured, given up, voided. Each step is safe to repeat.

use std::time::Duration;

use diesel::{
    QueryableByName, sql_query,
    sql_types::{Array, BigInt, Bool, Double, Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::attempts::{Attempt, Row};
use crate::{db::Db, fault::Fault, statement::prepared};

/// One payment, by its id.
pub async fn load(db: &Db, payment_id: Uuid) -> Result<Option<Attempt>, Fault> {
    let rows: Vec<Row> = prepared(
        sql_query(
            "SELECT id, booking_id, attempt, provider, provider_key, token, amount, currency, status, reference,
                    failure
             FROM payments WHERE id = $1",
        )
        .bind::<SqlUuid, _>(payment_id),
    )
    .load(&mut *db.conn().await?)
    .await?;
    rows.into_iter().next().map(Row::attempt).transpose()
}

/// Marks authorised payments as captured.
pub async fn mark_captured(db: &Db, payment_ids: &[Uuid]) -> Result<(), Fault> {
    prepared(
        sql_query(
            "UPDATE payments SET status = 'captured', updated_at = now()
             WHERE id = ANY($1) AND status = 'authorised'",
        )
        .bind::<Array<SqlUuid>, _>(payment_ids),
    )
    .execute(&mut *db.conn().await?)
    .await?;
    Ok(())
}

/// Decides that no booking will take this payment, unless one has taken it already; answers whether it is (now or
/// since earlier) given up. The row's lock orders this against the commit of an order.
pub async fn give_up(db: &Db, payment_id: Uuid, why: &str) -> Result<bool, Fault> {
    let mut conn = db.conn().await?;
    let updated = prepared(
        sql_query(
            "UPDATE payments SET failure = coalesce(failure, $2), updated_at = now()
             WHERE id = $1 AND status = 'unknown'",
        )
        .bind::<SqlUuid, _>(payment_id)
        .bind::<Text, _>(why),
    )
    .execute(&mut *conn)
    .await?;
    Ok(updated == 1)
}

/// Marks a payment that was given up as voided: the provider will not charge it.
pub async fn mark_voided(db: &Db, payment_id: Uuid, reference: Option<&str>) -> Result<(), Fault> {
    prepared(
        sql_query(
            "UPDATE payments SET status = 'voided', reference = coalesce($2, reference), updated_at = now()
             WHERE id = $1 AND status = 'unknown' AND failure IS NOT NULL",
        )
        .bind::<SqlUuid, _>(payment_id)
        .bind::<Nullable<Text>, _>(reference),
    )
    .execute(&mut *db.conn().await?)
    .await?;
    Ok(())
}

/// A payment that has not come to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, QueryableByName)]
pub struct OpenPayment {
    #[diesel(sql_type = SqlUuid)]
    pub payment_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub booking_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub event_id: Uuid,
    /// A booking has taken it: it is to be captured.
    #[diesel(sql_type = Bool)]
    pub taken: bool,
    /// It is given up: it is to be voided.
    #[diesel(sql_type = Bool)]
    pub given_up: bool,
}

/// Payments that nothing has happened to for this long, oldest first.
pub async fn open(db: &Db, idle: Duration, limit: i64) -> Result<Vec<OpenPayment>, Fault> {
    let rows = sql_query(
        "SELECT id AS payment_id, booking_id, event_id, status = 'authorised' AS taken,
                failure IS NOT NULL AS given_up
         FROM payments
         WHERE status IN ('authorised', 'unknown') AND updated_at < now() - make_interval(secs => $1)
         ORDER BY updated_at LIMIT $2",
    )
    .bind::<Double, _>(idle.as_secs_f64())
    .bind::<BigInt, _>(limit)
    .load(&mut *db.conn().await?)
    .await?;
    Ok(rows)
}

/// How many payments have not come to rest.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct OpenCount {
    /// `authorised` or `unknown`.
    #[diesel(sql_type = Text)]
    pub status: String,
    #[diesel(sql_type = BigInt)]
    pub count: i64,
}

/// Counts them by status.
pub async fn count_open(db: &Db) -> Result<Vec<OpenCount>, Fault> {
    let rows = sql_query(
        "SELECT s.status, count(p.id) AS count FROM (VALUES ('authorised'), ('unknown')) AS s (status)
         LEFT JOIN payments p ON p.status = s.status AND p.status IN ('authorised', 'unknown') GROUP BY 1",
    )
    .load(&mut *db.conn().await?)
    .await?;
    Ok(rows)
}
