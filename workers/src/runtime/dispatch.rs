//! Runs one delivery: finds its handler, bounds it, decides what becomes of it, and says so once.

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use domain::{jobs::Pool, trace};
use futures::FutureExt;
use queue::{Delivery, Outcome};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{PoolSpec, Registration, outbox::Fates};
use crate::{context::Context, error::JobError};

/// A job whose worker died so often in a row while it ran is what kills them, however many attempts it may have: the
/// others of its pool wait for each of those deaths to be noticed.
const MAX_CRASHES: u32 = 5;

/// What one pool's deliveries are run with.
#[derive(Clone)]
pub(super) struct Dispatcher {
    pub spec: &'static PoolSpec,
    pub ctx: Context,
    pub fates: Fates,
    /// Cancelled when a process that stops can wait no longer.
    pub abort: CancellationToken,
}

impl Dispatcher {
    pub(super) async fn run(self, delivery: Delivery) {
        let envelope = &delivery.envelope;
        let span = tracing::info_span!(
            "job",
            otel.name = %envelope.job,
            otel.kind = "consumer",
            job = %envelope.job,
            id = %envelope.id,
            attempt = delivery.attempt,
        );
        let remote = envelope.traceparent.as_deref().and_then(|text| text.parse().ok());
        let context = trace::enter(&span, remote);
        context.scope(self.settle(delivery)).instrument(span).await;
    }

    async fn settle(self, delivery: Delivery) {
        let job = self.spec.jobs.iter().find(|job| job.name == delivery.envelope.job);
        // Only names that are registered become labels: what a foreign hand enqueues is not to fill the metrics.
        let name = job.map_or("unknown", |job| job.name);
        let began = Instant::now();
        let outcome = match job {
            Some(job) => self.attempt(job, &delivery).await,
            None => Outcome::Dead { error: format!("{} has no job of this name", self.spec.pool) },
        };
        record(self.spec.pool, name, &outcome, delivery.waited, began.elapsed());

        let outbox_id = delivery.envelope.outbox_id;
        match (&outcome, outbox_id) {
            (Outcome::Done, Some(id)) => self.fates.done(id),
            (Outcome::Dead { error }, Some(id)) => self.fates.dead(id, error),
            _ => {}
        }
        delivery.settle(outcome);
    }

    async fn attempt(&self, job: &Registration, delivery: &Delivery) -> Outcome {
        let policy = &job.policy;
        let attempt = delivery.attempt;
        if attempt > policy.attempts {
            // An attempt that fails reports it; one that says nothing took its process with it.
            let error = format!("started {} times, and the last took its worker with it", policy.attempts);
            return Outcome::Dead { error };
        }
        if delivery.crashes >= MAX_CRASHES {
            return Outcome::Dead { error: format!("{} workers in a row died of it", delivery.crashes) };
        }
        let run = AssertUnwindSafe((job.run)(&delivery.envelope.payload, self.ctx.clone())).catch_unwind();
        let result = tokio::select! {
            result = tokio::time::timeout(policy.timeout, run) => result,
            () = self.abort.cancelled() => return Outcome::Release,
        };
        let error = match result {
            Ok(Ok(Ok(()))) => return Outcome::Done,
            Ok(Ok(Err(error @ JobError::Discard(..)))) => return Outcome::Dead { error: error.to_string() },
            Ok(Ok(Err(JobError::Retry(error)))) => error.to_string(),
            Ok(Err(panic)) => format!("panicked: {}", message(&*panic)),
            Err(_) => format!("took longer than {:?}", policy.timeout),
        };
        if attempt < policy.attempts {
            Outcome::Retry { after: policy.backoff.after(attempt), error }
        } else {
            Outcome::Dead { error: format!("{error} (attempt {attempt}, the last)") }
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

fn record(pool: Pool, job: &'static str, outcome: &Outcome, waited: Duration, took: Duration) {
    let label = match outcome {
        Outcome::Done => "done",
        Outcome::Retry { .. } => "retry",
        Outcome::Dead { .. } => "dead",
        Outcome::Release => "released",
    };
    let labels = [("pool", pool.name()), ("job", job), ("outcome", label)];
    metrics::counter!("evently_jobs_total", &labels).increment(1);
    metrics::histogram!("evently_job_duration_seconds", &labels).record(took);
    metrics::histogram!("evently_job_wait_seconds", &labels[..2]).record(waited);
    match outcome {
        Outcome::Done => tracing::debug!(?waited, ?took, "done"),
        Outcome::Retry { after, error } => tracing::warn!(?took, ?after, error, "failed, runs again"),
        Outcome::Dead { error } => tracing::error!(?took, error, "dead"),
        Outcome::Release => tracing::info!(?took, "handed back"),
    }
}
