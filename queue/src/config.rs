//! Where the queue lives.

use std::time::Duration;

use domain::config::{ConfigError, Env};

#[derive(Clone, Debug)]
pub struct QueueConfig {
    /// `redis://…`, `redis+unix://…`: one server or behind Sentinel, never a cluster.
    pub redis_url: String,
    /// What every key begins with, before the pool's name.
    pub prefix: String,
    /// How long a command may take; then its outcome is unknown.
    pub response_timeout: Duration,
    /// How long making a connection may take.
    pub connection_timeout: Duration,
    /// How often a worker says that it lives.
    pub heartbeat: Duration,
    /// For how long a worker may be silent before its jobs are given to others. Several heartbeats.
    pub orphaned_after: Duration,
}

impl QueueConfig {
    /// For the server at this address, everything else as in production.
    pub fn new(redis_url: impl Into<String>) -> Self {
        Self {
            redis_url: redis_url.into(),
            prefix: "evently".to_owned(),
            response_timeout: Duration::from_secs(5),
            connection_timeout: Duration::from_secs(2),
            heartbeat: Duration::from_secs(5),
            orphaned_after: Duration::from_secs(20),
        }
    }

    /// Reads `REDIS_URL`.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self::new(env.require("REDIS_URL")?))
    }
}
