//! Joining the waitlist.
//!
//! It takes effect in Redis, in one script: either seats are free for the public, which refuses the join, or from that
//! moment on nothing that comes free is the public's until the join is decided (`begin_join.lua`). Then Postgres
//! gives the place, and its row tells Redis how many wait (`end_joins.lua`). A process that dies in between leaves a
//! join under way; [`clear_stale_joins`] ends it after it has read what Postgres decided.
//!
//! Joins that come together are committed together: one transaction, one lock of each ticket type.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName, sql_query,
    sql_types::{Array, BigInt, Integer, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::{Entry, EntryStatus, line, read};
use crate::{
    bookings::SeatCount,
    db::{Conn, Db},
    fault::Fault,
    inventory::{Call, Inventory, Keys, Reply, Script, SeatSnapshot, SyncError, ensure_ready, sync_event},
    kill_point::kill_point,
    statement::prepared,
};

/// The most joins of one transaction.
const BATCH: usize = 256;
/// After this a join that has not ended is one of a process that died; far more than any request lives.
const STALE_MS: i64 = 60_000;
/// The most joins that one look clears.
const STALE_AT_ONCE: i64 = 1000;

/// A wish to wait.
#[derive(Clone, Copy, Debug)]
pub struct JoinRequest {
    pub event_id: Uuid,
    pub ticket_type_id: Uuid,
    pub user_id: Uuid,
    pub quantity: i32,
}

/// A place in line.
#[derive(Clone, Debug)]
pub struct Joined {
    pub entry: Entry,
    /// Whether it was taken just now.
    pub created: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("there is no such event")]
    NotFound,
    #[error("the ticket type is not of this event")]
    UnknownTicketType,
    #[error("the event is not on sale")]
    SaleClosed,
    #[error("so many seats are free")]
    SeatsAvailable,
    #[error("the ticket type has {capacity} seats in all")]
    MoreThanAll { capacity: i64 },
    #[error("the user has {have} tickets of {may}")]
    LimitExceeded { have: i64, may: i64 },
    #[error("the inventory is being rebuilt")]
    Rebuilding,
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<SyncError> for JoinError {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::UnknownEvent => Self::NotFound,
            SyncError::Rebuilding => Self::Rebuilding,
            SyncError::Fault(fault) => Self::Fault(fault),
        }
    }
}

/// A place that was given.
#[derive(Clone, Debug, QueryableByName)]
struct Place {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = BigInt)]
    position: i64,
    #[diesel(sql_type = Timestamptz)]
    joined_at: DateTime<Utc>,
}

/// A join that Redis has begun; the id is the entry's, should there be a new one.
type Begun = (Uuid, JoinRequest);
type Asked = (Begun, oneshot::Sender<Result<Option<Place>, Fault>>);

/// The way into the waitlist. Cheap to clone; its task ends with the last clone.
#[derive(Clone)]
pub struct Joins {
    db: Db,
    inventory: Inventory,
    sender: mpsc::Sender<Asked>,
}

impl Joins {
    /// Starts the task that commits. Call it inside a runtime.
    pub fn start(db: &Db, inventory: &Inventory) -> Self {
        let (sender, asked) = mpsc::channel(BATCH);
        tokio::spawn(run(db.clone(), inventory.clone(), asked));
        Self { db: db.clone(), inventory: inventory.clone(), sender }
    }

    /// Takes a place at the end of the line, unless the user has one already. Safe to repeat.
    pub async fn join(&self, request: JoinRequest) -> Result<Joined, JoinError> {
        let id = Uuid::now_v7();
        let begun = match begin(&self.inventory, id, &request).await {
            Err(JoinError::Rebuilding) => {
                ensure_ready(&self.inventory, &self.db, request.event_id).await?;
                begin(&self.inventory, id, &request).await
            }
            // A ticket type that was added a moment ago.
            Err(JoinError::UnknownTicketType) => {
                sync_event(&self.inventory, &self.db, request.event_id, false).await?;
                begin(&self.inventory, id, &request).await
            }
            other => other,
        };
        let joined = match begun {
            Ok(()) => {
                kill_point("join.begun");
                self.take_place((id, request)).await
            }
            Err(
                refusal @ (JoinError::SeatsAvailable
                | JoinError::MoreThanAll { .. }
                | JoinError::LimitExceeded { .. }),
            ) => self.present(&request).await?.ok_or(refusal),
            Err(other) => Err(other),
        };
        metrics::counter!("evently_waitlist_joins_total", "outcome" => outcome(&joined)).increment(1);
        joined
    }

    async fn take_place(&self, begun: Begun) -> Result<Joined, JoinError> {
        let gone = || Fault::Connection("the batch of joins was lost".to_owned());
        let (answer, waiting) = oneshot::channel();
        self.sender.send((begun, answer)).await.map_err(|_| gone())?;
        let (id, request) = begun;
        match waiting.await.map_err(|_| gone())?? {
            Some(place) => {
                let entry = Entry {
                    id,
                    event_id: request.event_id,
                    ticket_type_id: request.ticket_type_id,
                    position: Some(place.position),
                    status: EntryStatus::Waiting,
                    quantity: request.quantity,
                    offer: None,
                    joined_at: place.joined_at,
                };
                Ok(Joined { entry, created: true })
            }
            None => self.present(&request).await?.ok_or(JoinError::SaleClosed),
        }
    }

    /// The place that the user has already.
    async fn present(&self, request: &JoinRequest) -> Result<Option<Joined>, Fault> {
        let entries = read::mine(&mut *self.db.conn().await?, request.event_id, request.user_id).await?;
        let live = entries.into_iter().find(|entry| {
            entry.ticket_type_id == request.ticket_type_id
                && matches!(entry.status, EntryStatus::Waiting | EntryStatus::Offered)
        });
        Ok(live.map(|entry| Joined { entry, created: false }))
    }
}

const fn outcome(joined: &Result<Joined, JoinError>) -> &'static str {
    match joined {
        Ok(Joined { created: true, .. }) => "joined",
        Ok(_) => "present",
        Err(JoinError::SeatsAvailable) => "seats_available",
        Err(JoinError::LimitExceeded { .. }) => "limit_exceeded",
        Err(JoinError::SaleClosed) => "sale_closed",
        Err(JoinError::Rebuilding) => "rebuilding",
        Err(JoinError::NotFound | JoinError::UnknownTicketType | JoinError::MoreThanAll { .. }) => "refused",
        Err(JoinError::Fault(_)) => "fault",
    }
}

async fn begin(inventory: &Inventory, id: Uuid, request: &JoinRequest) -> Result<(), JoinError> {
    let keys = Keys::of(request.event_id);
    let call = Call::new(Script::BeginJoin)
        .key(keys.inventory())
        .key(keys.holds())
        .key(keys.user_held())
        .key(keys.user_sold())
        .key(keys.joining())
        .arg(request.ticket_type_id.to_string())
        .arg(request.quantity)
        .arg(request.user_id.to_string())
        .arg(id.to_string());
    let mut reply = Reply::new(inventory.run(call).await?)?;
    match reply.text()?.as_str() {
        "begun" => Ok(()),
        "seats_available" => Err(JoinError::SeatsAvailable),
        "more_than_all" => Err(JoinError::MoreThanAll { capacity: reply.int()? }),
        "limit" => Err(JoinError::LimitExceeded { have: reply.int()?, may: reply.int()? }),
        "sale_closed" => Err(JoinError::SaleClosed),
        "unknown_ticket_type" => Err(JoinError::UnknownTicketType),
        "not_found" => Err(JoinError::NotFound),
        "rebuilding" => Err(JoinError::Rebuilding),
        other => Err(Fault::Corrupt(format!("begin_join said {other}")).into()),
    }
}

/// Commits what was asked for together: while one batch runs, the next one gathers.
async fn run(db: Db, inventory: Inventory, mut asked: mpsc::Receiver<Asked>) {
    let mut gathered: Vec<Asked> = Vec::with_capacity(BATCH);
    while asked.recv_many(&mut gathered, BATCH).await > 0 {
        let (joins, waiting): (Vec<Begun>, Vec<_>) = gathered.drain(..).unzip();
        let answers = match commit(&db, &joins).await {
            // One of them may be to blame: each by itself.
            Err(fault) if !fault.is_transient() && joins.len() > 1 => {
                let mut answers = Vec::with_capacity(joins.len());
                for join in &joins {
                    answers.push(settle(&db, &inventory, std::slice::from_ref(join), None).await);
                }
                answers.into_iter().flatten().collect()
            }
            committed => settle(&db, &inventory, &joins, Some(committed)).await,
        };
        for (answer, waiting) in answers.into_iter().zip(waiting) {
            // Nobody waits where the request was dropped meanwhile.
            let _ = waiting.send(answer);
        }
    }
}

type Answer = Result<Option<Place>, Fault>;
/// The places that were given, by their joins, and the rows of their ticket types.
type Placed = (HashMap<Uuid, Place>, Vec<SeatCount>);

/// Tells Redis what became of joins, and answers each of them.
async fn settle(
    db: &Db,
    inventory: &Inventory,
    joins: &[Begun],
    committed: Option<Result<Placed, Fault>>,
) -> Vec<Answer> {
    let committed = match committed {
        Some(committed) => committed,
        None => commit(db, joins).await,
    };
    kill_point("join.committed");
    let rows = committed.as_ref().map_or(&[][..], |(_, rows)| rows.as_slice());
    // A commit that went unanswered may have been done: those joins end when Postgres has been read again.
    let is_known = committed.as_ref().err().is_none_or(|fault| !fault.is_transient());
    if is_known && let Err(error) = tell(inventory, joins, rows).await {
        tracing::warn!(%error, "the inventory was not told of joins; they are cleared in a minute");
    }
    kill_point("join.told");
    match committed {
        Ok((mut places, _)) => joins.iter().map(|(id, _)| Ok(places.remove(id))).collect(),
        Err(fault) => joins.iter().map(|_| Err(Fault::Connection(fault.to_string()))).collect(),
    }
}

async fn commit(db: &Db, joins: &[Begun]) -> Result<Placed, Fault> {
    let mut conn = db.conn().await?;
    (*conn)
        .transaction(async |conn: &mut Conn| {
            let events: Vec<Uuid> = joins.iter().map(|(_, join)| join.event_id).collect();
            // Against being cancelled meanwhile.
            prepared(
                sql_query("SELECT id FROM events WHERE id = ANY($1) ORDER BY id FOR SHARE")
                    .bind::<Array<SqlUuid>, _>(events),
            )
            .execute(conn)
            .await?;
            let types: Vec<Uuid> = joins.iter().map(|(_, join)| join.ticket_type_id).collect();
            line::lock(conn, types.clone()).await?;
            let places: Vec<Place> = prepared(
                sql_query(include_str!("sql/join.sql"))
                    .bind::<Array<SqlUuid>, _>(joins.iter().map(|(id, _)| *id).collect::<Vec<_>>())
                    .bind::<Array<SqlUuid>, _>(joins.iter().map(|(_, j)| j.event_id).collect::<Vec<_>>())
                    .bind::<Array<SqlUuid>, _>(
                        joins.iter().map(|(_, j)| j.ticket_type_id).collect::<Vec<_>>(),
                    )
                    .bind::<Array<SqlUuid>, _>(joins.iter().map(|(_, j)| j.user_id).collect::<Vec<_>>())
                    .bind::<Array<Integer>, _>(joins.iter().map(|(_, j)| j.quantity).collect::<Vec<_>>()),
            )
            .load(conn)
            .await?;
            let rows = line::lock(conn, types).await?;
            Ok((places.into_iter().map(|place| (place.id, place)).collect(), rows))
        })
        .await
}

/// Ends joins in Redis, with the rows that they wrote.
async fn tell(inventory: &Inventory, joins: &[Begun], rows: &[SeatCount]) -> Result<(), Fault> {
    let mut events: BTreeMap<Uuid, Vec<String>> = BTreeMap::new();
    for (id, join) in joins {
        events.entry(join.event_id).or_default().push(format!("{}:{id}", join.ticket_type_id));
    }
    let calls: Vec<Call> = events
        .iter()
        .map(|(event_id, members)| {
            let mut call = end_call(*event_id, members);
            for row in rows.iter().filter(|row| row.event_id == *event_id) {
                SeatSnapshot::from(row).push_to(&mut call);
            }
            call
        })
        .collect();
    inventory.run_all(&calls).await?;
    Ok(())
}

fn end_call(event_id: Uuid, members: &[String]) -> Call {
    let keys = Keys::of(event_id);
    let mut call = Call::new(Script::EndJoins).key(keys.inventory()).key(keys.joining()).arg(members.len());
    for member in members {
        call.push(member);
    }
    call
}

/// Ends joins of processes that died, once Redis has got what Postgres decided of them. Answers how many there were.
pub async fn clear_stale_joins(inventory: &Inventory, db: &Db, event_id: Uuid) -> Result<u64, SyncError> {
    let call =
        Call::new(Script::StaleJoins).key(Keys::of(event_id).joining()).arg(STALE_MS).arg(STALE_AT_ONCE);
    let mut reply = Reply::new(inventory.run(call).await?)?;
    let mut members = Vec::new();
    while !reply.is_empty() {
        members.push(reply.text()?);
    }
    if members.is_empty() {
        return Ok(0);
    }
    sync_event(inventory, db, event_id, false).await?;
    inventory.run_all(&[end_call(event_id, &members)]).await?;
    Ok(members.len() as u64)
}
