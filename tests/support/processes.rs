//! `evently` as processes of their own: killed, stopped, or dead by their own hand at a kill point.

use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, ExitStatus},
    time::Duration,
};

use domain::jobs::Pool;
use evently::launch::command::dependent;
use redis::AsyncCommands;
use rustix::process::{Pid, Signal, kill_process};
use uuid::Uuid;

use super::{app::TestApp, children};

/// What `abort` ends a process with.
const ABORTED: i32 = 6;
/// Whether a process has ended, and where it listens, is looked at so often, for a minute.
const LOOK: Duration = Duration::from_millis(10);
const LOOKS: u32 = 6_000;

/// A process of the binary under test. Dropping it kills it.
pub struct Process {
    child: Child,
    log: PathBuf,
    /// Names the point at which it dies.
    deadly: PathBuf,
}

impl TestApp {
    /// Starts `evently` with these arguments and the application's environment, deadly at `kill_point` if it is named.
    pub fn process(&self, args: &[&str], kill_point: Option<&str>) -> Process {
        let id = Uuid::now_v7().simple();
        let (log, deadly) = (format!("log-{id}"), format!("deadly-{id}"));
        let (log, deadly) = (children::root().join(log), children::root().join(deadly));
        let mut command = dependent(Path::new(env!("CARGO_BIN_EXE_evently")), "KILL");
        command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        for name in [
            "DATABASE_URL",
            "REDIS_URL",
            "SMTP_URL",
            "EVENTLY_DATA_DIR",
            "EVENTLY_SIGNING_KEY_FILE",
            "EVENTLY_PUBLIC_URL",
            "EVENTLY_RATE_LIMITS",
            "EVENTLY_DRAIN_SECS",
        ] {
            command.envs(self.env.get(name).map(|value| (name, value)));
        }
        command.env("EVENTLY_HTTP_ADDR", "127.0.0.1:0").env("EVENTLY_METRICS_ADDR", "127.0.0.1:0");
        command.env("EVENTLY_LOG_FORMAT", "json").env("EVENTLY_KILL_POINT_FILE", &deadly);
        if let Some(name) = kill_point {
            fs::write(&deadly, name).unwrap();
        }
        let file = File::create(&log).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        Process { child: children::spawn(command), log, deadly }
    }

    /// A process that runs every pool.
    pub fn worker(&self) -> Process {
        self.process(&["worker", "--all"], None)
    }

    /// Lets the workers there have been so far be silent for so long that their jobs are given to others.
    pub async fn silence_workers(&self) {
        let mut redis = self.redis.connect().await;
        for pool in Pool::ALL {
            let key = format!("evently:{pool}:workers");
            let workers: Vec<String> = redis.zrange(&key, 0, -1).await.unwrap();
            for worker in workers {
                redis::cmd("ZADD")
                    .arg(&key)
                    .arg("XX")
                    .arg(1)
                    .arg(worker)
                    .exec_async(&mut redis)
                    .await
                    .unwrap();
            }
        }
    }
}

impl Process {
    /// Lets it die when it next gets to this kill point.
    pub fn arm(&self, kill_point: &str) {
        fs::write(&self.deadly, kill_point).unwrap();
    }

    /// Waits until it has died at its kill point, and by nothing else.
    pub async fn dies(mut self) {
        let status = self.ended().await;
        assert_eq!(status.signal(), Some(ABORTED), "{status}: {}", self.log());
    }

    /// Waits until it has ended well.
    pub async fn succeeds(mut self) {
        let status = self.ended().await;
        assert!(status.success(), "{status}: {}", self.log());
    }

    async fn ended(&mut self) -> ExitStatus {
        for _ in 0..LOOKS {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(LOOK).await;
        }
        panic!("it did not end within a minute: {}", self.log());
    }

    /// The base of an API process's URLs, once it listens.
    pub async fn url(&self) -> String {
        for _ in 0..LOOKS {
            let log = self.log();
            let line = log.lines().find(|line| line.contains("\"listening\""));
            let parsed = line.and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            if let Some(line) = parsed {
                return format!("http://{}", line["address"].as_str().unwrap());
            }
            tokio::time::sleep(LOOK).await;
        }
        panic!("it does not listen: {}", self.log());
    }

    /// Stops it where it is.
    pub fn suspend(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }

    /// Ends it in good order.
    pub async fn stops(self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.succeeds().await;
    }

    /// What it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended needs neither.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.log);
        let _ = fs::remove_file(&self.deadly);
    }
}
