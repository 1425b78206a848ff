//! `evently api` and `evently worker` as processes of their own, which can be killed, stopped and put off their time.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Child,
    thread,
    time::Duration,
};

use evently::launch::command::dependent;
use rustix::process::{Pid, Signal, kill_process};

use super::children;

/// One process of the binary under test, running or not.
pub struct Role {
    name: String,
    args: &'static [&'static str],
    env: BTreeMap<String, String>,
    /// How far its clock is off.
    pub clock_secs: i64,
    runs: u32,
    log: PathBuf,
    process: Option<Child>,
}

impl Role {
    /// Starts `evently` with these arguments and, of Evently's variables, only these.
    pub fn start(name: &str, args: &'static [&'static str], env: BTreeMap<String, String>) -> Self {
        Self::start_off(name, args, env, 0)
    }

    /// The same, with a clock that is off by so many seconds.
    pub fn start_off(
        name: &str,
        args: &'static [&'static str],
        env: BTreeMap<String, String>,
        clock_secs: i64,
    ) -> Self {
        let mut role = Self {
            name: name.to_owned(),
            args,
            env,
            clock_secs,
            runs: 0,
            log: PathBuf::new(),
            process: None,
        };
        role.launch();
        role
    }

    /// Starts it again, with a log of its own.
    pub fn launch(&mut self) {
        self.runs += 1;
        self.log = children::root().join(format!("{}-{}.log", self.name, self.runs));
        let mut command = dependent(Path::new(env!("CARGO_BIN_EXE_evently")), "KILL");
        let log = File::create(&self.log).unwrap();
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).args(self.args);
        command.envs(&self.env).env("EVENTLY_TEST_CLOCK_SECS", self.clock_secs.to_string());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(children::spawn(command));
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Ends it in good order, and as a crash would when that takes more than 30 s.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
        for _ in 0..3_000 {
            let Some(process) = &mut self.process else { return };
            if process.try_wait().unwrap().is_some() {
                self.process = None;
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.kill();
    }

    /// Stops it where it is, until [`Role::resume`].
    pub fn suspend(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Starts it again if it has ended by itself, as `evently up` would; answers whether it had.
    pub fn revive(&mut self) -> bool {
        let ended = self.process.as_mut().is_some_and(|process| process.try_wait().unwrap().is_some());
        if ended {
            self.launch();
        }
        ended
    }

    /// Where an API process listens, once it does.
    pub async fn address(&self) -> SocketAddr {
        for _ in 0..6_000 {
            let text = fs::read_to_string(&self.log).unwrap_or_default();
            let line = text.lines().find(|line| line.contains("\"listening\""));
            let found = line.and_then(|line| {
                let line: serde_json::Value = serde_json::from_str(line).ok()?;
                line["address"].as_str()?.parse().ok()
            });
            if let Some(address) = found {
                return address;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} does not listen within 60 s: {}", self.name, fs::read_to_string(&self.log).unwrap());
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            // One that has ended by itself is started again by whoever looks after it.
            let _ = kill_process(Pid::from_child(process), signal);
        }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        self.kill();
    }
}
