//! The system under load: an `evently up` of its own in a directory of its own, and its end.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{launch::command, running};

/// How long everything may take to be ready, on a machine that is busy and has to install what is missing.
const START_LIMIT: Duration = Duration::from_mins(5);
/// `up` promises less than 30 s.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// Settings of whoever calls that must not reach the system: it is to be private, and like that of a fresh checkout.
const FOREIGN: [&str; 5] =
    ["DATABASE_URL", "DATABASE_REPLICA_URL", "REDIS_URL", "INVENTORY_REDIS_URL", "SMTP_URL"];

/// A running system. Dropping it ends it and removes all it has written.
pub(super) struct System {
    up: Child,
    dir: PathBuf,
    pub(super) http: SocketAddr,
    /// How the others reach its servers.
    pub(super) state: running::State,
}

impl System {
    /// Starts it; mail goes to `smtp_url`. Call it on the main thread: it ends with the thread that started it.
    pub(super) fn start(smtp_url: &str) -> anyhow::Result<Self> {
        // Short: a socket's path may have 107 bytes.
        let dir = std::env::temp_dir().join(format!("evently-bench-{}", std::process::id()));
        fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        match launch(&dir, smtp_url) {
            Ok((up, state)) => {
                let http = state.url.trim_start_matches("http://").parse()?;
                Ok(Self { up, dir, http, state })
            }
            Err(error) => {
                // The directory is all that is left of it.
                let _ = fs::remove_dir_all(&dir);
                Err(error)
            }
        }
    }

    /// The processes of its API and of its workers.
    pub(super) fn roles(&self) -> anyhow::Result<[u32; 2]> {
        let of = |name| self.state.processes.get(name).copied().context("a process is missing");
        Ok([of("api")?, of("worker")?])
    }

    /// A file that goes with it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Fails when a process died and was started anew: then figures mean nothing.
    pub(super) fn is_whole(&self) -> anyhow::Result<()> {
        let now = running::find(&self.dir.join("data")).context("`evently up` has ended")?;
        if now.processes != self.state.processes {
            bail!("a process died under load:\n{}", tail(&self.dir.join("log")));
        }
        Ok(())
    }
}

impl Drop for System {
    fn drop(&mut self) {
        stop(&mut self.up);
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("evently: cannot remove {}: {error}", self.dir.display());
        }
    }
}

fn launch(dir: &Path, smtp_url: &str) -> anyhow::Result<(Child, running::State)> {
    let data = dir.join("data");
    let mut up = command::dependent(&std::env::current_exe()?, "TERM");
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("EVENTLY_") || name.starts_with("OTEL_") || FOREIGN.contains(&&*name) {
            up.env_remove(&*name);
        }
    }
    up.arg("up").env("EVENTLY_DATA_DIR", &data).env("SMTP_URL", smtp_url).env("EVENTLY_RATE_LIMITS", "off");
    for name in ["EVENTLY_HTTP_ADDR", "EVENTLY_METRICS_ADDR", "EVENTLY_WORKER_METRICS_ADDR"] {
        up.env(name, "127.0.0.1:0");
    }
    up.stdout(Stdio::piped()).stderr(fs::File::create(dir.join("log"))?);
    let mut up = up.spawn().context("cannot run `evently up`")?;
    match ready(&mut up).and_then(|()| running::find(&data).context("`evently up` has no state file")) {
        Ok(state) => Ok((up, state)),
        Err(error) => {
            stop(&mut up);
            Err(error.context(tail(&dir.join("log"))))
        }
    }
}

/// Waits for the one line that `up` prints.
fn ready(up: &mut Child) -> anyhow::Result<()> {
    let stdout = up.stdout.take().context("a pipe")?;
    let (sender, line) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        // Nobody listens once the time is over.
        let _ = sender.send(BufReader::new(stdout).read_line(&mut line).map(|_| line));
    });
    match line.recv_timeout(START_LIMIT) {
        Ok(Ok(line)) if line.starts_with("evently ready ") => Ok(()),
        Ok(_) => bail!("`evently up` ended before it was ready"),
        Err(_) => bail!("`evently up` was not ready within {START_LIMIT:?}"),
    }
}

fn stop(up: &mut Child) {
    if let Some(pid) = i32::try_from(up.id()).ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::TERM);
    }
    let asked = Instant::now();
    while matches!(up.try_wait(), Ok(None)) {
        if asked.elapsed() > STOP_LIMIT {
            // Its children end with it.
            let _ = up.kill();
            let _ = up.wait();
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
