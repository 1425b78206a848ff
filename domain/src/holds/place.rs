//! Placing holds: whoever asks while Redis is busy with others goes with the next ones, in one script.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Hold, HoldStatus, decode_items};
use crate::{
    batch::{BatchError, Batcher, Limits},
    db::Db,
    fault::Fault,
    inventory::{Call, Inventory, Keys, Reply, Script, SyncError, ensure_ready},
};

/// One line of a basket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestedItem {
    pub ticket_type_id: Uuid,
    pub quantity: u32,
}

/// A wish to hold seats. Each ticket type stands in one line at most.
#[derive(Clone, Debug)]
pub struct HoldRequest {
    pub event_id: Uuid,
    pub user_id: Uuid,
    pub items: Vec<RequestedItem>,
    /// The client's key; the same request under it gives the same answer for 24 hours.
    pub idempotency_key: String,
}

/// The seats are held.
#[derive(Clone, Debug)]
pub struct Placed {
    /// As it was when it was placed, also when this is a replay.
    pub hold: Hold,
    pub replayed: bool,
    /// When set, the caller enqueues `ExpireHolds` for this second.
    pub sweep_at: Option<DateTime<Utc>>,
}

#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("there is no such event")]
    NotFound,
    /// Not published, before the sale, after it.
    #[error("the event is not on sale")]
    SaleClosed { replayed: bool },
    /// The line, from 0, that asks for more than is free.
    #[error("line {line} asks for more than is left")]
    SoldOut { line: usize, replayed: bool },
    /// The line, from 0, whose ticket type is not of this event.
    #[error("line {0} names a ticket type that is not of this event")]
    UnknownTicketType(usize),
    #[error("the user has {have} tickets of {may}")]
    LimitExceeded { have: i64, may: i64 },
    #[error("the idempotency key belongs to another request")]
    KeyReused,
    #[error("the inventory is being rebuilt")]
    Rebuilding,
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<SyncError> for PlaceError {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::UnknownEvent => Self::NotFound,
            SyncError::Rebuilding => Self::Rebuilding,
            SyncError::Fault(fault) => Self::Fault(fault),
        }
    }
}

/// Few enough that nobody else waits long for Redis; who comes while so many wait is already waited for in vain.
const LIMITS: Limits = Limits { most: 32, lanes: 2, waiting: 4096, timeout: PATIENCE };
/// The most lines of one script: Lua passes on so many values at once, and no more.
const LINES: usize = 200;
/// How long a request waits for its answer: as long as for any command.
const PATIENCE: Duration = Duration::from_secs(5);

/// Places holds. Cheap to clone; all clones place together.
#[derive(Clone)]
pub struct Placer {
    inventory: Inventory,
    db: Db,
    batches: Batcher<(HoldRequest, Uuid), Said>,
}

impl Placer {
    /// Opens no connection yet; call it inside a runtime.
    pub fn start(inventory: &Inventory, db: &Db) -> Self {
        let placing = inventory.clone();
        let batches = Batcher::start("place", LIMITS, move |requests: Vec<(HoldRequest, Uuid)>| {
            let inventory = placing.clone();
            Box::pin(async move { place_all(&inventory, &requests).await })
        });
        Self { inventory: inventory.clone(), db: db.clone(), batches }
    }

    /// Holds every line of the basket or none. Postgres is asked only when Redis has no inventory of the event. Safe
    /// to repeat under the same key.
    pub async fn place(&self, request: HoldRequest) -> Result<Placed, PlaceError> {
        let placed = match self.place_once(&request).await {
            Err(PlaceError::Rebuilding) => {
                ensure_ready(&self.inventory, &self.db, request.event_id).await?;
                self.place_once(&request).await
            }
            other => other,
        };
        metrics::counter!("evently_holds_total", "outcome" => outcome(&placed)).increment(1);
        placed
    }

    async fn place_once(&self, request: &HoldRequest) -> Result<Placed, PlaceError> {
        let hold_id = Uuid::now_v7();
        let answer = tokio::time::timeout(PATIENCE, self.batches.call((request.clone(), hold_id))).await;
        let said = answer.unwrap_or_else(|_| Err(BatchError::transient("Redis is busy with others")));
        placed(request, hold_id, said.map_err(Fault::from)?)
    }
}

const fn outcome(placed: &Result<Placed, PlaceError>) -> &'static str {
    match placed {
        Ok(Placed { replayed: true, .. }) => "replayed",
        Ok(_) => "placed",
        Err(PlaceError::SoldOut { .. }) => "sold_out",
        Err(PlaceError::SaleClosed { .. }) => "sale_closed",
        Err(PlaceError::LimitExceeded { .. }) => "limit_exceeded",
        Err(PlaceError::Rebuilding) => "rebuilding",
        Err(PlaceError::Fault(_)) => "fault",
        Err(PlaceError::NotFound | PlaceError::UnknownTicketType(_) | PlaceError::KeyReused) => "refused",
    }
}

/// The command with which one ticket is held, word by word, for `redis-benchmark`: what placing a hold costs Redis by
/// itself. `random` stands where each run needs another text: hold, user, key. Good until Redis restarts.
pub async fn place_command(
    inventory: &Inventory,
    event_id: Uuid,
    ticket_type_id: Uuid,
    random: &str,
) -> Result<Vec<String>, Fault> {
    let nobody = Uuid::nil().to_string();
    let request = HoldRequest {
        event_id,
        user_id: Uuid::nil(),
        items: vec![RequestedItem { ticket_type_id, quantity: 1 }],
        idempotency_key: nobody.clone(),
    };
    let words = inventory.words(place_call(event_id, &[(&request, Uuid::nil())])).await?;
    Ok(words.into_iter().map(|word| word.replace(&nobody, random)).collect())
}

/// What the script says of one hold.
type Said = redis::Value;

fn place_call(event_id: Uuid, requests: &[(&HoldRequest, Uuid)]) -> Call {
    let keys = Keys::of(event_id);
    let mut call = Call::new(Script::Place)
        .key(keys.inventory())
        .key(keys.holds())
        .key(keys.user_held())
        .key(keys.user_sold());
    for (request, hold_id) in requests {
        call = call
            .key(keys.hold(*hold_id))
            .key(keys.idempotency(request.user_id, &request.idempotency_key))
            .arg(hold_id.to_string())
            .arg(request.user_id.to_string())
            .arg(fingerprint(&request.items))
            .arg(request.items.len());
        for item in &request.items {
            call.push(item.ticket_type_id.to_string());
            call.push(item.quantity);
        }
    }
    call
}

/// As few scripts as an event's requests fit in, all in one round trip. What they say, in the order of the requests.
async fn place_all(inventory: &Inventory, requests: &[(HoldRequest, Uuid)]) -> Result<Vec<Said>, Fault> {
    let mut events: BTreeMap<Uuid, Vec<Vec<usize>>> = BTreeMap::new();
    for (at, (request, _)) in requests.iter().enumerate() {
        let calls = events.entry(request.event_id).or_default();
        let lines = |call: &Vec<usize>| call.iter().map(|at| requests[*at].0.items.len()).sum::<usize>();
        match calls.last_mut() {
            Some(call) if lines(call) + request.items.len() <= LINES => call.push(at),
            _ => calls.push(vec![at]),
        }
    }
    let calls: Vec<(Uuid, Vec<usize>)> = events
        .into_iter()
        .flat_map(|(event_id, calls)| calls.into_iter().map(move |places| (event_id, places)))
        .collect();
    let scripts: Vec<Call> = calls
        .iter()
        .map(|(event_id, places)| {
            let together: Vec<_> = places.iter().map(|at| (&requests[*at].0, requests[*at].1)).collect();
            place_call(*event_id, &together)
        })
        .collect();
    let replies = inventory.run_all(&scripts).await?;
    let mut said = vec![Said::Nil; requests.len()];
    for ((_, places), reply) in calls.into_iter().zip(replies) {
        let mut reply = Reply::new(reply)?;
        for at in places {
            said[at] = reply.value()?;
        }
    }
    Ok(said)
}

fn placed(request: &HoldRequest, hold_id: Uuid, said: Said) -> Result<Placed, PlaceError> {
    let mut reply = Reply::new(said)?;
    match reply.text()?.as_str() {
        "placed" => {
            let hold = Hold {
                id: hold_id,
                event_id: request.event_id,
                user_id: request.user_id,
                status: HoldStatus::Held,
                items: decode_items(&reply.text()?)?,
                total: reply.int()?,
                currency: reply.text()?,
                created_at: reply.time()?,
                expires_at: reply.time()?,
                offered: false,
            };
            let second = reply.int()?;
            let sweep_at = (second > 0).then(|| DateTime::from_timestamp(second, 0)).flatten();
            Ok(Placed { hold, replayed: false, sweep_at })
        }
        "replayed" => replayed(request, &reply.text()?),
        "sold_out" => Err(PlaceError::SoldOut { line: line(&mut reply)?, replayed: false }),
        "sale_closed" => Err(PlaceError::SaleClosed { replayed: false }),
        "limit" => Err(PlaceError::LimitExceeded { have: reply.int()?, may: reply.int()? }),
        "unknown_ticket_type" => Err(PlaceError::UnknownTicketType(line(&mut reply)?)),
        "reused" => Err(PlaceError::KeyReused),
        "not_found" => Err(PlaceError::NotFound),
        "rebuilding" => Err(PlaceError::Rebuilding),
        other => Err(Fault::Corrupt(format!("place said {other}")).into()),
    }
}

fn line(reply: &mut Reply) -> Result<usize, Fault> {
    usize::try_from(reply.int()?).map_err(|error| Fault::Corrupt(error.to_string()))
}

fn replayed(request: &HoldRequest, outcome: &str) -> Result<Placed, PlaceError> {
    let corrupt = || Fault::Corrupt(format!("a kept outcome: {outcome}"));
    let mut parts = outcome.split('|');
    let mut next = || parts.next().ok_or_else(corrupt);
    match next()? {
        "sale_closed" => Err(PlaceError::SaleClosed { replayed: true }),
        "sold_out" => {
            Err(PlaceError::SoldOut { line: next()?.parse().map_err(|_| corrupt())?, replayed: true })
        }
        "placed" => {
            let id = next()?.parse().map_err(|_| corrupt())?;
            let items = decode_items(next()?)?;
            let total = next()?.parse().map_err(|_| corrupt())?;
            let currency = next()?.to_owned();
            let mut time = || {
                let ms = next()?.parse().map_err(|_| corrupt())?;
                DateTime::from_timestamp_millis(ms).ok_or_else(corrupt)
            };
            let (created_at, expires_at) = (time()?, time()?);
            let hold = Hold {
                id,
                event_id: request.event_id,
                user_id: request.user_id,
                status: HoldStatus::Held,
                items,
                total,
                currency,
                created_at,
                expires_at,
                offered: false,
            };
            Ok(Placed { hold, replayed: true, sweep_at: None })
        }
        _ => Err(corrupt().into()),
    }
}

/// What makes two requests under one key the same: the lines, in whatever order.
fn fingerprint(items: &[RequestedItem]) -> String {
    let mut sorted = items.to_vec();
    sorted.sort_unstable();
    let mut hash = Sha256::new();
    for item in sorted {
        hash.update(item.ticket_type_id.as_bytes());
        hash.update(item.quantity.to_be_bytes());
    }
    hex::encode(&hash.finalize()[..16])
}
