//! How payments move on after their orders are decided: captured, given up, voided. Each step is safe to repeat.

use std::time::Duration;

use diesel::{
    QueryableByName, sql_query,
    sql_types::{Array, BigInt, Bool, Double, Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use uuid::Uuid;

use super::attempts::{Attempt, Row};
use crate::{
    db::{Conn, Db},
    fault::Fault,
    mails::{self, DueMail, MailContent},
    statement::prepared,
};

/// One payment, by its id.
pub async fn load(db: &Db, payment_id: Uuid) -> Result<Option<Attempt>, Fault> {
    let rows: Vec<Row> = prepared(
        sql_query(
            "SELECT id, booking_id, event_id, attempt, provider, provider_key, token, amount, currency, status,
                    reference, failure, action, action_until,
                    coalesce(action_until <= now(), false) AS action_over
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
    // By key alone: see `PLAN_ONCE`.
    prepared(
        sql_query(
            "UPDATE payments SET status = 'captured', updated_at = now()
             WHERE id = ANY($1) AND status || '' = 'authorised'",
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

/// Keeps the name that the provider gave a payment, before anything is charged under it; answers the one that
/// counts, which is the first that was kept.
pub async fn note_reference(db: &Db, provider_key: &str, reference: &str) -> Result<String, Fault> {
    let rows: Vec<ReferenceRow> = prepared(
        sql_query(
            "UPDATE payments SET reference = coalesce(reference, $2) WHERE provider_key = $1 RETURNING reference",
        )
        .bind::<Text, _>(provider_key)
        .bind::<Text, _>(reference),
    )
    .load(&mut *db.conn().await?)
    .await?;
    let row = rows.into_iter().next();
    row.map(|row| row.reference).ok_or_else(|| Fault::Corrupt(format!("there is no payment {provider_key}")))
}

#[derive(QueryableByName)]
struct ReferenceRow {
    #[diesel(sql_type = Text)]
    reference: String,
}

#[derive(QueryableByName)]
struct VoidedRow {
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
    #[diesel(sql_type = Text)]
    email: String,
    #[diesel(sql_type = Text)]
    event: String,
    #[diesel(sql_type = BigInt)]
    amount: i64,
    #[diesel(sql_type = Text)]
    currency: String,
}

/// Marks a payment that was given up as voided: the provider will not charge it. Whoever was sent away to approve it
/// is owed a mail, since nobody waits for an answer any more. Safe to repeat.
pub async fn mark_voided(db: &Db, payment_id: Uuid, reference: Option<&str>) -> Result<(), Fault> {
    let conn = &mut *db.conn().await?;
    conn.transaction(async |conn: &mut Conn| {
        let rows: Vec<VoidedRow> = prepared(
            sql_query(
                "WITH voided AS (
                     UPDATE payments SET status = 'voided', reference = coalesce($2, reference), updated_at = now()
                     WHERE id = $1 AND status = 'unknown' AND failure IS NOT NULL RETURNING *
                 )
                 SELECT v.user_id, u.email, e.title AS event, v.amount, v.currency
                 FROM voided v JOIN users u ON u.id = v.user_id JOIN events e ON e.id = v.event_id
                 WHERE v.action IS NOT NULL AND v.failure <> 'payment-declined'",
            )
            .bind::<SqlUuid, _>(payment_id)
            .bind::<Nullable<Text>, _>(reference),
        )
        .load(conn)
        .await?;
        let mails: Vec<DueMail> = rows
            .into_iter()
            .map(|row| DueMail {
                cause: payment_id.to_string(),
                user_id: row.user_id,
                recipient: row.email,
                content: MailContent::PaymentVoided {
                    event: row.event,
                    amount: row.amount,
                    currency: row.currency,
                },
                deadline: None,
                traceparent: None,
            })
            .collect();
        mails::owe(conn, &mails).await
    })
    .await
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
    #[diesel(sql_type = Bool)]
    /// It waits for its customer, or did: its seats may be taken anew.
    pub awaits_customer: bool,
}

/// Payments that nothing has happened to for this long, oldest first. Those that wait for their customer are looked at
/// by their confirm, which would have left its mark within a minute.
pub async fn open(db: &Db, idle: Duration, limit: i64) -> Result<Vec<OpenPayment>, Fault> {
    let rows = sql_query(
        "SELECT id AS payment_id, booking_id, event_id, status = 'authorised' AS taken,
                failure IS NOT NULL AS given_up, action IS NOT NULL AS awaits_customer
         FROM payments
         WHERE status IN ('authorised', 'unknown') AND updated_at < now() - make_interval(secs => $1)
           AND (action IS NULL OR failure IS NOT NULL OR action_until < now()
                OR updated_at < now() - interval '60 seconds')
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
