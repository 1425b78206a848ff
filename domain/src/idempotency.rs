//! `Idempotency-Key`s of operations that Postgres decides: the first answer is kept with what it caused, in one
//! transaction, and given again for a day, until `retention` lets go of it.

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};
use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    db::{Conn, Db},
    fault::Fault,
    schema::idempotency_keys as keys,
};

/// A request under a key.
#[derive(Clone, Copy, Debug)]
pub struct KeyedRequest<'a> {
    pub user_id: Uuid,
    /// What is done, for example `events.create`: the same key may serve another operation.
    pub operation: &'static str,
    pub key: &'a str,
    /// Of all that makes two requests the same one.
    pub fingerprint: [u8; 32],
}

/// The fingerprint of a request: its path's ids and its body, in one value.
pub fn fingerprint<R: Serialize>(request: &R) -> [u8; 32] {
    // Requests came in as JSON, so they have a JSON form.
    Sha256::digest(serde_json::to_vec(request).expect("requests serialise")).into()
}

/// What the operation itself decided, which is kept: success, or a refusal that wrote nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The HTTP status.
    pub status: u16,
    pub body: Value,
}

/// A decision, and whether it was made by an earlier request.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub decision: Decision,
    pub replayed: bool,
}

/// Why there is no answer. Nothing is kept then.
#[derive(Debug, thiserror::Error)]
pub enum KeyedError<E> {
    /// Another request with this key runs just now.
    #[error("a request with this key is running")]
    InProgress,
    /// The key belongs to another request.
    #[error("the key belongs to another request")]
    Reused,
    /// The operation did not get as far as a decision; all that it wrote is rolled back.
    #[error("not decided")]
    Undecided(E),
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl<E> From<diesel::result::Error> for KeyedError<E> {
    fn from(error: diesel::result::Error) -> Self {
        Self::Fault(error.into())
    }
}

/// Runs `operation` unless this key was answered before, in one transaction with the record of its answer: a
/// kill at any moment leaves both or neither. Of two at once, one runs.
pub async fn once<E, F>(db: &Db, request: KeyedRequest<'_>, operation: F) -> Result<Answer, KeyedError<E>>
where
    E: Send,
    F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<Decision, E>> + Send,
{
    let mut conn = db.conn().await?;
    (*conn)
        .transaction(async move |conn: &mut Conn| {
            let locked: bool = diesel::select(
                diesel::dsl::sql::<diesel::sql_types::Bool>("pg_try_advisory_xact_lock(")
                    .bind::<diesel::sql_types::BigInt, _>(lock_of(&request))
                    .sql(")"),
            )
            .get_result(conn)
            .await?;
            if !locked {
                return Err(KeyedError::InProgress);
            }
            let kept: Option<(Vec<u8>, i16, Value)> = keys::table
                .find((request.user_id, request.operation, request.key))
                .select((keys::fingerprint, keys::status, keys::body))
                .first(conn)
                .await
                .optional()?;
            if let Some((fingerprint, status, body)) = kept {
                if fingerprint != request.fingerprint {
                    return Err(KeyedError::Reused);
                }
                let status = u16::try_from(status).map_err(|_| Fault::Corrupt(format!("status {status}")))?;
                return Ok(Answer { decision: Decision { status, body }, replayed: true });
            }
            let decision = operation(conn).await.map_err(KeyedError::Undecided)?;
            let status = i16::try_from(decision.status).map_err(|error| Fault::Corrupt(error.to_string()))?;
            diesel::insert_into(keys::table)
                .values((
                    keys::user_id.eq(request.user_id),
                    keys::operation.eq(request.operation),
                    keys::key.eq(request.key),
                    keys::fingerprint.eq(request.fingerprint.as_slice()),
                    keys::status.eq(status),
                    keys::body.eq(&decision.body),
                ))
                .execute(conn)
                .await?;
            Ok(Answer { decision, replayed: false })
        })
        .await
}

/// The advisory lock of a key. Two keys with one lock only wait for each other.
fn lock_of(request: &KeyedRequest<'_>) -> i64 {
    let mut hash = Sha256::new_with_prefix(request.user_id);
    hash.update(request.operation);
    hash.update([0]);
    hash.update(request.key);
    let digest: [u8; 32] = hash.finalize().into();
    i64::from_be_bytes(std::array::from_fn(|at| digest[at]))
}
