//! The `upkeep` pool: outbox relay, reconcilers, collection, retention.

mod cancel_event_bookings;
mod complete_events;
mod forget_inventories;
mod reconcile_inventory;
mod reconcile_payments;
mod relay;
mod resume_confirms;
mod retention;
mod sweep_holds;
mod sweep_payments;
mod sync_inventory;

use std::time::Duration;

use domain::jobs::{CancelEventBookings, Pool, SyncInventory};

use crate::{job, runtime::PoolSpec};

/// Few at once: its jobs are large, and what it keeps up is not to feel it.
pub static SPEC: PoolSpec = PoolSpec {
    pool: Pool::Upkeep,
    concurrency: 4,
    poll: Duration::from_millis(20),
    jobs: &[job!(sync_inventory, SyncInventory), job!(cancel_event_bookings, CancelEventBookings)],
    periodics: &[
        relay::RELAY,
        relay::REQUEUE_OUTBOX,
        reconcile_inventory::PERIODIC,
        sweep_holds::PERIODIC,
        forget_inventories::PERIODIC,
        resume_confirms::PERIODIC,
        sweep_payments::PERIODIC,
        reconcile_payments::PERIODIC,
        complete_events::PERIODIC,
        retention::RETENTION,
    ],
};
