//! A provider's books held against ours: where they differ, and what is to be done about it.

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName, sql_query,
    sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use uuid::Uuid;

use super::attempts::{Attempt, Row};
use crate::{db::Db, fault::Fault};

/// How a charge stands in a provider's books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing was set aside yet.
    Open,
    Authorised,
    Captured,
    Voided,
    Declined,
}

/// A line of a provider's books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementLine {
    /// Our key, as the provider keeps it.
    pub provider_key: String,
    pub reference: String,
    pub standing: Standing,
    pub amount: i64,
    pub refunded: i64,
    pub created_at: DateTime<Utc>,
}

/// In what they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DifferenceKind {
    /// Money that is set aside or taken under a key that we do not know.
    UnknownCharge,
    /// Money that was taken, and no booking has it.
    ChargeWithoutBooking,
    /// Money that is still set aside for nothing: it is voided.
    AuthorisedInVain,
    /// We say that it was taken, the provider that it is only set aside.
    NotCaptured,
    /// We say that there is money, the provider knows of none.
    MissingCharge,
    Amount,
    /// What was given back is not the same.
    Refund,
}

impl DifferenceKind {
    pub const ALL: [Self; 7] = [
        Self::UnknownCharge,
        Self::ChargeWithoutBooking,
        Self::AuthorisedInVain,
        Self::NotCaptured,
        Self::MissingCharge,
        Self::Amount,
        Self::Refund,
    ];

    /// The word in the `kind` column and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownCharge => "unknown_charge",
            Self::ChargeWithoutBooking => "charge_without_booking",
            Self::AuthorisedInVain => "authorised_in_vain",
            Self::NotCaptured => "not_captured",
            Self::MissingCharge => "missing_charge",
            Self::Amount => "amount",
            Self::Refund => "refund",
        }
    }
}

/// One difference.
#[derive(Clone, Debug)]
pub struct Difference {
    pub kind: DifferenceKind,
    pub provider_key: String,
    pub reference: Option<String>,
    pub detail: String,
    /// Our side of it, if there is one.
    pub attempt: Option<Attempt>,
}

#[derive(QueryableByName)]
struct OurRow {
    #[diesel(embed)]
    payment: Row,
    #[diesel(sql_type = BigInt)]
    refunded: i64,
    /// Of the booking that it belongs to.
    #[diesel(sql_type = Nullable<Text>)]
    booking_status: Option<String>,
    /// Nothing has happened to it for a minute: what the provider said a moment ago can be compared with it.
    #[diesel(sql_type = Bool)]
    settled: bool,
    #[diesel(sql_type = Bool)]
    refunding: bool,
}

const OURS: &str =
    "SELECT p.id, p.booking_id, p.event_id, p.attempt, p.provider, p.provider_key, p.token, p.amount,
           p.currency, p.status, p.reference, p.failure, p.action, p.action_until,
           coalesce(p.action_until <= now(), false) AS action_over, p.refunded, b.status AS booking_status,
           p.updated_at < now() - interval '1 minute' AS settled,
           EXISTS (SELECT FROM refunds r WHERE r.payment_id = p.id
                   AND (r.status = 'pending' OR r.done_at > now() - interval '1 minute')) AS refunding
    FROM payments p LEFT JOIN bookings b ON b.id = p.booking_id ";

/// Compares lines of a provider's books with our payments. What is under way is left alone.
pub async fn compare(db: &Db, provider: &str, lines: &[StatementLine]) -> Result<Vec<Difference>, Fault> {
    let keys: Vec<&str> = lines.iter().map(|line| line.provider_key.as_str()).collect();
    let rows: Vec<OurRow> = sql_query(format!("{OURS} WHERE p.provider = $1 AND p.provider_key = ANY($2)"))
        .bind::<Text, _>(provider)
        .bind::<Array<Text>, _>(keys)
        .load(&mut *db.conn().await?)
        .await?;
    let mut ours: std::collections::HashMap<String, OurRow> =
        rows.into_iter().map(|row| (row.payment.provider_key.clone(), row)).collect();
    let mut differences = Vec::new();
    for line in lines {
        let found = match ours.remove(&line.provider_key) {
            None => unknown(line),
            Some(row) if !row.settled => None,
            Some(row) => difference(line, &row).map(|found| (found, Some(row.payment))),
        };
        if let Some(((kind, detail), row)) = found {
            differences.push(Difference {
                kind,
                provider_key: line.provider_key.clone(),
                reference: Some(line.reference.clone()),
                detail,
                attempt: row.map(Row::attempt).transpose()?,
            });
        }
    }
    Ok(differences)
}

type Found = (DifferenceKind, String);

fn unknown(line: &StatementLine) -> Option<(Found, Option<Row>)> {
    matches!(line.standing, Standing::Authorised | Standing::Captured).then(|| {
        let detail = format!("{} of {} under a key that is not ours", word(line.standing), line.amount);
        ((DifferenceKind::UnknownCharge, detail), None)
    })
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Open => "open",
        Standing::Authorised => "authorised",
        Standing::Captured => "captured",
        Standing::Voided => "voided",
        Standing::Declined => "declined",
    }
}

fn difference(line: &StatementLine, ours: &OurRow) -> Option<Found> {
    let status = ours.payment.status.as_str();
    let theirs = word(line.standing);
    let booked = matches!(ours.booking_status.as_deref(), Some("confirmed" | "cancelled" | "refunded"));
    let waited_for = status == "unknown" && ours.payment.failure.is_none();
    let taken = matches!(status, "authorised" | "captured" | "refunded");
    let kind = match line.standing {
        _ if waited_for => return None,
        Standing::Captured if !taken || !booked => DifferenceKind::ChargeWithoutBooking,
        Standing::Authorised if !taken => DifferenceKind::AuthorisedInVain,
        Standing::Authorised if status != "authorised" => DifferenceKind::NotCaptured,
        Standing::Open | Standing::Voided | Standing::Declined if taken => DifferenceKind::MissingCharge,
        Standing::Authorised | Standing::Captured if line.amount != ours.payment.amount => {
            let detail = format!("{} there, {} here", line.amount, ours.payment.amount);
            return Some((DifferenceKind::Amount, detail));
        }
        Standing::Captured if line.refunded != ours.refunded && !ours.refunding => {
            let detail = format!("{} given back there, {} here", line.refunded, ours.refunded);
            return Some((DifferenceKind::Refund, detail));
        }
        _ => return None,
    };
    let booking = ours.booking_status.as_deref().unwrap_or("none");
    Some((kind, format!("{theirs} there, {status} here; the booking: {booking}")))
}

/// Our payments since then that count as money and whose provider has not named them, a page at a time.
pub async fn ours_since(
    db: &Db,
    provider: &str,
    since: DateTime<Utc>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Attempt>, Fault> {
    let rows: Vec<OurRow> = sql_query(format!(
        "{OURS} WHERE p.provider = $1 AND p.id > $2 AND p.status IN ('authorised', 'captured', 'refunded')
           AND p.updated_at < now() - interval '1 minute' ORDER BY p.id LIMIT $3"
    ))
    .bind::<Text, _>(provider)
    .bind::<SqlUuid, _>(after.unwrap_or_else(|| first_id(since)))
    .bind::<BigInt, _>(limit)
    .load(&mut *db.conn().await?)
    .await?;
    rows.into_iter().map(|row| row.payment.attempt()).collect()
}

/// The lowest id that something made at this time can have.
pub(super) fn first_id(at: DateTime<Utc>) -> Uuid {
    let millis = u128::try_from(at.timestamp_millis()).unwrap_or(0);
    Uuid::from_u128(millis << 80)
}

/// A difference as it is kept.
#[derive(Clone, Debug, Serialize, QueryableByName)]
pub struct KeptDifference {
    #[diesel(sql_type = Text)]
    pub provider: String,
    #[diesel(sql_type = Text)]
    pub provider_key: String,
    #[diesel(sql_type = Text)]
    pub kind: String,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub booking_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Text>)]
    pub reference: Option<String>,
    #[diesel(sql_type = Text)]
    pub detail: String,
    #[diesel(sql_type = Timestamptz)]
    pub found_at: DateTime<Utc>,
}

/// Keeps what a reconciliation found. Safe to repeat.
pub async fn keep(db: &Db, provider: &str, differences: &[Difference]) -> Result<(), Fault> {
    if differences.is_empty() {
        return Ok(());
    }
    let column = differences.iter();
    let booking = |d: &Difference| d.attempt.as_ref().map(|attempt| attempt.charge.booking_id);
    sql_query(
        "INSERT INTO payment_differences (provider, provider_key, kind, booking_id, reference, detail)
         SELECT $1, * FROM unnest($2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[])
         ON CONFLICT (provider, provider_key) DO UPDATE
         SET kind = excluded.kind, detail = excluded.detail, reference = excluded.reference, seen_at = now()",
    )
    .bind::<Text, _>(provider)
    .bind::<Array<Text>, _>(column.clone().map(|d| d.provider_key.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(column.clone().map(|d| d.kind.name()).collect::<Vec<_>>())
    .bind::<Array<Nullable<SqlUuid>>, _>(column.clone().map(booking).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(column.clone().map(|d| d.reference.as_deref()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(column.map(|d| d.detail.as_str()).collect::<Vec<_>>())
    .execute(&mut *db.conn().await?)
    .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct NowRow {
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
}

/// What time Postgres has: what a run keeps from here on, it has seen.
pub async fn begin(db: &Db) -> Result<DateTime<Utc>, Fault> {
    let row: NowRow = sql_query("SELECT now() AS now").get_result(&mut *db.conn().await?).await?;
    Ok(row.now)
}

/// Forgets what a run that began then, and reached its end, has not seen any more.
pub async fn forget_unseen(db: &Db, provider: &str, begun: DateTime<Utc>) -> Result<(), Fault> {
    sql_query("DELETE FROM payment_differences WHERE provider = $1 AND seen_at < $2")
        .bind::<Text, _>(provider)
        .bind::<Timestamptz, _>(begun)
        .execute(&mut *db.conn().await?)
        .await?;
    Ok(())
}

/// Payments that need somebody to look at them, the oldest first: what the last reconciliation found.
pub async fn differences(db: &Db, limit: i64) -> Result<Vec<KeptDifference>, Fault> {
    let rows = sql_query(
        "SELECT provider, provider_key, kind, booking_id, reference, detail, found_at FROM payment_differences
         ORDER BY found_at, provider_key LIMIT $1",
    )
    .bind::<BigInt, _>(limit)
    .load(&mut *db.conn().await?)
    .await?;
    Ok(rows)
}

/// How long what is not at rest has waited: `kind` is `payment`, `refund` or `refund_failed`.
#[derive(Clone, Debug, Serialize, QueryableByName)]
pub struct Waiting {
    #[diesel(sql_type = Text)]
    pub kind: String,
    #[diesel(sql_type = BigInt)]
    pub count: i64,
    #[diesel(sql_type = diesel::sql_types::Double)]
    pub oldest_secs: f64,
}

/// Counts what has not come to rest: payments, refunds that are owed, refunds that the provider refuses.
pub async fn waiting(db: &Db) -> Result<Vec<Waiting>, Fault> {
    let rows = sql_query(
        "SELECT k.kind, count(w.at) AS count, coalesce(extract(epoch FROM now() - min(w.at)), 0)::float8 AS oldest_secs
         FROM (VALUES ('payment'), ('refund'), ('refund_failed')) AS k (kind)
         LEFT JOIN (
             SELECT 'payment' AS kind, created_at AS at FROM payments WHERE status IN ('authorised', 'unknown')
             UNION ALL SELECT 'refund', created_at FROM refunds WHERE status = 'pending'
             UNION ALL SELECT 'refund_failed', created_at FROM refunds WHERE status = 'failed'
         ) AS w ON w.kind = k.kind
         GROUP BY k.kind ORDER BY k.kind",
    )
    .load(&mut *db.conn().await?)
    .await?;
    Ok(rows)
}
