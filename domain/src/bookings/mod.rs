//! Bookings: what a hold becomes once it is paid and its seats are committed.

mod cancel;
pub mod codes;
pub mod commit;
mod log;
mod read;
mod refund_policy;
mod refunded;
pub mod results;
mod stock;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    holds::{HeldItem, Hold},
    money::Money,
    payments::{PaymentAction, PaymentStatus},
};

pub use cancel::{CancelError, Cancelled, cancel, cancel_batch_of_event, finish_event_cancellation};
pub use read::{
    BookingFilter, KeptBooking, ListError, Occasion, is_organizers, kept_by_ids, occasion, page, read,
};
pub use refund_policy::refund_due;
pub use refunded::mark_refunded;
pub(crate) use stock::SeatCount;
pub use stock::{Changes, rows_behind};

/// How far a booking is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BookingStatus {
    /// Being paid and committed; not in Postgres yet.
    Confirming,
    Confirmed,
    Failed,
    /// Cancelled; money may still be on its way back.
    Cancelled,
    /// Cancelled, and the money is back.
    Refunded,
}

impl BookingStatus {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Confirming => "confirming",
            Self::Confirmed => "confirmed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Refunded => "refunded",
        }
    }
}

/// Why an order became no booking. The code is the contract's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// Postgres has fewer seats than Redis had promised.
    SoldOut,
    /// The event was cancelled, or a ticket type withdrawn.
    SaleClosed,
    /// The provider declined; the hold may be paid in another way.
    PaymentDeclined,
    /// The payment had been given up before the seats were committed.
    HoldExpired,
    /// Evently could not finish it.
    Internal,
}

impl Failure {
    const ALL: [Self; 5] =
        [Self::SoldOut, Self::SaleClosed, Self::PaymentDeclined, Self::HoldExpired, Self::Internal];

    pub const fn code(self) -> &'static str {
        match self {
            Self::SoldOut => "sold-out",
            Self::SaleClosed => "sale-closed",
            Self::PaymentDeclined => "payment-declined",
            Self::HoldExpired => "hold-expired",
            Self::Internal => "internal",
        }
    }

    /// The failure that a stored code names; what is unknown counts as internal.
    pub fn from_code(code: &str) -> Self {
        Self::ALL.into_iter().find(|failure| failure.code() == code).unwrap_or(Self::Internal)
    }
}

/// A booking as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Booking {
    /// The id of the hold it came from.
    pub id: Uuid,
    /// What people quote; none while `confirming`.
    #[schema(example = "EV-7K3M9Q2X")]
    pub reference: Option<String>,
    pub event_id: Uuid,
    pub status: BookingStatus,
    /// Why it failed.
    pub failure: Option<FailureInfo>,
    pub items: Vec<BookedItem>,
    pub total: Money,
    /// None when there was nothing to pay, and while `confirming`.
    pub payment: Option<PaymentInfo>,
    pub tickets: Vec<Ticket>,
    pub created_at: DateTime<Utc>,
    pub confirmed_at: Option<DateTime<Utc>>,
    pub cancelled_at: Option<DateTime<Utc>>,
}

/// Why a booking failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailureInfo {
    /// `sold-out`, `sale-closed`, `payment-declined`, `hold-expired` or `internal`.
    #[schema(example = "payment-declined")]
    pub code: String,
}

/// One line of a booking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BookedItem {
    pub ticket_type_id: Uuid,
    pub quantity: u32,
    /// Labels of numbered seats; empty for general admission.
    pub seats: Vec<String>,
    /// The price at which the seats were held.
    pub unit_price: Money,
}

/// How a booking was paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PaymentInfo {
    pub status: PaymentStatus,
    #[schema(example = "sandbox")]
    pub provider: String,
    /// What the customer has to do before the booking can be confirmed; only while that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<PaymentAction>,
}

/// One ticket: one person, one code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ticket {
    pub id: Uuid,
    /// What the QR code holds and the door scans.
    pub code: String,
    /// The numbered seat; none for general admission.
    pub seat: Option<String>,
    pub status: TicketStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TicketStatus {
    Valid,
    Cancelled,
    Used,
}

impl Booking {
    /// A booking that is under way, as far as its hold tells of it.
    pub fn confirming(hold: &Hold) -> Self {
        Self {
            id: hold.id,
            reference: None,
            event_id: hold.event_id,
            status: BookingStatus::Confirming,
            failure: None,
            items: booked_items(&hold.items, &hold.currency),
            total: Money::new(hold.total, &hold.currency),
            payment: None,
            tickets: Vec::new(),
            created_at: hold.created_at,
            confirmed_at: None,
            cancelled_at: None,
        }
    }

    /// The same, while its payment waits for the customer.
    #[must_use]
    pub fn waiting_for(self, provider: &str, action: PaymentAction) -> Self {
        let (status, provider) = (PaymentStatus::Unknown, provider.to_owned());
        Self { payment: Some(PaymentInfo { status, provider, action: Some(action) }), ..self }
    }

    /// The failure, when it failed.
    pub fn failed_with(&self) -> Option<Failure> {
        self.failure.as_ref().map(|failure| Failure::from_code(&failure.code))
    }
}

/// The lines as clients see them.
pub(crate) fn booked_items(items: &[HeldItem], currency: &str) -> Vec<BookedItem> {
    items
        .iter()
        .map(|item| BookedItem {
            ticket_type_id: item.ticket_type_id,
            quantity: item.quantity,
            seats: item.seats.clone(),
            unit_price: Money::new(item.unit_price, currency),
        })
        .collect()
}
