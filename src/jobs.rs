//! `evently jobs`: what operators see of the queues, and what they may do to them.

use std::io::Write;

use anyhow::{Context, bail};
use domain::{
    clock,
    config::Env,
    db::{Db, DbConfig},
    jobs::Pool,
    outbox,
    payments::reconcile,
};
use queue::{Discarded, JobDetail, JobStatus, PoolStats, Queue, QueueConfig, Retried};
use serde_json::json;
use uuid::Uuid;

/// What to see or do.
#[derive(Debug, clap::Args)]
pub struct JobsArgs {
    #[command(subcommand)]
    pub command: JobsCommand,
    /// JSON, for programs.
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, clap::Subcommand)]
pub enum JobsCommand {
    /// Show jobs, the dead ones unless told otherwise.
    List {
        /// Only this pool's.
        #[arg(long)]
        pool: Option<Pool>,
        /// pending, scheduled, running or dead.
        #[arg(long, default_value = "dead")]
        status: JobStatus,
        /// The most to show of a pool, up to 1000.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Run a dead or scheduled job now, with all its attempts before it.
    Retry {
        #[arg(required_unless_present = "all", conflicts_with_all = ["all", "pool", "job"])]
        id: Option<String>,
        /// Every dead job of the pool.
        #[arg(long, requires = "pool")]
        all: bool,
        #[arg(long, requires = "all")]
        pool: Option<Pool>,
        /// Only jobs of this name.
        #[arg(long, requires = "all")]
        job: Option<String>,
    },
    /// Remove a job that does not run.
    Discard { id: String },
    /// Stop a pool's workers from starting jobs.
    Pause { pool: Pool },
    /// Let a pool's workers go on.
    Resume { pool: Pool },
    /// Count every pool's jobs and show its workers.
    Stats,
    /// Show payments that are orphaned, where the provider's books and ours differ, and what has not come to rest.
    Payments {
        /// The most to show, up to 1000.
        #[arg(long, default_value_t = 50)]
        limit: u16,
    },
}

/// Does what was asked and prints what came of it.
pub async fn run(args: JobsArgs, env: &Env) -> anyhow::Result<()> {
    let queue = Queue::connect(&QueueConfig::from_env(env)?)?;
    let text = match args.command {
        JobsCommand::List { pool, status, limit } => {
            let mut jobs = Vec::new();
            for pool in pool.map_or_else(|| Pool::ALL.to_vec(), |pool| vec![pool]) {
                jobs.extend(queue.list(pool, status, limit).await?);
            }
            if args.json { serde_json::to_string_pretty(&jobs)? } else { jobs_table(&jobs) }
        }
        JobsCommand::Stats => {
            let stats = queue.all_stats().await?;
            if args.json { serde_json::to_string_pretty(&stats)? } else { stats_table(&stats) }
        }
        JobsCommand::Retry { id: Some(id), .. } => {
            let retried = queue.retry(&id).await?;
            revive(env, std::slice::from_ref(&retried)).await?;
            match retried {
                Retried::Waiting { .. } => said(args.json, &id, "retried"),
                Retried::AlreadyDue => said(args.json, &id, "runs or waits to run already"),
                Retried::Unknown => bail!("no job has the id {id}"),
            }
        }
        JobsCommand::Retry { id: None, pool, job, .. } => {
            let pool = pool.context("--pool is missing")?;
            let retried = queue.retry_all(pool, job.as_deref()).await?;
            revive(env, &retried).await?;
            said(args.json, pool.name(), &format!("{} retried", retried.len()))
        }
        JobsCommand::Discard { id } => match queue.discard(&id).await? {
            Discarded::Gone { outbox_id } => {
                if let Some(outbox_id) = outbox_id {
                    bury(env, outbox_id).await?;
                }
                said(args.json, &id, "discarded")
            }
            Discarded::Running => bail!("{id} runs at this moment; try again when it does not"),
            Discarded::Unknown => bail!("no job has the id {id}"),
        },
        JobsCommand::Payments { limit } => payments(env, limit, args.json).await?,
        JobsCommand::Pause { pool } => {
            queue.pause(pool).await?;
            said(args.json, pool.name(), "paused")
        }
        JobsCommand::Resume { pool } => {
            queue.resume(pool).await?;
            said(args.json, pool.name(), "resumed")
        }
    };
    writeln!(std::io::stdout(), "{}", text.trim_end())?;
    Ok(())
}

/// What the last reconciliation found, and how long what is open has waited.
async fn payments(env: &Env, limit: u16, json: bool) -> anyhow::Result<String> {
    let db = Db::new(&DbConfig::from_env(env)?);
    let (differences, waiting) = futures::try_join!(
        reconcile::differences(&db, i64::from(limit.min(1_000))),
        reconcile::waiting(&db)
    )?;
    if json {
        return Ok(serde_json::to_string_pretty(&json!({ "orphaned": differences, "waiting": waiting }))?);
    }
    let head = ["OPEN", "COUNT", "OLDEST"].map(str::to_owned);
    let rows = waiting.iter().map(|waiting| {
        [waiting.kind.clone(), waiting.count.to_string(), format!("{:.0} s", waiting.oldest_secs)]
    });
    let open = table(std::iter::once(head).chain(rows));
    if differences.is_empty() {
        return Ok(format!("{open}\n\nno payment is orphaned"));
    }
    let head = ["ORPHANED", "PROVIDER", "REFERENCE", "BOOKING", "SINCE", "WHAT"].map(str::to_owned);
    let rows = differences.iter().map(|one| {
        [
            one.kind.clone(),
            one.provider.clone(),
            one.reference.clone().unwrap_or_else(|| one.provider_key.clone()),
            one.booking_id.map(|id| id.to_string()).unwrap_or_default(),
            one.found_at.format("%Y-%m-%d %H:%M:%S").to_string(),
            one.detail.clone(),
        ]
    });
    Ok(format!("{open}\n\n{}", table(std::iter::once(head).chain(rows))))
}

/// The outbox's rows of retried jobs are the relay's to care for again.
async fn revive(env: &Env, retried: &[Retried]) -> anyhow::Result<()> {
    let rows: Vec<Uuid> = retried
        .iter()
        .filter_map(|retried| if let Retried::Waiting { outbox_id } = retried { *outbox_id } else { None })
        .collect();
    if !rows.is_empty() {
        let db = Db::new(&DbConfig::from_env(env).context("the job has a row in the outbox")?);
        let mut conn = db.conn().await?;
        for row in rows {
            outbox::revive(&mut conn, row).await?;
        }
    }
    Ok(())
}

/// Without this the relay would bring a discarded job back.
async fn bury(env: &Env, row: Uuid) -> anyhow::Result<()> {
    let db = Db::new(&DbConfig::from_env(env).context("the job has a row in the outbox")?);
    Ok(outbox::bury(&mut *db.conn().await?, row, "discarded by an operator").await?)
}

fn said(json: bool, what: &str, outcome: &str) -> String {
    if json {
        json!({ "subject": what, "outcome": outcome }).to_string()
    } else {
        format!("{what}: {outcome}")
    }
}

fn jobs_table(jobs: &[JobDetail]) -> String {
    if jobs.is_empty() {
        return "no such jobs".to_owned();
    }
    let head = ["ID", "POOL", "STATUS", "ATTEMPTS", "AT", "ERROR"].map(str::to_owned);
    let rows = jobs.iter().map(|job| {
        let error = job.error.as_deref().unwrap_or_default().lines().next().unwrap_or_default();
        [
            job.id.clone(),
            job.pool.to_string(),
            job.status.name().to_owned(),
            job.attempts.to_string(),
            job.at.format("%Y-%m-%d %H:%M:%S").to_string(),
            error.chars().take(120).collect(),
        ]
    });
    table(std::iter::once(head).chain(rows))
}

fn stats_table(stats: &[PoolStats]) -> String {
    let head =
        ["POOL", "", "WAITING", "OLDEST", "SCHEDULED", "RUNNING", "DEAD", "WORKERS"].map(str::to_owned);
    let rows = stats.iter().map(|pool| {
        #[expect(clippy::cast_precision_loss, reason = "an age is shown to a tenth of a second")]
        let oldest = pool.oldest_age_ms as f64 / 1_000.0;
        [
            pool.pool.to_string(),
            if pool.paused { "paused" } else { "" }.to_owned(),
            pool.depth.to_string(),
            format!("{oldest:.1} s"),
            pool.scheduled.to_string(),
            pool.in_flight.to_string(),
            pool.dead.to_string(),
            pool.workers.len().to_string(),
        ]
    });
    let workers = stats.iter().flat_map(|pool| &pool.workers).map(|worker| {
        let up = (clock::now() - worker.started_at).num_seconds();
        let seen = (clock::now() - worker.last_seen_at).num_seconds();
        format!("{}  version {}, up {up} s, seen {seen} s ago", worker.id, worker.version)
    });
    std::iter::once(table(std::iter::once(head).chain(rows))).chain(workers).collect::<Vec<_>>().join("\n")
}

/// Columns as wide as their widest cell.
fn table<const N: usize>(rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<_> = rows.collect();
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["ID", "POOL"], ["send_mail:1", "email"]].map(|row| row.map(str::to_owned));
        assert_eq!(table(rows.into_iter()), "ID           POOL\nsend_mail:1  email");
    }
}
