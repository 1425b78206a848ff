//! Ending holds: when their time is over, or when their event is cancelled.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    fault::Fault,
    inventory::{Call, Inventory, Keys, Reply, Script},
};

/// What one sweep did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    pub ended: u32,
    /// Whether more are due now: call again.
    pub more: bool,
    /// When the next one is due: the caller enqueues the next `ExpireHolds` for then.
    pub next_at: Option<DateTime<Utc>>,
}

/// What ending a cancelled event's holds did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub ended: u32,
    /// Whether some are left that are `held`.
    pub more: bool,
    /// How many are being confirmed: those end by their job.
    pub confirming: u64,
}

/// Ends up to `limit` overdue holds of an event and gives their seats back, each exactly once.
pub async fn expire_holds(inventory: &Inventory, event_id: Uuid, limit: u32) -> Result<Expired, Fault> {
    let (ended, more, second) = sweep(inventory, event_id, limit, false).await?;
    metrics::counter!("evently_holds_total", "outcome" => "expired").increment(u64::from(ended));
    let next_at = (second > 0).then(|| DateTime::from_timestamp(second, 0)).flatten();
    Ok(Expired { ended, more, next_at })
}

/// Ends up to `limit` holds of a cancelled event, whatever their deadline; those being confirmed are left to their
/// job, which finds the event cancelled.
pub async fn end_holds(inventory: &Inventory, event_id: Uuid, limit: u32) -> Result<Ended, Fault> {
    let (ended, more, _) = sweep(inventory, event_id, limit, true).await?;
    metrics::counter!("evently_holds_total", "outcome" => "event_cancelled").increment(u64::from(ended));
    let confirming: u64 = redis::cmd("ZCARD")
        .arg(Keys::of(event_id).confirming())
        .query_async(&mut inventory.connection())
        .await?;
    Ok(Ended { ended, more, confirming })
}

async fn sweep(
    inventory: &Inventory,
    event_id: Uuid,
    limit: u32,
    all: bool,
) -> Result<(u32, bool, i64), Fault> {
    let keys = Keys::of(event_id);
    let call = Call::new(Script::Expire)
        .key(keys.inventory())
        .key(keys.holds())
        .key(keys.user_held())
        .arg(limit)
        .arg(u8::from(all));
    let mut reply = Reply::new(inventory.run(call).await?)?;
    let ended = u32::try_from(reply.int()?).map_err(|error| Fault::Corrupt(error.to_string()))?;
    Ok((ended, reply.int()? == 1, reply.int()?))
}
