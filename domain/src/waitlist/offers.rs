//! Offers: how they are made, found by their token, and sold.

use std::collections::HashSet;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, QueryableByName, sql_query,
    sql_types::{Array, BigInt, Binary, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use rand::RngCore;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    db::Conn,
    fault::Fault,
    mails::{self, DueMail, MailContent},
    money::Money,
    statement::prepared,
};

/// How far an offer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OfferStatus {
    Open,
    /// It became a hold.
    Claimed,
    /// Its hold became a booking.
    Sold,
    /// Its hold ended otherwise.
    Lapsed,
    Declined,
    Expired,
}

/// Seats offered to one who waits
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Offer {
    pub id: Uuid,
    pub event_id: Uuid,
    pub event_title: String,
    pub starts_at: DateTime<Utc>,
    pub ticket_type_id: Uuid,
    pub ticket_type_name: String,
    pub quantity: i32,
    /// What one ticket costs, whatever the price does since.
    pub unit_price: Money,
    pub total: Money,
    pub status: OfferStatus,
    /// Claim before then.
    pub expires_at: DateTime<Utc>,
    /// The hold that it was claimed into.
    pub hold_id: Option<Uuid>,
    #[serde(skip)]
    pub user_id: Uuid,
    /// Its window was over when it was read.
    #[serde(skip)]
    pub overdue: bool,
    #[serde(skip)]
    pub claimed_at: Option<DateTime<Utc>>,
    #[serde(skip)]
    pub hold_expires_at: Option<DateTime<Utc>>,
}

#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// No offer has this token.
    #[error("there is no such offer")]
    NotFound,
    /// Declined, run out, or its hold is over.
    #[error("the offer is over")]
    Over,
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<diesel::result::Error> for OfferError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Fault(error.into())
    }
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    event_id: Uuid,
    #[diesel(sql_type = Text)]
    title: String,
    #[diesel(sql_type = Timestamptz)]
    starts_at: DateTime<Utc>,
    #[diesel(sql_type = SqlUuid)]
    ticket_type_id: Uuid,
    #[diesel(sql_type = Text)]
    ticket_type_name: String,
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
    #[diesel(sql_type = Integer)]
    quantity: i32,
    #[diesel(sql_type = BigInt)]
    unit_price: i64,
    #[diesel(sql_type = Text)]
    currency: String,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Timestamptz)]
    expires_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    hold_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    claimed_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    hold_expires_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = diesel::sql_types::Bool)]
    overdue: bool,
}

impl Row {
    fn read(self) -> Result<Offer, Fault> {
        Ok(Offer {
            id: self.id,
            event_id: self.event_id,
            event_title: self.title,
            starts_at: self.starts_at,
            ticket_type_id: self.ticket_type_id,
            ticket_type_name: self.ticket_type_name,
            quantity: self.quantity,
            unit_price: Money::new(self.unit_price, &self.currency),
            total: Money::new(self.unit_price * i64::from(self.quantity), &self.currency),
            status: serde_json::from_value(self.status.into())?,
            expires_at: self.expires_at,
            hold_id: self.hold_id,
            user_id: self.user_id,
            overdue: self.overdue,
            claimed_at: self.claimed_at,
            hold_expires_at: self.hold_expires_at,
        })
    }
}

/// The hash under which a token is kept; `None`: it cannot be one of ours.
pub(super) fn hash_of(token: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    (bytes.len() == 32).then(|| Sha256::digest(token.as_bytes()).to_vec())
}

/// The offer with this token, however it stands. Changes nothing.
pub async fn find(conn: &mut Conn, token: &str) -> Result<Offer, OfferError> {
    let hash = hash_of(token).ok_or(OfferError::NotFound)?;
    let row: Option<Row> =
        prepared(sql_query(include_str!("sql/offer_by_token.sql")).bind::<Binary, _>(hash))
            .get_result(conn)
            .await
            .optional()?;
    Ok(row.ok_or(OfferError::NotFound)?.read()?)
}

/// An entry that is to be offered seats.
#[derive(Clone, Debug, QueryableByName)]
pub(super) struct Candidate {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub user_id: Uuid,
    #[diesel(sql_type = Text)]
    pub email: String,
    #[diesel(sql_type = Integer)]
    pub quantity: i32,
}

/// What every offer of a batch has in common.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub unit_price: i64,
    pub currency: String,
    pub expires_at: DateTime<Utc>,
}

/// Writes the offers of these entries and owes their mails. The caller has the ticket type locked, and reserves the
/// seats in the same transaction.
pub(super) async fn make(conn: &mut Conn, terms: &Terms, chosen: &[Candidate]) -> Result<(), Fault> {
    let made: Vec<(Uuid, String)> = chosen
        .iter()
        .map(|_| {
            let mut secret = [0; 32];
            rand::rng().fill_bytes(&mut secret);
            (Uuid::now_v7(), URL_SAFE_NO_PAD.encode(secret))
        })
        .collect();
    let hashes: Vec<Vec<u8>> =
        made.iter().map(|(_, token)| Sha256::digest(token.as_bytes()).to_vec()).collect();
    prepared(
        sql_query(include_str!("sql/make_offers.sql"))
            .bind::<Array<SqlUuid>, _>(made.iter().map(|(id, _)| *id).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(chosen.iter().map(|entry| entry.id).collect::<Vec<_>>())
            .bind::<Array<Binary>, _>(hashes)
            .bind::<BigInt, _>(terms.unit_price)
            .bind::<Text, _>(terms.currency.as_str())
            .bind::<Timestamptz, _>(terms.expires_at),
    )
    .execute(conn)
    .await?;
    let due: Vec<DueMail> = chosen
        .iter()
        .zip(made)
        .map(|(entry, (offer_id, token))| DueMail {
            cause: offer_id.to_string(),
            user_id: entry.user_id,
            recipient: entry.email.clone(),
            content: MailContent::WaitlistOffer { offer_id, token },
            deadline: Some(terms.expires_at),
            traceparent: None,
        })
        .collect();
    mails::owe(conn, &due).await
}

#[derive(QueryableByName)]
struct HoldRow {
    #[diesel(sql_type = SqlUuid)]
    hold_id: Uuid,
}

/// Which of these holds were made out of an offer that stands, locked until the transaction ends. The caller has the
/// ticket types locked.
pub(crate) async fn lock_claimed(mut conn: &Conn, holds: &[Uuid]) -> Result<HashSet<Uuid>, Fault> {
    // By key alone, as in `mark_sold`: see `PLAN_ONCE`.
    let rows: Vec<HoldRow> = prepared(
        sql_query(
            "SELECT hold_id FROM waitlist_offers WHERE hold_id = ANY($1) AND status || '' = 'claimed'
             ORDER BY id FOR NO KEY UPDATE",
        )
        .bind::<Array<SqlUuid>, _>(holds),
    )
    .load(&mut conn)
    .await?;
    Ok(rows.into_iter().map(|row| row.hold_id).collect())
}

/// These holds are sold, in the caller's transaction.
pub(crate) async fn mark_sold(mut conn: &Conn, holds: &[Uuid]) -> Result<(), Fault> {
    if !holds.is_empty() {
        prepared(
            sql_query(
                "UPDATE waitlist_offers SET status = 'sold', ended_at = now()
                 WHERE hold_id = ANY($1) AND status || '' = 'claimed'",
            )
            .bind::<Array<SqlUuid>, _>(holds),
        )
        .execute(&mut conn)
        .await?;
        metrics::counter!("evently_waitlist_offers_total", "outcome" => "sold").increment(holds.len() as u64);
    }
    Ok(())
}
