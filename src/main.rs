//! The one binary with every role of Evently: what it can be asked to do, and who does it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use domain::config::Env;
use evently::{
    analytics, api, bench, doctor, jobs, migrate, open_files, reconcile, running, seed, telemetry, up, worker,
};

/// Sells tickets when far more people want them than there are seats.
#[derive(Parser)]
#[command(name = "evently", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything on this machine: Postgres, Redis, the API and every worker pool.
    Up,
    /// Serve the HTTP API.
    Api,
    /// Run worker pools.
    Worker(worker::WorkerArgs),
    /// Bring the database's schema up to date and see to it that there is an admin.
    Migrate,
    /// Fill a database with something to sell and people to buy it.
    Seed(seed::SeedArgs),
    /// Look after the queues: list, retry and discard jobs, pause and resume pools.
    Jobs(jobs::JobsArgs),
    /// Compare the seats in Redis with Postgres, and mend what differs.
    Reconcile,
    /// Compare the figures with the booking log, or count them anew.
    Analytics(analytics::AnalyticsArgs),
    /// Look at everything that Evently needs, and say what is wrong and what to do about it.
    Doctor,
    /// Measure how fast this machine is with Evently, on a system of its own.
    Bench(bench::BenchArgs),
    /// Serve an axum that does nothing: what `bench` compares with.
    #[command(hide = true)]
    Bare,
}

/// Requests, jobs and mails are made of small pieces: with glibc's allocator, a twelfth of the time went to it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let env = Env::from_process();
    match run(command, &env) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("evently: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, env: &Env) -> anyhow::Result<()> {
    // What looks after a running system finds the one of this data directory by itself.
    let found = || running::env(env);
    if matches!(command, Command::Up | Command::Api | Command::Worker(_) | Command::Bench(_) | Command::Bare)
    {
        open_files::raise();
    }
    match command {
        Command::Up => up::main(env),
        Command::Bench(args) => bench::main(&args),
        Command::Bare => in_runtime(env.clone(), async |_| Ok(::api::bare::serve().await?)),
        Command::Api => in_runtime(env.clone(), api::run),
        Command::Worker(args) => in_runtime(env.clone(), async |env| worker::run(args, &env).await),
        Command::Migrate => in_runtime(env.clone(), migrate::run),
        Command::Seed(args) => in_runtime(found()?, async |env| seed::run(args, &env).await),
        Command::Jobs(args) => in_runtime(found()?, async |env| jobs::run(args, &env).await),
        Command::Doctor => in_runtime(found()?, doctor::run),
        Command::Reconcile => in_runtime(found()?, reconcile::run),
        Command::Analytics(args) => in_runtime(found()?, async |env| analytics::run(args, &env).await),
    }
}

/// Runs a role in the multi-threaded runtime, with logs and traces going where the environment says.
fn in_runtime(env: Env, role: impl AsyncFnOnce(Env) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let _telemetry = telemetry::init(&env, Vec::new())?;
        role(env).await
    })
}
