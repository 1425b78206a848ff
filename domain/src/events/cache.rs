//! Answers kept at hand: in this process, and in Redis for all processes.
//!
//! In a process an entry lives for a moment and is read anew by one caller while the others wait for it. In Redis a
//! snapshot of an event carries its version, and a change leaves the new version behind, so that a slow reader
//! cannot put an old snapshot back. Every change is published; lists are kept under a generation that it raises.

use std::{
    hash::Hash,
    sync::{
        LazyLock, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use quick_cache::{
    Weighter,
    sync::{Cache, EntryAction, EntryResult},
};
use redis::{
    Client, Script,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use uuid::Uuid;

use crate::{fault::Fault, redis_link::RedisLink};

/// Where a process hears of changed events: `<generation> <event id> …`.
pub(super) const CHANNEL: &str = "evently:cache:changed";
const GENERATION: &str = "evently:cache:generation";
/// How long a failure is answered without trying again, so that those who wait for a loader do not each wait for
/// the same outage.
const FAILURE_TTL: Duration = Duration::from_millis(200);
/// How long a snapshot stays in Redis without anybody changing the event.
const SNAPSHOT_TTL: Duration = Duration::from_secs(10);
/// A cache that answers late is worse than none.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);

static PUT_SNAPSHOT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("put_snapshot.lua")));
static CHANGED: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("changed.lua")));

/// How many bytes a kept answer takes, about.
pub(super) trait Size {
    fn size(&self) -> usize;
}

#[derive(Clone)]
struct Entry<V, E> {
    result: Result<V, E>,
    read_at: Instant,
    ttl: Duration,
}

impl<V, E> Entry<V, E> {
    fn is_fresh(&self) -> bool {
        self.read_at.elapsed() < self.ttl
    }
}

#[derive(Clone)]
struct ByBytes;

impl<K, V: Size, E> Weighter<K, Entry<V, E>> for ByBytes {
    fn weight(&self, _: &K, entry: &Entry<V, E>) -> u64 {
        entry.result.as_ref().map_or(128, |value| value.size() as u64 + 128)
    }
}

/// Answers in this process's memory, each good for `ttl` from the moment its reading began.
pub(super) struct ProcessCache<K, V, E> {
    ttl: Duration,
    entries: Cache<K, Entry<V, E>, ByBytes>,
    /// Raised by every removal: what was read across one is not kept.
    removals: AtomicU64,
    outcomes: Outcomes,
}

impl<K: Hash + Eq + Clone, V: Size + Clone, E: Clone> ProcessCache<K, V, E> {
    pub(super) fn new(name: &'static str, ttl: Duration, entries: usize, bytes: u64) -> Self {
        let entries = Cache::with_weighter(entries, bytes, ByBytes);
        Self { ttl, entries, removals: AtomicU64::new(0), outcomes: Outcomes::new(name) }
    }

    /// The answer that is kept, if it is fresh.
    pub(super) fn hit(&self, key: &K) -> Option<Result<V, E>> {
        let entry = self.entries.get(key).filter(Entry::is_fresh)?;
        self.outcomes.hit_process();
        Some(entry.result)
    }

    /// The answer that is kept, or what `load` brings; `load` runs once however many ask. Failures are kept too,
    /// for a fraction of a second.
    pub(super) async fn get(&self, key: &K, load: impl Future<Output = Result<V, E>>) -> Result<V, E> {
        if let Some(result) = self.hit(key) {
            return result;
        }
        let look = |_: &K, entry: &mut Entry<V, E>| {
            if entry.is_fresh() {
                EntryAction::Retain(entry.result.clone())
            } else {
                EntryAction::ReplaceWithGuard
            }
        };
        let guard = match self.entries.entry_async(key, look).await {
            EntryResult::Retained(result) => {
                self.outcomes.hit_process();
                return result;
            }
            EntryResult::Vacant(guard) | EntryResult::Replaced(guard, _) => Some(guard),
            EntryResult::Removed(..) | EntryResult::Timeout => None,
        };
        let removals = self.removals.load(Ordering::Acquire);
        let read_at = Instant::now();
        let result = load.await;
        if let Some(guard) = guard.filter(|_| self.removals.load(Ordering::Acquire) == removals) {
            let ttl = if result.is_ok() { self.ttl } else { FAILURE_TTL };
            // Refused only when the entry was removed meanwhile: then it must not be kept.
            let _ = guard.insert(Entry { result: result.clone(), read_at, ttl });
        }
        result
    }

    pub(super) fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    pub(super) fn remove(&self, key: &K) {
        self.removals.fetch_add(1, Ordering::AcqRel);
        self.entries.remove(key);
    }

    pub(super) fn clear(&self) {
        self.removals.fetch_add(1, Ordering::AcqRel);
        self.entries.clear();
    }
}

/// Counts how often a cache had what was asked for.
pub(super) struct Outcomes {
    cache: &'static str,
    counters: OnceLock<[metrics::Counter; 3]>,
}

impl Outcomes {
    const fn new(cache: &'static str) -> Self {
        Self { cache, counters: OnceLock::new() }
    }

    fn count(&self, outcome: usize) {
        let counters = self.counters.get_or_init(|| {
            ["hit_process", "hit_redis", "miss"].map(|outcome| {
                metrics::counter!("evently_cache_requests_total", "cache" => self.cache, "outcome" => outcome)
            })
        });
        counters[outcome].increment(1);
    }

    fn hit_process(&self) {
        self.count(0);
    }

    /// Counts what Redis had, or had not.
    pub(super) fn redis<T>(&self, found: Option<T>) -> Option<T> {
        self.count(if found.is_some() { 1 } else { 2 });
        found
    }
}

/// The cache that all processes share. What goes wrong with it is logged and otherwise a miss.
#[derive(Clone)]
pub(super) struct SharedCache {
    client: Client,
    connection: ConnectionManager,
}

impl SharedCache {
    /// Makes the handle without connecting.
    pub(super) fn new(redis: &RedisLink) -> Result<Self, Fault> {
        let settings = ConnectionManagerConfig::new()
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_connection_timeout(Some(RESPONSE_TIMEOUT))
            .set_number_of_retries(1)
            .set_max_delay(Duration::from_millis(200));
        let client = redis.client.clone();
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), settings)?;
        Ok(Self { client, connection })
    }

    /// A connection that listens to [`CHANNEL`].
    pub(super) async fn subscribe(&self) -> Result<redis::aio::PubSub, Fault> {
        let mut subscription = self.client.get_async_pubsub().await?;
        subscription.subscribe(CHANNEL).await?;
        Ok(subscription)
    }

    /// How often anything has changed.
    pub(super) async fn generation(&self) -> Result<u64, Fault> {
        let found: Option<u64> =
            redis::cmd("GET").arg(GENERATION).query_async(&mut self.connection.clone()).await?;
        Ok(found.unwrap_or(0))
    }

    /// Forgets snapshots older than these versions everywhere, and says so to every process. Answers the new
    /// generation.
    pub(super) async fn changed(&self, events: &[(Uuid, i64)]) -> Result<u64, Fault> {
        let mut invocation = CHANGED.prepare_invoke();
        invocation.key(GENERATION).arg(CHANNEL);
        for (id, version) in events {
            invocation.key(snapshot_key(*id)).arg(id.to_string()).arg(*version);
        }
        Ok(invocation.invoke_async(&mut self.connection.clone()).await?)
    }

    pub(super) async fn snapshot(&self, id: Uuid) -> Option<Vec<u8>> {
        let found = redis::cmd("HGET")
            .arg(snapshot_key(id))
            .arg("body")
            .query_async(&mut self.connection.clone())
            .await;
        or_miss(found).flatten()
    }

    pub(super) async fn put_snapshot(&self, id: Uuid, version: i64, body: &[u8]) {
        let put = PUT_SNAPSHOT
            .key(snapshot_key(id))
            .arg(version)
            .arg(body)
            .arg(SNAPSHOT_TTL.as_secs())
            .invoke_async::<()>(&mut self.connection.clone())
            .await;
        or_miss(put);
    }

    /// What was kept under this name.
    pub(super) async fn get(&self, name: &str) -> Option<Vec<u8>> {
        let key = format!("evently:cache:{name}");
        or_miss(redis::cmd("GET").arg(key).query_async(&mut self.connection.clone()).await).flatten()
    }

    /// Keeps something under a name, for `ttl`.
    pub(super) async fn put(&self, name: &str, body: &[u8], ttl: Duration) {
        let key = format!("evently:cache:{name}");
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let mut command = redis::cmd("SET");
        command.arg(key).arg(body).arg("PX").arg(ttl);
        or_miss(command.query_async::<()>(&mut self.connection.clone()).await);
    }
}

/// Tells all processes that events have changed, from one that keeps none of them. Cheap to clone.
#[derive(Clone)]
pub struct Announcements(SharedCache);

impl Announcements {
    /// Makes the handle without connecting. `redis` is a single server.
    pub fn new(redis: &RedisLink) -> Result<Self, Fault> {
        SharedCache::new(redis).map(Self)
    }

    /// Lets every process forget what is older than these versions. Safe to repeat.
    pub async fn changed(&self, events: &[(Uuid, i64)]) -> Result<(), Fault> {
        self.0.changed(events).await.map(drop)
    }
}

fn snapshot_key(id: Uuid) -> String {
    format!("evently:cache:event:{id}")
}

fn or_miss<T>(result: redis::RedisResult<T>) -> Option<T> {
    result.inspect_err(|error| tracing::debug!(%error, "the shared cache does not answer")).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicUsize};

    use super::*;

    impl Size for usize {
        fn size(&self) -> usize {
            8
        }
    }

    fn cache(ttl: Duration) -> Arc<ProcessCache<u8, usize, &'static str>> {
        Arc::new(ProcessCache::new("test", ttl, 100, 1 << 20))
    }

    #[tokio::test]
    async fn many_callers_load_once() {
        let cache = cache(Duration::from_mins(1));
        let loads = Arc::new(AtomicUsize::new(0));
        let callers = (0..50).map(|_| {
            let (cache, loads) = (Arc::clone(&cache), Arc::clone(&loads));
            tokio::spawn(async move {
                let load = async {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Ok(loads.fetch_add(1, Ordering::SeqCst))
                };
                cache.get(&1, load).await
            })
        });
        for answer in futures::future::join_all(callers).await {
            assert_eq!(answer.unwrap(), Ok(0));
        }
        assert_eq!(loads.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn old_entries_are_loaded_anew_and_failures_are_shared() {
        let brief = cache(Duration::ZERO);
        assert_eq!(brief.get(&1, async { Ok(1) }).await, Ok(1));
        assert_eq!(brief.get(&1, async { Ok(2) }).await, Ok(2));
        let cache = cache(Duration::from_mins(1));
        assert_eq!(cache.get(&1, async { Err("down") }).await, Err("down"));
        assert_eq!(cache.get(&1, async { Ok(1) }).await, Err("down"));
    }

    #[tokio::test]
    async fn what_was_read_across_a_removal_is_not_kept() {
        let cache = cache(Duration::from_mins(1));
        let racing = async {
            cache.remove(&1);
            Ok(1)
        };
        assert_eq!(cache.get(&1, racing).await, Ok(1));
        assert_eq!(cache.get(&1, async { Ok(2) }).await, Ok(2));
        assert_eq!(cache.get(&1, async { Ok(3) }).await, Ok(2));
    }
}
