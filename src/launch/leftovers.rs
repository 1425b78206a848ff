//! Servers that outlived who started them: found by the directory they work in, and ended.

use std::{
    fs,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// The processes of `program` that work in `dir`. Servers change into their data directory and stay there.
fn find(dir: &Path, program: &str) -> Vec<Pid> {
    let Ok(dir) = dir.canonicalize() else { return Vec::new() };
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter(|entry| {
            let process = entry.path();
            fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == dir)
                && fs::read_link(process.join("exe"))
                    .is_ok_and(|exe| exe.file_name().is_some_and(|name| name == program))
        })
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .collect()
}

/// Ends what is left of `program` in `dir`: asks with `signal` for five seconds, then kills. Answers whether there
/// was anything. Only for a directory that the caller has locked.
pub fn end(dir: &Path, program: &str, signal: Signal) -> bool {
    let started = Instant::now();
    let mut asked = false;
    loop {
        let left = find(dir, program);
        if left.is_empty() {
            return asked;
        }
        let kill = started.elapsed() > Duration::from_secs(5);
        if kill || !asked {
            for pid in left {
                // It may have ended since it was found.
                let _ = kill_process(pid, if kill { Signal::KILL } else { signal });
            }
        }
        asked = true;
        sleep(Duration::from_millis(20));
    }
}
