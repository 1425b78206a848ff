//! Holds: seats taken for a while, atomically, in Redis.
//!
//! ```text
//!            place            begin_confirm              settle(Confirmed)
//!   nothing ───────▶ held ───────────────────▶ confirming ───────────────▶ confirmed
//!                    │ ▲                          │    │
//!       release ─────┤ └── settle(Declined) ──────┘    └── settle(Failed) ──▶ expired
//!       the deadline ┘
//! ```
//!
//! Each arrow is one script, decided by compare-and-set on the hold's status, so each hold is given back or consumed
//! exactly once. All times are those of Redis.

mod confirm;
mod expire;
mod place;
mod token;

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use confirm::{
    BeginConfirm, BeginConfirmError, ConfirmStart, ConfirmingHold, PaymentChoice, Settled, Settlement,
    begin_confirm, event_of_booking, load_confirming, postpone, settle, stale_confirming,
};
pub use expire::{Ended, Expired, end_holds, expire_holds};
pub use place::{HoldRequest, PlaceError, Placed, Placer, RequestedItem, place_command};
pub use token::{HoldClaims, HoldTokens, InvalidHoldToken};

use crate::{
    fault::Fault,
    inventory::{Call, Inventory, Keys, Reply, Script},
};

/// One line of a hold: what was asked for and what one ticket of it costs, in the event's currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldItem {
    pub ticket_type_id: Uuid,
    pub quantity: u32,
    /// Labels of numbered seats; empty with general admission.
    #[serde(default)]
    pub seats: Vec<String>,
    /// Minor units.
    pub unit_price: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HoldStatus {
    Held,
    Confirming,
    Confirmed,
    Released,
    Expired,
}

/// A hold as Redis has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub id: Uuid,
    pub event_id: Uuid,
    pub user_id: Uuid,
    pub status: HoldStatus,
    pub items: Vec<HeldItem>,
    /// Minor units.
    pub total: i64,
    pub currency: String,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    /// Made out of an offer of the waitlist: its seats are reserved in Postgres until it is sold or over.
    pub offered: bool,
}

impl Hold {
    /// How many tickets it holds.
    pub fn quantity(&self) -> u32 {
        self.items.iter().map(|item| item.quantity).sum()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Unknown, or another user's.
    #[error("there is no such hold")]
    NotFound,
    /// It is being confirmed, or is a booking already.
    #[error("the hold is {0}")]
    Busy(String),
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Reads a hold, whosever it is; one that is overdue ends by being read. `None`: unknown, or over for more than ten
/// minutes.
pub async fn read(inventory: &Inventory, event_id: Uuid, hold_id: Uuid) -> Result<Option<Hold>, Fault> {
    let reply = inventory.run(read_call(event_id, hold_id)).await?;
    Ok(parse_read(event_id, hold_id, reply)?.map(|record| record.hold))
}

/// Gives a hold's seats back at once, at its owner's wish. Releasing what is over already does nothing. Answers whether
/// it was made out of an offer, whose seats the caller then gives back in Postgres; also of one that is over already, so
/// that asking again finishes what died half-way.
pub async fn release(
    inventory: &Inventory,
    event_id: Uuid,
    hold_id: Uuid,
    user_id: Uuid,
) -> Result<bool, ReleaseError> {
    let keys = Keys::of(event_id);
    let call = Call::new(Script::Release)
        .key(keys.inventory())
        .key(keys.holds())
        .key(keys.hold(hold_id))
        .key(keys.user_held())
        .arg(hold_id.to_string())
        .arg(user_id.to_string());
    let mut reply = Reply::new(inventory.run(call).await?)?;
    match reply.text()?.as_str() {
        "released" => {
            metrics::counter!("evently_holds_total", "outcome" => "released").increment(1);
            Ok(reply.int()? == 1)
        }
        "already" => Ok(reply.int()? == 1),
        "not_found" => Err(ReleaseError::NotFound),
        "busy" => Err(ReleaseError::Busy(reply.text()?)),
        other => Err(Fault::Corrupt(format!("release said {other}")).into()),
    }
}

/// A hold with what only confirming needs.
struct Record {
    hold: Hold,
    attempt: u32,
    payment: String,
    waiting: String,
    confirming_since_ms: i64,
}

fn read_call(event_id: Uuid, hold_id: Uuid) -> Call {
    let keys = Keys::of(event_id);
    Call::new(Script::Read)
        .key(keys.inventory())
        .key(keys.holds())
        .key(keys.hold(hold_id))
        .key(keys.user_held())
        .arg(hold_id.to_string())
}

fn parse_read(event_id: Uuid, hold_id: Uuid, value: redis::Value) -> Result<Option<Record>, Fault> {
    let mut reply = Reply::new(value)?;
    if reply.is_empty() {
        return Ok(None);
    }
    let user_id = reply.id()?;
    let status = match reply.text()?.as_str() {
        "held" => HoldStatus::Held,
        "confirming" => HoldStatus::Confirming,
        "confirmed" => HoldStatus::Confirmed,
        "released" => HoldStatus::Released,
        "expired" => HoldStatus::Expired,
        other => return Err(Fault::Corrupt(format!("a hold is {other}"))),
    };
    let items = decode_items(&reply.text()?)?;
    let mut hold = Hold {
        id: hold_id,
        event_id,
        user_id,
        status,
        items,
        total: reply.int()?,
        currency: reply.text()?,
        created_at: reply.time()?,
        expires_at: reply.time()?,
        offered: false,
    };
    let attempt = u32::try_from(reply.int()?).map_err(|e| Fault::Corrupt(e.to_string()))?;
    let (payment, waiting, confirming_since_ms) = (reply.text()?, reply.text()?, reply.int()?);
    hold.offered = reply.int()? == 1;
    Ok(Some(Record { hold, attempt, payment, waiting, confirming_since_ms }))
}

/// Items as scripts and tokens carry them: `type:quantity:price`, separated by commas.
pub(crate) fn encode_items(items: &[HeldItem]) -> String {
    let mut text = String::with_capacity(items.len() * 48);
    for item in items {
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}{}:{}:{}", item.ticket_type_id, item.quantity, item.unit_price);
    }
    text
}

fn decode_items(text: &str) -> Result<Vec<HeldItem>, Fault> {
    let item = |part: &str| {
        let mut fields = part.split(':');
        Some(HeldItem {
            ticket_type_id: fields.next()?.parse().ok()?,
            quantity: fields.next()?.parse().ok()?,
            seats: Vec::new(),
            unit_price: fields.next()?.parse().ok()?,
        })
    };
    text.split(',')
        .map(|part| item(part).ok_or_else(|| Fault::Corrupt(format!("items of a hold: {text}"))))
        .collect()
}
