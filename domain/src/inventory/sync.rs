//! Brings one event's inventory level with Postgres: by its newest rows, or whole, when there is none.
//!
//! A rebuild is safe under traffic and against other rebuilds: it takes a higher epoch from Postgres, opens (from
//! here on Redis keeps any newer row that a commit brings), reads Postgres, and installs only if the epoch is still
//! its own. A row committed before the read is in what it read; one committed after arrives by itself, and the newer
//! wins.

use std::{sync::Arc, time::Duration};

use diesel::{
    BoolExpressionMethods, ExpressionMethods, IntoSql, QueryDsl,
    dsl::{IntervalDsl, now},
    sql_types::Timestamptz,
};
use diesel_async::RunQueryDsl;
use futures::{Stream, TryStreamExt, stream};
use uuid::Uuid;

use super::{BuyerSnapshot, Call, Inventory, Keys, Reply, Script, SeatSnapshot};
use crate::{
    db::{Conn, Db},
    fault::Fault,
    kill_point::kill_point,
    schema::{event_buyers, events, ticket_types},
};

/// How many buyers one call loads.
const BUYERS_A_CALL: i64 = 1000;
/// How long one rebuild keeps others out; it is fenced by its epoch, so running over costs only work.
const LOCK_MS: u64 = 5000;

#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    #[error("there is no such event")]
    UnknownEvent,
    /// Another rebuild of this event is under way.
    #[error("the inventory is being rebuilt")]
    Rebuilding,
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<diesel::result::Error> for SyncError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Fault(error.into())
    }
}

impl From<redis::RedisError> for SyncError {
    fn from(error: redis::RedisError) -> Self {
        Self::Fault(error.into())
    }
}

/// An event as the inventory needs it.
#[derive(Debug, diesel::Queryable)]
struct EventRow {
    version: i64,
    status: String,
    sales_start_at: chrono::DateTime<chrono::Utc>,
    sales_end_at: chrono::DateTime<chrono::Utc>,
    max_tickets_per_user: i32,
    hold_ttl_secs: i32,
    currency: String,
}

/// Pushes what Postgres holds of this event; rebuilds the inventory if there is none. With `force` it overwrites rows
/// that are newer in Redis: for a capacity that was lowered there and not in Postgres. Safe to repeat and to race.
pub async fn sync_event(
    inventory: &Inventory,
    db: &Db,
    event_id: Uuid,
    force: bool,
) -> Result<(), SyncError> {
    let (event, seats) = read_event(&mut *db.conn().await?, event_id).await?;
    match install(inventory, event_id, 0, force, &event, &seats).await?.as_str() {
        "installed" => Ok(()),
        _ => ensure_ready(inventory, db, event_id).await,
    }
}

/// Rebuilds the inventory of an event that has none, once however many callers ask. Answers
/// [`SyncError::Rebuilding`] when another process is at it for longer than a request may wait.
pub async fn ensure_ready(inventory: &Inventory, db: &Db, event_id: Uuid) -> Result<(), SyncError> {
    let mine = {
        let mut running = inventory.rebuilding.lock().await;
        running.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(running.entry(event_id).or_default())
    };
    let _one = mine.lock().await;
    for _ in 0..20 {
        if inventory.availability(event_id, &[]).await?.is_some() {
            return Ok(());
        }
        let lock = Keys::of(event_id).rebuild_lock();
        let mut connection = inventory.connection();
        let taken: Option<String> = redis::cmd("SET")
            .arg(&lock)
            .arg(1)
            .arg("NX")
            .arg("PX")
            .arg(LOCK_MS)
            .query_async(&mut connection)
            .await?;
        if taken.is_some() {
            let rebuilt = rebuild(inventory, db, event_id).await;
            let _: Result<(), _> = redis::cmd("DEL").arg(&lock).query_async(&mut connection).await;
            return rebuilt;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(SyncError::Rebuilding)
}

async fn rebuild(inventory: &Inventory, db: &Db, event_id: Uuid) -> Result<(), SyncError> {
    let started = std::time::Instant::now();
    let mut conn = db.conn().await?;
    let epoch: i64 = diesel::update(events::table.find(event_id))
        .set(events::inventory_epoch.eq(events::inventory_epoch + 1))
        .returning(events::inventory_epoch)
        .get_result(&mut *conn)
        .await
        .map_err(|error| match error {
            diesel::result::Error::NotFound => SyncError::UnknownEvent,
            other => other.into(),
        })?;
    kill_point("rebuild.raised");
    let keys = Keys::of(event_id);
    let begin = Call::new(Script::BeginRebuild).key(keys.inventory()).arg(epoch);
    if Reply::new(inventory.run(begin).await?)?.text()? != "begun" {
        return Err(SyncError::Rebuilding);
    }
    kill_point("rebuild.begun");
    let (event, seats) = read_event(&mut conn, event_id).await?;
    kill_point("rebuild.read");
    load_buyers(inventory, &mut conn, event_id).await?;
    kill_point("rebuild.loaded");
    match install(inventory, event_id, epoch, false, &event, &seats).await?.as_str() {
        "installed" => {
            kill_point("rebuild.installed");
            metrics::counter!("evently_inventory_rebuilds_total").increment(1);
            tracing::info!(%event_id, epoch, elapsed = ?started.elapsed(), "rebuilt the inventory");
            Ok(())
        }
        _ => Err(SyncError::Rebuilding),
    }
}

async fn read_event(conn: &mut Conn, event_id: Uuid) -> Result<(EventRow, Vec<SeatSnapshot>), SyncError> {
    let event: EventRow = events::table
        .find(event_id)
        .select((
            events::version,
            events::status,
            events::sales_start_at,
            events::sales_end_at,
            events::max_tickets_per_user,
            events::hold_ttl_secs,
            events::currency,
        ))
        .first(conn)
        .await
        .map_err(|error| match error {
            diesel::result::Error::NotFound => SyncError::UnknownEvent,
            other => other.into(),
        })?;
    Ok((event, seats_of(conn, event_id).await?))
}

/// The committed rows of an event's ticket types; one that was deleted has no capacity beyond what it sold.
pub(crate) async fn seats_of(conn: &mut Conn, event_id: Uuid) -> Result<Vec<SeatSnapshot>, Fault> {
    type Row = (Uuid, i32, i32, i32, i64, i64, i32, Option<chrono::DateTime<chrono::Utc>>);
    let rows: Vec<Row> = ticket_types::table
        .filter(ticket_types::event_id.eq(event_id))
        .order(ticket_types::id)
        .select((
            ticket_types::id,
            ticket_types::capacity,
            ticket_types::sold,
            ticket_types::reserved,
            ticket_types::price,
            ticket_types::inventory_version,
            ticket_types::waiting_tickets,
            ticket_types::deleted_at,
        ))
        .load(conn)
        .await?;
    Ok(rows
        .into_iter()
        .map(|(ticket_type_id, capacity, sold, reserved, price, version, waiting, deleted)| SeatSnapshot {
            ticket_type_id,
            capacity: if deleted.is_some() { sold + reserved } else { capacity },
            sold,
            reserved,
            price,
            version,
            waiting,
        })
        .collect())
}

async fn load_buyers(inventory: &Inventory, conn: &mut Conn, event_id: Uuid) -> Result<(), SyncError> {
    let mut after = Uuid::nil();
    loop {
        let rows: Vec<(Uuid, i32, i64)> = event_buyers::table
            .filter(event_buyers::event_id.eq(event_id))
            .filter(event_buyers::user_id.gt(after))
            .order(event_buyers::user_id)
            .limit(BUYERS_A_CALL)
            .select((event_buyers::user_id, event_buyers::sold, event_buyers::version))
            .load(conn)
            .await?;
        let Some(&(last, ..)) = rows.last() else { return Ok(()) };
        after = last;
        let mut call = Call::new(Script::LoadBuyers).key(Keys::of(event_id).user_sold());
        for &(user_id, sold, version) in &rows {
            BuyerSnapshot { user_id, sold, version }.push_to(&mut call);
        }
        inventory.run(call).await?;
    }
}

async fn install(
    inventory: &Inventory,
    event_id: Uuid,
    epoch: i64,
    force: bool,
    event: &EventRow,
    seats: &[SeatSnapshot],
) -> Result<String, Fault> {
    let keys = Keys::of(event_id);
    let mut call = Call::new(Script::Install)
        .key(keys.inventory())
        .key(keys.holds())
        .key(keys.confirming())
        .key(keys.user_held())
        .key(keys.joining())
        .arg(epoch)
        .arg(u8::from(force))
        .arg(event.version)
        .arg(&event.status)
        .arg(event.sales_start_at.timestamp_millis())
        .arg(event.sales_end_at.timestamp_millis())
        .arg(event.max_tickets_per_user)
        .arg(i64::from(event.hold_ttl_secs) * 1000)
        .arg(&event.currency);
    for row in seats {
        row.push_to(&mut call);
    }
    Reply::new(inventory.run(call).await?)?.text()
}

impl SeatSnapshot {
    pub(crate) fn push_to(&self, call: &mut Call) {
        call.push(self.ticket_type_id.to_string());
        call.push(self.capacity);
        call.push(self.sold);
        call.push(self.reserved);
        call.push(self.price);
        call.push(self.version);
        call.push(self.waiting);
    }
}

impl BuyerSnapshot {
    pub(crate) fn push_to(&self, call: &mut Call) {
        call.push(self.user_id.to_string());
        call.push(self.sold);
        call.push(self.version);
    }
}

/// Events whose seats may still move: published, or cancelled and not wound up yet, and not long over. Read page by
/// page, so one that is published meanwhile may be left out.
pub fn live_events(db: &Db) -> impl Stream<Item = Result<Uuid, Fault>> + Send + Unpin {
    const PAGE: i64 = 500;
    let pages = stream::try_unfold(Uuid::nil(), move |after| async move {
        let page = live_events_after(db, after, PAGE).await?;
        Ok::<_, Fault>(page.last().copied().map(|last| (stream::iter(page.into_iter().map(Ok)), last)))
    });
    Box::pin(pages.try_flatten())
}

async fn live_events_after(db: &Db, after: Uuid, limit: i64) -> Result<Vec<Uuid>, Fault> {
    let open = events::status
        .eq("published")
        .or(events::status.eq("cancelled").and(events::cancellation_done_at.is_null()));
    Ok(events::table
        .filter(open)
        .filter(events::ends_at.gt(now.into_sql::<Timestamptz>() - 1.day()))
        .filter(events::id.gt(after))
        .order(events::id)
        .limit(limit)
        .select(events::id)
        .load(&mut *db.conn().await?)
        .await?)
}

/// Events that ended between two and thirty days ago: nothing of them moves any more.
pub async fn long_over(db: &Db) -> Result<Vec<Uuid>, Fault> {
    const MOST: i64 = 10_000;
    let today = now.into_sql::<Timestamptz>();
    Ok(events::table
        .filter(events::ends_at.lt(today - 2.days()))
        .filter(events::ends_at.gt(today - 30.days()))
        .order(events::ends_at.desc())
        .limit(MOST)
        .select(events::id)
        .load(&mut *db.conn().await?)
        .await?)
}

/// Forgets inventories, so that Redis does not grow with every event there ever was; who asks for one again has it
/// rebuilt. Answers how many keys there were.
pub async fn forget(inventory: &Inventory, event_ids: &[Uuid]) -> Result<u64, Fault> {
    let mut removed = 0;
    for &event_id in event_ids {
        let keys = Keys::of(event_id);
        let count: u64 = redis::cmd("UNLINK")
            .arg(keys.inventory())
            .arg(keys.holds())
            .arg(keys.confirming())
            .arg(keys.user_held())
            .arg(keys.user_sold())
            .arg(keys.joining())
            .arg(keys.counts())
            .query_async(&mut inventory.connection())
            .await?;
        removed += count;
    }
    Ok(removed)
}
