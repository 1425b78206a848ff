//! HTTP in, HTTP out: validates, calls `domain` once, enqueues at most once, answers.

pub mod bare;
pub mod caller;
pub mod config;
mod csv;
pub mod deed;
pub mod error;
pub mod extract;
pub mod keyed;
mod leftover;
pub mod limits;
pub mod listing;
pub mod middleware;
pub mod openapi;
pub mod prefer;
pub mod router;
pub mod routes;
mod server;
mod sparing;
mod wire;

use std::{path::PathBuf, sync::Arc};

use domain::{
    accounts::{Accounts, amendments, tokens::Tokens},
    bookings::results::Results,
    config::Env,
    db::{Db, DbConfig},
    events::Catalog,
    holds::{HoldTokens, Placer},
    inventory::Inventory,
    payments::PaymentsConfig,
    rate_limit::RateLimiter,
    redis_link::RedisLink,
    waitlist::Joins,
};
use queue::{Queue, QueueConfig};
use routes::health::Health;

pub use config::ApiConfig;
pub use server::serve;

/// Why an application cannot be put together.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

/// What every route may use. One a process, shared.
pub struct App {
    pub config: ApiConfig,
    pub db: Db,
    /// The server of queues, limits and announcements.
    pub redis: RedisLink,
    pub inventory: Inventory,
    pub catalog: Catalog,
    pub queue: Queue,
    pub accounts: Accounts,
    pub placer: Placer,
    pub hold_tokens: HoldTokens,
    pub payments: PaymentsConfig,
    pub waitlist: Joins,
    /// What becomes of the confirms that this process began.
    pub results: Results,
    pub limiter: RateLimiter,
    pub health: Health,
}

impl App {
    /// As the environment says. Opens no connection yet; call it inside a runtime.
    pub fn from_env(env: &Env) -> Result<Self, StartError> {
        let config = ApiConfig::from_env(env)?;
        let db = Db::new(&DbConfig::from_env(env)?);
        let redis = RedisLink::from_env(env)?;
        let tokens = Arc::new(Tokens::load(&signing_key_file(env))?);
        let limiter =
            if config.rate_limits { RateLimiter::new(redis.connection.clone()) } else { RateLimiter::off() };
        let seats = RedisLink::inventory_from_env(env)?;
        let inventory = Inventory::new(&seats);
        Ok(Self {
            results: Results::new(&seats),
            waitlist: Joins::start(&db, &inventory),
            placer: Placer::start(&inventory, &db),
            catalog: Catalog::new(db.clone(), inventory.clone(), &redis)?,
            inventory,
            queue: Queue::connect(&QueueConfig::from_env(env)?)?,
            payments: PaymentsConfig::from_env(env)?,
            hold_tokens: HoldTokens::new(&tokens.hold_token_key()),
            accounts: Accounts::new(db.clone(), redis.connection.clone(), tokens),
            limiter,
            health: Health::default(),
            config,
            db,
            redis,
        })
    }

    /// What a process follows as long as it serves: announcements of the others. Never ends.
    async fn follow(&self) {
        tokio::join!(
            amendments::follow(self.redis.client.clone(), Arc::clone(self.accounts.tokens())),
            self.catalog.follow(),
            self.results.follow(),
        );
    }
}

/// `EVENTLY_SIGNING_KEY_FILE`, else `keys/signing.pem` in the data directory.
pub fn signing_key_file(env: &Env) -> PathBuf {
    env.get("EVENTLY_SIGNING_KEY_FILE").map_or_else(
        || PathBuf::from(env.get("EVENTLY_DATA_DIR").unwrap_or(".evently")).join("keys/signing.pem"),
        PathBuf::from,
    )
}

/// Routes take the application as `State(app): AppState`.
pub type AppState = axum::extract::State<Arc<App>>;
