//! What operators see of the queues, and what they may do to them. Every answer is bounded.

use std::{collections::HashMap, str::FromStr, sync::LazyLock, time::Duration};

use chrono::{DateTime, Utc};
use domain::jobs::Pool;
use redis::{AsyncCommands, Script};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    client::Queue,
    envelope::Envelope,
    error::QueueError,
    tally::{Percentiles, SLOTS, Tally},
};

static STATS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/stats.lua")));
static LIST: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/list.lua")));
static INTERVENE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/intervene.lua")));

/// The most jobs that one list shows.
const MAX_LIST: usize = 1_000;
/// The most workers of a pool that are counted and shown.
const MAX_WORKERS: usize = 500;

/// One pool at one moment.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PoolStats {
    pub pool: Pool,
    /// Whether its workers start no jobs.
    pub paused: bool,
    /// Jobs that wait for a worker.
    pub depth: u64,
    /// Jobs that wait for their time.
    pub scheduled: u64,
    /// Those of `scheduled` that ran before and failed.
    pub retries: u64,
    /// Jobs that run.
    pub in_flight: u64,
    /// Jobs that have given up.
    pub dead: u64,
    /// How long the first in line has waited.
    pub oldest_age_ms: u64,
    /// How long jobs waited since they were due.
    pub wait_ms: Percentiles,
    /// How long attempts ran.
    pub run_ms: Percentiles,
    /// Jobs done in the last minute.
    pub per_minute: u64,
    pub workers: Vec<WorkerInfo>,
}

/// A worker that is alive, or was until lately.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WorkerInfo {
    pub id: String,
    pub version: String,
    pub started_at: DateTime<Utc>,
    pub last_seen_at: DateTime<Utc>,
}

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    Pending,
    Scheduled,
    Running,
    Dead,
}

impl JobStatus {
    pub const ALL: [Self; 4] = [Self::Pending, Self::Scheduled, Self::Running, Self::Dead];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Dead => "dead",
        }
    }
}

/// The word is no status.
#[derive(Debug, thiserror::Error)]
#[error("no status is called {0:?}; they are pending, scheduled, running, dead")]
pub struct UnknownStatus(String);

impl FromStr for JobStatus {
    type Err = UnknownStatus;

    fn from_str(name: &str) -> Result<Self, UnknownStatus> {
        Self::ALL
            .into_iter()
            .find(|status| status.name() == name)
            .ok_or_else(|| UnknownStatus(name.to_owned()))
    }
}

/// One job as operators see it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct JobDetail {
    #[schema(example = "send_mail:0199c1a0-0000-7000-8000-000000000001")]
    pub id: String,
    pub pool: Pool,
    /// What kind of job it is.
    #[schema(example = "send_mail")]
    pub job: String,
    pub status: JobStatus,
    /// Starts that count towards its policy.
    pub attempts: u32,
    /// How often its worker died while it ran.
    pub crashes: u32,
    /// Since when it waits, for when it is scheduled, or when it died.
    pub at: DateTime<Utc>,
    /// When it was last started.
    pub started_at: Option<DateTime<Utc>>,
    /// Why it was last retried, or died.
    pub error: Option<String>,
    /// Its last failures, at most ten, the last one last.
    pub errors: Vec<Failure>,
    /// Its arguments.
    pub payload: serde_json::Value,
    /// The trace that it belongs to.
    pub traceparent: Option<String>,
    /// The row of the outbox that goes when it is done.
    pub outbox_id: Option<Uuid>,
}

/// One attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Failure {
    pub at: DateTime<Utc>,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    pub error: String,
}

impl JobDetail {
    /// The same without what its arguments say: names stay, values go.
    #[must_use]
    pub fn redacted(self) -> Self {
        Self { payload: redact(self.payload), ..self }
    }
}

fn redact(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (name, redact(value))).collect::<Value>()
        }
        Value::Array(all) => all.into_iter().map(redact).collect(),
        Value::Null => Value::Null,
        _ => Value::from("[redacted]"),
    }
}

/// What came of a retry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retried {
    /// It waits for a worker, with all its attempts before it. Its outbox row, if it has one, is to be revived.
    Waiting { outbox_id: Option<Uuid> },
    /// It runs, or waits to run, anyway.
    AlreadyDue,
    /// No job has this id.
    Unknown,
}

/// What came of a discard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// It is gone. Its outbox row, if it has one, is to be buried, or the relay brings it back.
    Gone { outbox_id: Option<Uuid> },
    /// It runs; what runs cannot be discarded.
    Running,
    /// No job has this id.
    Unknown,
}

/// `id, envelope, status, starts, excused, crashes, at, error, errors, started`
type Row = (String, Vec<u8>, String, u32, u32, u32, i64, String, String, i64);

impl Queue {
    /// Counts one pool.
    pub async fn stats(&self, pool: Pool) -> Result<PoolStats, QueueError> {
        type Workers = Vec<(String, f64, String, i64)>;
        type Counted = (i64, u64, u64, u64, u64, i64, u8, Workers, u64, u64, HashMap<String, u64>);
        let keys = self.shared.keys(pool);
        let mut call = STATS.prepare_invoke();
        call.key(&keys.active).key(&keys.suspects).key(&keys.due).key(&keys.dead);
        call.key(&keys.workers).key(&keys.paused).key(&keys.retrying).key(&keys.tally);
        call.arg(&keys.meta).arg(&keys.inflight).arg(&keys.worker).arg(MAX_WORKERS).arg(SLOTS);
        let counted: Counted = call.invoke_async(&mut self.conn.clone()).await?;
        let (now, depth, scheduled, in_flight, dead, oldest, paused, workers, retries, per_minute, tally) =
            counted;
        let orphaned_after = self.shared.config.orphaned_after;
        let workers = workers
            .into_iter()
            .map(|(id, seen_secs, version, started_ms)| {
                let seen = Duration::try_from_secs_f64(seen_secs).unwrap_or_default();
                WorkerInfo {
                    id,
                    version,
                    started_at: time(started_ms),
                    last_seen_at: time(i64::try_from(seen.as_millis()).unwrap_or(0)),
                }
            })
            .filter(|worker| (time(now) - worker.last_seen_at).to_std().unwrap_or_default() <= orphaned_after)
            .collect();
        let oldest_age_ms = (now - oldest).try_into().unwrap_or(0);
        let tally = Tally::new(tally);
        Ok(PoolStats {
            pool,
            paused: paused == 1,
            depth,
            scheduled,
            retries,
            in_flight,
            dead,
            oldest_age_ms,
            wait_ms: tally.waits(),
            run_ms: tally.runs(),
            per_minute,
            workers,
        })
    }

    /// Counts every pool.
    pub async fn all_stats(&self) -> Result<Vec<PoolStats>, QueueError> {
        futures::future::try_join_all(Pool::ALL.map(|pool| self.stats(pool))).await
    }

    /// Jobs of one status: the first in line, the next due, the last dead; at most 1,000.
    pub async fn list(
        &self,
        pool: Pool,
        status: JobStatus,
        limit: usize,
    ) -> Result<Vec<JobDetail>, QueueError> {
        self.list_after(pool, status, 0, limit).await
    }

    /// The same after so many of them. Jobs move on between two calls: one may be missed, or be seen twice.
    pub async fn list_after(
        &self,
        pool: Pool,
        status: JobStatus,
        passed: u32,
        limit: usize,
    ) -> Result<Vec<JobDetail>, QueueError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let keys = self.shared.keys(pool);
        let mut call = LIST.prepare_invoke();
        call.key(&keys.active).key(&keys.suspects).key(&keys.due).key(&keys.dead);
        call.key(&keys.workers).key(&keys.data);
        call.arg(status.name()).arg(limit.min(MAX_LIST)).arg(&keys.meta).arg(&keys.inflight).arg(passed);
        let rows: Vec<Row> = call.invoke_async(&mut self.conn.clone()).await?;
        Ok(rows.into_iter().map(|row| detail(pool, row)).collect())
    }

    /// One job, in whichever pool it is.
    pub async fn job(&self, id: &str) -> Result<Option<JobDetail>, QueueError> {
        for pool in Pool::ALL {
            let value: redis::Value = self.intervene(pool, "detail", id).await?;
            if matches!(&value, redis::Value::Array(fields) if fields.len() > 2) {
                let row: Row = redis::from_redis_value(value).map_err(redis::RedisError::from)?;
                return Ok(Some(detail(pool, row)));
            }
        }
        Ok(None)
    }

    /// Makes a dead or scheduled job wait for a worker, with all its attempts before it.
    pub async fn retry(&self, id: &str) -> Result<Retried, QueueError> {
        for pool in Pool::ALL {
            let (answer, envelope): (String, Vec<u8>) = self.intervene(pool, "retry", id).await?;
            match answer.as_str() {
                "unknown" => {}
                "done" => return Ok(Retried::Waiting { outbox_id: outbox_id(&envelope) }),
                _ => return Ok(Retried::AlreadyDue),
            }
        }
        Ok(Retried::Unknown)
    }

    /// Retries the dead jobs of a pool, or those of one name; answers what became of each. Jobs that die
    /// meanwhile are left alone.
    pub async fn retry_all(&self, pool: Pool, job: Option<&str>) -> Result<Vec<Retried>, QueueError> {
        let (dead, mut conn) = (&self.shared.keys(pool).dead, self.conn.clone());
        let prefix = job.map_or_else(String::new, |job| format!("{job}:"));
        let mut left: isize = conn.zcard(dead).await?;
        let (mut retried, mut passed) = (Vec::new(), 0);
        while left > 0 {
            // Those that are retried leave the set, so the next page begins behind those that were passed over.
            let page: Vec<String> = conn.zrange(dead, passed, passed + left.min(500) - 1).await?;
            if page.is_empty() {
                break;
            }
            for id in page {
                left -= 1;
                if id.starts_with(&prefix) {
                    retried.push(self.retry(&id).await?);
                } else {
                    passed += 1;
                }
            }
        }
        Ok(retried)
    }

    /// Removes a job that does not run.
    pub async fn discard(&self, id: &str) -> Result<Discarded, QueueError> {
        for pool in Pool::ALL {
            let (answer, envelope): (String, Vec<u8>) = self.intervene(pool, "discard", id).await?;
            match answer.as_str() {
                "unknown" => {}
                "running" => return Ok(Discarded::Running),
                _ => return Ok(Discarded::Gone { outbox_id: outbox_id(&envelope) }),
            }
        }
        Ok(Discarded::Unknown)
    }

    /// Stops the pool's workers from starting jobs, at their next poll; what runs goes on.
    pub async fn pause(&self, pool: Pool) -> Result<(), QueueError> {
        Ok(self.conn.clone().set(&self.shared.keys(pool).paused, 1).await?)
    }

    /// Lets the pool's workers go on.
    pub async fn resume(&self, pool: Pool) -> Result<(), QueueError> {
        Ok(self.conn.clone().del(&self.shared.keys(pool).paused).await?)
    }

    async fn intervene<T: redis::FromRedisValue>(
        &self,
        pool: Pool,
        what: &str,
        id: &str,
    ) -> Result<T, QueueError> {
        let keys = self.shared.keys(pool);
        let mut call = INTERVENE.prepare_invoke();
        call.key(&keys.active).key(&keys.suspects).key(&keys.due).key(&keys.dead).key(&keys.data);
        call.key(&keys.retrying);
        call.arg(what).arg(id).arg(&keys.meta);
        Ok(call.invoke_async(&mut self.conn.clone()).await?)
    }
}

fn time(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap_or_default()
}

fn outbox_id(envelope: &[u8]) -> Option<Uuid> {
    serde_json::from_slice::<Envelope>(envelope).ok()?.outbox_id
}

fn failures(json: &str) -> Vec<Failure> {
    #[derive(Deserialize)]
    struct Kept {
        at: i64,
        attempt: u32,
        error: String,
    }
    let kept: Vec<Kept> = serde_json::from_str(json).unwrap_or_default();
    kept.into_iter()
        .map(|kept| Failure { at: time(kept.at), attempt: kept.attempt, error: kept.error })
        .collect()
}

fn detail(pool: Pool, row: Row) -> JobDetail {
    let (id, json, status, starts, excused, crashes, at_ms, error, errors, started_ms) = row;
    let envelope = serde_json::from_slice::<Envelope>(&json).ok();
    let name = id.split(':').next().unwrap_or_default().to_owned();
    let payload = envelope.as_ref().and_then(|e| serde_json::from_str(e.payload.get()).ok());
    JobDetail {
        pool,
        job: envelope.as_ref().map_or(name, |e| e.job.clone()),
        status: match status.as_str() {
            "Scheduled" => JobStatus::Scheduled,
            "Running" => JobStatus::Running,
            "Dead" => JobStatus::Dead,
            _ => JobStatus::Pending,
        },
        attempts: starts.saturating_sub(excused),
        crashes,
        at: time(at_ms),
        started_at: (started_ms > 0).then(|| time(started_ms)),
        error: Some(error).filter(|error| !error.is_empty()),
        errors: failures(&errors),
        payload: payload.unwrap_or_default(),
        traceparent: envelope.as_ref().and_then(|e| e.traceparent.clone()),
        outbox_id: envelope.and_then(|e| e.outbox_id),
        id,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_redacted_keeps_its_shape() {
        let payload =
            json!({"mail_id": "0199", "attempt": 2, "to": ["a@b.example", null], "deep": {"on": true}});
        let redacted = json!({"mail_id": "[redacted]", "attempt": "[redacted]", "to": ["[redacted]", null],
            "deep": {"on": "[redacted]"}});
        assert_eq!(redact(payload), redacted);
    }
}
