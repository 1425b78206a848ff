//! `evently up`: everything on this machine, in the right order, kept running until told to stop.

pub(crate) mod probe;
mod process;
mod servers;
pub(crate) mod settings;

use std::{
    collections::BTreeMap,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, bail};
use domain::config::Env;
use rustix::process::Signal;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::{
    process::{Process, Spec},
    servers::Servers,
    settings::Settings,
};
use crate::{
    launch::{command, install},
    running::{self, Lock, State},
};

/// Tells people what happens, on standard error.
macro_rules! say {
    ($($message:tt)*) => { eprintln!("evently: {}", format_args!($($message)*)) };
}
use say;

/// Runs until SIGINT, SIGTERM or SIGHUP, then ends everything in order, in less than 30 seconds.
pub fn main(env: &Env) -> anyhow::Result<()> {
    // One thread, the process's main one: children are tied to the thread that spawns them.
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(env))
}

async fn run(env: &Env) -> anyhow::Result<()> {
    let data_dir = running::data_dir(env)?;
    std::fs::create_dir_all(&data_dir).with_context(|| format!("cannot make {}", data_dir.display()))?;
    let lock = Lock::take(&data_dir)?;
    let (stop, now) = (CancellationToken::new(), CancellationToken::new());
    tokio::spawn(watch_signals(stop.clone(), now.clone())?);

    let mut up = Up::new(Settings::new(env, &data_dir)?, lock);
    let started = tokio::select! {
        started = up.start(env) => started,
        () = stop.cancelled() => Ok(()),
    };
    match &started {
        Ok(()) => stop.cancelled().await,
        Err(error) => say!("{error:#}"),
    }
    up.stop(&now).await;
    started.context("`evently up` did not start")
}

/// The first signal stops in good order, the second at once.
fn watch_signals(
    stop: CancellationToken,
    now: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        for token in [stop, now] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            token.cancel();
        }
    })
}

/// Everything that runs.
struct Up {
    settings: Settings,
    shared: Arc<Shared>,
    processes: Vec<(Tier, Process)>,
}

/// What is stopped together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tier {
    Server,
    Worker,
    Api,
}

/// The lock and what the state file says, kept current as processes come and go.
struct Shared {
    lock: Lock,
    data_dir: PathBuf,
    state: Mutex<State>,
}

impl Shared {
    fn update(&self, change: impl FnOnce(&mut State)) {
        // Nothing panics while it is locked; if something did, the state would at worst lack a pid.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        if let Err(error) = self.lock.publish(&self.data_dir, &state) {
            say!("cannot write the state file: {error:#}");
        }
    }
}

impl Up {
    fn new(settings: Settings, lock: Lock) -> Self {
        let state = State {
            pid: std::process::id(),
            url: settings.url(),
            processes: BTreeMap::new(),
            env: settings.env.clone(),
        };
        let shared = Shared { lock, data_dir: settings.data_dir.clone(), state: Mutex::new(state) };
        Self { settings, shared: Arc::new(shared), processes: Vec::new() }
    }

    /// Starts everything, and says so when all of it is ready.
    async fn start(&mut self, env: &Env) -> anyhow::Result<()> {
        let begun = Instant::now();
        self.start_servers(env).await?;
        let settings = &self.settings.env;
        self.shared.update(|state| {
            state.env.clone_from(settings);
            state.env.retain(|name, _| !name.starts_with("EVENTLY_ADMIN_"));
        });
        say!("migrating");
        self.finish(&["migrate"]).await?;
        self.finish(&["seed", "--if-empty"]).await?;
        say!("starting the API and the workers");
        let Settings { http, metrics, worker_metrics, .. } = self.settings;
        let ready = Arc::new(move || probe::answers(http, "/readyz"));
        self.run(self.role("api", &["api"], metrics, ready)?, Tier::Api);
        let reached = settings::reachable(worker_metrics);
        let ready = Arc::new(move || probe::answers(reached, "/metrics"));
        self.run(self.role("worker", &["worker", "--all"], worker_metrics, ready)?, Tier::Worker);
        self.all_ready().await?;
        self.tell(env);
        say!("ready after {:.1} s", begun.elapsed().as_secs_f32());
        // The one line on standard output: programs wait for it.
        let mut stdout = std::io::stdout();
        writeln!(stdout, "evently ready {}", self.settings.url())?;
        stdout.flush()?;
        Ok(())
    }

    /// Postgres and Redis, unless their URLs are given.
    async fn start_servers(&mut self, env: &Env) -> anyhow::Result<()> {
        let (own_postgres, own_redis) = (env.get("DATABASE_URL").is_none(), env.get("REDIS_URL").is_none());
        if !own_postgres && !own_redis {
            return Ok(());
        }
        install::missing_servers()?;
        let servers = Servers::new(&self.settings.data_dir)?;
        if own_postgres {
            let (spec, url) = servers.postgres().await?;
            self.settings.env.insert("DATABASE_URL".to_owned(), url);
            self.run(spec, Tier::Server);
        }
        if own_redis {
            let (spec, url) = servers.redis()?;
            self.settings.env.insert("REDIS_URL".to_owned(), url);
            self.run(spec, Tier::Server);
        }
        self.all_ready().await
    }

    async fn all_ready(&self) -> anyhow::Result<()> {
        for (_, process) in &self.processes {
            process.ready().await?;
        }
        Ok(())
    }

    /// A role of this very program as a process, with its metrics at `metrics`.
    fn role(
        &self,
        name: &'static str,
        arguments: &'static [&'static str],
        metrics: SocketAddr,
        ready: Arc<dyn Fn() -> bool + Send + Sync>,
    ) -> anyhow::Result<Spec> {
        let mut env = self.settings.env.clone();
        env.insert("EVENTLY_METRICS_ADDR".to_owned(), metrics.to_string());
        let program = std::env::current_exe()?;
        Ok(Spec {
            name,
            messages: "Its messages are above.".to_owned(),
            command: Box::new(move || Ok(own_command(&program, arguments, &env))),
            ready,
            stop: Signal::TERM,
        })
    }

    /// Runs a subcommand of this very program to its end.
    async fn finish(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let command = own_command(&std::env::current_exe()?, arguments, &self.settings.env);
        let status = tokio::process::Command::from(command).kill_on_drop(true).spawn()?.wait().await?;
        if !status.success() {
            bail!("`evently {}` failed ({status}); what it says is above", arguments.join(" "));
        }
        Ok(())
    }

    fn run(&mut self, spec: Spec, tier: Tier) {
        let shared = Arc::clone(&self.shared);
        let started = move |name: &'static str, pid| {
            shared.update(|state| {
                state.processes.insert(name.to_owned(), pid);
            });
        };
        self.processes.push((tier, Process::start(spec, started)));
    }

    /// Tells people how to get in.
    fn tell(&self, env: &Env) {
        let admin = &self.settings.env["EVENTLY_ADMIN_EMAIL"];
        match env.get("EVENTLY_ADMIN_PASSWORD") {
            Some(_) => say!("admin {admin}, password as EVENTLY_ADMIN_PASSWORD says"),
            None => say!("admin {admin}, password {}", self.settings.env["EVENTLY_ADMIN_PASSWORD"]),
        }
        for (whose, address) in [("API", self.settings.metrics), ("workers", self.settings.worker_metrics)] {
            say!("metrics of the {whose} http://{}/metrics", settings::reachable(address));
        }
        for name in ["DATABASE_URL", "REDIS_URL"] {
            if let Some(url) = self.settings.env.get(name) {
                say!("{name}={url}");
            }
        }
    }

    /// Ends the API, then the workers, then the servers, each within its time.
    async fn stop(&mut self, now: &CancellationToken) {
        say!("stopping");
        // All of it stays below 30 s.
        for (tier, seconds) in [(Tier::Api, 7), (Tier::Worker, 17), (Tier::Server, 4)] {
            let ending = self.processes.extract_if(.., |(of, _)| *of == tier);
            let ending: Vec<_> =
                ending.map(|(_, process)| process.stop(Duration::from_secs(seconds), now)).collect();
            futures::future::join_all(ending).await;
        }
        self.shared.lock.retract(&self.settings.data_dir);
        say!("stopped; the data stays in {}", self.settings.data_dir.display());
    }
}

/// The command that runs a subcommand of this very program, with its output on standard error.
fn own_command(program: &Path, arguments: &[&str], env: &BTreeMap<String, String>) -> Command {
    // What is left of a crashed `up` may go at once: every role is safe to kill.
    let mut command = command::dependent(program, "KILL");
    command.args(arguments).envs(env).stdout(std::io::stderr());
    command
}
