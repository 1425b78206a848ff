//! `evently jobs`: what operators see of the queues, and what they may do to them.

use std::io::Write;

use anyhow::Context;
use domain::{
    clock,
    config::Env,
    db::{Db, DbConfig},
    jobs::Pool,
    operations::Operator,
    payments::reconcile,
    schedules::{self, Schedule},
};
use queue::{JobDetail, JobStatus, Operations, PoolStats, Queue, QueueConfig};
use serde_json::json;

/// What to see or do.
#[derive(Debug, clap::Args)]
pub struct JobsArgs {
    #[command(subcommand)]
    pub command: JobsCommand,
    /// JSON, for programs.
    #[arg(long, global = true)]
    pub json: bool,
    /// Why, for the audit log, which keeps what is changed, when and by whom.
    #[arg(long, global = true)]
    pub reason: Option<String>,
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
    /// Show one job, its attempts and their errors.
    Show {
        id: String,
        /// Show what its arguments say, too; the audit log keeps that you have seen it.
        #[arg(long)]
        reveal: bool,
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
    /// Show what is done over and over: when it last ran, where, and how it ended.
    Schedules,
    /// Do at once what is done over and over.
    Run {
        #[arg(value_name = "SCHEDULE")]
        name: String,
    },
}

/// Does what was asked and prints what came of it.
pub async fn run(args: JobsArgs, env: &Env) -> anyhow::Result<()> {
    let queue = Queue::connect(&QueueConfig::from_env(env)?)?;
    let operator = Operator { id: None, by: Some(user(env)), reason: args.reason.clone() };
    // Postgres is for what is changed, and for schedules; what is only looked at does without.
    let operations = || -> anyhow::Result<Operations> {
        let config = DbConfig::from_env(env).context("the audit log is there")?;
        Ok(Operations { queue: queue.clone(), db: Db::new(&config) })
    };
    let text = match args.command {
        JobsCommand::List { pool, status, limit } => {
            let mut jobs = Vec::new();
            for pool in pool.map_or_else(|| Pool::ALL.to_vec(), |pool| vec![pool]) {
                jobs.extend(queue.list(pool, status, limit).await?.into_iter().map(JobDetail::redacted));
            }
            if args.json { serde_json::to_string_pretty(&jobs)? } else { jobs_table(&jobs) }
        }
        JobsCommand::Show { id, reveal } => {
            let job = if reveal {
                operations()?.reveal(&operator, &id).await.context(id)?
            } else {
                queue.job(&id).await?.with_context(|| format!("no job has the id {id}"))?.redacted()
            };
            if args.json { serde_json::to_string_pretty(&job)? } else { job_text(&job) }
        }
        JobsCommand::Stats => {
            let stats = queue.all_stats().await?;
            if args.json { serde_json::to_string_pretty(&stats)? } else { stats_table(&stats) }
        }
        JobsCommand::Retry { id: Some(id), .. } => {
            operations()?.retry(&operator, &id).await.with_context(|| id.clone())?;
            said(args.json, &id, "retried")
        }
        JobsCommand::Retry { id: None, pool, job, .. } => {
            let pool = pool.context("--pool is missing")?;
            let retried = operations()?.retry_all(&operator, pool, job.as_deref()).await?;
            said(args.json, pool.name(), &format!("{retried} retried"))
        }
        JobsCommand::Discard { id } => {
            operations()?.discard(&operator, &id).await.with_context(|| id.clone())?;
            said(args.json, &id, "discarded")
        }
        JobsCommand::Payments { limit } => payments(env, limit, args.json).await?,
        JobsCommand::Pause { pool } => {
            operations()?.pause(&operator, pool).await?;
            said(args.json, pool.name(), "paused")
        }
        JobsCommand::Resume { pool } => {
            operations()?.resume(&operator, pool).await?;
            said(args.json, pool.name(), "resumed")
        }
        JobsCommand::Schedules => {
            let all = schedules::list(&operations()?.db).await?;
            if args.json { serde_json::to_string_pretty(&all)? } else { schedules_table(&all) }
        }
        JobsCommand::Run { name } => {
            operations()?.run_now(&operator, &name).await.with_context(|| name.clone())?;
            said(args.json, &name, "runs within seconds; `evently jobs schedules` shows how it ended")
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

/// Who has the command line, as far as the system says.
fn user(env: &Env) -> String {
    let name = env.get("SUDO_USER").or(env.get("USER")).map(str::to_owned);
    let name = name.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
    format!("{name}, on the command line")
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

fn job_text(job: &JobDetail) -> String {
    let time = |time: chrono::DateTime<chrono::Utc>| time.format("%Y-%m-%d %H:%M:%S").to_string();
    let facts = [
        ("id", job.id.clone()),
        ("pool", job.pool.to_string()),
        ("job", job.job.clone()),
        ("status", format!("{} ({})", job.status.name(), time(job.at))),
        ("started", job.started_at.map_or_else(|| "never".to_owned(), time)),
        ("attempts", job.attempts.to_string()),
        ("crashes", job.crashes.to_string()),
        ("arguments", job.payload.to_string()),
        ("trace", job.traceparent.clone().unwrap_or_default()),
    ];
    let facts = table(facts.into_iter().map(|(name, fact)| [name.to_owned(), fact]));
    let errors = job
        .errors
        .iter()
        .map(|failure| format!("{}  attempt {}: {}", time(failure.at), failure.attempt, failure.error));
    std::iter::once(facts).chain(errors).collect::<Vec<_>>().join("\n")
}

fn stats_table(stats: &[PoolStats]) -> String {
    let head = [
        "POOL",
        "",
        "WAITING",
        "OLDEST",
        "SCHEDULED",
        "RETRIES",
        "RUNNING",
        "DEAD",
        "A MINUTE",
        "WAIT P95",
        "RUN P95",
        "WORKERS",
    ]
    .map(str::to_owned);
    let millis = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
    let rows = stats.iter().map(|pool| {
        #[expect(clippy::cast_precision_loss, reason = "an age is shown to a tenth of a second")]
        let oldest = pool.oldest_age_ms as f64 / 1_000.0;
        [
            pool.pool.to_string(),
            if pool.paused { "paused" } else { "" }.to_owned(),
            pool.depth.to_string(),
            format!("{oldest:.1} s"),
            pool.scheduled.to_string(),
            pool.retries.to_string(),
            pool.in_flight.to_string(),
            pool.dead.to_string(),
            pool.per_minute.to_string(),
            millis(pool.wait_ms.p95),
            millis(pool.run_ms.p95),
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

fn schedules_table(all: &[Schedule]) -> String {
    let head = ["SCHEDULE", "POOL", "EVERY", "LAST RUN", "OUTCOME", "BY", "ERROR"].map(str::to_owned);
    let rows = all.iter().map(|schedule| {
        #[expect(clippy::cast_precision_loss, reason = "a pause is shown to a tenth of a second")]
        let every = schedule.every_ms as f64 / 1_000.0;
        let ago = schedule.last_started_at.map(|at| (clock::now() - at).num_seconds());
        let wanted = if schedule.wanted_at.is_some() { ", wanted now" } else { "" };
        [
            schedule.name.clone(),
            schedule.pool.clone(),
            format!("{every} s"),
            ago.map_or_else(|| "never".to_owned(), |ago| format!("{ago} s ago")) + wanted,
            schedule.outcome.clone().unwrap_or_default(),
            schedule.process.clone().unwrap_or_default(),
            schedule.error.clone().unwrap_or_default().chars().take(120).collect(),
        ]
    });
    table(std::iter::once(head).chain(rows))
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
