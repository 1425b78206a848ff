//! Payments: one row an attempt to pay, committed before the provider hears of it.
//!
//! `unknown` → `authorised` (with its booking, in one transaction) → `captured` → `refunded`.
//! `unknown` → `failed` when the provider declined. `unknown` with a failure is given up: no booking will take
//! it any more, and once the provider has been told so it is `voided`. The row's lock decides between a commit
//! and giving up.
//!
//! An `unknown` one with an action waits for the customer, until the action's time is over.

pub mod actions;
pub mod attempts;
mod config;
pub mod progress;
pub mod provider_events;
pub mod reconcile;
pub mod refunds;
pub mod sandbox_ledger;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

pub use config::{PaymentsConfig, Provider, StripeConfig};

/// What Evently knows of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    Authorised,
    Captured,
    Voided,
    Refunded,
    Failed,
    /// Begun; the provider's answer is not known.
    Unknown,
}

impl PaymentStatus {
    /// The word in the `status` column.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authorised => "authorised",
            Self::Captured => "captured",
            Self::Voided => "voided",
            Self::Refunded => "refunded",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// A charge as a provider is asked for it. Asking twice with one key charges once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    pub provider_key: String,
    pub booking_id: Uuid,
    /// What stands for the card.
    pub token: String,
    pub amount: i64,
    pub currency: String,
    /// The provider's own name for it, once it has given one.
    pub reference: Option<String>,
}

/// What the customer has to do before a payment goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PaymentAction {
    /// What kind of thing: `stripe_sdk`.
    #[serde(rename = "type")]
    #[schema(example = "stripe_sdk")]
    pub kind: String,
    /// What the provider's code in the customer's browser needs: `stripe.handleNextAction({clientSecret})`.
    pub client_secret: String,
    /// Until then the seats wait.
    pub expires_at: DateTime<Utc>,
}
