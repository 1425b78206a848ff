//! The programs that come with Postgres and Redis, run against the system's own servers.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail};
use domain::config::Env;
use tokio::process::Command;

use crate::launch::postgres;

/// No single statement or limit takes longer.
const PATIENCE: Duration = Duration::from_mins(15);

#[derive(Clone, Debug)]
pub(super) struct Tools {
    programs: PathBuf,
    database: String,
    socket: String,
}

impl Tools {
    pub(super) fn new(env: &Env) -> anyhow::Result<Self> {
        let socket = env.require("REDIS_URL")?.trim_start_matches("redis+unix://").to_owned();
        let programs = postgres::programs(None).context("no Postgres is installed")?;
        Ok(Self { programs, database: env.require("DATABASE_URL")?.to_owned(), socket })
    }

    /// Runs statements; answers the values of the first row, one a column.
    pub(super) async fn psql(&self, sql: &str) -> anyhow::Result<Vec<String>> {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-XqAt", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-d", &self.database, "-c", sql]);
        let out = output(psql, "psql").await?;
        Ok(out.lines().next().unwrap_or_default().split('\t').map(str::to_owned).collect())
    }

    /// Runs a script with so many clients at once; answers transactions a second.
    pub(super) async fn pgbench(&self, script: &Path, clients: u32, time: Duration) -> anyhow::Result<f64> {
        let seconds = time.as_secs().max(1).to_string();
        let mut pgbench = Command::new(self.programs.join("pgbench"));
        pgbench.args(["-n", "-M", "prepared", "-c", &clients.to_string(), "-j", "1", "-T", &seconds, "-f"]);
        pgbench.arg(script).arg(&self.database);
        let out = output(pgbench, "pgbench").await?;
        tps(&out).with_context(|| format!("pgbench: {out}"))
    }

    /// Runs one command so often, from so many connections, `pipeline` of them at once on each; answers how many a
    /// second. `__rand_int__` in it is another number each time.
    pub(super) async fn redis_benchmark(
        &self,
        command: &[String],
        clients: u32,
        pipeline: u32,
        count: u64,
    ) -> anyhow::Result<f64> {
        let mut bench = Command::new("redis-benchmark");
        bench.args(["-s", &self.socket, "-c", &clients.to_string(), "-n", &count.to_string()]);
        bench.args(["-P", &pipeline.to_string(), "-r", "2000000000", "--csv"]).args(command);
        let out = output(bench, "redis-benchmark").await?;
        rps(&out).with_context(|| format!("redis-benchmark: {out}"))
    }

    pub(super) async fn redis(&self, command: &[&str]) -> anyhow::Result<String> {
        let mut cli = Command::new("redis-cli");
        cli.args(["-s", &self.socket]).args(command);
        output(cli, "redis-cli").await
    }
}

async fn output(mut command: Command, name: &str) -> anyhow::Result<String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let running = command.spawn().with_context(|| format!("cannot run {name}"))?.wait_with_output();
    let output = tokio::time::timeout(PATIENCE, running).await.with_context(|| format!("{name} hangs"))??;
    if !output.status.success() {
        bail!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The transactions a second that pgbench found.
fn tps(output: &str) -> Option<f64> {
    let line = output.lines().find_map(|line| line.strip_prefix("tps = "))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The requests a second of the last line of redis-benchmark's CSV. The first field is the command, commas and all.
fn rps(csv: &str) -> Option<f64> {
    let numbers = csv.trim().lines().next_back()?.rsplit("\",\"").nth(6)?;
    numbers.trim_matches('"').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_programs_print() {
        let pgbench = "latency average = 3.1 ms\ninitial connection time = 9.1 ms\ntps = 2595.25 (without initial connection time)\n";
        assert_eq!(tps(pgbench), Some(2595.25));
        let csv = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\"p99_latency_ms\",\"max_latency_ms\"\n\
            \"EVALSHA a,\"b\" 6\",\"49700.80\",\"0.5\",\"0.1\",\"0.4\",\"0.9\",\"1.2\",\"3.0\"\n";
        assert_eq!(rps(csv), Some(49700.80));
        assert_eq!((tps("no"), rps("no")), (None, None));
    }
}
