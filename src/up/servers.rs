//! The Postgres and the Redis of `up`: where they keep their data, and how each is run.

use std::{
    fs::{self, File, OpenOptions},
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use anyhow::{Context, bail};

use super::{process::Spec, say};
use crate::launch::{
    account::{self, Account},
    command,
    postgres::{self, Postgres, Purpose},
    redis::{self, Redis},
};

/// A log of an earlier run that is larger than this is started anew.
const LOG_LIMIT_BYTES: u64 = 16 << 20;
/// A socket's path has at most 107 bytes; the names of the sockets need 20 of them.
const SOCKET_DIR_LIMIT_BYTES: usize = 87;

pub(super) struct Servers {
    data_dir: PathBuf,
    account: Option<Account>,
    sockets: PathBuf,
}

impl Servers {
    /// Prepares the directories; starts nothing.
    pub(super) fn new(data_dir: &Path) -> anyhow::Result<Self> {
        let account = account::for_servers()?;
        if let Some(account) = &account {
            say!("Postgres and Redis run as user {}, not as root", account.name);
        }
        let sockets = sockets(data_dir, account.as_ref())?;
        Ok(Self { data_dir: data_dir.to_owned(), account, sockets })
    }

    /// Postgres, with its data directory made if need be, and its URL.
    pub(super) async fn postgres(&self) -> anyhow::Result<(Spec, String)> {
        let data = self.data_dir.join("postgres");
        let server = Postgres::new(&data, &self.sockets, self.account.clone(), Purpose::Service)?;
        if server.is_new() {
            say!("making the database (once)");
            let server = server.clone();
            tokio::task::spawn_blocking(move || server.initialise()).await??;
        }
        say!("starting Postgres");
        let (log, ready, url) = (self.log("postgres")?, server.clone(), server.url("evently"));
        let spec = Spec {
            name: "postgres",
            messages: format!("Its messages are in {}.", log.display()),
            command: Box::new(move || {
                if server.clear_leftovers()? {
                    say!("ended a Postgres that an earlier run had left");
                }
                with_log(server.server(), &log)
            }),
            ready: Arc::new(move || ready.is_ready()),
            stop: postgres::STOP,
        };
        Ok((spec, url))
    }

    /// Redis, and its URL.
    pub(super) fn redis(&self) -> anyhow::Result<(Spec, String)> {
        let data = self.data_dir.join("redis");
        account::private_dir(&data, self.account.as_ref())?;
        let server = Redis::new(&data, &self.sockets.join("redis.sock"), self.account.clone(), true)?;
        say!("starting Redis");
        let (log, ready, url) = (self.log("redis")?, server.clone(), server.url());
        let spec = Spec {
            name: "redis",
            messages: format!("Its messages are in {}.", log.display()),
            command: Box::new(move || {
                if server.clear_leftovers() {
                    say!("ended a Redis that an earlier run had left");
                }
                with_log(server.server(), &log)
            }),
            ready: Arc::new(move || ready.is_ready()),
            stop: redis::STOP,
        };
        Ok((spec, url))
    }

    fn log(&self, name: &str) -> anyhow::Result<PathBuf> {
        let dir = self.data_dir.join("log");
        fs::create_dir_all(&dir)?;
        let log = dir.join(format!("{name}.log"));
        if log.metadata().is_ok_and(|log| log.len() > LOG_LIMIT_BYTES) {
            File::create(&log)?;
        }
        Ok(log)
    }
}

fn with_log(mut command: Command, log: &Path) -> anyhow::Result<Command> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))?;
    command.stdout(log.try_clone()?).stderr(log);
    Ok(command)
}

/// Where the sockets are: in the data directory if their paths are short enough and the servers' account gets
/// there, else in a directory of their own below `/tmp` that belongs to this data directory.
fn sockets(data_dir: &Path, account: Option<&Account>) -> anyhow::Result<PathBuf> {
    let near = data_dir.join("run");
    if near.as_os_str().len() <= SOCKET_DIR_LIMIT_BYTES && command::can_enter(account, data_dir) {
        account::private_dir(&near, account)?;
        return Ok(near);
    }
    let mut hasher = DefaultHasher::new();
    data_dir.hash(&mut hasher);
    let far = PathBuf::from(format!("/tmp/evently-{:016x}", hasher.finish()));
    if fs::symlink_metadata(&far).is_ok_and(|entry| entry.is_symlink()) {
        bail!("{} is a symbolic link: somebody else made it; remove it", far.display());
    }
    account::private_dir(&far, account)?;
    Ok(far)
}
