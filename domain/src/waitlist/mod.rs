//! The waitlist: who waits for what is sold out, in which order, and what is offered to them.
//!
//! ```text
//!        join            promote           claim
//! nothing ───▶ waiting ───────────▶ offered ─────▶ claimed ── its hold is sold, or is over
//!                 │                    ├── decline ─▶ declined
//!                 └── leave ─▶ left ◀──┤
//!                                      └── the window passes ─▶ expired
//! ```
//!
//! An entry that has left `waiting` never returns to it: who wants to wait again joins at the end.
//!
//! Where the seats are. While somebody waits, what comes free is out of the public's reach (the gate in
//! `inventory/prelude.lua`) and free for a promotion only. That takes it into a hold of nobody's, commits the offers,
//! and ends the hold in the same script that tells Redis of the commit. From the offer on until it is sold or over
//! its seats are `reserved` in Postgres, also while they are in the hold that it was claimed into; so neither a crash
//! nor the loss of Redis can give them to anybody else.
//!
//! Everybody who changes entries or offers of a ticket type, other than by claiming, holds its row's lock.

mod claim;
mod ends;
mod join;
mod line;
mod offers;
mod overrides;
mod promote;
mod read;

use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

pub use claim::{ClaimError, Claimed, claim};
pub use ends::{Ended, decline, end_event, expire_overdue, lapse, leave, over_holds};
pub use join::{JoinError, JoinRequest, Joined, Joins, clear_stale_joins};
pub use offers::{Offer, OfferError, OfferStatus, find};
pub(crate) use offers::{lock_claimed, mark_sold};
pub use overrides::{OverrideError, move_to, offer_now, remove};
pub use promote::{Promoted, Waited, promote, waited_for};
pub use read::{AdminEntry, AdminFilter, AdminListError, WhyNot, mine, page};

use crate::{fault::Fault, money::Money};

/// How far an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryStatus {
    /// In line.
    Waiting,
    /// Its offer is open.
    Offered,
    /// Its offer became a hold.
    Claimed,
    Declined,
    /// Its offer ran out, or its event was cancelled.
    Expired,
    Left,
}

impl EntryStatus {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Offered => "offered",
            Self::Claimed => "claimed",
            Self::Declined => "declined",
            Self::Expired => "expired",
            Self::Left => "left",
        }
    }
}

impl FromStr for EntryStatus {
    type Err = Fault;

    fn from_str(name: &str) -> Result<Self, Fault> {
        [Self::Waiting, Self::Offered, Self::Claimed, Self::Declined, Self::Expired, Self::Left]
            .into_iter()
            .find(|status| status.name() == name)
            .ok_or_else(|| Fault::Corrupt(format!("an entry is {name}")))
    }
}

/// A place on the waitlist
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = WaitlistEntry)]
pub struct Entry {
    pub id: Uuid,
    pub event_id: Uuid,
    pub ticket_type_id: Uuid,
    /// Its place in line, from 1; null when it does not wait any more.
    pub position: Option<i64>,
    pub status: EntryStatus,
    pub quantity: i32,
    /// What was offered to it, once something was.
    pub offer: Option<EntryOffer>,
    pub joined_at: DateTime<Utc>,
}

/// What was offered to an entry; the token to claim it is in the mail
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct EntryOffer {
    pub id: Uuid,
    pub quantity: i32,
    /// What one ticket costs, whatever the price does since.
    pub unit_price: Money,
    pub total: Money,
    pub expires_at: DateTime<Utc>,
    /// The hold that it was claimed into.
    pub hold_id: Option<Uuid>,
}
