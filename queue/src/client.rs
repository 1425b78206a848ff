//! The handle through which jobs are enqueued: one multiplexed connection, one script.

use std::sync::{Arc, LazyLock};

use chrono::{DateTime, Utc};
use domain::jobs::{Job, Pool};
use futures::future::join_all;
use redis::{
    Client, IntoConnectionInfo, Script,
    aio::{ConnectionManager, ConnectionManagerConfig},
    io::tcp::TcpSettings,
};
use std::time::Duration;

use crate::{
    config::QueueConfig,
    envelope::Envelope,
    error::QueueError,
    keys::Keys,
    source::{Source, SourceConfig},
};

static ENQUEUE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/enqueue.lua")));

/// How many jobs one run of the script takes: others wait for Redis meanwhile.
const CHUNK: usize = 500;

/// Whether an enqueue brought a new job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// It is in the queue now.
    New,
    /// A job with its id waits, is scheduled, runs or is dead; nothing was changed.
    Duplicate,
    /// The job that another outbox row caused has not begun yet, and does what this row asks for as well.
    Covered,
    /// The job that something else caused runs and may have looked before this row was there: ask again later.
    Running,
}

/// The queues of all pools. Cheap to clone.
#[derive(Clone)]
pub struct Queue {
    pub(crate) conn: ConnectionManager,
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) config: QueueConfig,
    keys: Vec<Keys>,
    client: Client,
}

impl Shared {
    pub(crate) fn keys(&self, pool: Pool) -> &Keys {
        &self.keys[pool as usize]
    }

    pub(crate) fn connection(&self) -> Result<ConnectionManager, QueueError> {
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(self.config.response_timeout))
            .set_connection_timeout(Some(self.config.connection_timeout))
            .set_number_of_retries(2)
            .set_min_delay(Duration::from_millis(50))
            .set_max_delay(Duration::from_millis(500));
        Ok(ConnectionManager::new_lazy_with_config(self.client.clone(), config)?)
    }
}

impl Queue {
    /// A handle; it connects when it is first used, and again whenever it must. Call it inside a runtime.
    pub fn connect(config: &QueueConfig) -> Result<Self, QueueError> {
        let info = config.redis_url.as_str().into_connection_info()?;
        let client = Client::open(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)))?;
        let keys = Pool::ALL.iter().map(|pool| Keys::new(&config.prefix, *pool)).collect();
        let shared = Arc::new(Shared { config: config.clone(), keys, client });
        Ok(Self { conn: shared.connection()?, shared })
    }

    /// Whether Redis answers.
    pub async fn ping(&self) -> Result<(), QueueError> {
        Ok(redis::cmd("PING").query_async(&mut self.conn.clone()).await?)
    }

    /// Enqueues a job to run as soon as it can. Safe to repeat.
    pub async fn enqueue<J: Job>(&self, job: &J) -> Result<Enqueued, QueueError> {
        self.put(job, None).await
    }

    /// Enqueues a job to run at `time` by Redis's clock; a time that has passed is now.
    pub async fn enqueue_at<J: Job>(&self, job: &J, time: DateTime<Utc>) -> Result<Enqueued, QueueError> {
        self.put(job, Some(time)).await
    }

    /// Enqueues many jobs of any pools, in one script a pool and 500 jobs; an answer for each, in their order.
    pub async fn enqueue_many(&self, envelopes: &[Envelope]) -> Vec<Result<Enqueued, QueueError>> {
        let mut answers: Vec<_> = envelopes.iter().map(|_| Ok(Enqueued::Duplicate)).collect();
        let mut by_pool = vec![Vec::new(); Pool::ALL.len()];
        for (index, envelope) in envelopes.iter().enumerate() {
            by_pool[envelope.pool as usize].push(index);
        }
        let chunks =
            Pool::ALL.iter().flat_map(|pool| by_pool[*pool as usize].chunks(CHUNK).map(|c| (*pool, c)));
        let results = join_all(chunks.map(|(pool, chunk)| async move {
            let jobs: Vec<_> = chunk.iter().map(|index| (&envelopes[*index], None)).collect();
            (chunk, self.push(pool, &jobs).await)
        }))
        .await;
        for (chunk, result) in results {
            match result {
                Ok(enqueued) => {
                    for (index, enqueued) in chunk.iter().zip(enqueued) {
                        answers[*index] = Ok(enqueued);
                    }
                }
                Err(error) => {
                    for index in chunk {
                        answers[*index] = Err(error.again());
                    }
                }
            }
        }
        answers
    }

    /// What an apalis worker of this pool runs on. `name` must be unique among all workers, of all time.
    pub fn source(&self, pool: Pool, config: SourceConfig) -> Result<Source, QueueError> {
        Source::start(self.clone(), pool, config)
    }

    async fn put<J: Job>(&self, job: &J, time: Option<DateTime<Utc>>) -> Result<Enqueued, QueueError> {
        let envelope = Envelope::new(job)?;
        let enqueued = self.push(J::POOL, &[(&envelope, time)]).await?;
        Ok(enqueued.first().copied().unwrap_or(Enqueued::Duplicate))
    }

    async fn push(
        &self,
        pool: Pool,
        jobs: &[(&Envelope, Option<DateTime<Utc>>)],
    ) -> Result<Vec<Enqueued>, QueueError> {
        let keys = self.shared.keys(pool);
        let mut call = ENQUEUE.prepare_invoke();
        call.key(&keys.active).key(&keys.data).key(&keys.due).key(&keys.dead).arg(&keys.meta);
        for (envelope, time) in jobs {
            call.arg(&envelope.id)
                .arg(serde_json::to_vec(envelope)?)
                .arg(time.map_or_else(String::new, |time| time.timestamp_millis().to_string()))
                .arg(envelope.outbox_id.map_or_else(String::new, |id| id.to_string()));
        }
        let mut conn = self.conn.clone();
        let answers: Vec<u8> = match call.invoke_async(&mut conn).await {
            // A connection that Redis closed, restarting say, is noticed by the first command after it. Should
            // that command have acted, the ids see to it that the second does not.
            Err(error) if error.is_connection_dropped() => call.invoke_async(&mut conn).await?,
            answer => answer?,
        };
        let enqueued = |answer| match answer {
            1 => Enqueued::New,
            2 => Enqueued::Covered,
            3 => Enqueued::Running,
            _ => Enqueued::Duplicate,
        };
        Ok(answers.into_iter().map(enqueued).collect())
    }
}
