//! Installs Postgres and Redis where they are missing: by apt as root, else by saying what to run.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

use super::{postgres, redis};

/// Debian's switch that keeps a package from starting its service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Sees to it that the programs of Postgres and Redis are there. Installing them starts no service and touches none
/// that runs already.
pub fn missing_servers() -> anyhow::Result<()> {
    let mut missing = Vec::new();
    if postgres::programs(None).is_none() {
        missing.push("postgresql");
    }
    if redis::program().is_none() {
        missing.push("redis-server");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "{packages} missing: install them with this system's package manager (on Debian: apt-get install {packages})"
        );
    }
    if !rustix::process::geteuid().is_root() {
        bail!(
            "{packages} missing. Run this, then start again:\n    sudo apt-get update && sudo apt-get install -y {packages}"
        );
    }
    eprintln!("evently: installing {packages} (apt)");
    let policy = Policy::refuse_starts()?;
    // A list that is fresh enough saves a minute; one that is not makes the first attempt fail.
    let installed = apt(&["install", "-y", "--no-install-recommends"], &missing)
        || (apt(&["update"], &[]) && apt(&["install", "-y", "--no-install-recommends"], &missing));
    drop(policy);
    if !installed || postgres::programs(None).is_none() || redis::program().is_none() {
        bail!("apt could not install {packages}; what it says is above");
    }
    Ok(())
}

fn apt(verb: &[&str], packages: &[&str]) -> bool {
    Command::new("apt-get")
        .arg("-qq")
        .args(verb)
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Its own group: Ctrl-C in the middle would leave packages half configured.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .is_ok_and(|status| status.success())
}

/// While it lives, packages start no service.
struct Policy {
    made: bool,
}

impl Policy {
    fn refuse_starts() -> anyhow::Result<Self> {
        let made = !Path::new(POLICY).exists();
        if made {
            fs::write(POLICY, "#!/bin/sh\nexit 101\n").with_context(|| format!("cannot write {POLICY}"))?;
            fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self { made })
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.made {
            // Left behind it would only keep later packages from starting their services; say so.
            if let Err(error) = fs::remove_file(POLICY) {
                eprintln!("evently: remove {POLICY} by hand: {error}");
            }
        }
    }
}
