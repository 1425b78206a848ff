//! Lets one process at a time do a thing, by an advisory lock of Postgres.

use std::time::Duration;

use diesel::{QueryableByName, sql_query, sql_types};
use diesel_async::{AsyncConnection, RunQueryDsl};

use crate::{db::Db, fault::Fault};

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = sql_types::Bool)]
    locked: bool,
}

/// Runs a future unless another process is running one under the same name; answers `None` then. The lock goes
/// with its connection, so a leader that dies is followed at once, and one that is stopped when `limit` is over, which
/// the future is not to take. Keeps a connection of the pool meanwhile, which at most half of them are.
pub async fn only_one<T: Send>(
    db: &Db,
    name: &str,
    limit: Duration,
    future: impl Future<Output = T> + Send,
) -> Result<Option<T>, Fault> {
    let (_turn, mut conn) = db.kept_conn().await?;
    conn.transaction(async |conn| {
        let Locked { locked } = sql_query("SELECT pg_try_advisory_xact_lock(706164, hashtext($1)) AS locked")
            .bind::<sql_types::Text, _>(name)
            .get_result(conn)
            .await?;
        if !locked {
            return Ok(None);
        }
        // The transaction lies idle for as long as the future runs.
        sql_query("SELECT set_config('idle_in_transaction_session_timeout', $1, true)")
            .bind::<sql_types::Text, _>(limit.as_millis().to_string())
            .execute(conn)
            .await?;
        Ok(Some(future.await))
    })
    .await
}
