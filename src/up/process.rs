//! One supervised process: started, started again when it dies, ended on request.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::Child,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::say;

/// How to run a process.
pub(super) struct Spec {
    pub(super) name: &'static str,
    /// The command of each start, after what an earlier run left has been cleared away.
    pub(super) command: Box<dyn Fn() -> anyhow::Result<Command> + Send + Sync>,
    pub(super) ready: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Asks it to end in good order.
    pub(super) stop: Signal,
    /// Where to look when it dies.
    pub(super) messages: String,
}

/// A process that is kept running until it is stopped.
pub(super) struct Process {
    name: &'static str,
    ready: Arc<dyn Fn() -> bool + Send + Sync>,
    messages: String,
    stop: CancellationToken,
    kill: CancellationToken,
    deaths: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

/// How often a process may die before it was ever ready.
const STARTS: u32 = 3;
/// How long a start may take: Postgres may have a long log to recover from.
const START_LIMIT: Duration = Duration::from_mins(2);
/// A process that lived this long starts with a fresh pause.
const SETTLED: Duration = Duration::from_secs(30);

impl Process {
    /// Starts it, and again whenever it dies. `started` is told each pid.
    pub(super) fn start(spec: Spec, started: impl Fn(&'static str, u32) + Send + 'static) -> Self {
        let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
        let deaths = Arc::new(AtomicU32::new(0));
        let (name, ready, messages) = (spec.name, Arc::clone(&spec.ready), spec.messages.clone());
        let task = tokio::spawn(keep_running(spec, started, stop.clone(), kill.clone(), Arc::clone(&deaths)));
        Self { name, ready, messages, stop, kill, deaths, task }
    }

    /// Waits until it does its work, or gives up on it.
    pub(super) async fn ready(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut told = begun;
        loop {
            let probe = Arc::clone(&self.ready);
            if tokio::task::spawn_blocking(move || probe()).await? {
                return Ok(());
            }
            if self.deaths.load(Ordering::Relaxed) >= STARTS || begun.elapsed() > START_LIMIT {
                bail!("{} does not start. {}", self.name, self.messages);
            }
            if told.elapsed() > Duration::from_secs(5) {
                told = Instant::now();
                say!("waiting for {} ({} s)", self.name, begun.elapsed().as_secs());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks it to end, and makes it end after `grace`, or as soon as `now` is cancelled.
    pub(super) async fn stop(self, grace: Duration, now: &CancellationToken) {
        self.stop.cancel();
        let mut task = self.task;
        let ended = tokio::select! {
            ended = timeout(grace, &mut task) => ended.is_ok(),
            () = now.cancelled() => false,
        };
        if !ended {
            say!("{} has not ended yet: killing it", self.name);
            self.kill.cancel();
            // The task ends with its child, and that was killed.
            let _ = task.await;
        }
    }
}

async fn keep_running(
    spec: Spec,
    started: impl Fn(&'static str, u32) + Send,
    stop: CancellationToken,
    kill: CancellationToken,
    deaths: Arc<AtomicU32>,
) {
    let shortest = Duration::from_millis(200);
    let mut pause = shortest;
    while !stop.is_cancelled() {
        let begun = Instant::now();
        let end = match spawn(&spec) {
            Ok(mut child) => {
                if let Some(pid) = child.id() {
                    started(spec.name, pid);
                }
                tokio::select! {
                    status = child.wait() => status.map_or_else(|e| e.to_string(), |status| status.to_string()),
                    () = stop.cancelled() => return end(child, spec.stop, &kill).await,
                }
            }
            Err(error) => format!("{error:#}"),
        };
        deaths.fetch_add(1, Ordering::Relaxed);
        if begun.elapsed() > SETTLED {
            pause = shortest;
        }
        say!("{} DIED ({end}): starting it again in {pause:?}. {}", spec.name, spec.messages);
        tokio::select! {
            () = sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        pause = (pause * 2).min(Duration::from_secs(10));
    }
}

fn spawn(spec: &Spec) -> anyhow::Result<Child> {
    // From the main thread, which is the last to end: children end with the thread that spawned them.
    tokio::process::Command::from((spec.command)()?)
        .spawn()
        .with_context(|| format!("cannot run {}", spec.name))
}

async fn end(mut child: Child, signal: Signal, kill: &CancellationToken) {
    if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
        // It may have ended just now.
        let _ = kill_process(pid, signal);
    }
    tokio::select! {
        _ = child.wait() => {}
        () = kill.cancelled() => {
            // Fails only when it has ended.
            let _ = child.kill().await;
        }
    }
}
