//! A private Redis: where its program is, its settings, whether it answers.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::bail;
use rustix::process::Signal;

use super::{
    account::Account,
    command::{self, DATA_DIR},
    leftovers,
};

/// The signal that ends it in good order.
pub const STOP: Signal = Signal::TERM;

/// A private Redis, running or not. It listens on a unix socket only, in a directory that nobody but its account
/// may enter.
#[derive(Clone, Debug)]
pub struct Redis {
    data: PathBuf,
    socket: PathBuf,
    program: PathBuf,
    account: Option<Account>,
    append_only: bool,
}

impl Redis {
    /// A Redis with its data in `data`, a private directory, and its socket at `socket`. With `append_only` it keeps
    /// what it holds, but for the last second of a machine that loses power.
    pub fn new(
        data: &Path,
        socket: &Path,
        account: Option<Account>,
        append_only: bool,
    ) -> anyhow::Result<Self> {
        let Some(program) = program() else { bail!("no Redis is installed") };
        Ok(Self { data: data.to_owned(), socket: socket.to_owned(), program, account, append_only })
    }

    /// Ends what an earlier run may have left. Only for a data directory that the caller has locked. Answers whether
    /// something was left.
    pub fn clear_leftovers(&self) -> bool {
        leftovers::end(&self.data, "redis-server", STOP) | leftovers::end(&self.data, "redis-check-rdb", STOP)
    }

    /// The command that runs the server.
    pub fn server(&self) -> Command {
        let mut command = command::server(&self.program, "TERM", self.account.as_ref(), &self.data);
        command.args(["--port", "0", "--unixsocketperm", "700", "--unixsocket"]).arg(&self.socket);
        command.args(["--dir", DATA_DIR, "--save", "", "--maxmemory-policy", "noeviction"]);
        command.args([
            "--appendonly",
            if self.append_only { "yes" } else { "no" },
            "--appendfsync",
            "everysec",
        ]);
        command.args(["--loglevel", "warning", "--daemonize", "no"]);
        command
    }

    /// Whether it has loaded its data and answers.
    pub fn is_ready(&self) -> bool {
        let ping = || -> std::io::Result<bool> {
            let mut stream = UnixStream::connect(&self.socket)?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.write_all(b"PING\r\n")?;
            let mut answer = [0; 5];
            stream.read_exact(&mut answer)?;
            Ok(&answer == b"+PONG")
        };
        ping().unwrap_or(false)
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket.display())
    }
}

/// Where `redis-server` is.
pub fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/bin".into(), "/usr/local/bin".into()])
        .map(|dir| dir.join("redis-server"))
        .find(|program| program.exists())
}
