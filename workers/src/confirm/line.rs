//! The stages that every confirm goes through, each shared by all confirms that are at it just now.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use domain::{
    batch::{Batcher, Limits},
    bookings::{
        self, Booking, Changes, KeptBooking,
        commit::{self, Order},
    },
    db::Db,
    fault::Fault,
    holds::{self, ConfirmingHold, Settled, Settlement},
    inventory::Inventory,
    payments::{
        attempts::{self, Attempt, ToPay},
        progress,
    },
};
use futures::future::try_join_all;
use uuid::Uuid;

/// What bounds a stage: those who find no room in it wait in the queue.
pub(crate) const LIMITS: Limits =
    Limits { most: 200, lanes: 2, waiting: 1024, timeout: Duration::from_secs(12) };

/// A confirm as it is found: the hold in Redis, and what Postgres has decided of it before.
pub type Looked = (Option<ConfirmingHold>, Option<KeptBooking>);

/// What Redis is to be told of one confirm.
#[derive(Clone)]
pub struct ToSettle {
    pub event_id: Uuid,
    pub hold_id: Uuid,
    pub attempt: u32,
    pub settled: Settled,
    /// The rows of the whole batch that decided it.
    pub changes: Arc<Changes>,
}

/// The stages. Cheap to clone.
#[derive(Clone)]
pub struct Line {
    /// Reads (event, hold).
    pub look: Batcher<(Uuid, Uuid), Looked>,
    /// Writes the attempt to pay, before the provider hears of it.
    pub attempt: Batcher<ToPay, Attempt>,
    /// Decides and commits; answers whether the order's payment was taken, too.
    pub commit: Batcher<Order, (Booking, bool, Arc<Changes>)>,
    /// Tells Redis.
    pub settle: Batcher<ToSettle, ()>,
    /// Notes payments as captured.
    pub captured: Batcher<Uuid, ()>,
}

impl Line {
    /// Starts the stages. Call it inside a runtime.
    pub fn start(db: &Db, inventory: &Inventory) -> Self {
        let (looking, settling) = ((db.clone(), inventory.clone()), inventory.clone());
        let (attempting, committing, capturing) = (db.clone(), db.clone(), db.clone());
        Self {
            look: Batcher::start("look", LIMITS, move |wanted| {
                let (db, inventory) = looking.clone();
                Box::pin(async move { look(&db, &inventory, &wanted).await })
            }),
            attempt: Batcher::start("attempt", LIMITS, move |orders| {
                let db = attempting.clone();
                Box::pin(async move { attempts::record(&db, &orders).await })
            }),
            commit: Batcher::start("commit", LIMITS, move |orders| {
                let db = committing.clone();
                Box::pin(async move { commit(&db, &orders).await })
            }),
            settle: Batcher::start("settle", LIMITS, move |decided| {
                let inventory = settling.clone();
                Box::pin(async move { settle(&inventory, &decided).await })
            }),
            captured: Batcher::start("captured", LIMITS, move |payments| {
                let db = capturing.clone();
                Box::pin(async move {
                    progress::mark_captured(&db, &payments).await?;
                    Ok(vec![(); payments.len()])
                })
            }),
        }
    }
}

async fn look(db: &Db, inventory: &Inventory, wanted: &[(Uuid, Uuid)]) -> Result<Vec<Looked>, Fault> {
    let ids: Vec<Uuid> = wanted.iter().map(|(_, hold_id)| *hold_id).collect();
    let kept = async { bookings::kept_by_ids(&mut *db.conn().await?, &ids).await };
    let (holds, kept) = futures::try_join!(holds::load_confirming(inventory, wanted), kept)?;
    let kept: HashMap<Uuid, KeptBooking> = kept.into_iter().map(|kept| (kept.booking.id, kept)).collect();
    Ok(holds.into_iter().zip(&ids).map(|(hold, id)| (hold, kept.get(id).cloned())).collect())
}

async fn commit(db: &Db, orders: &[Order]) -> Result<Vec<(Booking, bool, Arc<Changes>)>, Fault> {
    let committed = commit::commit(db, orders).await?;
    let changes = Arc::new(committed.changes);
    let decided = committed.bookings.into_iter().zip(committed.paid);
    Ok(decided.map(|(booking, paid)| (booking, paid, Arc::clone(&changes))).collect())
}

async fn settle(inventory: &Inventory, decided: &[ToSettle]) -> Result<Vec<()>, Fault> {
    let events = by_event(decided);
    let calls = events.iter().map(|(event_id, settlement)| holds::settle(inventory, *event_id, settlement));
    try_join_all(calls).await?;
    Ok(vec![(); decided.len()])
}

fn by_event(decided: &[ToSettle]) -> BTreeMap<Uuid, Settlement> {
    let mut events: BTreeMap<Uuid, Settlement> = BTreeMap::new();
    let mut told = HashSet::new();
    for one in decided {
        let settlement = events.entry(one.event_id).or_default();
        settlement.holds.push((one.hold_id, one.attempt, one.settled));
        // The confirms of one commit share its rows: they are sent once. Rows of several commits are all sent,
        // and Redis keeps the newest.
        if told.insert((one.event_id, Arc::as_ptr(&one.changes))) {
            let (seats, buyers) = one.changes.of(one.event_id);
            settlement.seats.extend(seats);
            settlement.buyers.extend(buyers);
        }
    }
    events
}
