//! A running `evently up`, as others find it: the lock it holds and the state file it keeps in its data directory.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions, TryLockError},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context, bail};
use domain::config::Env;
use serde::{Deserialize, Serialize};

/// What `up` tells other processes of this machine, in `up.json`. Only its user may read it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// Of `evently up` itself.
    pub pid: u32,
    /// Where the API answers.
    pub url: String,
    /// The pid of each process that it supervises.
    pub processes: BTreeMap<String, u32>,
    /// What its processes run with, on top of its own environment.
    pub env: BTreeMap<String, String>,
}

/// The data directory, as an absolute path.
pub fn data_dir(env: &Env) -> anyhow::Result<PathBuf> {
    std::path::absolute(env.get("EVENTLY_DATA_DIR").unwrap_or(".evently")).context("EVENTLY_DATA_DIR")
}

/// The `up` that runs on this data directory, if one does.
pub fn find(data_dir: &Path) -> Option<State> {
    let lock = File::open(lock_file(data_dir)).ok()?;
    if lock.try_lock_shared().is_ok() {
        return None;
    }
    serde_json::from_str(&fs::read_to_string(state_file(data_dir)).ok()?).ok()
}

/// The environment, completed by that of a running `up` where a variable is not set: how `seed`, `jobs` and the
/// like reach the servers that `up` started.
pub fn env(env: &Env) -> anyhow::Result<Env> {
    let running = find(&data_dir(env)?).map(|state| state.env).unwrap_or_default();
    let own = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    Ok(running.into_iter().chain(own.filter(|(_, value)| !value.is_empty())).collect())
}

/// Held for as long as an `up` runs: the system lets go of it however the process ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the data directory, or says who has it.
    pub fn take(data_dir: &Path) -> anyhow::Result<Self> {
        let path = lock_file(data_dir);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        // Whoever asks whether an `up` runs holds it for an instant, hence more than one try.
        for attempt in 1.. {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if attempt < 5 => sleep(Duration::from_millis(50)),
                Err(TryLockError::WouldBlock) => {
                    let mut pid = String::new();
                    file.read_to_string(&mut pid)?;
                    bail!("`evently up` is already running on {} (pid {})", data_dir.display(), pid.trim());
                }
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
        }
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self { file })
    }

    /// Writes the state file, whole or not at all.
    pub fn publish(&self, data_dir: &Path, state: &State) -> anyhow::Result<()> {
        debug_assert!(self.file.metadata().is_ok(), "only who holds the lock publishes");
        let path = state_file(data_dir);
        let unfinished = path.with_extension("json.new");
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&unfinished)?;
        file.write_all(&serde_json::to_vec_pretty(state)?)?;
        fs::rename(unfinished, path)?;
        Ok(())
    }

    /// Removes the state file.
    pub fn retract(&self, data_dir: &Path) {
        // Without it nobody takes the state for current anyway: the lock says so.
        let _ = fs::remove_file(state_file(data_dir));
    }
}

fn lock_file(data_dir: &Path) -> PathBuf {
    data_dir.join("up.lock")
}

fn state_file(data_dir: &Path) -> PathBuf {
    data_dir.join("up.json")
}
