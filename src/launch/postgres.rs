//! A private Postgres: where its programs are, its first initialisation, its settings, whether it answers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};
use rustix::process::Signal;

use super::{
    account::{self, Account},
    command::{self, DATA_DIR},
    leftovers,
};

/// The signal that ends it quickly and in good order.
pub const STOP: Signal = Signal::INT;

/// What a private Postgres is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Holds what must not be lost.
    Service,
    /// Is thrown away after the tests: fast rather than durable.
    Tests,
}

/// A private Postgres, running or not. It listens on a unix socket only, in a directory that nobody but its account
/// may enter, and therefore asks for no password.
#[derive(Clone, Debug)]
pub struct Postgres {
    data: PathBuf,
    sockets: PathBuf,
    programs: PathBuf,
    account: Option<Account>,
    purpose: Purpose,
}

impl Postgres {
    /// A Postgres with its data in `data` and its socket in `sockets`, a private directory.
    pub fn new(
        data: &Path,
        sockets: &Path,
        account: Option<Account>,
        purpose: Purpose,
    ) -> anyhow::Result<Self> {
        let version = fs::read_to_string(data.join("PG_VERSION")).ok();
        let Some(programs) = programs(version.as_deref().map(str::trim)) else {
            match version {
                Some(version) => bail!("{} needs Postgres {}", data.display(), version.trim()),
                None => bail!("no Postgres is installed"),
            }
        };
        Ok(Self { data: data.to_owned(), sockets: sockets.to_owned(), programs, account, purpose })
    }

    /// Whether its data directory is still to be made.
    pub fn is_new(&self) -> bool {
        !self.data.join("PG_VERSION").exists()
    }

    /// Makes its data directory with the empty database `evently`. What an interrupted attempt left is thrown away.
    pub fn initialise(&self) -> anyhow::Result<()> {
        let unfinished = self.data.with_extension("new");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        account::private_dir(&unfinished, self.account.as_ref())?;
        let mut initdb = self.command("initdb", &unfinished);
        initdb.args(["-D", DATA_DIR, "-U", "evently", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]);
        if self.purpose == Purpose::Tests {
            initdb.arg("--no-sync");
        }
        finish(initdb.stdin(Stdio::null()), "initdb")?;
        let mut single = self.command("postgres", &unfinished);
        single.args(["--single", "-D", DATA_DIR, "postgres"]);
        let statement = unfinished.with_extension("sql");
        fs::write(&statement, "CREATE DATABASE evently\n")?;
        finish(single.stdin(fs::File::open(&statement)?), "postgres --single")?;
        fs::remove_file(&statement)?;
        fs::rename(&unfinished, &self.data)?;
        Ok(())
    }

    /// Ends what an earlier run may have left and clears its traces, so that the server can start. Only for a data
    /// directory that the caller has locked. Answers whether something was left.
    pub fn clear_leftovers(&self) -> anyhow::Result<bool> {
        let left = leftovers::end(&self.data, "postgres", STOP);
        // Its pid may meanwhile be another process's; Postgres would then refuse to start.
        match fs::remove_file(self.data.join("postmaster.pid")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("cannot remove a stale postmaster.pid")
            }
            _ => Ok(left),
        }
    }

    /// The command that runs the server.
    pub fn server(&self) -> Command {
        let mut command = self.command("postgres", &self.data);
        command.args(["-D", DATA_DIR, "-k"]).arg(&self.sockets);
        let memory = memory_mib();
        let buffers = format!("shared_buffers={}MB", (memory / 8).clamp(64, 1024));
        let settings: &[&str] = match self.purpose {
            Purpose::Service => &[
                &buffers,
                "fsync=on",
                "synchronous_commit=on",
                "full_page_writes=on",
                "max_connections=200",
                "max_wal_size=2GB",
                "checkpoint_timeout=15min",
                "jit=off",
                "log_checkpoints=off",
            ],
            Purpose::Tests => &[
                "shared_buffers=128MB",
                "fsync=off",
                "full_page_writes=off",
                "max_connections=1000",
                "max_wal_size=2GB",
                "jit=off",
                "autovacuum_naptime=60",
                "log_checkpoints=off",
            ],
        };
        for setting in settings.iter().chain(&["listen_addresses=", "timezone=UTC", "log_timezone=UTC"]) {
            command.args(["-c", setting]);
        }
        command
    }

    /// Whether it takes connections.
    pub fn is_ready(&self) -> bool {
        let mut command = Command::new(self.programs.join("pg_isready"));
        command.args(["-q", "-t", "2", "-U", "evently", "-d", "postgres", "-h"]).arg(&self.sockets);
        command.status().is_ok_and(|status| status.success())
    }

    /// The URL of one of its databases.
    pub fn url(&self, database: &str) -> String {
        let mut url = url::form_urlencoded::Serializer::new(String::new());
        url.append_pair("host", &self.sockets.to_string_lossy()).append_pair("user", "evently");
        format!("postgres:///{database}?{}", url.finish())
    }

    fn command(&self, program: &str, data: &Path) -> Command {
        let death_signal = match self.purpose {
            Purpose::Service => "INT",
            // Nothing has to be written for a server that is thrown away.
            Purpose::Tests => "QUIT",
        };
        command::server(&self.programs.join(program), death_signal, self.account.as_ref(), data)
    }
}

/// The directory of Postgres's programs: of `version` if given, else of the newest there is.
pub fn programs(version: Option<&str>) -> Option<PathBuf> {
    let mut installed: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, programs)| programs.join("postgres").exists())
        .collect();
    installed.sort();
    let debian = match version {
        Some(version) => installed.into_iter().find(|(major, _)| major.to_string() == version),
        None => installed.pop(),
    };
    debian.map(|(_, programs)| programs).or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|dir| dir.join("postgres").exists() && dir.join("initdb").exists())
    })
}

/// Runs a command to its end; what it printed is the error when it fails.
fn finish(command: &mut Command, name: &str) -> anyhow::Result<()> {
    let output = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        bail!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// How much memory the machine has; a modest guess where it does not say.
fn memory_mib() -> u64 {
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        kib.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
    });
    total.map_or(1024, |kib| kib / 1024)
}
