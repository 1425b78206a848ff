//! `evently worker`: runs worker pools until it is told to stop.

use anyhow::Context as _;
use domain::{config::Env, jobs::Pool};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
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

/// How much less of a busy processor the threads of pools that give way get: a tenth of another thread's share.
const NICENESS: i32 = 10;

/// Runs until SIGTERM or SIGINT, then ends within 20 s: jobs that are not done by then are handed back. Fails
/// when a pool cannot be kept running; whoever started the process is to start it again.
pub async fn run(args: WorkerArgs, env: &Env) -> anyhow::Result<()> {
    let mut pools = if args.all { Pool::ALL.to_vec() } else { args.pools };
    pools.sort_unstable();
    pools.dedup();
    let stop = shutdown::on_signal()?;
    serve_metrics(env)?;
    let work = Work { env: env.clone(), concurrency: args.concurrency.map(usize::from), stop };
    let (behind, ahead): (Vec<Pool>, Vec<Pool>) = pools.into_iter().partition(|pool| pool.gives_way());
    let (ahead, behind) = tokio::join!(work.clone().run(ahead), work.run_behind(behind));
    ahead.and(behind)?;
    tracing::info!("stopped");
    Ok(())
}

/// What the pools of this process have in common.
#[derive(Clone)]
struct Work {
    env: Env,
    concurrency: Option<usize>,
    stop: CancellationToken,
}

impl Work {
    /// Runs these pools until they are told to stop. If they cannot be kept running, the others are told so too.
    async fn run(self, pools: Vec<Pool>) -> anyhow::Result<()> {
        if pools.is_empty() {
            return Ok(());
        }
        let _others = self.stop.clone().drop_guard();
        let ctx = Context::from_env(&self.env).map_err(anyhow::Error::from_boxed)?;
        Ok(workers::run(&pools, ctx, self.concurrency, self.stop.clone()).await?)
    }

    /// The same in threads that give way to all others, and with connections of their own: what drives a connection
    /// must not give way to those who wait for it.
    async fn run_behind(self, pools: Vec<Pool>) -> anyhow::Result<()> {
        if pools.is_empty() {
            return Ok(());
        }
        let (tell, ended) = oneshot::channel();
        let behind = move || -> anyhow::Result<()> {
            // Of this thread, and of those that it starts. Mails that do not give way are better than none.
            if let Err(error) = rustix::process::nice(NICENESS) {
                tracing::warn!(%error, "mails and figures do not give way");
            }
            tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .thread_name("behind")
                .build()?
                .block_on(self.run(pools))
        };
        std::thread::Builder::new().name("behind".to_owned()).spawn(move || {
            // Nobody listens any more when the process ends.
            let _ = tell.send(behind());
        })?;
        ended.await.context("the pools behind panicked")?
    }
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
