//! The processes themselves: how much memory they take, how soon they are there.

use std::{
    fs,
    net::TcpListener,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use tokio::process::Command;

use super::{Bench, figure::Figure, system::System, times::Times};
use crate::{launch::command, up::probe};

const LOOK_EVERY: Duration = Duration::from_millis(100);
const STARTS: usize = 7;
/// A start that takes longer has failed.
const START_LIMIT: Duration = Duration::from_mins(1);
const MIB: f64 = 1024.0 * 1024.0;

/// Watches the memory of API and workers for as long as the runtime runs.
pub(super) struct Watch {
    most: [Arc<AtomicU64>; 3],
}

impl Watch {
    pub(super) fn start(system: &System) -> anyhow::Result<Self> {
        let most: [Arc<AtomicU64>; 3] = Default::default();
        let (watched, roles) = (most.clone(), system.roles()?);
        tokio::spawn(async move {
            loop {
                // A process that has ended is noticed by the figure that loaded it.
                let [api, workers] = roles.map(|pid| resident(pid).unwrap_or(0));
                for (most, now) in watched.iter().zip([api + workers, api, workers]) {
                    most.fetch_max(now, Ordering::Relaxed);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        Ok(Self { most })
    }
}

/// The resident memory of a process, in bytes.
fn resident(pid: u32) -> Option<u64> {
    resident_kib(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?).map(|kib| kib * 1024)
}

fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The most that API and workers took together at one moment.
#[expect(clippy::unused_async, reason = "one of many figures, which wait")]
pub(super) async fn memory(bench: &mut Bench) -> anyhow::Result<()> {
    let [both, api, workers] =
        bench.watch.most.each_ref().map(|most| most.load(Ordering::Relaxed) as f64 / MIB);
    let figure = Figure::new("memory of API and workers", both, "MiB").at_most(150.0, 80.0);
    bench.report(figure.note(format!("at most {api:.0} and {workers:.0}")))
}

/// From the start of the API's process until `/readyz` says 200, the median of some.
pub(super) async fn start(bench: &mut Bench) -> anyhow::Result<()> {
    let mut times = Times::default();
    for _ in 0..STARTS {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        // From the main thread, with which it ends.
        let mut api = Command::from(command::dependent(&std::env::current_exe()?, "KILL"));
        api.arg("api").envs(&bench.stage.system.state.env).stdout(Stdio::null()).stderr(Stdio::null());
        api.env("EVENTLY_HTTP_ADDR", address.to_string()).env("EVENTLY_METRICS_ADDR", "127.0.0.1:0");
        let began = Instant::now();
        let mut api = api.kill_on_drop(true).spawn().context("cannot run `evently api`")?;
        while !tokio::task::spawn_blocking(move || probe::answers(address, "/readyz")).await? {
            ensure!(began.elapsed() < START_LIMIT, "the API was not ready within {START_LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        times.add(began.elapsed());
        api.kill().await?;
    }
    let figure =
        Figure::new("API start to /readyz", times.percentile_ms(50.0) / 1000.0, "s").at_most(2.0, 0.5);
    bench
        .report(figure.note(format!("the slowest of {STARTS}: {:.3} s", times.percentile_ms(100.0) / 1000.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_says() {
        assert_eq!(resident_kib("VmHWM:\t  9 kB\nVmRSS:\t   55476 kB\nRssAnon: 1 kB\n"), Some(55_476));
        assert!(resident(std::process::id()).unwrap() > 1 << 20);
    }
}
