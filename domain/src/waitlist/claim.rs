//! Claiming an offer: it becomes an ordinary hold, whose seats stay reserved in Postgres until it is sold or over.
//!
//! Postgres decides once, and the hold in Redis is made from what it decided, however often and by whomever: a claim
//! that died half-way is finished by the next.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    OptionalExtension, QueryableByName, sql_query,
    sql_types::{Binary, Bool, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use uuid::Uuid;

use super::{
    Offer, OfferStatus,
    offers::{self, OfferError},
};
use crate::{
    db::{Conn, Db},
    fault::Fault,
    holds::{self, HeldItem, Hold, HoldStatus, encode_items},
    inventory::{Call, Inventory, Keys, Reply, Script, SyncError, ensure_ready},
    kill_point::kill_point,
    statement::prepared,
};

/// The hold of an offer.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub hold: Hold,
    /// Whether the offer was claimed just now.
    pub first: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error("there is no such offer")]
    NotFound,
    /// Declined, run out, or its hold is over.
    #[error("the offer is over")]
    Over,
    /// With these tickets, its user would have more than one may.
    #[error("the user has as many tickets as one may have")]
    LimitExceeded,
    #[error("the inventory is being rebuilt")]
    Rebuilding,
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<OfferError> for ClaimError {
    fn from(error: OfferError) -> Self {
        match error {
            OfferError::NotFound => Self::NotFound,
            OfferError::Over => Self::Over,
            OfferError::Fault(fault) => Self::Fault(fault),
        }
    }
}

impl From<diesel::result::Error> for ClaimError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Fault(error.into())
    }
}

impl From<SyncError> for ClaimError {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::UnknownEvent => Self::NotFound,
            SyncError::Rebuilding => Self::Rebuilding,
            SyncError::Fault(fault) => Self::Fault(fault),
        }
    }
}

#[derive(QueryableByName)]
struct Fits {
    #[diesel(sql_type = Bool)]
    fits: bool,
}

#[derive(QueryableByName)]
struct ClaimedRow {
    #[diesel(sql_type = SqlUuid)]
    hold_id: Uuid,
    #[diesel(sql_type = Timestamptz)]
    claimed_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    hold_expires_at: DateTime<Utc>,
}

/// Claims an offer for the user that it was made to, whom `as_user` must be if it is given. The same claim again
/// answers the same hold, for as long as that is not over.
pub async fn claim(
    db: &Db,
    inventory: &Inventory,
    token: &str,
    as_user: Option<Uuid>,
) -> Result<Claimed, ClaimError> {
    let (offer, first) = decide(db, token, as_user).await?;
    let (Some(hold_id), Some(claimed_at), Some(hold_expires_at)) =
        (offer.hold_id, offer.claimed_at, offer.hold_expires_at)
    else {
        return Err(ClaimError::Over);
    };
    kill_point("claim.decided");
    let hold = hold_of(&offer, hold_id, claimed_at, hold_expires_at);
    if !make(inventory, &hold).await? {
        ensure_ready(inventory, db, offer.event_id).await?;
        if !make(inventory, &hold).await? {
            return Err(ClaimError::Rebuilding);
        }
    }
    kill_point("claim.made");
    // A sold one may be forgotten by Redis.
    let status = match holds::read(inventory, offer.event_id, hold_id).await? {
        Some(hold) => hold.status,
        None if offer.status == OfferStatus::Sold => HoldStatus::Confirmed,
        None => HoldStatus::Expired,
    };
    if matches!(status, HoldStatus::Expired | HoldStatus::Released) {
        return Err(ClaimError::Over);
    }
    Ok(Claimed { hold: Hold { status, ..hold }, first })
}

/// Decides in Postgres; answers the offer as it is claimed, and whether that was now.
async fn decide(db: &Db, token: &str, as_user: Option<Uuid>) -> Result<(Offer, bool), ClaimError> {
    let mut conn = db.conn().await?;
    (*conn)
        .transaction(async |conn: &mut Conn| {
            let hash = offers::hash_of(token).ok_or(ClaimError::NotFound)?;
            prepared(
                sql_query("SELECT id FROM waitlist_offers WHERE token_hash = $1 FOR NO KEY UPDATE")
                    .bind::<Binary, _>(hash),
            )
            .execute(conn)
            .await?;
            let offer = offers::find(conn, token).await?;
            if as_user.is_some_and(|user| user != offer.user_id) {
                return Err(ClaimError::NotFound);
            }
            match offer.status {
                OfferStatus::Open if !offer.overdue => {}
                OfferStatus::Claimed | OfferStatus::Sold => return Ok((offer, false)),
                _ => return Err(ClaimError::Over),
            }
            let Fits { fits } =
                prepared(sql_query(include_str!("sql/fits_limit.sql")).bind::<SqlUuid, _>(offer.id))
                    .get_result(conn)
                    .await?;
            if !fits {
                return Err(ClaimError::LimitExceeded);
            }
            let row: Option<ClaimedRow> = prepared(
                sql_query(include_str!("sql/claim.sql"))
                    .bind::<SqlUuid, _>(offer.id)
                    .bind::<SqlUuid, _>(Uuid::now_v7()),
            )
            .get_result(conn)
            .await
            .optional()?;
            let row = row.ok_or(ClaimError::Over)?;
            metrics::counter!("evently_waitlist_offers_total", "outcome" => "claimed").increment(1);
            let offer = Offer {
                status: OfferStatus::Claimed,
                hold_id: Some(row.hold_id),
                claimed_at: Some(row.claimed_at),
                hold_expires_at: Some(row.hold_expires_at),
                ..offer
            };
            Ok((offer, true))
        })
        .await
}

fn hold_of(offer: &Offer, id: Uuid, claimed_at: DateTime<Utc>, expires_at: DateTime<Utc>) -> Hold {
    let whole =
        |at: DateTime<Utc>| at - TimeDelta::microseconds(i64::from(at.timestamp_subsec_micros() % 1000));
    Hold {
        id,
        event_id: offer.event_id,
        user_id: offer.user_id,
        status: HoldStatus::Held,
        items: vec![HeldItem {
            ticket_type_id: offer.ticket_type_id,
            quantity: u32::try_from(offer.quantity).unwrap_or(0),
            seats: Vec::new(),
            unit_price: offer.unit_price.amount,
        }],
        total: offer.total.amount,
        currency: offer.total.currency.clone(),
        // Redis keeps milliseconds.
        created_at: whole(claimed_at),
        expires_at: whole(expires_at),
        offered: true,
    }
}

/// Makes the hold in Redis unless it is there, or over; `false` while there is no inventory.
async fn make(inventory: &Inventory, hold: &Hold) -> Result<bool, Fault> {
    let keys = Keys::of(hold.event_id);
    let call = Call::new(Script::Claim)
        .key(keys.inventory())
        .key(keys.holds())
        .key(keys.hold(hold.id))
        .key(keys.user_held())
        .arg(hold.id.to_string())
        .arg(hold.user_id.to_string())
        .arg(encode_items(&hold.items))
        .arg(hold.quantity())
        .arg(hold.total)
        .arg(&hold.currency)
        .arg(hold.created_at.timestamp_millis())
        .arg(hold.expires_at.timestamp_millis());
    Ok(Reply::new(inventory.run(call).await?)?.text()? != "rebuilding")
}
