//! The command line under which a child runs: as the right user, and never longer than who started it.

use std::{
    ffi::OsStr,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
};

use super::account::Account;

/// Where a server finds its data directory: as an open descriptor, because the account it runs under may not be
/// allowed to walk there by name (a checkout below root's own home).
pub const DATA_DIR: &str = "/proc/self/fd/9";

/// A command for `program` that ends by `death_signal` when the thread that spawned it ends, however it ends. In
/// its own process group, so that Ctrl-C on the terminal reaches only who is to end it in good order.
pub fn dependent(program: &Path, death_signal: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", death_signal, "--"]).arg(program);
    command.stdin(Stdio::null()).process_group(0);
    command
}

/// Such a command for a server: under its account, with an environment of its own, `dir` at [`DATA_DIR`].
pub fn server(program: &Path, death_signal: &str, account: Option<&Account>, dir: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", r#"cd "$0" && exec 9<. && cd / && exec "$@""#]).arg(dir);
    command.args(["setpriv", "--pdeathsig", death_signal]);
    if let Some(account) = account {
        command.arg(format!("--reuid={}", account.uid)).arg(format!("--regid={}", account.gid));
        command.arg("--clear-groups");
    }
    command.arg("--").arg(program);
    let path =
        std::env::var_os("PATH").unwrap_or_else(|| OsStr::new("/usr/local/bin:/usr/bin:/bin").to_owned());
    command.env_clear().env("PATH", path).env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
    command.stdin(Stdio::null()).process_group(0);
    command
}

/// Whether the account gets into the directory by its name.
pub fn can_enter(account: Option<&Account>, dir: &Path) -> bool {
    let Some(account) = account else { return dir.is_dir() };
    Command::new("setpriv")
        .args([format!("--reuid={}", account.uid), format!("--regid={}", account.gid)])
        .args(["--clear-groups", "--", "test", "-x"])
        .arg(dir)
        .status()
        .is_ok_and(|status| status.success())
}
