//! A Postgres of a test process's own, which can be killed and started again.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Child,
    thread,
    time::Duration,
};

use evently::launch::{
    account,
    postgres::{Postgres, Purpose, STOP},
};
use rustix::process::{Pid, kill_process};

use super::children;

/// A running server with every migration run in its database `evently`.
pub struct TestPostgres {
    server: Postgres,
    sockets: PathBuf,
    log: PathBuf,
    process: Child,
}

impl TestPostgres {
    /// Makes and starts one; `name` is that of its directory. Blocks for seconds.
    pub fn start(name: &str) -> Self {
        let account = account::for_servers().unwrap();
        let sockets = children::root().join(format!("{name}-run"));
        account::private_dir(&sockets, account.as_ref()).unwrap();
        let server = Postgres::new(&children::root().join(name), &sockets, account, Purpose::Tests).unwrap();
        server.initialise().unwrap();
        let log = children::root().join(format!("{name}.log"));
        let process = launch(&server, &log);
        let url = server.url("evently");
        // Migrations block a thread, which only a multi-threaded runtime can spare.
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(domain::db::migrate(&url)).unwrap();
        })
        .join()
        .unwrap();
        Self { server, sockets, log, process }
    }

    /// The URL of one of its databases.
    pub fn url(&self, database: &str) -> String {
        self.server.url(database)
    }

    /// The socket that it listens on.
    pub fn socket(&self) -> PathBuf {
        self.sockets.join(".s.PGSQL.5432")
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Ends it in good order, and every connection with it.
    pub fn stop(&mut self) {
        kill_process(Pid::from_child(&self.process), STOP).unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again after [`TestPostgres::kill`] or [`TestPostgres::stop`]; it answers when this returns.
    pub fn restart(&mut self) {
        self.process = launch(&self.server, &self.log);
    }
}

impl Drop for TestPostgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// After a crash it refuses to start until the last backend has noticed, hence more than one try.
fn launch(server: &Postgres, log: &Path) -> Child {
    for _ in 0..600 {
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = server.server();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let mut process = children::spawn(command);
        loop {
            if server.is_ready() {
                return process;
            }
            if process.try_wait().unwrap().is_some() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("Postgres does not start");
}
