//! Every job payload and every pool, on one page. A payload is ids and what cannot be looked up.
//!
//! A payload is part of the wire format between versions of Evently that run side by side: a field may be
//! added with `#[serde(default)]`, never renamed or removed. `tests/jobs/payloads.rs` freezes each of them.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::ToSchema;
use uuid::Uuid;

/// A worker pool. Its name is the same as a directory in `workers/src`, a line of the Procfile, the word on
/// the command line, the queue's prefix in Redis and the `pool` label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// Turns holds into bookings, captures, voids and refunds.
    Confirm,
    /// Ends holds whose time is over.
    Expiry,
    /// Offers freed seats to those who wait.
    Waitlist,
    /// Renders and sends mail.
    Email,
    /// Moves prices.
    Pricing,
    /// Rolls the booking log up into figures.
    Analytics,
    /// Outbox relay, reconcilers, collection, retention.
    Upkeep,
}

impl Pool {
    /// Every pool, in the order in which they are listed to people.
    pub const ALL: [Self; 7] = [
        Self::Confirm,
        Self::Expiry,
        Self::Waitlist,
        Self::Email,
        Self::Pricing,
        Self::Analytics,
        Self::Upkeep,
    ];

    /// Whether nobody waits for what it does: on a busy machine, it gives way to the pools of answers and seats.
    pub const fn gives_way(self) -> bool {
        matches!(self, Self::Email | Self::Analytics)
    }

    /// The pool's one name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
            Self::Expiry => "expiry",
            Self::Waitlist => "waitlist",
            Self::Email => "email",
            Self::Pricing => "pricing",
            Self::Analytics => "analytics",
            Self::Upkeep => "upkeep",
        }
    }
}

impl std::fmt::Display for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Pool {
    type Err = UnknownPool;

    fn from_str(name: &str) -> Result<Self, UnknownPool> {
        Self::ALL.into_iter().find(|pool| pool.name() == name).ok_or_else(|| UnknownPool(name.to_owned()))
    }
}

/// The word names no pool.
#[derive(Debug, thiserror::Error)]
#[error(
    "no pool is called {0:?}; the pools are confirm, expiry, waitlist, email, pricing, analytics, upkeep"
)]
pub struct UnknownPool(pub String);

/// A payload: what it is called, which pool consumes it, and the id under which it is enqueued.
pub trait Job: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// The name on the wire, in logs and metrics: `snake_case` of the type's name. Unique among all jobs.
    const NAME: &'static str;
    /// The pool that runs it.
    const POOL: Pool;

    /// The deterministic part of its id: enqueueing a job while one with the same key is waiting, scheduled or
    /// running does nothing. The whole id is `NAME:key`.
    fn key(&self) -> String;
}

/// Declares the payloads, and lists them in [`ALL`].
macro_rules! jobs {
    ($($(#[$doc:meta])* $name:ident($wire:literal, $pool:ident, |$this:ident| $key:expr) {
        $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)?
    })*) => {
        /// Every payload: the pool that consumes it, and its name.
        pub const ALL: &[(Pool, &str)] = &[$((Pool::$pool, $wire)),*];

        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
            pub struct $name { $($(#[$field_doc])* pub $field: $type),* }

            impl Job for $name {
                const NAME: &'static str = $wire;
                const POOL: Pool = Pool::$pool;

                fn key(&self) -> String {
                    let $this = self;
                    $key
                }
            }
        )*
    };
}

jobs! {
    /// Turns a hold that is `confirming` into a booking.
    ConfirmBooking("confirm_booking", Confirm, |j| format!("{}:{}", j.hold_id, j.attempt)) {
        event_id: Uuid,
        hold_id: Uuid,
        /// Which confirm of this hold: a declined payment may be followed by another.
        attempt: u32,
    }

    /// Captures an authorised payment whose booking is committed.
    CapturePayment("capture_payment", Confirm, |j| j.payment_id.to_string()) { payment_id: Uuid }

    /// Gives back an authorisation that no booking will use, or finds out that there is none.
    VoidPayment("void_payment", Confirm, |j| j.payment_id.to_string()) { payment_id: Uuid }

    /// Pays a refund that is recorded and not yet done.
    PayRefund("pay_refund", Confirm, |j| j.refund_id.to_string()) { refund_id: Uuid }

    /// Asks the provider how a payment stands and goes on from there: something was heard of it.
    RefreshPayment("refresh_payment", Confirm, |j| j.payment_id.to_string()) { payment_id: Uuid }

    /// Cancels, refunds and mails the bookings of a cancelled event, a batch at a time, and ends its holds.
    CancelEventBookings("cancel_event_bookings", Upkeep, |j| j.event_id.to_string()) { event_id: Uuid }

    /// Ends the overdue holds of one event and gives their seats back.
    ExpireHolds("expire_holds", Expiry, |j| format!("{}:{}", j.event_id, j.due_second)) {
        event_id: Uuid,
        /// The second (Unix time) for which the sweep is planned; only part of the id.
        due_second: i64,
    }

    /// Sends one mail of the `mails` table.
    SendMail("send_mail", Email, |j| j.mail_id.to_string()) { mail_id: Uuid }

    /// Offers what is free for the waitlist of one event to those who wait.
    PromoteWaitlist("promote_waitlist", Waitlist, |j| j.event_id.to_string()) { event_id: Uuid }

    /// Evaluates the prices of one event.
    RepriceEvent("reprice_event", Pricing, |j| format!("{}:{}", j.event_id, j.due_second)) {
        event_id: Uuid,
        /// The second (Unix time) at which they are due: with the event, what is done once.
        due_second: i64,
    }

    /// Brings one event's inventory in Redis level with Postgres.
    SyncInventory("sync_inventory", Upkeep, |j| j.event_id.to_string()) { event_id: Uuid }
}
