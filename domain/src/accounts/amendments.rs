//! What has changed since access tokens were issued: sessions that ended, users who got another role.
//!
//! A token is checked without asking anybody, so each process mirrors the amendments of the last hour in memory.
//! They travel through a stream in Redis, which [`follow`] reads from its start after every connect: an
//! amendment reaches every process milliseconds after its commit, and one that started late or lost its
//! connection as soon as it is connected. Without Redis, a token lives on until it expires: 15 minutes at most.

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use redis::{AsyncConnectionConfig, RedisError, Script, streams::StreamReadReply};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Role,
    tokens::{AccessClaims, Tokens},
};

/// The stream. It belongs to no event, so it carries no hash tag.
const STREAM: &str = "accounts:amendments";
/// How long an amendment matters: longer than any token lives, and a load test's lives an hour.
const KEPT: Duration = Duration::from_mins(65);

static APPEND: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("amendments.lua")));

/// One change that access tokens do not know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amendment {
    /// The session is over, and every token of it.
    SessionEnded(Uuid),
    UserChanged(UserChange),
}

/// What a user is from `version` on: tokens that state an older one are read as if they said this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserChange {
    pub user_id: Uuid,
    pub version: i64,
    pub role: Role,
    pub verified: bool,
    /// Tokens of versions before this one are over: every session was ended then.
    pub ended_before: i64,
}

#[derive(Debug, Default)]
struct Known {
    sessions: HashMap<Uuid, Instant>,
    users: HashMap<Uuid, (UserChange, Instant)>,
    swept: Option<Instant>,
}

/// The amendments of the last hour, as this process knows them.
#[derive(Debug, Default)]
pub struct Amendments {
    /// Spares the lock while there is nothing to look up.
    any: AtomicBool,
    known: RwLock<Known>,
}

impl Amendments {
    /// Takes note. Safe to repeat, in any order.
    pub fn note(&self, amendment: Amendment) {
        let now = Instant::now();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.swept.is_none_or(|swept| now.duration_since(swept) > KEPT / 8) {
            known.sessions.retain(|_, at| now.duration_since(*at) < KEPT);
            known.users.retain(|_, (_, at)| now.duration_since(*at) < KEPT);
            known.swept = Some(now);
        }
        match amendment {
            Amendment::SessionEnded(id) => {
                known.sessions.insert(id, now);
            }
            Amendment::UserChanged(change) => {
                let slot = known.users.entry(change.user_id).or_insert((change, now));
                let ended_before = slot.0.ended_before.max(change.ended_before);
                let newest = if change.version > slot.0.version { change } else { slot.0 };
                *slot = (UserChange { ended_before, ..newest }, now);
            }
        }
        self.any.store(true, Relaxed);
    }

    /// The claims as they are now, or `None` when the token is over.
    pub(super) fn apply(&self, claims: Arc<AccessClaims>) -> Option<Arc<AccessClaims>> {
        if !self.any.load(Relaxed) {
            return Some(claims);
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if known.sessions.contains_key(&claims.session_id) {
            return None;
        }
        match known.users.get(&claims.user_id) {
            Some((change, _)) if claims.user_version < change.ended_before => None,
            Some((change, _)) if claims.user_version < change.version => Some(Arc::new(AccessClaims {
                role: change.role,
                verified: change.verified,
                ..(*claims).clone()
            })),
            _ => Some(claims),
        }
    }
}

/// Tells every process. Call it after the commit that it reports.
pub(super) async fn publish(
    redis: &mut redis::aio::ConnectionManager,
    amendments: &[Amendment],
) -> Result<(), RedisError> {
    let mut invocation = APPEND.key(STREAM);
    invocation.arg(KEPT.as_secs());
    for amendment in amendments {
        // Ids, numbers and plain enums always have a JSON form.
        invocation.arg(serde_json::to_string(amendment).expect("amendments serialise"));
    }
    invocation.invoke_async(redis).await
}

/// Mirrors what other processes publish, for as long as it is polled; connects again by itself.
pub async fn follow(client: redis::Client, tokens: Arc<Tokens>) {
    loop {
        let Err(error) = follow_once(&client, &tokens).await;
        tracing::warn!(%error, "cannot follow the amendments of access tokens; trying again");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn follow_once(
    client: &redis::Client,
    tokens: &Tokens,
) -> Result<std::convert::Infallible, RedisError> {
    const BLOCK: Duration = Duration::from_secs(5);
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(5)))
        .set_response_timeout(Some(BLOCK * 2));
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    let mut last = "0-0".to_owned();
    loop {
        let reply: Option<StreamReadReply> = redis::cmd("XREAD")
            .arg("COUNT")
            .arg(1_000)
            .arg("BLOCK")
            .arg(u64::try_from(BLOCK.as_millis()).unwrap_or(u64::MAX))
            .arg("STREAMS")
            .arg(STREAM)
            .arg(&last)
            .query_async(&mut connection)
            .await?;
        for entry in reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids) {
            let text: Option<String> = entry.get("a");
            if let Some(Ok(amendment)) = text.as_deref().map(serde_json::from_str) {
                tokens.amendments().note(amendment);
            } else {
                // A newer version of Evently may write what this one does not know.
                tracing::warn!(id = entry.id, "an amendment that cannot be read");
            }
            last = entry.id;
        }
    }
}
