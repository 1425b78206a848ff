//! The books of the sandbox provider: what a real one would keep. Nothing else reads or writes them.
//!
//! One key is one charge, whoever asks how often; what is voided is never captured, what is captured never voided.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName, sql_query,
    sql_types::{Array, BigInt, Bool, Integer, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use uuid::Uuid;

use super::{
    Charge,
    reconcile::{Standing, StatementLine, first_id},
};
use crate::{
    db::{Conn, Db},
    fault::Fault,
    statement::prepared,
};

/// A line of the books.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Entry {
    #[diesel(sql_type = Text)]
    pub provider_key: String,
    #[diesel(sql_type = Text)]
    pub reference: String,
    /// `authorised`, `captured`, `voided` or `declined`.
    #[diesel(sql_type = Text)]
    pub status: String,
    /// Whether this call wrote it.
    #[diesel(sql_type = Bool)]
    pub fresh: bool,
}

const ENTRY: &str = "SELECT provider_key, reference, status, false AS fresh FROM sandbox_charges
                     WHERE provider_key = ANY($1)";

fn in_order(keys: impl Iterator<Item = String>, rows: Vec<Entry>) -> Vec<Option<Entry>> {
    let rows: HashMap<String, Entry> =
        rows.into_iter().map(|entry| (entry.provider_key.clone(), entry)).collect();
    keys.map(|key| rows.get(&key).cloned()).collect()
}

/// Enters charges, each `true` one as authorised and each `false` one as declined, unless its key is known.
/// Answers the entries in the order of the charges.
pub async fn enter(db: &Db, charges: &[(Charge, bool)]) -> Result<Vec<Option<Entry>>, Fault> {
    let mut conn = db.conn().await?;
    let column = charges.iter();
    let keys: Vec<&str> = column.clone().map(|(charge, _)| charge.provider_key.as_str()).collect();
    let status = |accepted: bool| if accepted { "authorised" } else { "declined" };
    let mut rows: Vec<Entry> = prepared(
        sql_query(
            "INSERT INTO sandbox_charges (provider_key, token, reference, status, amount, currency, booking_id)
             SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[],
                                  $7::uuid[])
             ON CONFLICT DO NOTHING
             RETURNING provider_key, reference, status, true AS fresh",
        )
        .bind::<Array<Text>, _>(&keys)
        .bind::<Array<Text>, _>(column.clone().map(|(charge, _)| charge.token.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(column.clone().map(|_| fresh_reference()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(column.clone().map(|(_, accepted)| status(*accepted)).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(column.clone().map(|(charge, _)| charge.amount).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(column.clone().map(|(charge, _)| charge.currency.as_str()).collect::<Vec<_>>())
        .bind::<Array<SqlUuid>, _>(column.clone().map(|(charge, _)| charge.booking_id).collect::<Vec<_>>()),
    )
    .load(&mut *conn)
    .await?;
    if rows.len() < charges.len() {
        let mut known: Vec<Entry> =
            prepared(sql_query(ENTRY).bind::<Array<Text>, _>(&keys)).load(&mut *conn).await?;
        known.retain(|entry| rows.iter().all(|row| row.provider_key != entry.provider_key));
        rows.append(&mut known);
    }
    Ok(in_order(column.map(|(charge, _)| charge.provider_key.clone()), rows))
}

fn fresh_reference() -> String {
    format!("sbx_{}", Uuid::now_v7().simple())
}

/// The entry under a key.
pub async fn find(db: &Db, provider_key: &str) -> Result<Option<Entry>, Fault> {
    let rows: Vec<Entry> = prepared(sql_query(ENTRY).bind::<Array<Text>, _>(vec![provider_key]))
        .load(&mut *db.conn().await?)
        .await?;
    Ok(rows.into_iter().next())
}

/// Captures what is authorised, in full. Answers the entries as they are then, in the order of the keys.
pub async fn capture(db: &Db, keys: &[String]) -> Result<Vec<Option<Entry>>, Fault> {
    let mut conn = db.conn().await?;
    let mut rows: Vec<Entry> = prepared(
        sql_query(
            "UPDATE sandbox_charges SET status = 'captured', captured = amount, updated_at = now()
             WHERE provider_key = ANY($1) AND status = 'authorised'
             RETURNING provider_key, reference, status, true AS fresh",
        )
        .bind::<Array<Text>, _>(keys),
    )
    .load(&mut *conn)
    .await?;
    if rows.len() < keys.len() {
        rows.extend(prepared(sql_query(ENTRY).bind::<Array<Text>, _>(keys)).load::<Entry>(&mut *conn).await?);
    }
    Ok(in_order(keys.iter().cloned(), rows))
}

/// Voids a charge that is not captured, and one that is yet to come: a key that is not known is entered as voided,
/// so that a request still on its way finds it so. Answers the entry as it is then.
pub async fn void(db: &Db, charge: &Charge) -> Result<Entry, Fault> {
    let rows: Vec<Entry> = prepared(
        sql_query(
            "INSERT INTO sandbox_charges AS c (provider_key, token, reference, status, amount, currency, booking_id)
             VALUES ($1, $2, $3, 'voided', $4, $5, $6)
             ON CONFLICT (provider_key) DO UPDATE
             SET status = CASE c.status WHEN 'authorised' THEN 'voided' ELSE c.status END, updated_at = now()
             RETURNING provider_key, reference, status, true AS fresh",
        )
        .bind::<Text, _>(&charge.provider_key)
        .bind::<Text, _>(&charge.token)
        .bind::<Text, _>(fresh_reference())
        .bind::<BigInt, _>(charge.amount)
        .bind::<Text, _>(&charge.currency)
        .bind::<SqlUuid, _>(charge.booking_id),
    )
    .load(&mut *db.conn().await?)
    .await?;
    rows.into_iter().next().ok_or_else(|| Fault::Corrupt("an upsert returned nothing".to_owned()))
}

/// Pays back part of a captured charge, once a key; answers whether that is (now or since earlier) so. `false`: the
/// charge is not captured, or less of it is left.
pub async fn refund(db: &Db, refund_key: &str, reference: &str, amount: i64) -> Result<bool, Fault> {
    let mut conn = db.conn().await?;
    (*conn)
        .transaction(async |conn: &mut Conn| {
            let known = prepared(
                sql_query("SELECT 1 FROM sandbox_refunds WHERE provider_key = $1")
                    .bind::<Text, _>(refund_key),
            )
            .execute(conn)
            .await?;
            if known == 1 {
                return Ok(true);
            }
            let paid = prepared(
                sql_query(
                    "UPDATE sandbox_charges SET refunded = refunded + $2, updated_at = now()
                 WHERE reference = $1 AND status = 'captured' AND refunded + $2 <= captured",
                )
                .bind::<Text, _>(reference)
                .bind::<BigInt, _>(amount),
            )
            .execute(conn)
            .await?;
            if paid == 1 {
                // Two at once with one key: the second breaks the primary key, and with it its transaction.
                prepared(
                    sql_query(
                        "INSERT INTO sandbox_refunds (provider_key, reference, amount) VALUES ($1, $2, $3)",
                    )
                    .bind::<Text, _>(refund_key)
                    .bind::<Text, _>(reference)
                    .bind::<BigInt, _>(amount),
                )
                .execute(conn)
                .await?;
            }
            Ok(paid == 1)
        })
        .await
}

/// Counts a misbehaviour that a charge's token asks for; answers whether it is among the first `most`. Kept like the
/// rest of the books, so that a restart does not begin anew.
pub async fn misbehaves(db: &Db, provider_key: &str, operation: &str, most: i32) -> Result<bool, Fault> {
    let counted = prepared(
        sql_query(
            "INSERT INTO sandbox_faults AS f (provider_key, operation) VALUES ($1, $2)
             ON CONFLICT (provider_key, operation) DO UPDATE SET times = f.times + 1 WHERE f.times < $3",
        )
        .bind::<Text, _>(provider_key)
        .bind::<Text, _>(operation)
        .bind::<Integer, _>(most),
    )
    .execute(&mut *db.conn().await?)
    .await?;
    Ok(counted == 1)
}

#[derive(QueryableByName)]
struct LineRow {
    #[diesel(sql_type = Text)]
    provider_key: String,
    #[diesel(sql_type = Text)]
    reference: String,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = BigInt)]
    amount: i64,
    #[diesel(sql_type = BigInt)]
    refunded: i64,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
}

/// A page of the books since then, in the order in which they were written; `after` is the last reference of the page
/// before.
pub async fn statement(
    db: &Db,
    since: DateTime<Utc>,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<StatementLine>, Fault> {
    let first = format!("sbx_{}", first_id(since).simple());
    let rows: Vec<LineRow> = sql_query(
        "SELECT provider_key, reference, status, amount, refunded, created_at FROM sandbox_charges
         WHERE reference > $1 ORDER BY reference LIMIT $2",
    )
    .bind::<Text, _>(after.unwrap_or(&first))
    .bind::<BigInt, _>(limit)
    .load(&mut *db.conn().await?)
    .await?;
    let line = |row: LineRow| StatementLine {
        provider_key: row.provider_key,
        reference: row.reference,
        standing: match row.status.as_str() {
            "authorised" => Standing::Authorised,
            "captured" => Standing::Captured,
            "voided" => Standing::Voided,
            _ => Standing::Declined,
        },
        amount: row.amount,
        refunded: row.refunded,
        created_at: row.created_at,
    };
    Ok(rows.into_iter().map(line).collect())
}
