//! `SyncInventory`: brings one event's inventory in Redis level with Postgres.
//!
//! Recorded in the outbox by every change of an event or its ticket types; whoever makes the change also syncs at
//! once, so this is for the process that died in between. A second run installs the same rows again.

use std::time::Duration;

use domain::{
    inventory::{SyncError, sync_event},
    jobs::SyncInventory,
};

use crate::{
    context::Context,
    error::JobError,
    runtime::{Backoff, Policy},
};

/// For as long as Redis is away, since nothing else brings an organiser's change there before the reconciler.
pub const POLICY: Policy = Policy {
    attempts: 100,
    timeout: Duration::from_secs(10),
    backoff: Backoff::exponential(Duration::from_millis(200), Duration::from_secs(10)),
};

pub async fn run(job: SyncInventory, ctx: &Context) -> Result<(), JobError> {
    match sync_event(&ctx.inventory, &ctx.db, job.event_id, false).await {
        // A draft that was deleted meanwhile has no inventory to keep.
        Ok(()) | Err(SyncError::UnknownEvent) => Ok(()),
        Err(SyncError::Rebuilding) => Err(JobError::retry("another process is rebuilding the inventory")),
        Err(SyncError::Fault(fault)) => Err(fault.into()),
    }
}
