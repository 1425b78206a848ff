//! The machine: the data directory, the signing key, how many files may be open, the ports.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
};

use api::{ApiConfig, config::HttpConfig};
use domain::{accounts::signing_key::SigningKey, config::Env, payments::PaymentsConfig};
use rustix::fs::{Access, access, statvfs};

use super::Finding;
use crate::{
    open_files, running, telemetry,
    up::{probe, settings::reachable},
};

/// Files that a process has open besides the connections it counts: those beyond the limit, servers, logs, listeners.
const OTHER_FILES: u64 = 512;
/// Less room than this on the disk will not last.
const LITTLE_MIB: u64 = 1024;
/// Less than this and Postgres may stop any moment.
const TOO_LITTLE_MIB: u64 = 128;

pub(super) fn examine(env: &Env) -> Vec<Finding> {
    vec![data_dir(env), signing_key(env), files(env), http_port(env), metrics_port(env), payments(env)]
}

fn payments(env: &Env) -> Finding {
    const ABOUT: &str = "payments";
    match PaymentsConfig::from_env(env) {
        Err(error) => Finding::problem(ABOUT, error.to_string(), "set it"),
        Ok(PaymentsConfig { stripe: None, .. }) => {
            let remedy = "EVENTLY_PAYMENTS=stripe to sell";
            Finding::warning(ABOUT, "the sandbox moves no money", remedy)
        }
        Ok(PaymentsConfig { stripe: Some(stripe), .. }) => {
            let says = format!("Stripe at {}", stripe.api_url);
            if stripe.api_url.starts_with("https://") {
                Finding::ok(ABOUT, says)
            } else {
                Finding::warning(ABOUT, says, "without TLS others can read the key: tests only")
            }
        }
    }
}

fn data_dir(env: &Env) -> Finding {
    const ABOUT: &str = "data";
    let dir = match running::data_dir(env) {
        Ok(dir) => dir,
        Err(error) => return Finding::problem(ABOUT, format!("{error:#}"), "correct it"),
    };
    let name = dir.display();
    if !dir.exists() {
        return Finding::ok(ABOUT, format!("{name} is made when it is needed"));
    }
    if let Err(error) = access(&dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        let remedy = "run as its owner, or set EVENTLY_DATA_DIR to a directory of your own";
        return Finding::problem(ABOUT, format!("{name} cannot be written: {error}"), remedy);
    }
    let free_mib = match statvfs(&dir) {
        Ok(disk) => (disk.f_bavail * disk.f_frsize) >> 20,
        Err(error) => return Finding::problem(ABOUT, format!("{name}: {error}"), "see to its disk"),
    };
    let says = format!("{name} has {free_mib} MiB free");
    match free_mib {
        ..TOO_LITTLE_MIB => Finding::problem(ABOUT, says, "make room"),
        TOO_LITTLE_MIB..LITTLE_MIB => Finding::warning(ABOUT, says, "make room"),
        _ => Finding::ok(ABOUT, says),
    }
}

fn signing_key(env: &Env) -> Finding {
    const ABOUT: &str = "signing key";
    let path = api::signing_key_file(env);
    let name = path.display();
    let mode = match fs::metadata(&path) {
        Ok(file) => file.permissions().mode() & 0o777,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Finding::warning(
                ABOUT,
                format!("{name} is not there"),
                "the first API makes it; those on other machines need the same",
            );
        }
        Err(error) => return Finding::problem(ABOUT, format!("{name}: {error}"), "let it be read"),
    };
    if let Err(error) = SigningKey::load(&path) {
        return Finding::problem(ABOUT, error.to_string(), "EVENTLY_SIGNING_KEY_FILE must name a good key");
    }
    if mode & 0o077 != 0 {
        return Finding::problem(
            ABOUT,
            format!("{name} has mode {mode:04o}: others can sign tokens with it"),
            format!("chmod 600 {name}, and make a new key if others use this machine"),
        );
    }
    Finding::ok(ABOUT, format!("{name}, mode {mode:04o}"))
}

fn files(env: &Env) -> Finding {
    const ABOUT: &str = "open files";
    let http = match HttpConfig::from_env(env) {
        Ok(http) => http,
        Err(error) => return Finding::problem(ABOUT, error.to_string(), "correct it"),
    };
    let allowed = open_files::allowed();
    let needed = u64::try_from(http.max_connections).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    if allowed < needed {
        return Finding::warning(
            ABOUT,
            format!("{allowed} allowed, fewer than the {needed} of EVENTLY_MAX_CONNECTIONS and the rest"),
            "raise the hard limit (`ulimit -Hn`, LimitNOFILE=), or lower EVENTLY_MAX_CONNECTIONS",
        );
    }
    Finding::ok(ABOUT, format!("{allowed} allowed"))
}

fn http_port(env: &Env) -> Finding {
    const ABOUT: &str = "API port";
    let address = match ApiConfig::from_env(env) {
        Ok(config) => config.http_addr,
        Err(error) => return Finding::problem(ABOUT, error.to_string(), "correct it"),
    };
    match state(address, "/readyz") {
        Port::Answers => Finding::ok(ABOUT, format!("the API at {address} is ready")),
        Port::Free => Finding::ok(ABOUT, format!("{address} is free")),
        Port::Taken(error) => Finding::problem(
            ABOUT,
            format!("{address} cannot be had ({error}), and no API that is ready answers there"),
            "see what listens there, or set EVENTLY_HTTP_ADDR",
        ),
    }
}

fn metrics_port(env: &Env) -> Finding {
    const ABOUT: &str = "metrics port";
    let address = match env.parse("EVENTLY_METRICS_ADDR", telemetry::METRICS_ADDR) {
        Ok(address) => address,
        Err(error) => return Finding::problem(ABOUT, error.to_string(), "correct it"),
    };
    match state(address, "/metrics") {
        Port::Answers => Finding::ok(ABOUT, format!("metrics are at {address}")),
        Port::Free => Finding::ok(ABOUT, format!("{address} is free")),
        // Under `up` a default that is taken gives way to another port.
        Port::Taken(error) => Finding::warning(
            ABOUT,
            format!("{address} cannot be had ({error}), and no metrics are there"),
            "set EVENTLY_METRICS_ADDR",
        ),
    }
}

enum Port {
    /// Evently is there already.
    Answers,
    Free,
    Taken(io::Error),
}

fn state(address: SocketAddr, path: &str) -> Port {
    if address.port() != 0 && probe::answers(reachable(address), path) {
        return Port::Answers;
    }
    match TcpListener::bind(address) {
        Ok(_) => Port::Free,
        Err(error) => Port::Taken(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_port_is_free_or_taken() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap().to_string();
        let env: Env = [("EVENTLY_METRICS_ADDR", address)].into_iter().collect();
        // Nobody accepts: the probe gives up, and the port is not to be had.
        assert_eq!(metrics_port(&env).verdict, Verdict::Warning);
        drop(held);
        assert_eq!(metrics_port(&env).verdict, Verdict::Ok);
    }

    #[test]
    fn a_data_directory_may_be_yet_to_come() {
        let dir = tempfile::tempdir().unwrap();
        let at =
            |path: &std::path::Path| [("EVENTLY_DATA_DIR", path.to_str().unwrap())].into_iter().collect();
        assert!(data_dir(&at(&dir.path().join("new"))).says.contains("is made"));
        assert!(data_dir(&at(dir.path())).says.contains("MiB free"));
    }
}
