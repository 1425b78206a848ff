//! Refunds that are owed: recorded with the cancellation, paid by `PayRefund`.

use std::time::Duration;

use diesel::{
    QueryableByName, sql_query,
    sql_types::{Array, BigInt, Double, Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    db::{Conn, Db},
    fault::Fault,
    jobs::PayRefund,
    outbox::{self, OutboxEntry},
    statement::prepared,
};

/// A refund as it stands.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Refund {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub booking_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub payment_id: Uuid,
    #[diesel(sql_type = BigInt)]
    pub amount: i64,
    #[diesel(sql_type = Text)]
    pub currency: String,
    /// `pending`, `done` or `failed`.
    #[diesel(sql_type = Text)]
    pub status: String,
}

/// One refund.
pub async fn load(db: &Db, refund_id: Uuid) -> Result<Option<Refund>, Fault> {
    let rows: Vec<Refund> = prepared(
        sql_query("SELECT id, booking_id, payment_id, amount, currency, status FROM refunds WHERE id = $1")
            .bind::<SqlUuid, _>(refund_id),
    )
    .load(&mut *db.conn().await?)
    .await?;
    Ok(rows.into_iter().next())
}

/// Money that a cancelled booking is owed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    pub booking_id: Uuid,
    pub amount: i64,
}

#[derive(QueryableByName)]
struct OwedRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// Records refunds and the jobs that pay them, against the payment that each booking took; call it inside the
/// transaction that cancels. A booking that was never paid is owed nothing.
pub(crate) async fn owe(conn: &mut Conn, due: &[Due]) -> Result<(), Fault> {
    let due: Vec<_> = due.iter().filter(|due| due.amount > 0).collect();
    if due.is_empty() {
        return Ok(());
    }
    let rows: Vec<OwedRow> = prepared(
        sql_query(
            "INSERT INTO refunds (id, booking_id, payment_id, amount, currency)
             SELECT d.id, d.booking_id, p.id, d.amount, p.currency
             FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS d (id, booking_id, amount)
             JOIN payments p ON p.booking_id = d.booking_id AND p.status IN ('authorised', 'captured')
             ON CONFLICT DO NOTHING
             RETURNING id",
        )
        .bind::<Array<SqlUuid>, _>(due.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
        .bind::<Array<SqlUuid>, _>(due.iter().map(|due| due.booking_id).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(due.iter().map(|due| due.amount).collect::<Vec<_>>()),
    )
    .load(conn)
    .await?;
    let jobs: Vec<OutboxEntry> = rows
        .iter()
        .map(|row| OutboxEntry::new(&row.id.to_string(), &PayRefund { refund_id: row.id }))
        .collect();
    outbox::record(conn, &jobs).await
}

#[derive(QueryableByName)]
pub(crate) struct Paid {
    #[diesel(sql_type = SqlUuid)]
    pub booking_id: Uuid,
    #[diesel(sql_type = BigInt)]
    pub amount: i64,
}

/// Marks a refund as paid, with its payment; answers it if it was not marked before. In the caller's transaction.
pub(crate) async fn mark_done(conn: &mut Conn, refund_id: Uuid) -> Result<Option<Paid>, Fault> {
    let rows: Vec<Paid> = prepared(
        sql_query(
            "WITH done AS (
                 UPDATE refunds SET status = 'done', done_at = now(), error = NULL
                 WHERE id = $1 AND status <> 'done' RETURNING booking_id, payment_id, amount
             ), paid AS (
                 UPDATE payments p SET refunded = p.refunded + d.amount, status = 'refunded', updated_at = now()
                 FROM done d WHERE p.id = d.payment_id
             )
             SELECT booking_id, amount FROM done",
        )
        .bind::<SqlUuid, _>(refund_id),
    )
    .load(conn)
    .await?;
    Ok(rows.into_iter().next())
}

/// Notes that the provider refuses to pay a refund: people have to.
pub async fn mark_failed(db: &Db, refund_id: Uuid, error: &str) -> Result<(), Fault> {
    prepared(
        sql_query("UPDATE refunds SET status = 'failed', error = $2 WHERE id = $1 AND status = 'pending'")
            .bind::<SqlUuid, _>(refund_id)
            .bind::<Text, _>(error),
    )
    .execute(&mut *db.conn().await?)
    .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct ParkedRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// Refunds that are owed for this long, oldest first.
pub async fn open(db: &Db, idle: Duration, limit: i64) -> Result<Vec<Uuid>, Fault> {
    let rows: Vec<ParkedRow> = sql_query(
        "SELECT id FROM refunds WHERE status = 'pending' AND created_at < now() - make_interval(secs => $1)
         ORDER BY created_at LIMIT $2",
    )
    .bind::<Double, _>(idle.as_secs_f64())
    .bind::<BigInt, _>(limit)
    .load(&mut *db.conn().await?)
    .await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// A payment as organisers see it.
#[derive(Clone, Debug, QueryableByName)]
pub struct PaymentRecord {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = Text)]
    pub provider: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub reference: Option<String>,
    #[diesel(sql_type = Text)]
    pub status: String,
    #[diesel(sql_type = BigInt)]
    pub amount: i64,
    #[diesel(sql_type = BigInt)]
    pub refunded: i64,
    #[diesel(sql_type = Text)]
    pub currency: String,
}

impl PaymentRecord {
    pub fn status(&self) -> Result<super::PaymentStatus, Fault> {
        Ok(serde_json::from_value(Value::String(self.status.clone()))?)
    }
}

/// Every attempt to pay a booking, in their order.
pub async fn payments_of(conn: &mut Conn, booking_id: Uuid) -> Result<Vec<PaymentRecord>, Fault> {
    let rows = prepared(
        sql_query(
            "SELECT id, provider, reference, status, amount, refunded, currency FROM payments
             WHERE booking_id = $1 ORDER BY attempt",
        )
        .bind::<SqlUuid, _>(booking_id),
    )
    .load(conn)
    .await?;
    Ok(rows)
}
