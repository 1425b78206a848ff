//! Compares one event's inventory with Postgres and with its own holds, and mends what differs.

use std::{collections::HashMap, time::Duration};

use uuid::Uuid;

use super::{
    Call, Inventory, Keys, Reply, Script, SeatSnapshot,
    sync::{self, SyncError, ensure_ready, sync_event},
};
use crate::{db::Db, fault::Fault, waitlist};

/// More holds than this are not recounted: the script would keep Redis for too long.
const MOST_HOLDS: u32 = 20_000;
/// How long a committed row may take to reach Redis before it counts as lost.
const GRACE: Duration = Duration::from_millis(1500);

/// What was found of one event, in ticket types; all zero when Redis and Postgres agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Redis had not got a row that was committed more than a moment ago.
    pub behind: u32,
    /// Redis had a row that Postgres does not have.
    pub ahead: u32,
    /// The count of held seats differed from the holds.
    pub held: u32,
    /// The inventory was missing and was rebuilt.
    pub rebuilt: bool,
}

impl Drift {
    /// How many ticket types were off.
    pub const fn total(self) -> u32 {
        self.behind + self.ahead + self.held
    }
}

struct Counted {
    row: SeatSnapshot,
    held: i64,
    recounted: i64,
}

/// Compares and mends. Safe at any time, also under traffic: a difference counts only if it outlasts `GRACE`.
pub async fn reconcile_event(inventory: &Inventory, db: &Db, event_id: Uuid) -> Result<Drift, SyncError> {
    let mut drift = Drift::default();
    waitlist::clear_stale_joins(inventory, db, event_id).await?;
    if compare(inventory, db, event_id).await?.is_some_and(|first| first.total() == 0) {
        return Ok(drift);
    }
    if inventory.availability(event_id, &[]).await?.is_none() {
        ensure_ready(inventory, db, event_id).await?;
        drift.rebuilt = true;
        return Ok(drift);
    }
    let wanted = sync::seats_of(&mut *db.conn().await?, event_id).await?;
    tokio::time::sleep(GRACE).await;
    let Some((found, complete)) = inspect(inventory, event_id).await? else { return Ok(drift) };
    for row in &wanted {
        // A row as old as the first read must have arrived by now.
        match found.get(&row.ticket_type_id) {
            Some(counted) if counted.row.version >= row.version => {}
            _ => drift.behind += 1,
        }
    }
    if drift.behind > 0 {
        sync_event(inventory, db, event_id, false).await?;
    }
    let now = sync::seats_of(&mut *db.conn().await?, event_id).await?;
    for row in &now {
        let differs = |counted: &&Counted| {
            counted.row.version > row.version
                || (counted.row.version == row.version && counted.row != SeatSnapshot { price: 0, ..*row })
        };
        if found.get(&row.ticket_type_id).as_ref().is_some_and(differs) {
            drift.ahead += 1;
        }
    }
    if drift.ahead > 0 {
        sync_event(inventory, db, event_id, true).await?;
    }
    if complete {
        for counted in found.values().filter(|counted| counted.held != counted.recounted) {
            drift.held += 1;
            repair_held(inventory, event_id, counted.row.ticket_type_id).await?;
        }
    }
    if drift.total() > 0 {
        tracing::error!(%event_id, ?drift, "the inventory had drifted; mended");
    }
    Ok(drift)
}

/// The differences at this moment, some of which may be rows on their way; `None` without an inventory.
async fn compare(inventory: &Inventory, db: &Db, event_id: Uuid) -> Result<Option<Drift>, SyncError> {
    let wanted = sync::seats_of(&mut *db.conn().await?, event_id).await?;
    let Some((found, complete)) = inspect(inventory, event_id).await? else { return Ok(None) };
    let mut drift = Drift::default();
    for row in &wanted {
        if found
            .get(&row.ticket_type_id)
            .is_none_or(|counted| counted.row != SeatSnapshot { price: 0, ..*row })
        {
            drift.behind += 1;
        }
    }
    if complete {
        drift.held = found.values().map(|counted| u32::from(counted.held != counted.recounted)).sum();
    }
    Ok(Some(drift))
}

async fn inspect(
    inventory: &Inventory,
    event_id: Uuid,
) -> Result<Option<(HashMap<Uuid, Counted>, bool)>, Fault> {
    let keys = Keys::of(event_id);
    let call = Call::new(Script::Inspect)
        .key(keys.inventory())
        .key(keys.holds())
        .key(keys.confirming())
        .arg(MOST_HOLDS);
    let mut reply = Reply::new(inventory.run(call).await?)?;
    if reply.text()? != "ready" {
        return Ok(None);
    }
    let complete = reply.int()? == 1;
    let mut found = HashMap::new();
    let small = |n: i64| i32::try_from(n).map_err(|_| Fault::Corrupt(format!("a seat count of {n}")));
    while !reply.is_empty() {
        let ticket_type_id = reply.id()?;
        let (capacity, sold, reserved) = (small(reply.int()?)?, small(reply.int()?)?, small(reply.int()?)?);
        let (held, version) = (reply.int()?, reply.int()?);
        let (waiting, recounted) = (small(reply.int()?)?, reply.int()?);
        // Prices are not compared here: they come with the same versions.
        let row = SeatSnapshot { ticket_type_id, capacity, sold, reserved, price: 0, version, waiting };
        found.insert(ticket_type_id, Counted { row, held, recounted });
    }
    Ok(Some((found, complete)))
}

async fn repair_held(inventory: &Inventory, event_id: Uuid, ticket_type: Uuid) -> Result<(), Fault> {
    let keys = Keys::of(event_id);
    let call = Call::new(Script::RepairHeld)
        .key(keys.inventory())
        .key(keys.holds())
        .key(keys.confirming())
        .arg(ticket_type.to_string());
    inventory.run(call).await?;
    Ok(())
}
