//! The loop between one worker and Redis: settles, fetches, beats, and outlives every error of Redis.

use std::{
    collections::HashMap,
    sync::LazyLock,
    time::{Duration, Instant},
};

use domain::{clock, jobs::Pool};
use redis::{Script, aio::ConnectionManager};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    client::{Queue, Shared},
    envelope::Envelope,
    error::QueueError,
    keys::Keys,
    source::{Delivery, Outcome, Settled, SourceConfig},
};

static EXCHANGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/exchange.lua")));
static BEAT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/beat.lua")));
static LEAVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/leave.lua")));

/// The most jobs that one script settles, fetches or promotes: others wait for Redis meanwhile.
const CHUNK: usize = 256;
/// The most orphans that one beat moves.
const ORPHANS: usize = 1_000;
/// The most dead jobs that a pool keeps; the oldest go. Those with a row in the outbox are still to be seen there.
const MAX_DEAD: usize = 100_000;
/// A job whose worker died this often while it ran is run alone from then on.
const SUSPECT_AFTER: u32 = 2;
/// A worker that fetched nothing for so long asks [`IDLE_FACTOR`] times less often, to leave Redis in peace.
const BUSY: Duration = Duration::from_secs(2);
const IDLE_FACTOR: u32 = 5;
/// After so many heartbeats a worker compares what Redis holds in flight for it with what it runs.
const AUDIT_BEATS: u32 = 2;
/// The most of an error's text that is kept.
const ERROR_CHARS: usize = 1_000;
/// How long a worker that stops waits for a Redis that does not answer.
const FAREWELL: Duration = Duration::from_secs(3);

/// `(registered, now in ms, fetched, in flight)`
type Exchanged = (u8, i64, Vec<Fetched>, Vec<String>);
/// `(id, envelope, start, attempt, at in ms, crashes)`
type Fetched = (String, Vec<u8>, u64, u32, i64, u32);

pub(crate) struct Driver {
    conn: ConnectionManager,
    shared: std::sync::Arc<Shared>,
    pool: Pool,
    config: SourceConfig,
    started_at_ms: i64,
    deliver: mpsc::UnboundedSender<Delivery>,
    settle: Option<mpsc::UnboundedSender<Settled>>,
    settled: mpsc::UnboundedReceiver<Settled>,
    /// Outcomes that have not reached Redis.
    outcomes: Vec<Settled>,
    /// What this worker holds: id to start.
    held: HashMap<String, u64>,
    last_beat: Option<Instant>,
    last_audit: Instant,
    last_fetch: Instant,
    /// Replies may have been lost: what they brought must be looked for.
    audit: bool,
    failures: u32,
}

impl Driver {
    pub(crate) fn new(
        queue: Queue,
        pool: Pool,
        config: SourceConfig,
        deliver: mpsc::UnboundedSender<Delivery>,
    ) -> Result<Self, QueueError> {
        let (settle, settled) = mpsc::unbounded_channel();
        Ok(Self {
            conn: queue.shared.connection()?,
            shared: queue.shared,
            pool,
            config,
            started_at_ms: clock::now().timestamp_millis(),
            deliver,
            settle: Some(settle),
            settled,
            outcomes: Vec::new(),
            held: HashMap::new(),
            last_beat: None,
            last_audit: Instant::now(),
            last_fetch: Instant::now(),
            audit: false,
            failures: 0,
        })
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.turn().await {
                self.failed(&error, &stop).await;
                continue;
            }
            if self.failures > 0 {
                tracing::info!(pool = %self.pool, failures = self.failures, "the queue is back");
                self.failures = 0;
            }
            let pause = if self.held.len() >= self.config.concurrency {
                self.shared.config.heartbeat.saturating_sub(self.since_beat())
            } else if self.last_fetch.elapsed() < BUSY {
                self.config.poll
            } else {
                self.config.poll * IDLE_FACTOR
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                Some(settled) = self.settled.recv() => self.outcomes.push(settled),
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.leave().await;
    }

    /// One round: beat when it is due, settle, fetch.
    async fn turn(&mut self) -> Result<(), QueueError> {
        if self.since_beat() >= self.shared.config.heartbeat {
            self.beat().await?;
        }
        let wanted = self.config.concurrency.saturating_sub(self.held.len()).min(CHUNK);
        self.exchange(wanted).await
    }

    fn since_beat(&self) -> Duration {
        self.last_beat.map_or(Duration::MAX, |beat| beat.elapsed())
    }

    async fn beat(&mut self) -> Result<(), QueueError> {
        let Keys { active, data, meta, inflight, workers, worker, suspects, dead, .. } =
            self.shared.keys(self.pool);
        let config = &self.shared.config;
        let mut call = BEAT.prepare_invoke();
        call.key(workers).key(active).key(suspects).key(dead);
        call.arg(&self.config.worker).arg(worker).arg(inflight).arg(meta).arg(data);
        call.arg(config.orphaned_after.as_secs_f64()).arg(config.heartbeat.as_secs_f64());
        call.arg(SUSPECT_AFTER).arg(ORPHANS).arg(&self.config.version).arg(self.started_at_ms).arg(MAX_DEAD);
        let began = Instant::now();
        let moved: usize = call.invoke_async(&mut self.conn).await?;
        // With more orphans than one beat moves, the next beat is due at once.
        self.last_beat = (moved < ORPHANS).then_some(began);
        if moved > 0 {
            tracing::warn!(pool = %self.pool, jobs = moved, "a worker died; its jobs run again");
        }
        Ok(())
    }

    async fn exchange(&mut self, wanted: usize) -> Result<(), QueueError> {
        while let Ok(settled) = self.settled.try_recv() {
            self.outcomes.push(settled);
        }
        let audit = self.audit || self.last_audit.elapsed() >= self.shared.config.heartbeat * AUDIT_BEATS;
        let keys = self.shared.keys(self.pool);
        let settling = self.outcomes.len().min(CHUNK);
        let mut call = EXCHANGE.prepare_invoke();
        call.key(&keys.active).key(&keys.suspects).key(format!("{}{}", keys.inflight, self.config.worker));
        call.key(&keys.data).key(&keys.due).key(&keys.dead).key(&keys.workers).key(&keys.paused);
        call.key(format!("{}{}", keys.worker, self.config.worker)).key(&keys.retrying).key(&keys.tally);
        call.arg(&self.config.worker).arg(&keys.meta).arg(wanted).arg(u8::from(audit)).arg(CHUNK);
        for Settled { id, start, outcome } in &self.outcomes[..settling] {
            let (name, after, error) = match outcome {
                Outcome::Done => ("done", Duration::ZERO, ""),
                Outcome::Retry { after, error } => ("retry", *after, error.as_str()),
                Outcome::Dead { error } => ("dead", Duration::ZERO, error.as_str()),
                Outcome::Release => ("release", Duration::ZERO, ""),
            };
            let error: String = error.chars().take(ERROR_CHARS).collect();
            let start = start.map_or_else(String::new, |start| start.to_string());
            call.arg(id).arg(start).arg(name).arg(after.as_millis().to_string()).arg(error);
        }
        let (registered, now, fetched, in_flight): Exchanged = call.invoke_async(&mut self.conn).await?;

        for settled in self.outcomes.drain(..settling) {
            if self.held.get(&settled.id).is_some_and(|start| Some(*start) == settled.start) {
                self.held.remove(&settled.id);
            }
        }
        if registered == 0 {
            // Taken for dead, or Redis has lost its memory.
            self.last_beat = None;
        }
        if !fetched.is_empty() {
            self.last_fetch = Instant::now();
        }
        for job in fetched {
            self.take(job, now);
        }
        if audit {
            (self.audit, self.last_audit) = (false, Instant::now());
            // What is in flight and not held came in a reply that was lost, or its settling was: run it again.
            let lost = in_flight.into_iter().filter(|id| !self.held.contains_key(id));
            let unsettled: Vec<_> =
                lost.map(|id| Settled { id, start: None, outcome: Outcome::Release }).collect();
            if !unsettled.is_empty() {
                tracing::warn!(pool = %self.pool, jobs = unsettled.len(), "jobs were lost on their way; they run again");
                self.outcomes.extend(unsettled);
            }
        }
        Ok(())
    }

    fn take(&mut self, (id, json, start, attempt, since_ms, crashes): Fetched, now_ms: i64) {
        self.held.insert(id.clone(), start);
        match (Envelope::decode(self.pool, id.clone(), &json), self.settle.clone()) {
            (Ok(envelope), Some(settle)) => {
                let waited = Duration::from_millis((now_ms - since_ms).try_into().unwrap_or(0));
                // If nobody receives any more, the delivery hands itself back.
                let _ = self.deliver.send(Delivery::new(envelope, start, attempt, crashes, waited, settle));
            }
            (Err(error), _) => {
                let outcome = Outcome::Dead { error: format!("envelope: {error}") };
                self.outcomes.push(Settled { id, start: Some(start), outcome });
            }
            (Ok(_), None) => {
                self.outcomes.push(Settled { id, start: Some(start), outcome: Outcome::Release });
            }
        }
    }

    async fn failed(&mut self, error: &QueueError, stop: &CancellationToken) {
        if self.failures == 0 {
            tracing::error!(pool = %self.pool, %error, "the queue does not answer; trying again");
        }
        metrics::counter!("evently_queue_errors_total", "pool" => self.pool.name()).increment(1);
        self.failures += 1;
        self.audit = true;
        let pause = Duration::from_millis(50 * u64::from(self.failures.min(20)));
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }

    /// Waits for what still runs, reports it, and takes this worker off the list.
    async fn leave(mut self) {
        self.settle = None;
        let mut silent_since = None;
        loop {
            let more = !self.held.is_empty() && self.outcomes.is_empty();
            if more {
                let beat_due = self.shared.config.heartbeat.saturating_sub(self.since_beat());
                tokio::select! {
                    settled = self.settled.recv() => match settled {
                        Some(settled) => self.outcomes.push(settled),
                        // Nobody is left who could settle.
                        None => break,
                    },
                    () = tokio::time::sleep(beat_due) => {}
                }
            }
            let turn = async {
                if self.since_beat() >= self.shared.config.heartbeat {
                    self.beat().await?;
                }
                self.exchange(0).await
            };
            match turn.await {
                Ok(()) => silent_since = None,
                Err(error) => {
                    let since = *silent_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > FAREWELL {
                        tracing::error!(pool = %self.pool, %error, "left without a word; its jobs run again elsewhere");
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            if self.held.is_empty() && self.outcomes.is_empty() {
                break;
            }
        }
        let keys = self.shared.keys(self.pool);
        let mut call = LEAVE.prepare_invoke();
        call.key(&keys.workers).key(format!("{}{}", keys.inflight, self.config.worker));
        call.key(format!("{}{}", keys.worker, self.config.worker)).arg(&self.config.worker);
        if let Err(error) = call.invoke_async::<()>(&mut self.conn).await {
            tracing::warn!(pool = %self.pool, %error, "could not sign off");
        }
    }
}
