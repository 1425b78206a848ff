//! What every job is given.

use std::sync::Arc;

use domain::{
    config::Env,
    db::{Db, DbConfig},
    events::Announcements,
    inventory::Inventory,
    redis_link::RedisLink,
};
use queue::{Queue, QueueConfig};

use crate::{
    confirm::line::Line,
    email::{Mailer, config::MailConfig},
    payments::Gateways,
};

/// Handles to everything that a job works with. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    pub db: Db,
    pub inventory: Inventory,
    pub queue: Queue,
    /// Where the processes that keep events at hand hear of their changes.
    pub announcements: Announcements,
    pub mailer: Arc<Mailer>,
    /// Who moves the money.
    pub gateways: Gateways,
    /// What all confirms of this process go through together.
    pub line: Line,
}

impl Context {
    /// As the environment says. Opens no connection yet; call it inside a runtime.
    pub fn from_env(env: &Env) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let db = Db::new(&DbConfig { plan_once: true, ..DbConfig::from_env(env)? });
        let inventory = Inventory::new(&RedisLink::inventory_from_env(env)?);
        Ok(Self {
            mailer: Arc::new(Mailer::new(&db, &MailConfig::from_env(env)?)),
            queue: Queue::connect(&QueueConfig::from_env(env)?)?,
            announcements: Announcements::new(&RedisLink::from_env(env)?)?,
            gateways: Gateways::from_env(env, &db)?,
            line: Line::start(&db, &inventory),
            inventory,
            db,
        })
    }
}
