//! The worker pools, run in the test's own process.

use std::time::Duration;

use domain::jobs::Pool;
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use workers::Context;

use super::app::TestApp;

/// How long jobs have to come to rest.
const PATIENCE: Duration = Duration::from_secs(30);

/// Running pools. Dropping them leaves their jobs where they are, as a kill would.
#[must_use]
pub struct Workers {
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

impl Workers {
    /// Ends the pools as SIGTERM does.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        (&mut self.running).await.unwrap();
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.running.abort();
    }
}

impl TestApp {
    /// Runs every pool.
    pub fn work(&self) -> Workers {
        self.work_on(&Pool::ALL)
    }

    /// Runs these pools.
    pub fn work_on(&self, pools: &[Pool]) -> Workers {
        let (pools, shutdown) = (pools.to_vec(), CancellationToken::new());
        let ctx = Context::from_env(&self.env).unwrap();
        let told = shutdown.clone();
        let running = tokio::spawn(async move { workers::run(&pools, ctx, None, told).await.unwrap() });
        Workers { shutdown, running }
    }

    /// Runs every pool until nothing is left to do, then stops them: the outbox holds nothing that is due, and no job
    /// waits or runs. Jobs of a later time stay scheduled; dead ones fail the test.
    pub async fn drain(&self) {
        let workers = self.work();
        self.rest().await;
        workers.stop().await;
    }

    /// Waits until nothing is left to do for workers that run, and asserts that no job died.
    pub async fn rest(&self) {
        let begun = Instant::now();
        // Twice in a row: a job may be between the outbox and the queue when one is looked at after the other.
        let mut quiet = 0;
        while quiet < 2 {
            quiet = if self.is_at_rest().await { quiet + 1 } else { 0 };
            assert!(begun.elapsed() < PATIENCE, "jobs do not come to rest: {:?}", self.queue_depths().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let dead = self.app.queue.all_stats().await.unwrap().iter().map(|pool| pool.dead).sum::<u64>();
        assert_eq!(dead, 0, "jobs died: {:?}", self.queue_depths().await);
    }

    async fn is_at_rest(&self) -> bool {
        let due = "SELECT count(*) FROM outbox WHERE dead_at IS NULL AND run_at <= now()";
        let stats = self.app.queue.all_stats().await.unwrap();
        stats.iter().all(|pool| pool.depth == 0 && pool.in_flight == 0)
            && self.database.value(due).await.as_deref() == Some("0")
    }

    async fn queue_depths(&self) -> Vec<String> {
        let stats = self.app.queue.all_stats().await.unwrap();
        let line = |pool: &queue::PoolStats| {
            format!("{}: {} waiting, {} running, {} dead", pool.pool, pool.depth, pool.in_flight, pool.dead)
        };
        stats.iter().map(line).collect()
    }
}
