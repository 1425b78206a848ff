//! The keys of one pool's queue.

use apalis_redis::Config;
use domain::jobs::Pool;

/// Names as apalis-redis 1.0.0 makes them, and those that only our scripts know.
#[derive(Debug)]
pub(crate) struct Keys {
    /// List: ids that wait, first come first served.
    pub active: String,
    /// Hash: id to envelope.
    pub data: String,
    /// Followed by an id: hash with status, starts, times, error.
    pub meta: String,
    /// Followed by a worker: set of the ids that it runs.
    pub inflight: String,
    /// Sorted set: workers by their last heartbeat, in seconds.
    pub workers: String,
    /// Followed by a worker: hash that describes it.
    pub worker: String,
    /// Sorted set: ids that gave up, by when, in milliseconds.
    pub dead: String,
    /// Sorted set: ids that wait for their time, in milliseconds.
    pub due: String,
    /// List: ids whose workers died more than once while they ran; each runs alone.
    pub suspects: String,
    /// Set: those of `due` that ran before and failed.
    pub retrying: String,
    /// Followed by a slot of ten seconds: hash that counts what ran in it. Goes by itself.
    pub tally: String,
    /// Exists while the pool is paused.
    pub paused: String,
}

impl Keys {
    pub(crate) fn new(prefix: &str, pool: Pool) -> Self {
        let queue = format!("{prefix}:{pool}");
        let config = Config::default().queue(&queue);
        Self {
            active: config.active_jobs_list(),
            data: config.job_data_hash(),
            meta: format!("{}:", config.job_meta_hash()),
            inflight: format!("{}:", config.inflight_jobs_set()),
            workers: config.workers_set(),
            worker: format!("{queue}:workers:metadata:"),
            dead: config.dead_jobs_set(),
            due: format!("{queue}:due"),
            suspects: format!("{queue}:suspects"),
            retrying: format!("{queue}:retrying"),
            tally: format!("{queue}:tally:"),
            paused: format!("{queue}:paused"),
        }
    }
}
