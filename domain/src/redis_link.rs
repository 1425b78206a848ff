//! How a process reaches a Redis server: one client, and one multiplexed connection that reconnects by itself.

use std::time::Duration;

use redis::{
    Client, IntoConnectionInfo,
    aio::{ConnectionManager, ConnectionManagerConfig},
    io::tcp::TcpSettings,
};

use crate::{
    config::{ConfigError, Env},
    fault::Fault,
};

/// How long a command may take, connecting included, before the caller is told that Redis is down.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A server's client, for connections of one's own, and the shared connection. Cheap to clone.
#[derive(Clone)]
pub struct RedisLink {
    pub client: Client,
    pub connection: ConnectionManager,
}

impl RedisLink {
    /// Makes the link without connecting: a process may start before Redis does. Must run inside a Tokio runtime.
    /// `url` is `redis://…`, `rediss://…` or `redis+unix:///path`.
    pub fn new(url: &str) -> Result<Self, Fault> {
        let info = url.into_connection_info()?;
        let client = Client::open(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)))?;
        let settings = ConnectionManagerConfig::new()
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_connection_timeout(Some(Duration::from_secs(2)))
            .set_number_of_retries(1)
            .set_max_delay(Duration::from_millis(500));
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), settings)?;
        Ok(Self { client, connection })
    }

    /// The server of `REDIS_URL`: queues, limits, announcements.
    pub fn from_env(env: &Env) -> Result<Self, LinkError> {
        Ok(Self::new(env.require("REDIS_URL")?)?)
    }

    /// The server of `INVENTORY_REDIS_URL`, else of `REDIS_URL`: seats and holds.
    pub fn inventory_from_env(env: &Env) -> Result<Self, LinkError> {
        match env.get("INVENTORY_REDIS_URL") {
            Some(url) => Ok(Self::new(url)?),
            None => Self::from_env(env),
        }
    }
}

/// A link cannot be made from what is configured.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Url(#[from] Fault),
}
