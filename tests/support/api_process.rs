//! An `evently api` process of its own, beside the application that a test runs in its own process.

use std::{
    fs::File,
    net::SocketAddr,
    process::{Child, Command},
    time::Duration,
};

use serde_json::Value;
use uuid::Uuid;

use super::{app::TestApp, children};

/// A running process; dropping it kills it.
pub struct ApiProcess {
    pub address: SocketAddr,
    process: Child,
    log: std::path::PathBuf,
}

impl ApiProcess {
    /// Starts one over the database and the Redis of `app`, with some of its environment different. It is ready when
    /// this returns.
    pub async fn start(app: &TestApp, different: &[(&str, String)]) -> Self {
        let log = children::root().join(format!("api-{}.log", Uuid::now_v7().simple()));
        let file = File::create(&log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_evently"));
        command.arg("api").env_clear();
        for name in ["DATABASE_URL", "REDIS_URL", "EVENTLY_DATA_DIR", "EVENTLY_SIGNING_KEY_FILE"] {
            command.env(name, app.env.get(name).unwrap());
        }
        command
            .env("EVENTLY_HTTP_ADDR", "127.0.0.1:0")
            .env("EVENTLY_METRICS_ADDR", "127.0.0.1:0")
            .env("EVENTLY_LOG_FORMAT", "json")
            .env("EVENTLY_RATE_LIMITS", "off")
            .env("EVENTLY_DRAIN_SECS", "0")
            .envs(different.iter().map(|(name, value)| (name, value)))
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        let mut process =
            Self { address: ([127, 0, 0, 1], 0).into(), process: children::spawn(command), log };
        for _ in 0..600 {
            if let Some(address) = process.listens_at() {
                let asked = app.client.get(format!("http://{address}/readyz")).send().await;
                if asked.is_ok_and(|answer| answer.status() == 200) {
                    process.address = address;
                    return process;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the API process does not become ready: {}", process.log());
    }

    /// The address that it picked, as it says itself.
    fn listens_at(&self) -> Option<SocketAddr> {
        self.log().lines().find_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let address = line["address"].as_str().filter(|_| line["message"] == "listening")?;
            Some(address.parse().unwrap())
        })
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for ApiProcess {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
