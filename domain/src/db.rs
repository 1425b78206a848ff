//! Connections to Postgres: one pool a process, and the embedded migrations.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use diesel::{ConnectionError, ConnectionResult};
use diesel_async::{
    AsyncConnection, AsyncPgConnection, SimpleAsyncConnection,
    pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod, bb8},
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use futures::FutureExt;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    config::{ConfigError, Env},
    fault::Fault,
};

/// Every migration, in the binary.
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../migrations");

/// A connection, wherever a function runs inside its caller's transaction.
pub type Conn = AsyncPgConnection;

/// A connection out of the pool; it goes back when dropped.
pub type PooledConn = bb8::PooledConnection<'static, AsyncPgConnection>;

#[derive(Clone, Debug)]
pub struct DbConfig {
    /// `postgres://…`, or a directory of a unix socket as `host`.
    pub url: String,
    /// The most connections this process opens.
    pub max_connections: u32,
    /// How long a caller waits for one.
    pub checkout_timeout: Duration,
    /// How many callers may wait for one; more are refused at once.
    pub max_waiting: usize,
    /// Whether a statement is planned once a connection, whatever its values: for roles whose statements all go by
    /// keys, whose plan never changes. Half of what such a statement costs is planning it.
    pub plan_once: bool,
}

impl DbConfig {
    /// Reads `DATABASE_URL` and `EVENTLY_DB_CONNECTIONS` (default 10).
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self {
            url: env.require("DATABASE_URL")?.to_owned(),
            max_connections: env.parse("EVENTLY_DB_CONNECTIONS", 10)?,
            checkout_timeout: Duration::from_secs(5),
            // Half a second of what ten connections do.
            max_waiting: 1024,
            plan_once: false,
        })
    }
}

/// The pool. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    pool: bb8::Pool<AsyncPgConnection>,
    waiting: Arc<Semaphore>,
    /// Turns of those who keep a connection while they wait for another: were all connections kept so, none of them
    /// would ever get its second one.
    keeping: Arc<Semaphore>,
    url: Arc<str>,
    /// The connection of [`Db::ping`] alone, between two of them: how many wait for the others says nothing about
    /// Postgres.
    probe: Arc<Mutex<Option<AsyncPgConnection>>>,
}

/// A process that is stopped, or cut off, in the middle of a transaction has no hold on others for longer than this. One
/// that lives never lets a transaction lie idle for so long: whatever it does in one has a shorter limit.
const MOST_IDLE: &str = "SET idle_in_transaction_session_timeout = '20s';";
/// A plan that is made once has to do when the tables are full, though they were empty when it was made: whatever has an
/// index is read by it. What has none costs so much then, on paper, that Postgres would compile the plan first.
///
/// For the same reason, a statement that goes by keys and asks for a status as well asks for `status || ''`: over an empty
/// table the index of the rows in that status looks as good as the key's, and in a rush it is as long as the backlog.
const PLAN_ONCE: &str = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off;";

async fn establish(url: &str, settings: &str) -> ConnectionResult<AsyncPgConnection> {
    let mut conn = AsyncPgConnection::establish(url).await?;
    conn.batch_execute(settings).await.map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(conn)
}

impl Db {
    /// Builds the pool without opening a connection: a process may start before Postgres does.
    pub fn new(config: &DbConfig) -> Self {
        let mut manager = ManagerConfig::default();
        manager.recycling_method = RecyclingMethod::Fast;
        let settings = if config.plan_once { [MOST_IDLE, PLAN_ONCE].concat() } else { MOST_IDLE.to_owned() };
        let settings: Arc<str> = settings.into();
        manager.custom_setup = Box::new(move |url| {
            let settings = Arc::clone(&settings);
            async move { establish(url, &settings).await }.boxed()
        });
        let manager =
            AsyncDieselConnectionManager::<AsyncPgConnection>::new_with_config(config.url.as_str(), manager);
        let pool = bb8::Pool::builder()
            .max_size(config.max_connections)
            .connection_timeout(config.checkout_timeout)
            .test_on_check_out(false)
            .build_unchecked(manager);
        let waiting = Arc::new(Semaphore::new(config.max_waiting));
        let keeping = Arc::new(Semaphore::new((config.max_connections as usize / 2).max(1)));
        Self { pool, waiting, keeping, url: config.url.as_str().into(), probe: Arc::default() }
    }

    /// A connection, or a transient [`Fault::Connection`]: after the configured wait, or at once when too many wait.
    pub async fn conn(&self) -> Result<PooledConn, Fault> {
        let Ok(_place) = self.waiting.try_acquire() else {
            metrics::counter!("evently_db_refused_total").increment(1);
            return Err(Fault::Connection("too many wait for one".to_owned()));
        };
        self.pool.get_owned().await.map_err(|error| Fault::Connection(error.to_string()))
    }

    /// A connection for somebody who needs others while this one is kept: half of them are at most. Waits for a turn as
    /// long as the caller does.
    pub(crate) async fn kept_conn(&self) -> Result<(SemaphorePermit<'_>, PooledConn), Fault> {
        let turn = self.keeping.acquire().await.map_err(|error| Fault::Connection(error.to_string()))?;
        Ok((turn, self.conn().await?))
    }

    /// Whether Postgres answers. A connection that does not is not asked again.
    pub async fn ping(&self) -> Result<(), Fault> {
        let kept = self.probe.lock().unwrap_or_else(PoisonError::into_inner).take();
        let answering = match kept {
            Some(conn) => asked(conn).await.ok(),
            None => None,
        };
        let conn = match answering {
            Some(conn) => conn,
            None => asked(connect(&self.url).await?).await?,
        };
        *self.probe.lock().unwrap_or_else(PoisonError::into_inner) = Some(conn);
        Ok(())
    }

    /// How many connections are open, and how many of them idle.
    pub fn state(&self) -> (u32, u32) {
        let state = self.pool.state();
        (state.connections, state.idle_connections)
    }
}

/// A connection of its own, outside of the pool.
async fn connect(url: &str) -> Result<AsyncPgConnection, Fault> {
    AsyncPgConnection::establish(url).await.map_err(|error| Fault::Connection(error.to_string()))
}

/// The connection, if it answers.
async fn asked(mut conn: AsyncPgConnection) -> Result<AsyncPgConnection, Fault> {
    use diesel_async::RunQueryDsl;
    diesel::sql_query("SELECT 1").execute(&mut conn).await?;
    Ok(conn)
}

/// Runs what migrations are missing, under Postgres's advisory lock, so that two may start at once. Answers the
/// names of those it ran. Needs a multi-threaded runtime.
pub async fn migrate(url: &str) -> Result<Vec<String>, Fault> {
    use diesel_async::{AsyncMigrationHarness, RunQueryDsl};
    let mut conn = connect(url).await?;
    diesel::sql_query("SELECT pg_advisory_lock(7061646501)").execute(&mut conn).await?;
    let mut harness = AsyncMigrationHarness::new(conn);
    let ran = tokio::task::block_in_place(|| {
        harness
            .run_pending_migrations(MIGRATIONS)
            .map(|versions| versions.iter().map(ToString::to_string).collect())
            .map_err(|error| Fault::Corrupt(format!("migration: {error}")))
    });
    diesel::sql_query("SELECT pg_advisory_unlock(7061646501)").execute(&mut harness.into_inner()).await?;
    ran
}
