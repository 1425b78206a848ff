//! What operators do, over HTTP and on the command line: each deed is in the audit log, with who and why.
//!
//! The log is written first. A deed that then fails, or comes too late, is followed by a line that says so, if there is
//! still somebody to write it.

use domain::{
    db::Db,
    fault::Fault,
    jobs::Pool,
    operations::{self, Operator, Subject},
    schedules::{self, Schedule},
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    client::Queue,
    inspect::{Discarded, JobDetail, JobStatus, PoolStats, Retried},
};

/// How many dead jobs are retried between two looks at the outbox.
const BATCH: usize = 500;

/// Why an operator does not get what they ask for.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    #[error("there is no such job or schedule")]
    Unknown,
    #[error("the job runs at this moment")]
    Running,
    #[error("the job runs or waits to run already")]
    AlreadyDue,
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<crate::QueueError> for OperateError {
    fn from(error: crate::QueueError) -> Self {
        Self::Fault(error.into())
    }
}

/// The queues and the log, in an operator's hands. Cheap to make.
#[derive(Clone)]
pub struct Operations {
    pub queue: Queue,
    pub db: Db,
}

impl Operations {
    /// Stops the pool's workers from starting jobs, within a poll of each. Safe to repeat.
    pub async fn pause(&self, operator: &Operator, pool: Pool) -> Result<PoolStats, OperateError> {
        self.note(operator, "pool.paused", Subject::Pool(pool.name())).await?;
        self.queue.pause(pool).await?;
        Ok(self.queue.stats(pool).await?)
    }

    /// Lets the pool's workers go on. Safe to repeat.
    pub async fn resume(&self, operator: &Operator, pool: Pool) -> Result<PoolStats, OperateError> {
        self.note(operator, "pool.resumed", Subject::Pool(pool.name())).await?;
        self.queue.resume(pool).await?;
        Ok(self.queue.stats(pool).await?)
    }

    /// Makes a dead or scheduled job wait for a worker, with all its attempts before it.
    pub async fn retry(&self, operator: &Operator, id: &str) -> Result<(), OperateError> {
        let job = self.queue.job(id).await?.ok_or(OperateError::Unknown)?;
        if matches!(job.status, JobStatus::Pending | JobStatus::Running) {
            return Err(OperateError::AlreadyDue);
        }
        self.note(operator, "job.retried", Subject::Job(id)).await?;
        match self.queue.retry(id).await? {
            Retried::Waiting { outbox_id } => Ok(operations::revive(&self.db, outbox_id.as_slice()).await?),
            Retried::AlreadyDue => self.too_late(operator, id, OperateError::AlreadyDue).await,
            Retried::Unknown => self.too_late(operator, id, OperateError::Unknown).await,
        }
    }

    /// Retries the dead jobs of a pool, or those of one kind; answers how many. Jobs that die meanwhile are left alone.
    pub async fn retry_all(
        &self,
        operator: &Operator,
        pool: Pool,
        job: Option<&str>,
    ) -> Result<usize, OperateError> {
        let detail = json!({"job": job});
        operations::note(&self.db, operator, "jobs.retried", Subject::Pool(pool.name()), &detail).await?;
        let retried = self.queue.retry_all(pool, job).await?;
        let mut count = 0;
        for batch in retried.chunks(BATCH) {
            let rows: Vec<Uuid> = batch.iter().filter_map(revived).collect();
            operations::revive(&self.db, &rows).await?;
            count += batch.iter().filter(|one| matches!(one, Retried::Waiting { .. })).count();
        }
        Ok(count)
    }

    /// Removes a job that does not run.
    pub async fn discard(&self, operator: &Operator, id: &str) -> Result<(), OperateError> {
        let job = self.queue.job(id).await?.ok_or(OperateError::Unknown)?;
        if job.status == JobStatus::Running {
            return Err(OperateError::Running);
        }
        operations::note_discard(&self.db, operator, id, job.outbox_id).await?;
        match self.queue.discard(id).await? {
            Discarded::Gone { .. } => Ok(()),
            Discarded::Running => {
                // It ends by itself; until then its row is the relay's again.
                operations::revive(&self.db, job.outbox_id.as_slice()).await?;
                self.too_late(operator, id, OperateError::Running).await
            }
            Discarded::Unknown => self.too_late(operator, id, OperateError::Unknown).await,
        }
    }

    /// One job with its arguments, which the log says that somebody has seen.
    pub async fn reveal(&self, operator: &Operator, id: &str) -> Result<JobDetail, OperateError> {
        let job = self.queue.job(id).await?.ok_or(OperateError::Unknown)?;
        self.note(operator, "job.revealed", Subject::Job(id)).await?;
        Ok(job)
    }

    /// Lets what is done over and over be done at once, by whichever process does it: within seconds.
    pub async fn run_now(&self, operator: &Operator, name: &str) -> Result<Schedule, OperateError> {
        if !operations::run_now(&self.db, operator, name).await? {
            return Err(OperateError::Unknown);
        }
        schedules::read(&self.db, name).await?.ok_or(OperateError::Unknown)
    }

    async fn note(
        &self,
        operator: &Operator,
        action: &'static str,
        subject: Subject<'_>,
    ) -> Result<(), Fault> {
        operations::note(&self.db, operator, action, subject, &json!({})).await
    }

    async fn too_late(&self, operator: &Operator, id: &str, why: OperateError) -> Result<(), OperateError> {
        let detail = json!({"because": why.to_string()});
        operations::note(&self.db, operator, "job.left_alone", Subject::Job(id), &detail).await?;
        Err(why)
    }
}

fn revived(retried: &Retried) -> Option<Uuid> {
    if let Retried::Waiting { outbox_id } = retried { *outbox_id } else { None }
}
