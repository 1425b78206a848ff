//! The seat inventory in Redis: the connection, its scripts, and how it is brought level with Postgres.
//!
//! Which keys there are stands at the head of `prelude.lua`. Every script is loaded with the run id of the server
//! that it runs on as a constant, and an inventory remembers the run id under which it was installed. Redis forgets
//! scripts when it restarts or fails over, so no script can meet an inventory of another server life unseen: it
//! answers `rebuilding`, and Postgres is asked anew.

mod reconcile;
mod reply;
mod sync;

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
};

use redis::{Cmd, Value, aio::ConnectionManager};
use serde::Serialize;
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::{fault::Fault, redis_link::RedisLink};

pub use reconcile::{Drift, reconcile_event};
pub(crate) use reply::Reply;
pub use sync::{SyncError, ensure_ready, forget, live_events, long_over, sync_event};

macro_rules! scripts {
    ($($variant:ident $path:literal),* $(,)?) => {
        /// A script, by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Script { $($variant),* }

        /// Every script's text, in the order of the enum.
        const SOURCES: &[&str] = &[$(include_str!($path)),*];
    };
}

scripts! {
    Availability "availability.lua",
    BeginRebuild "begin_rebuild.lua",
    Install "install.lua",
    LoadBuyers "load_buyers.lua",
    LowerCapacity "lower_capacity.lua",
    Inspect "inspect.lua",
    RepairHeld "repair_held.lua",
    Place "../holds/place.lua",
    Read "../holds/read.lua",
    Release "../holds/release.lua",
    BeginConfirm "../holds/begin_confirm.lua",
    Settle "../holds/settle.lua",
    Expire "../holds/expire.lua",
    BeginJoin "../waitlist/begin_join.lua",
    EndJoins "../waitlist/end_joins.lua",
    StaleJoins "../waitlist/stale_joins.lua",
    TakeShare "../waitlist/take.lua",
    Claim "../waitlist/claim.lua",
    ForgetCounts "../analytics/forget_counts.lua",
}

const PRELUDE: &str = include_str!("prelude.lua");

/// The scripts as one life of the server knows them.
type Loaded = Arc<Vec<String>>;

/// The handle. Cheap to clone; all clones share one multiplexed connection, which reconnects by itself.
#[derive(Clone)]
pub struct Inventory {
    connection: ConnectionManager,
    loaded: Arc<RwLock<Loaded>>,
    loading: Arc<Mutex<()>>,
    /// One rebuild an event and process at a time.
    rebuilding: Arc<Mutex<HashMap<Uuid, Arc<Mutex<()>>>>>,
}

/// One ticket type's seats at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SeatCount {
    pub ticket_type_id: Uuid,
    pub capacity: i64,
    pub sold: i64,
    /// In holds, confirming ones included.
    pub held: i64,
    /// Kept for the waitlist: offered, or free and to be offered.
    pub offered: i64,
    /// Of those, what is free and to be offered.
    pub share: i64,
    /// Tickets that people wait for.
    pub waitlisted: i64,
}

impl SeatCount {
    /// What the public may hold.
    pub const fn available(&self) -> i64 {
        let free = self.capacity - self.sold - self.held - self.offered;
        if free < 0 { 0 } else { free }
    }
}

/// Whether a capacity could be lowered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LowerCapacity {
    Lowered,
    /// So many seats are sold, held or offered.
    InUse(i64),
    /// There is no usable inventory just now.
    Rebuilding,
}

/// A ticket type's row as Postgres committed it. Redis takes it unless it has a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatSnapshot {
    pub ticket_type_id: Uuid,
    pub capacity: i32,
    pub sold: i32,
    pub reserved: i32,
    pub price: i64,
    /// `ticket_types.inventory_version`.
    pub version: i64,
    /// Tickets that people wait for. It comes with the same version, so that no seat comes free unseen by them.
    pub waiting: i32,
}

/// A row of `event_buyers` as Postgres committed it. Redis takes it unless it has a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuyerSnapshot {
    pub user_id: Uuid,
    pub sold: i32,
    pub version: i64,
}

/// The keys of one event.
pub(crate) struct Keys(String);

impl Keys {
    pub(crate) fn of(event_id: Uuid) -> Self {
        Self(format!("ev:{{{event_id}}}"))
    }
    pub(crate) fn inventory(&self) -> &str {
        &self.0
    }
    pub(crate) fn holds(&self) -> String {
        format!("{}:holds", self.0)
    }
    pub(crate) fn confirming(&self) -> String {
        format!("{}:confirming", self.0)
    }
    pub(crate) fn user_held(&self) -> String {
        format!("{}:uh", self.0)
    }
    pub(crate) fn user_sold(&self) -> String {
        format!("{}:us", self.0)
    }
    pub(crate) fn hold(&self, hold_id: Uuid) -> String {
        format!("{}:h:{hold_id}", self.0)
    }
    pub(crate) fn joining(&self) -> String {
        format!("{}:joining", self.0)
    }
    pub(crate) fn counts(&self) -> String {
        format!("{}:n", self.0)
    }
    pub(crate) fn idempotency(&self, user_id: Uuid, key: &str) -> String {
        format!("{}:i:{user_id}:{key}", self.0)
    }
    fn rebuild_lock(&self) -> String {
        format!("{}:rebuild", self.0)
    }
}

/// One call of a script: its keys, then its arguments.
pub(crate) struct Call {
    script: Script,
    keys: Vec<String>,
    args: Vec<Vec<u8>>,
}

impl Call {
    pub(crate) fn new(script: Script) -> Self {
        Self { script, keys: Vec::with_capacity(6), args: Vec::with_capacity(8) }
    }

    pub(crate) fn key(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    pub(crate) fn arg(mut self, arg: impl redis::ToRedisArgs) -> Self {
        arg.write_redis_args(&mut self.args);
        self
    }

    pub(crate) fn push(&mut self, arg: impl redis::ToRedisArgs) {
        arg.write_redis_args(&mut self.args);
    }

    fn command(&self, loaded: &Loaded) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        // Before the first load there are no digests; any text brings NOSCRIPT, and with it the load.
        command.arg(loaded.get(self.script as usize).map_or("0", String::as_str)).arg(self.keys.len());
        command.arg(&self.keys);
        for arg in &self.args {
            command.arg(arg);
        }
        command
    }
}

impl Inventory {
    /// The inventory on this server; opens no connection yet.
    pub fn new(link: &RedisLink) -> Self {
        Self {
            connection: link.connection.clone(),
            loaded: Arc::default(),
            loading: Arc::default(),
            rebuilding: Arc::default(),
        }
    }

    /// Whether Redis answers.
    pub async fn ping(&self) -> Result<(), Fault> {
        Ok(redis::cmd("PING").query_async(&mut self.connection.clone()).await?)
    }

    /// The connection, for commands that are no scripts.
    pub(crate) fn connection(&self) -> ConnectionManager {
        self.connection.clone()
    }

    /// Runs one script, atomically.
    pub(crate) async fn run(&self, call: Call) -> Result<Value, Fault> {
        let mut connection = self.connection.clone();
        let loaded = self.loaded();
        match call.command(&loaded).query_async(&mut connection).await {
            Err(error) if error.code() == Some("NOSCRIPT") => {
                let loaded = self.load(&loaded).await?;
                Ok(call.command(&loaded).query_async(&mut connection).await?)
            }
            other => Ok(other?),
        }
    }

    /// The command of a call, word by word, once the scripts are loaded.
    pub(crate) async fn words(&self, call: Call) -> Result<Vec<String>, Fault> {
        let mut loaded = self.loaded();
        if loaded.is_empty() {
            loaded = self.load(&loaded).await?;
        }
        let digest = loaded.get(call.script as usize).cloned().unwrap_or_default();
        let args = call.args.iter().map(|arg| String::from_utf8_lossy(arg).into_owned());
        let head = ["EVALSHA".to_owned(), digest, call.keys.len().to_string()];
        Ok(head.into_iter().chain(call.keys).chain(args).collect())
    }

    /// Runs several calls in one round trip; each is atomic, all of them together are not.
    pub(crate) async fn run_all(&self, calls: &[Call]) -> Result<Vec<Value>, Fault> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.connection.clone();
        let pipeline = |loaded: &Loaded| {
            let mut pipeline = redis::pipe();
            for call in calls {
                pipeline.add_command(call.command(loaded));
            }
            pipeline
        };
        let loaded = self.loaded();
        match pipeline(&loaded).query_async(&mut connection).await {
            Err(error) if error.code() == Some("NOSCRIPT") || error.to_string().contains("NOSCRIPT") => {
                let loaded = self.load(&loaded).await?;
                Ok(pipeline(&loaded).query_async(&mut connection).await?)
            }
            other => Ok(other?),
        }
    }

    fn loaded(&self) -> Loaded {
        // The lock guards a pointer; nobody panics while holding it.
        Arc::clone(&self.loaded.read().expect("never poisoned"))
    }

    /// Loads every script for the present life of the server, unless another task has done so since `stale`.
    async fn load(&self, stale: &Loaded) -> Result<Loaded, Fault> {
        let _one = self.loading.lock().await;
        let present = self.loaded();
        if !Arc::ptr_eq(&present, stale) {
            return Ok(present);
        }
        let mut connection = self.connection.clone();
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
        let run_id = info
            .lines()
            .find_map(|line| line.strip_prefix("run_id:"))
            .map(str::trim)
            .ok_or_else(|| Fault::Corrupt("INFO server has no run_id".to_owned()))?;
        let mut pipeline = redis::pipe();
        for source in SOURCES {
            let text = format!("local SERVER = '{run_id}'\n{PRELUDE}\n{source}");
            pipeline.cmd("SCRIPT").arg("LOAD").arg(text);
        }
        let loaded: Loaded = Arc::new(pipeline.query_async(&mut connection).await?);
        *self.loaded.write().expect("never poisoned") = Arc::clone(&loaded);
        tracing::info!(run_id, "loaded the inventory's scripts");
        Ok(loaded)
    }

    /// Counts the seats of some ticket types of an event, now; `None` while there is no usable inventory. A ticket
    /// type that the inventory does not know is left out. The time is Redis's.
    pub async fn availability(
        &self,
        event_id: Uuid,
        ticket_types: &[Uuid],
    ) -> Result<Option<(chrono::DateTime<chrono::Utc>, Vec<SeatCount>)>, Fault> {
        let keys = Keys::of(event_id);
        let mut call =
            Call::new(Script::Availability).key(keys.inventory()).key(keys.holds()).key(keys.user_held());
        for id in ticket_types {
            call.push(id.to_string());
        }
        let mut reply = Reply::new(self.run(call).await?)?;
        if reply.text()? != "ready" {
            return Ok(None);
        }
        let as_of = reply.time()?;
        let mut counts = Vec::with_capacity(ticket_types.len());
        for &ticket_type_id in ticket_types {
            let (capacity, sold, reserved, held) = (reply.int()?, reply.int()?, reply.int()?, reply.int()?);
            let (claimed, share, waitlisted) = (reply.int()?, reply.int()?, reply.int()?);
            if capacity >= 0 {
                let (held, offered) = (held + claimed, reserved - claimed + share);
                counts.push(SeatCount { ticket_type_id, capacity, sold, held, offered, share, waitlisted });
            }
        }
        Ok(Some((as_of, counts)))
    }

    /// Lowers a capacity in Redis before Postgres does. The caller has the row locked and brings its values, with the
    /// new capacity and the version that its commit will have; should that commit fail, it calls [`sync_event`] with
    /// `force`.
    pub async fn lower_capacity(&self, event_id: Uuid, row: &SeatSnapshot) -> Result<LowerCapacity, Fault> {
        let call = Call::new(Script::LowerCapacity)
            .key(Keys::of(event_id).inventory())
            .arg(row.ticket_type_id.to_string())
            .arg(row.capacity)
            .arg(row.sold)
            .arg(row.reserved)
            .arg(row.price)
            .arg(row.version)
            .arg(row.waiting);
        let mut reply = Reply::new(self.run(call).await?)?;
        match reply.text()?.as_str() {
            "lowered" => Ok(LowerCapacity::Lowered),
            "in_use" => Ok(LowerCapacity::InUse(reply.int()?)),
            "rebuilding" => Ok(LowerCapacity::Rebuilding),
            other => Err(Fault::Corrupt(format!("lower_capacity said {other}"))),
        }
    }
}
