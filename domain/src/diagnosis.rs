//! What an operator wants to know of a Postgres and of a Redis. Reads only, and changes nothing.

use std::{collections::BTreeSet, time::Duration};

use diesel::{
    QueryableByName,
    migration::{Migration, MigrationSource},
    pg::Pg,
    sql_query,
    sql_types::{Array, Bool, Integer, Nullable, Text},
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use redis::{Client, InfoDict};
use tokio::time::timeout;

use crate::{
    db::{Conn, MIGRATIONS},
    fault::Fault,
};

/// How long a server may take to answer all of it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A Postgres as it is now.
#[derive(Clone, Debug)]
pub struct PostgresState {
    /// `150004` is 15.4.
    pub version: i32,
    /// A replica: it takes no writes.
    pub in_recovery: bool,
    /// The settings that keep what was committed: their names and values.
    pub fsync: String,
    pub full_page_writes: String,
    pub synchronous_commit: String,
    /// Migrations of this binary that are yet to run.
    pub pending: Vec<String>,
    /// Migrations that ran and that this binary does not know: a newer one was here.
    pub unknown: Vec<String>,
}

#[derive(QueryableByName)]
struct Settings {
    #[diesel(sql_type = Integer)]
    version: i32,
    #[diesel(sql_type = Bool)]
    in_recovery: bool,
    #[diesel(sql_type = Text)]
    fsync: String,
    #[diesel(sql_type = Text)]
    full_page_writes: String,
    #[diesel(sql_type = Text)]
    synchronous_commit: String,
    #[diesel(sql_type = Nullable<Text>)]
    migrations: Option<String>,
}

#[derive(QueryableByName)]
struct Applied {
    #[diesel(sql_type = Array<Text>)]
    versions: Vec<String>,
}

/// Asks a Postgres, within 5 s.
pub async fn postgres(url: &str) -> Result<PostgresState, Fault> {
    timeout(PATIENCE, ask_postgres(url))
        .await
        .unwrap_or_else(|_| Err(Fault::Connection("no answer in time".to_owned())))
}

async fn ask_postgres(url: &str) -> Result<PostgresState, Fault> {
    let mut conn = Conn::establish(url).await.map_err(|error| Fault::Connection(error.to_string()))?;
    let settings: Settings = sql_query(
        "SELECT current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS in_recovery, \
         current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes, \
         current_setting('synchronous_commit') AS synchronous_commit, \
         to_regclass('__diesel_schema_migrations')::text AS migrations",
    )
    .get_result(&mut conn)
    .await?;
    let applied = if settings.migrations.is_some() {
        let query = sql_query(
            "SELECT coalesce(array_agg(version::text), '{}') AS versions FROM __diesel_schema_migrations",
        );
        query.get_result::<Applied>(&mut conn).await?.versions.into_iter().collect()
    } else {
        BTreeSet::new()
    };
    let embedded = MigrationSource::<Pg>::migrations(&MIGRATIONS)
        .map_err(|error| Fault::Corrupt(format!("migrations: {error}")))?;
    let known: BTreeSet<_> = embedded.iter().map(|m| m.name().version().to_string()).collect();
    let pending = embedded.iter().filter(|m| !applied.contains(&m.name().version().to_string()));
    Ok(PostgresState {
        version: settings.version,
        in_recovery: settings.in_recovery,
        fsync: settings.fsync,
        full_page_writes: settings.full_page_writes,
        synchronous_commit: settings.synchronous_commit,
        pending: pending.map(|migration| migration.name().to_string()).collect(),
        unknown: applied.difference(&known).cloned().collect(),
    })
}

/// A Redis as it is now.
#[derive(Clone, Debug)]
pub struct RedisState {
    /// `7.0.15`.
    pub version: String,
    /// `standalone`, `cluster` or `sentinel`.
    pub mode: String,
    /// `master`, or `slave` that takes no writes.
    pub role: String,
    /// Whether it writes down what it holds, and whether it could lately.
    pub append_only: bool,
    pub last_write_ok: bool,
    pub maxmemory_policy: String,
}

/// Asks a Redis, within 5 s. `INFO` alone: hosts that forbid `CONFIG` allow it.
pub async fn redis(url: &str) -> Result<RedisState, Fault> {
    let ask = async {
        let mut conn = Client::open(url)?.get_multiplexed_async_connection().await?;
        let info: InfoDict = redis::cmd("INFO").query_async(&mut conn).await?;
        let text = |name: &str| info.get::<String>(name).unwrap_or_default();
        Ok(RedisState {
            version: text("redis_version"),
            mode: text("redis_mode"),
            role: text("role"),
            append_only: text("aof_enabled") == "1",
            last_write_ok: text("aof_last_write_status") == "ok",
            maxmemory_policy: text("maxmemory_policy"),
        })
    };
    timeout(PATIENCE, ask).await.unwrap_or_else(|_| Err(Fault::Connection("no answer in time".to_owned())))
}
