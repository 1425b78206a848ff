//! What is there once everything has come to rest: the books of all sides.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BookingRow {
    pub id: Uuid,
    pub event: Uuid,
    pub status: String,
    pub reference: String,
    pub quantity: i64,
    pub total: i64,
    /// Tickets that are not cancelled.
    pub tickets: i64,
}

impl BookingRow {
    /// Whether it was confirmed at some time.
    pub fn was_confirmed(&self) -> bool {
        self.status != "failed"
    }
}

/// A ticket type in Postgres, and as Redis has it: (capacity, sold, offered).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SeatRow {
    pub ticket_type: Uuid,
    pub capacity: i64,
    pub sold: i64,
    pub reserved: i64,
    pub tickets: i64,
    pub redis: Option<(i64, i64, i64)>,
    /// Entries and tickets that somebody waits for, as they are counted.
    pub waiting: i64,
}

/// An event's tickets, counted in every way there is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventRow {
    pub event: Uuid,
    pub refund_percent: i64,
    pub sold: i64,
    pub booked: i64,
    pub bought: i64,
    /// Of the booking log: confirmed less cancelled.
    pub logged: i64,
    /// Of the figures: the same.
    pub rolled_up: i64,
    /// What `reconcile` found to mend.
    pub drift: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PaymentRow {
    pub booking: Uuid,
    pub status: String,
    pub amount: i64,
    pub refunded: i64,
}

/// A line of the sandbox's books.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChargeRow {
    pub booking: Uuid,
    pub status: String,
    pub amount: i64,
    pub captured: i64,
    pub refunded: i64,
    /// How many refunds there are.
    pub refunds: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RefundRow {
    pub booking: Uuid,
    pub status: String,
    pub amount: i64,
}

/// A mail as it arrived.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Delivered {
    pub message_id: String,
    /// What it says it is about; the kind as Evently has it under this Message-ID.
    pub booking: Option<Uuid>,
    /// Which offer of a waitlist it carries, or says is over.
    pub offer: Option<Uuid>,
    pub kind: String,
}

/// A place on a waitlist.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EntryRow {
    pub id: Uuid,
    pub ticket_type: Uuid,
    pub quantity: i64,
    pub status: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OfferRow {
    pub id: Uuid,
    pub entry: Uuid,
    /// In hexadecimal digits.
    pub token_hash: String,
    pub status: String,
    /// The hold that it was claimed into.
    pub hold: Option<Uuid>,
    /// When its transaction began, in milliseconds since the run did.
    pub made_ms: u64,
}

/// How a booking reads at last, and since when.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Read {
    pub at_ms: u64,
    /// Its status; `absent` when there is none, `confirming` when it never ended.
    pub status: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ending {
    pub bookings: Vec<BookingRow>,
    pub seats: Vec<SeatRow>,
    pub events: Vec<EventRow>,
    pub payments: Vec<PaymentRow>,
    pub charges: Vec<ChargeRow>,
    pub refunds: Vec<RefundRow>,
    pub delivered: Vec<Delivered>,
    pub entries: Vec<EntryRow>,
    pub offers: Vec<OfferRow>,
    /// Of every hold that somebody tried to confirm.
    pub reads: BTreeMap<Uuid, Read>,
    /// Figures that differ from a recount.
    pub figures: Vec<String>,
    /// What is still owed, and what has died.
    pub left_over: Vec<String>,
}
