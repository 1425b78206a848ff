//! A job that does as it is told, and workers that can be killed like processes.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex},
    time::Duration,
};

use domain::{
    config::Env,
    jobs::{Job, Pool},
};
use queue::{Queue, QueueConfig};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use workers::{
    Context, JobError,
    runtime::{Backoff, Options, Policy, PoolSpec, run_specs},
};

use crate::support::redis::TestRedis;

/// What a [`Probe`] does when it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    Succeed,
    /// Fails until it has been started so often.
    FailUntil(usize),
    Discard,
    Panic,
    /// Never ends.
    Hang,
    /// Ends once [`release`] is called for its test.
    Wait,
    /// Takes so many milliseconds.
    Last(u64),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Probe {
    /// Which test it belongs to.
    pub test: Uuid,
    pub number: u32,
    pub act: Act,
}

impl Job for Probe {
    const NAME: &'static str = "probe";
    const POOL: Pool = Pool::Upkeep;

    fn key(&self) -> String {
        format!("{}:{}", self.test, self.number)
    }
}

/// A job that no worker knows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stranger;

impl Job for Stranger {
    const NAME: &'static str = "stranger";
    const POOL: Pool = Pool::Upkeep;

    fn key(&self) -> String {
        "1".to_owned()
    }
}

#[derive(Default)]
struct Seen {
    starts: HashMap<u32, usize>,
    running: usize,
    most_at_once: usize,
    released: CancellationToken,
}

static SEEN: LazyLock<Mutex<HashMap<Uuid, Seen>>> = LazyLock::new(Mutex::default);

fn seen<T>(test: Uuid, look: impl FnOnce(&mut Seen) -> T) -> T {
    look(SEEN.lock().unwrap().entry(test).or_default())
}

/// How often this job was started.
pub fn starts(test: Uuid, number: u32) -> usize {
    seen(test, |seen| seen.starts.get(&number).copied().unwrap_or(0))
}

/// How many jobs of this test were started at least once, and how many starts there were.
pub fn started(test: Uuid) -> (usize, usize) {
    seen(test, |seen| (seen.starts.len(), seen.starts.values().sum()))
}

/// How many jobs of this test ever ran at once.
pub fn most_at_once(test: Uuid) -> usize {
    seen(test, |seen| seen.most_at_once)
}

/// Lets every job that waits go on.
pub fn release(test: Uuid) {
    seen(test, |seen| seen.released.cancel());
}

/// Counts a job as running for as long as it does.
struct Running(Uuid);

impl Drop for Running {
    fn drop(&mut self) {
        seen(self.0, |seen| seen.running -= 1);
    }
}

mod probe_job {
    use super::*;

    pub const POLICY: Policy = Policy {
        attempts: 3,
        timeout: Duration::from_mins(1),
        backoff: Backoff::exponential(Duration::from_millis(20), Duration::from_millis(100)),
    };

    pub async fn run(job: Probe, _: &Context) -> Result<(), JobError> {
        let (start, released) = seen(job.test, |seen| {
            seen.running += 1;
            seen.most_at_once = seen.most_at_once.max(seen.running);
            let start = seen.starts.entry(job.number).or_default();
            *start += 1;
            (*start, seen.released.clone())
        });
        let _running = Running(job.test);
        match job.act {
            Act::Succeed => Ok(()),
            Act::FailUntil(enough) if start >= enough => Ok(()),
            Act::FailUntil(_) => Err(JobError::retry(format!("start {start} fails"))),
            Act::Discard => Err(JobError::discard("no use")),
            Act::Panic => panic!("start {start} panics"),
            Act::Hang => std::future::pending().await,
            Act::Wait => {
                released.cancelled().await;
                Ok(())
            }
            Act::Last(ms) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Ok(())
            }
        }
    }
}

mod short_job {
    use super::*;

    pub const POLICY: Policy = Policy { timeout: Duration::from_millis(50), ..probe_job::POLICY };

    pub async fn run(_: Short, _: &Context) -> Result<(), JobError> {
        std::future::pending().await
    }
}

/// A job that takes longer than it may.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Short;

impl Job for Short {
    const NAME: &'static str = "short";
    const POOL: Pool = Pool::Upkeep;

    fn key(&self) -> String {
        "1".to_owned()
    }
}

/// The pool that all these jobs run in.
pub static SPEC: PoolSpec = PoolSpec {
    pool: Pool::Upkeep,
    concurrency: 64,
    poll: Duration::from_millis(5),
    jobs: &[workers::job!(probe_job, Probe), workers::job!(short_job, Short)],
    periodics: &[],
};

/// A queue whose workers are found dead sooner than in production.
pub fn config(redis: &TestRedis) -> QueueConfig {
    QueueConfig {
        heartbeat: Duration::from_millis(100),
        orphaned_after: Duration::from_millis(500),
        ..QueueConfig::new(redis.url())
    }
}

pub fn queue(redis: &TestRedis) -> Queue {
    Queue::connect(&config(redis)).unwrap()
}

/// A worker with a runtime of its own, which can be killed as a process is: between two instructions.
pub struct Node {
    runtime: Option<tokio::runtime::Runtime>,
    shutdown: CancellationToken,
    ended: Option<tokio::task::JoinHandle<Result<(), workers::RunError>>>,
}

impl Node {
    pub fn start(redis: &TestRedis) -> Self {
        Self::with(redis, "postgres:///nowhere", Options::default())
    }

    pub fn with(redis: &TestRedis, database_url: &str, options: Options) -> Self {
        Self::running(&SPEC, redis, database_url, options)
    }

    pub fn running(spec: &'static PoolSpec, redis: &TestRedis, database_url: &str, options: Options) -> Self {
        Self::on(spec, redis, config(redis), database_url, options)
    }

    pub fn on(
        spec: &'static PoolSpec,
        redis: &TestRedis,
        config: QueueConfig,
        database_url: &str,
        options: Options,
    ) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let env: Env =
            [("DATABASE_URL", database_url.to_owned()), ("REDIS_URL", redis.url())].into_iter().collect();
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let ended = runtime.spawn(async move {
            let mut ctx = Context::from_env(&env).unwrap();
            ctx.queue = Queue::connect(&config).unwrap();
            run_specs(&[spec], ctx, options, token).await
        });
        Self { runtime: Some(runtime), shutdown, ended: Some(ended) }
    }

    /// Ends it as a kill -9 would.
    pub fn kill(mut self) {
        self.end();
    }

    /// Ends it as SIGTERM would.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        self.ended.take().unwrap().await.unwrap().unwrap();
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits until something holds; fails after 30 s.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..3_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 30 s: {what}");
}

/// Waits until no job waits, is scheduled or runs.
pub async fn drained(queue: &Queue) {
    eventually("the pool is drained", async || {
        queue
            .stats(Pool::Upkeep)
            .await
            .is_ok_and(|stats| stats.depth + stats.scheduled + stats.in_flight == 0)
    })
    .await;
}
