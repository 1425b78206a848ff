//! One Redis a test: started in milliseconds, ended with the test.

use std::{
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use evently::launch::{
    account,
    redis::{Redis, STOP},
};
use rustix::process::{Pid, kill_process};
use uuid::Uuid;

use super::children;

/// A Redis that nobody else uses.
pub struct TestRedis {
    server: Redis,
    dir: PathBuf,
    process: Child,
}

impl TestRedis {
    /// An empty one that forgets everything when it ends.
    pub fn start() -> Self {
        Self::new(false)
    }

    /// One that keeps its data over [`TestRedis::kill`] and [`TestRedis::restart`], as in production.
    pub fn durable() -> Self {
        Self::new(true)
    }

    fn new(append_only: bool) -> Self {
        let account = account::for_servers().unwrap();
        let dir = children::root().join(Uuid::now_v7().simple().to_string());
        account::private_dir(&dir, account.as_ref()).unwrap();
        let server = Redis::new(&dir, &dir.join("redis.sock"), account, append_only).unwrap();
        let process = launch(&server);
        Self { server, dir, process }
    }

    /// Its `REDIS_URL`.
    pub fn url(&self) -> String {
        self.server.url()
    }

    pub fn socket(&self) -> &Path {
        self.server.socket()
    }

    pub async fn connect(&self) -> redis::aio::MultiplexedConnection {
        // A server on a busy machine is slow, not down.
        let patient = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(30)))
            .set_response_timeout(Some(Duration::from_secs(30)));
        let client = redis::Client::open(self.url()).unwrap();
        client.get_multiplexed_async_connection_with_config(&patient).await.unwrap()
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Ends it in good order.
    pub fn stop(&mut self) {
        kill_process(Pid::from_child(&self.process), STOP).unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again after [`TestRedis::kill`] or [`TestRedis::stop`].
    pub fn restart(&mut self) {
        self.process = launch(&self.server);
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        self.kill();
        std::fs::remove_dir_all(&self.dir).unwrap();
    }
}

fn launch(server: &Redis) -> Child {
    let mut command = server.server();
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let process = children::spawn(command);
    while !server.is_ready() {
        thread::sleep(Duration::from_millis(2));
    }
    process
}
