//! `evently worker`: runs worker pools until it is told to stop.

use anyhow::Context as _;
use domain::{config::Env, jobs::Pool};
use workers::Context;

use crate::{shutdown, telemetry};

/// Which pools to run.
#[derive(Debug, clap::Args)]
pub struct WorkerArgs {
    /// The pools: confirm, expiry, waitlist, email, pricing, analytics, upkeep.
    #[arg(required_unless_present = "all", value_name = "POOL")]
    pub pools: Vec<Pool>,
    /// Every pool in this one process.
    #[arg(long, conflicts_with = "pools")]
    pub all: bool,
    /// How many jobs of each pool run at once, instead of what the pool says.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub concurrency: Option<u16>,
}

/// Runs until SIGTERM or SIGINT, then ends within 20 s: jobs that are not done by then are handed back. Fails
/// when a pool cannot be kept running; whoever started the process is to start it again.
pub async fn run(args: WorkerArgs, env: &Env) -> anyhow::Result<()> {
    let mut pools = if args.all { Pool::ALL.to_vec() } else { args.pools };
    pools.sort_unstable();
    pools.dedup();
    let shutdown = shutdown::on_signal()?;
    serve_metrics(env)?;
    let ctx = Context::from_env(env).map_err(anyhow::Error::from_boxed)?;
    workers::run(&pools, ctx, args.concurrency.map(usize::from), shutdown).await?;
    tracing::info!("stopped");
    Ok(())
}

/// Serves metrics where the environment says. The default address may be the API's already, on the same machine:
/// then this process goes without.
fn serve_metrics(env: &Env) -> anyhow::Result<()> {
    if let Some(address) = env.get("EVENTLY_METRICS_ADDR") {
        return telemetry::serve_metrics(address.parse().context("EVENTLY_METRICS_ADDR")?);
    }
    if let Err(error) = telemetry::serve_metrics(telemetry::METRICS_ADDR) {
        tracing::warn!("{error:#}; set EVENTLY_METRICS_ADDR to see this process's metrics");
    }
    Ok(())
}
