//! Keeps every waitlist moving: ends offers whose window is over, gives the seats of claimed offers back whose hold is
//! over, and has what is free offered.

use std::{collections::BTreeMap, time::Duration};

use domain::{
    holds::{self, HoldStatus},
    inventory::{SyncError, ensure_ready},
    jobs::PromoteWaitlist,
    kill_point::kill_point,
    waitlist::{self, Waited},
};
use futures::FutureExt;
use uuid::Uuid;

use crate::{
    context::Context,
    error::JobError,
    runtime::{Periodic, Report},
};

/// Offers a transaction.
const BATCH: i64 = 200;
/// Ticket types that somebody waits for, a run.
const WAITED: i64 = 2_000;

/// Twice a second: people wait. With nobody waiting it costs Postgres three index probes.
pub const PERIODIC: Periodic = Periodic {
    name: "sweep_waitlist",
    every: Duration::from_millis(500),
    timeout: Duration::from_secs(30),
    exclusive: true,
    run: |ctx| async move { run(&ctx).await }.boxed(),
};

async fn run(ctx: &Context) -> Result<Report, JobError> {
    let expired = waitlist::expire_overdue(&ctx.db, BATCH).await?;
    if expired.count > 0 {
        kill_point("offers.expired");
    }
    expired.changes.tell(&ctx.inventory).await;
    let lapsed = lapse(ctx).await?;
    let promoted = promote(ctx).await?;
    let done = expired.count as u64 + lapsed;
    let more = i64::try_from(expired.count).is_ok_and(|count| count == BATCH);
    Ok(Report { found: done + promoted, fixed: done + promoted, more })
}

/// Whether a hold is over Redis decides, by its own clock; one that is being paid is not.
async fn lapse(ctx: &Context) -> Result<u64, JobError> {
    let claimed = waitlist::over_holds(&ctx.db, BATCH).await?;
    let holds = holds::load_confirming(&ctx.inventory, &claimed).await?;
    let is_over = |status| matches!(status, HoldStatus::Expired | HoldStatus::Released);
    let over: Vec<Uuid> = claimed
        .iter()
        .zip(&holds)
        .filter(|(_, hold)| hold.as_ref().is_none_or(|hold| is_over(hold.hold.status)))
        .map(|((_, hold_id), _)| *hold_id)
        .collect();
    let lapsed = waitlist::lapse(&ctx.db, &over).await?;
    if lapsed.count > 0 {
        kill_point("offers.lapsed");
    }
    lapsed.changes.tell(&ctx.inventory).await;
    Ok(lapsed.count as u64)
}

/// Enqueues a promotion for each event with a free seat that somebody can use.
async fn promote(ctx: &Context) -> Result<u64, JobError> {
    let mut events: BTreeMap<Uuid, Vec<Waited>> = BTreeMap::new();
    for waited in waitlist::waited_for(&ctx.db, None, WAITED).await? {
        events.entry(waited.event_id).or_default().push(waited);
    }
    let mut enqueued = 0;
    for (event_id, waited) in events {
        let types: Vec<Uuid> = waited.iter().map(|kind| kind.ticket_type_id).collect();
        let Some((_, counts)) = ctx.inventory.availability(event_id, &types).await? else {
            // What is free is known once it is rebuilt.
            match ensure_ready(&ctx.inventory, &ctx.db, event_id).await {
                Ok(()) | Err(SyncError::UnknownEvent | SyncError::Rebuilding) => continue,
                Err(SyncError::Fault(fault)) => return Err(fault.into()),
            }
        };
        let usable = counts.iter().any(|count| {
            let smallest = waited.iter().find(|kind| kind.ticket_type_id == count.ticket_type_id);
            smallest.is_some_and(|kind| count.share >= i64::from(kind.smallest))
        });
        if usable {
            ctx.queue.enqueue(&PromoteWaitlist { event_id }).await?;
            enqueued += 1;
        }
    }
    Ok(enqueued)
}
