//! Reconcilers: what a pool does over and over without being asked.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use domain::{leader, trace};
use futures::{FutureExt, future::BoxFuture};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{context::Context, error::JobError};

/// Something to do over and over. It takes no input, finds out by itself what is to be done, does a bounded
/// batch of it, and is harmless when it runs twice at once.
#[derive(Clone, Copy, Debug)]
pub struct Periodic {
    pub name: &'static str,
    /// The pause between two runs, give or take a fifth.
    pub every: Duration,
    /// How long one run may take.
    pub timeout: Duration,
    /// Whether one process at a time is enough. It holds a connection to Postgres while it runs.
    pub exclusive: bool,
    pub run: fn(Context) -> BoxFuture<'static, Result<Report, JobError>>,
}

/// What one run saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What called for something to be done.
    pub found: u64,
    /// What was done about it.
    pub fixed: u64,
    /// Whether the batch was full: then the next run follows at once.
    pub more: bool,
}

impl Periodic {
    /// Runs until shutdown; a run that is under way then is dropped, as a kill would.
    pub(super) async fn repeat(self, ctx: Context, shutdown: CancellationToken) {
        let work = async {
            loop {
                let span = tracing::info_span!("periodic", otel.name = self.name, name = self.name);
                let context = trace::enter(&span, None);
                let more = context.scope(self.once(&ctx)).instrument(span).await;
                let pause =
                    if more { Duration::ZERO } else { self.every.mul_f64(0.8 + 0.4 * rand::random::<f64>()) };
                tokio::time::sleep(pause).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = work => {}
        }
    }

    async fn once(&self, ctx: &Context) -> bool {
        let began = Instant::now();
        let bounded = tokio::time::timeout(self.timeout, async {
            if self.exclusive {
                leader::only_one(&ctx.db, self.name, self.timeout, (self.run)(ctx.clone())).await?.transpose()
            } else {
                (self.run)(ctx.clone()).await.map(Some)
            }
        });
        let (outcome, report) = match AssertUnwindSafe(bounded).catch_unwind().await {
            Ok(Ok(Ok(Some(report)))) => ("done", report),
            Ok(Ok(Ok(None))) => ("elsewhere", Report::default()),
            Ok(Ok(Err(error))) => {
                tracing::warn!(%error, "failed");
                ("failed", Report::default())
            }
            Ok(Err(_)) => {
                tracing::warn!(timeout = ?self.timeout, "took too long");
                ("timeout", Report::default())
            }
            Err(_) => {
                tracing::error!("panicked");
                ("panicked", Report::default())
            }
        };
        let labels = [("name", self.name), ("outcome", outcome)];
        metrics::counter!("evently_periodic_runs_total", &labels).increment(1);
        metrics::histogram!("evently_periodic_duration_seconds", &labels[..1]).record(began.elapsed());
        metrics::counter!("evently_periodic_found_total", &labels[..1]).increment(report.found);
        metrics::counter!("evently_periodic_fixed_total", &labels[..1]).increment(report.fixed);
        if report.fixed > 0 {
            tracing::debug!(report.found, report.fixed, "done");
        }
        report.more
    }
}
