//! Keeps pools running until they are told to stop, and stops them in time.

use std::time::{Duration, Instant};

use apalis::prelude::{ParallelizeExt, WorkerBuilder, WorkerError};
use domain::jobs::Pool;
use futures::{FutureExt, future::BoxFuture};
use queue::{Delivery, Queue, SourceConfig};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{PoolSpec, dispatch::Dispatcher, outbox, outbox::Fates, periodic::Ticker, schedules};
use crate::{context::Context, spec};

/// How long running jobs may go on after shutdown; then they are handed back. Under the 20 s that a process has.
const GRACE: Duration = Duration::from_secs(12);
/// The least time between two starts of a pool's worker.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// So many worker failures within [`RESTART_WINDOW`] mean that the process is beyond help.
const MAX_RESTARTS: usize = 5;
const RESTART_WINDOW: Duration = Duration::from_mins(1);
const GAUGES_EVERY: Duration = Duration::from_secs(5);

/// A pool could not be kept running.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the {pool} pool failed {MAX_RESTARTS} times within {RESTART_WINDOW:?}; the last time: {last}")]
    Pool { pool: Pool, last: String },
    #[error("a supervisor panicked: {0}")]
    Supervisor(String),
    #[error(transparent)]
    Queue(#[from] queue::QueueError),
}

/// Runs pools in this process until `shutdown`; then jobs have 12 s to end before they are handed back. Fails
/// when a pool cannot be kept running, after handing back what the others were doing. `concurrency` replaces
/// that of every pool.
///
/// Boxed so that it is compiled here, with this crate's optimisation, rather than where it is awaited.
pub fn run(
    pools: &[Pool],
    ctx: Context,
    concurrency: Option<usize>,
    shutdown: CancellationToken,
) -> BoxFuture<'static, Result<(), RunError>> {
    let specs: Vec<_> = pools.iter().map(|pool| spec(*pool)).collect();
    let options = Options { concurrency, ..Options::default() };
    Box::pin(async move { run_specs(&specs, ctx, options, shutdown).await })
}

/// What may differ between two runs of the same pools.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Replaces the concurrency of every pool.
    pub concurrency: Option<usize>,
    /// How long running jobs may go on after shutdown; then they are handed back.
    pub grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { concurrency: None, grace: GRACE }
    }
}

/// [`run`], for pools as they are given here.
pub async fn run_specs(
    specs: &[&'static PoolSpec],
    ctx: Context,
    options: Options,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let pools: Vec<Pool> = specs.iter().map(|spec| spec.pool).collect();
    let (fates, writer) = outbox::start(ctx.db.clone());
    let (stop, abort) = (shutdown.child_token(), CancellationToken::new());
    let mut running = JoinSet::new();
    let mut entries = Vec::new();
    for spec in specs {
        let dispatcher = Dispatcher { spec, ctx: ctx.clone(), fates: fates.clone(), abort: abort.clone() };
        running.spawn(keep_running(spec, dispatcher, options.concurrency, stop.clone()));
        for periodic in spec.periodics {
            let (ticker, stop) = (Ticker::new(*periodic, spec.pool, ctx.clone()), stop.clone());
            entries.push(ticker.entry());
            running.spawn(async move {
                Box::pin(ticker.repeat(stop)).await;
                Ok(())
            });
        }
    }
    drop::<Fates>(fates);
    let gauges = tokio::spawn(gauge(ctx.queue.clone()));
    let watch = tokio::spawn(schedules::watch(ctx.db.clone(), entries));
    let deadline = tokio::spawn({
        let stop = stop.clone();
        async move {
            stop.cancelled().await;
            tokio::time::sleep(options.grace).await;
            abort.cancel();
        }
    });
    tracing::info!(pools = %pools.iter().map(|p| p.name()).collect::<Vec<_>>().join(","), "working");

    let mut result = Ok(());
    while let Some(ended) = running.join_next().await {
        let ended = ended.unwrap_or_else(|error| Err(RunError::Supervisor(error.to_string())));
        if ended.is_err() && result.is_ok() {
            result = ended;
            stop.cancel();
        }
    }
    deadline.abort();
    gauges.abort();
    watch.abort();
    outbox::finish(writer).await;
    result
}

/// Starts the pool's worker again whenever it ends, but not for ever. Redis going away does not end it.
async fn keep_running(
    spec: &'static PoolSpec,
    dispatcher: Dispatcher,
    concurrency: Option<usize>,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let mut failures: Vec<Instant> = Vec::new();
    while !stop.is_cancelled() {
        let ended = worker(spec, dispatcher.clone(), concurrency, stop.clone())?.await;
        if stop.is_cancelled() {
            break;
        }
        let last = ended.err().map_or_else(|| "ended by itself".to_owned(), |error| error.to_string());
        tracing::error!(pool = %spec.pool, error = last, "a worker failed");
        metrics::counter!("evently_worker_restarts_total", "pool" => spec.pool.name()).increment(1);
        failures.retain(|failure| failure.elapsed() < RESTART_WINDOW);
        failures.push(Instant::now());
        if failures.len() >= MAX_RESTARTS {
            return Err(RunError::Pool { pool: spec.pool, last });
        }
        tokio::time::sleep(RESTART_PAUSE).await;
    }
    Ok(())
}

/// A worker of the pool, from its start to its end.
fn worker(
    spec: &'static PoolSpec,
    dispatcher: Dispatcher,
    concurrency: Option<usize>,
    stop: CancellationToken,
) -> Result<BoxFuture<'static, Result<(), WorkerError>>, RunError> {
    let name = format!("{}-{}-{}", spec.pool, std::process::id(), Uuid::now_v7().simple());
    let config = SourceConfig {
        worker: name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        concurrency: concurrency.unwrap_or(spec.concurrency).max(1),
        poll: spec.poll,
    };
    let source = dispatcher.ctx.queue.source(spec.pool, config)?;
    let handle = move |delivery: Delivery| dispatcher.clone().run(delivery);
    let worker = WorkerBuilder::new(name.as_str()).backend(source).parallelize(tokio::spawn).build(handle);
    Ok(worker.run_until(stop.cancelled_owned().map(Ok::<(), WorkerError>)).boxed())
}

/// Shows how all pools stand, those too that no process is left of, while this process lives.
async fn gauge(queue: Queue) {
    loop {
        for pool in Pool::ALL {
            // When Redis is away the driver says so; the gauges keep what they last showed.
            if let Ok(stats) = queue.stats(pool).await {
                let label = [("pool", pool.name())];
                #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
                let set = |name: &'static str, value: u64| metrics::gauge!(name, &label).set(value as f64);
                set("evently_queue_depth", stats.depth);
                set("evently_queue_scheduled", stats.scheduled);
                set("evently_queue_retries", stats.retries);
                set("evently_queue_in_flight", stats.in_flight);
                set("evently_queue_dead", stats.dead);
                set("evently_queue_paused", u64::from(stats.paused));
                set("evently_queue_workers", stats.workers.len() as u64);
                let oldest = Duration::from_millis(stats.oldest_age_ms);
                metrics::gauge!("evently_queue_oldest_age_seconds", &label).set(oldest.as_secs_f64());
            }
        }
        tokio::time::sleep(GAUGES_EVERY).await;
    }
}
