//! Reconcilers: what a pool does over and over without being asked.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{
    fault::Fault,
    jobs::Pool,
    leader,
    schedules::{self, Known, Run},
    trace,
};
use futures::{FutureExt, future::BoxFuture};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::schedules::{Entry, PROCESS};
use crate::{context::Context, error::JobError};

/// What is done more often than this is also done at the start of every process, however lately another did it.
const AT_EVERY_START: Duration = Duration::from_mins(5);
/// How soon to look again when another process is at it: it may die.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How often at most a run that is not exclusive is noted.
const NOTED_EVERY: Duration = Duration::from_secs(10);
/// How long noting a run may take: what is done without a turn of its own had better go on.
const NOTING: Duration = Duration::from_secs(1);
/// The same for a leader, whose followers go by it.
const LEADER_NOTING: Duration = Duration::from_secs(10);

/// Something to do over and over. It takes no input, finds out by itself what is to be done, does a bounded
/// batch of it, and is harmless when it runs twice at once.
#[derive(Clone, Copy, Debug)]
pub struct Periodic {
    pub name: &'static str,
    /// The pause between two runs, give or take a fifth.
    pub every: Duration,
    /// How long one run may take.
    pub timeout: Duration,
    /// Whether one process at a time is enough. It holds a connection to Postgres while it runs, and all processes
    /// together keep to the pause: whoever holds the lock when a run is due is the leader for that run.
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

/// What one turn came to.
enum Turn {
    Ran(Report),
    /// Another process is at it.
    Elsewhere,
    /// Another process had the last run, and the next is due after so long.
    NotDue(Duration),
}

/// A periodic in one process.
pub(super) struct Ticker {
    periodic: Periodic,
    pool: Pool,
    ctx: Context,
    wake: Arc<Notify>,
    /// Whether the next run is due whoever had the last one: the first here, or the rest of a full batch.
    due: bool,
    noted: Option<Instant>,
}

impl Ticker {
    pub(super) fn new(periodic: Periodic, pool: Pool, ctx: Context) -> Self {
        let due = periodic.every <= AT_EVERY_START;
        Self { periodic, pool, ctx, wake: Arc::default(), due, noted: None }
    }

    pub(super) fn entry(&self) -> Entry {
        Entry { known: self.known(), wake: Arc::clone(&self.wake) }
    }

    fn known(&self) -> Known {
        let Periodic { name, every, exclusive, .. } = self.periodic;
        Known { name, pool: self.pool, every, exclusive }
    }

    /// Runs until shutdown; a run that is under way then is dropped, as a kill would.
    pub(super) async fn repeat(mut self, shutdown: CancellationToken) {
        let name = self.periodic.name;
        let work = async {
            loop {
                let span = tracing::info_span!("periodic", otel.name = name, name);
                let context = trace::enter(&span, None);
                let pause = context.scope(self.once()).instrument(span).await;
                tokio::select! {
                    // It is noted that what was wanted is done.
                    () = self.wake.notified() => self.noted = None,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = work => {}
        }
    }

    /// One turn; answers how long to wait for the next.
    async fn once(&mut self) -> Duration {
        let Periodic { name, every, timeout, exclusive, run } = self.periodic;
        let began = Instant::now();
        let bounded = tokio::time::timeout(timeout, async {
            if exclusive {
                let turn = leader::only_one(&self.ctx.db, name, timeout, self.lead()).await?;
                turn.unwrap_or(Ok(Turn::Elsewhere))
            } else {
                run(self.ctx.clone()).await.map(Turn::Ran)
            }
        });
        let caught = AssertUnwindSafe(bounded).catch_unwind().await;
        let mut report = Report::default();
        let (mut next, mut error) = (every.mul_f64(0.8 + 0.4 * rand::random::<f64>()), None);
        let outcome = match caught {
            Ok(Ok(Ok(Turn::Ran(ran)))) => {
                report = ran;
                if report.more {
                    next = Duration::ZERO;
                }
                "done"
            }
            Ok(Ok(Ok(Turn::Elsewhere))) => {
                next = next.min(LOOK_AGAIN);
                "elsewhere"
            }
            Ok(Ok(Ok(Turn::NotDue(left)))) => {
                // Not all at once: they would only stand in line for the lock.
                next = left + every.mul_f64(0.1 * rand::random::<f64>());
                "not_due"
            }
            Ok(Ok(Err(failure))) => {
                tracing::warn!(error = %failure, "failed");
                error = Some(failure.to_string());
                "failed"
            }
            Ok(Err(_)) => {
                tracing::warn!(?timeout, "took too long");
                error = Some(format!("took longer than {timeout:?}"));
                "timeout"
            }
            Err(_) => {
                tracing::error!("panicked");
                "panicked"
            }
        };
        self.due = report.more;
        let labels = [("name", name), ("outcome", outcome)];
        metrics::counter!("evently_periodic_runs_total", &labels).increment(1);
        metrics::histogram!("evently_periodic_duration_seconds", &labels[..1]).record(began.elapsed());
        metrics::counter!("evently_periodic_found_total", &labels[..1]).increment(report.found);
        metrics::counter!("evently_periodic_fixed_total", &labels[..1]).increment(report.fixed);
        if report.fixed > 0 {
            tracing::debug!(report.found, report.fixed, "done");
        }
        let noted_by_leader = exclusive && !matches!(outcome, "timeout" | "panicked");
        if !noted_by_leader && self.noted.is_none_or(|noted| noted.elapsed() >= NOTED_EVERY) {
            self.note(began, outcome, error.as_deref(), report).await;
            self.noted = Some(Instant::now());
        }
        next
    }

    /// A run under the lock, if it is due. It is noted before the lock goes, so that who comes next knows.
    async fn lead(&self) -> Result<Turn, JobError> {
        let Periodic { name, every, run, .. } = self.periodic;
        if !self.due {
            let mut conn = self.ctx.db.conn().await?;
            let left = schedules::left(&mut conn, name, every.mul_f64(0.8)).await?;
            if !left.is_zero() {
                return Ok(Turn::NotDue(left));
            }
        }
        // After the look whether it is wanted: what was wanted by then is done by this run.
        let began = Instant::now();
        let result = run(self.ctx.clone()).await;
        match &result {
            Ok(report) => self.note(began, "done", None, *report).await,
            Err(error) => self.note(began, "failed", Some(&error.to_string()), Report::default()).await,
        }
        result.map(Turn::Ran)
    }

    async fn note(&self, began: Instant, outcome: &'static str, error: Option<&str>, report: Report) {
        let run = Run {
            took: began.elapsed(),
            outcome,
            error,
            found: report.found,
            fixed: report.fixed,
            process: &PROCESS,
        };
        let noting = async {
            schedules::ended(&mut *self.ctx.db.conn().await?, self.known(), run).await?;
            Ok::<_, Fault>(())
        };
        let limit = if self.periodic.exclusive { LEADER_NOTING } else { NOTING };
        match tokio::time::timeout(limit, noting).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "could not note how it went"),
            Err(_) => tracing::debug!("could not note in time how it went"),
        }
    }
}
