//! Jobs that do nothing, through the queue with all its safeguards and under a worker as in production.

use std::{
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use domain::jobs::{Job, Pool};
use queue::{Envelope, Queue, QueueConfig};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use workers::{
    Context, JobError,
    runtime::{Backoff, Options, Policy, PoolSpec, run_specs},
};

use super::{Bench, figure::Figure, stage::Stage, times::Times};

/// Queues of its own, so that the system's workers see none of it.
const PREFIX: &str = "evently-bench";
/// How many jobs one call enqueues.
const CHUNK: u64 = 500;
/// How many wait at most: the queue is to be busy, not long.
const WAITING: u64 = 10_000;
/// How long what was enqueued may take to run.
const PATIENCE: Duration = Duration::from_mins(1);

/// A job that does nothing but note that it was started.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Noop {
    number: u64,
    /// When it was enqueued, in microseconds of this process.
    enqueued_us: u64,
}

impl Job for Noop {
    const NAME: &'static str = "noop";
    const POOL: Pool = Pool::Upkeep;

    fn key(&self) -> String {
        self.number.to_string()
    }
}

static CLOCK: LazyLock<Instant> = LazyLock::new(Instant::now);
static STARTED: AtomicU64 = AtomicU64::new(0);
static WAITS: Mutex<Option<Times>> = Mutex::new(None);

fn now_us() -> u64 {
    u64::try_from(CLOCK.elapsed().as_micros()).unwrap_or(u64::MAX)
}

mod noop {
    use super::{
        AtomicU64, Backoff, Context, Duration, JobError, Noop, Ordering, PoisonError, Policy, STARTED, WAITS,
        now_us,
    };

    pub(super) const POLICY: Policy = Policy {
        attempts: 3,
        timeout: Duration::from_secs(10),
        backoff: Backoff::fixed(Duration::from_secs(1)),
    };

    #[expect(clippy::unused_async, reason = "the shape of a job")]
    pub(super) async fn run(job: Noop, _: &Context) -> Result<(), JobError> {
        let waited = Duration::from_micros(now_us().saturating_sub(job.enqueued_us));
        if let Some(waits) = WAITS.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            waits.add(waited);
        }
        AtomicU64::fetch_add(&STARTED, 1, Ordering::Relaxed);
        Ok(())
    }
}

/// As the `confirm` pool, which is the one in a hurry.
static SPEC: PoolSpec = PoolSpec {
    pool: Pool::Upkeep,
    concurrency: 256,
    poll: Duration::from_millis(2),
    jobs: &[workers::job!(noop, Noop)],
    periodics: &[],
};

pub(super) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let worker = Worker::start(&bench.stage)?;
    let mut source = Source { queue: worker.queue.clone(), enqueued: STARTED.load(Ordering::Relaxed) };
    source.flood(bench.stage.time / 5).await?;
    let rate = source.flood(bench.stage.time).await?;
    bench.report(Figure::new("no-op jobs, enqueued and run", rate, "/s").at_least(15_000.0, 30_000.0))?;

    *WAITS.lock().unwrap_or_else(PoisonError::into_inner) = Some(Times::default());
    source.trickle(rate / 2.0, bench.stage.time).await?;
    let waits = WAITS.lock().unwrap_or_else(PoisonError::into_inner).take();
    let mut waits = waits.context("nothing was noted")?;
    let [p50, p99] = [50.0, 99.0].map(|percent| waits.percentile_ms(percent));
    bench.report(Figure::new("enqueue to start p50, half load", p50, "ms").at_most(5.0, 2.0))?;
    bench.report(Figure::new("enqueue to start p99, half load", p99, "ms").at_most(30.0, 15.0))?;
    worker.stop().await
}

/// Enqueues.
struct Source {
    queue: Queue,
    enqueued: u64,
}

impl Source {
    /// As fast as jobs are run; answers how many ran a second.
    async fn flood(&mut self, time: Duration) -> anyhow::Result<f64> {
        let (began, before) = (Instant::now(), STARTED.load(Ordering::Relaxed));
        while began.elapsed() < time || STARTED.load(Ordering::Relaxed) == before {
            if self.enqueued - STARTED.load(Ordering::Relaxed) < WAITING {
                self.enqueue(CHUNK).await?;
            } else {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        let ran = STARTED.load(Ordering::Relaxed) - before;
        let rate = ran as f64 / began.elapsed().as_secs_f64();
        self.all_ran().await?;
        Ok(rate)
    }

    /// So many a second, evenly.
    async fn trickle(&mut self, rate: f64, time: Duration) -> anyhow::Result<()> {
        let (began, before) = (Instant::now(), self.enqueued);
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        while began.elapsed() < time || self.enqueued == before {
            tick.tick().await;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive count")]
            let due = (rate * began.elapsed().as_secs_f64()) as u64 + before;
            if due > self.enqueued {
                self.enqueue((due - self.enqueued).min(CHUNK)).await?;
            }
        }
        self.all_ran().await
    }

    async fn enqueue(&mut self, count: u64) -> anyhow::Result<()> {
        let enqueued_us = now_us();
        let numbers = self.enqueued..self.enqueued + count;
        let jobs = numbers.map(|number| Envelope::new(&Noop { number, enqueued_us }));
        for answer in self.queue.enqueue_many(&jobs.collect::<Result<Vec<_>, _>>()?).await {
            answer?;
        }
        self.enqueued += count;
        Ok(())
    }

    async fn all_ran(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        while STARTED.load(Ordering::Relaxed) < self.enqueued {
            ensure!(began.elapsed() < PATIENCE, "jobs were enqueued and did not run");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

/// A worker in a runtime of its own, like the process that it is otherwise.
struct Worker {
    queue: Queue,
    stop: CancellationToken,
    ended: tokio::sync::oneshot::Receiver<anyhow::Result<()>>,
}

impl Worker {
    fn start(stage: &Stage) -> anyhow::Result<Self> {
        let config = QueueConfig { prefix: PREFIX.to_owned(), ..QueueConfig::from_env(&stage.env)? };
        let (stop, (sender, ended)) = (CancellationToken::new(), tokio::sync::oneshot::channel());
        let (queue, told, env) = (Queue::connect(&config)?, stop.clone(), stage.env.clone());
        std::thread::Builder::new().name("worker".to_owned()).spawn(move || {
            let work = || {
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
                runtime.block_on(async {
                    let ctx = Context::from_env(&env).map_err(anyhow::Error::from_boxed)?;
                    let ctx = Context { queue: Queue::connect(&config)?, ..ctx };
                    Ok(run_specs(&[&SPEC], ctx, Options::default(), told).await?)
                })
            };
            // Nobody waits when the bench was interrupted.
            let _ = sender.send(work());
        })?;
        Ok(Self { queue, stop, ended })
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.ended.await.context("the worker panicked")?
    }
}
