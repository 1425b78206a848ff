//! What `up` runs with: addresses that are free, and the environment of its children.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use domain::{config::Env, payments::PaymentsConfig};

use super::say;
use crate::migrate::{DEFAULT_ADMIN, DEFAULT_PASSWORD};

pub(super) struct Settings {
    pub(super) data_dir: PathBuf,
    /// Where the API is reached.
    pub(super) http: SocketAddr,
    /// Where the metrics of the API and of the workers listen.
    pub(super) metrics: SocketAddr,
    pub(super) worker_metrics: SocketAddr,
    /// What children get on top of the environment of `up`.
    pub(super) env: BTreeMap<String, String>,
}

impl Settings {
    /// Reads the environment and finds a free port wherever one is to be picked.
    pub(super) fn new(env: &Env, data_dir: &Path) -> anyhow::Result<Self> {
        // Said once and before anything is started, rather than by each child.
        PaymentsConfig::from_env(env)?;
        let http = Picked::new(env, "EVENTLY_HTTP_ADDR", ([127, 0, 0, 1], 8080).into())?;
        let metrics = Picked::new_or_any(env, "EVENTLY_METRICS_ADDR", ([127, 0, 0, 1], 9464).into())?;
        let mut beside = metrics.address;
        beside.set_port(beside.port().saturating_add(1));
        let worker_metrics = Picked::new_or_any(env, "EVENTLY_WORKER_METRICS_ADDR", beside)?;

        let key = data_dir.join("keys/signing.pem").to_string_lossy().into_owned();
        let mut children = BTreeMap::from([
            ("EVENTLY_DATA_DIR".to_owned(), data_dir.to_string_lossy().into_owned()),
            ("EVENTLY_HTTP_ADDR".to_owned(), http.address.to_string()),
        ]);
        for (name, default) in [
            ("EVENTLY_PUBLIC_URL", format!("http://{}", reachable(http.address))),
            ("EVENTLY_SIGNING_KEY_FILE", key),
            // No load balancer has to notice that this API goes.
            ("EVENTLY_DRAIN_SECS", "1".to_owned()),
            ("EVENTLY_ADMIN_EMAIL", DEFAULT_ADMIN.to_owned()),
            ("EVENTLY_ADMIN_PASSWORD", DEFAULT_PASSWORD.to_owned()),
        ] {
            children.insert(name.to_owned(), env.get(name).map_or(default, ToOwned::to_owned));
        }
        Ok(Self {
            data_dir: data_dir.to_owned(),
            http: reachable(http.address),
            metrics: metrics.address,
            worker_metrics: worker_metrics.address,
            env: children,
        })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.http)
    }
}

/// An address that was free a moment ago. It holds the port until all are picked, so that none is picked twice.
struct Picked {
    address: SocketAddr,
    _held: TcpListener,
}

impl Picked {
    fn new(env: &Env, name: &'static str, default: SocketAddr) -> anyhow::Result<Self> {
        let wanted = match env.get(name) {
            None => default,
            Some(text) => match text.to_socket_addrs().with_context(|| format!("{name}: {text:?}"))?.next() {
                Some(address) => address,
                None => bail!("{name}: {text:?} is no address"),
            },
        };
        Self::bind(wanted).with_context(|| {
            format!("cannot listen on {wanted}; {name} sets another address, and port 0 picks a free one")
        })
    }

    /// The same, but a default that is taken gives way to any free port: nobody asked for it.
    fn new_or_any(env: &Env, name: &'static str, default: SocketAddr) -> anyhow::Result<Self> {
        if env.get(name).is_some() {
            return Self::new(env, name, default);
        }
        Self::bind(default).or_else(|_| {
            let picked = Self::bind(SocketAddr::new(default.ip(), 0))?;
            say!("{default} is taken: {name} is {}", picked.address);
            Ok(picked)
        })
    }

    fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        Ok(Self { address: listener.local_addr()?, _held: listener })
    }
}

/// The address under which this machine reaches what listens on `address`.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_ports_and_says_which() {
        let env: Env = ["EVENTLY_HTTP_ADDR", "EVENTLY_METRICS_ADDR", "EVENTLY_WORKER_METRICS_ADDR"]
            .map(|name| (name, "0.0.0.0:0"))
            .into_iter()
            .collect();
        let settings = Settings::new(&env, Path::new("/d")).unwrap();
        let ports = [settings.http.port(), settings.metrics.port(), settings.worker_metrics.port()];
        assert!(ports.iter().all(|port| *port != 0) && ports[0] != ports[1] && ports[1] != ports[2]);
        assert_eq!(settings.env["EVENTLY_PUBLIC_URL"], format!("http://127.0.0.1:{}", ports[0]));
        assert_eq!(settings.env["EVENTLY_HTTP_ADDR"], format!("0.0.0.0:{}", ports[0]));
    }
}
