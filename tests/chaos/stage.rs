//! The stage of a run: processes and servers of its own with a proxy between every pair, and what befalls them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use domain::config::Env;
use tokio::{task::block_in_place, time::sleep};
use uuid::Uuid;

use super::{
    history::Happened,
    load::Shop,
    plan::{APIS, Fault, Lane, Link, Target, WORKERS},
};
use crate::support::{
    children,
    postgres::TestPostgres,
    proxy::{Proxy, Upstream, Weather},
    redis::TestRedis,
    roles::Role,
    smtp::SmtpSink,
};

/// A server or a process; only its lane and the healing touch it.
type Owned<T> = Arc<tokio::sync::Mutex<T>>;

pub struct Stage {
    pub smtp: Arc<SmtpSink>,
    proxies: BTreeMap<Link, Proxy>,
    apis: Vec<Owned<Role>>,
    workers: Vec<Owned<Role>>,
    redis: Owned<TestRedis>,
    postgres: Owned<TestPostgres>,
    /// Past the proxies: how the test itself reaches the servers.
    pub env: Env,
    pub database_url: String,
}

impl Stage {
    /// The servers, and the processes' way to them. The processes start with [`Stage::launch`].
    pub async fn set() -> Self {
        let name = format!("chaos-{}", Uuid::now_v7().simple());
        let (postgres, redis) = block_in_place(|| (TestPostgres::start(&name), TestRedis::durable()));
        let smtp = Arc::new(SmtpSink::start().await);
        let mut proxies = BTreeMap::new();
        for link in Link::all() {
            let upstream = match link {
                Link::ApiToRedis(_) | Link::WorkerToRedis(_) => Upstream::Unix(redis.socket().to_owned()),
                Link::ApiToPostgres(_) | Link::WorkerToPostgres(_) => Upstream::Unix(postgres.socket()),
                // Where an API listens is known once it does; nobody asks before.
                Link::WorkerToSmtp(_) | Link::ClientToApi(_) => Upstream::Tcp(smtp.address()),
            };
            proxies.insert(link, Proxy::start(upstream).await);
        }
        let keys = children::root().join(&name).with_extension("keys");
        let database_url = postgres.url("evently");
        let env = Self::env(&database_url, &redis.url(), &smtp.url(), &keys.to_string_lossy());
        Self {
            smtp,
            proxies,
            apis: Vec::new(),
            workers: Vec::new(),
            redis: Arc::new(redis.into()),
            postgres: Arc::new(postgres.into()),
            env: env.into_iter().collect(),
            database_url,
        }
    }

    fn env(database: &str, redis: &str, smtp: &str, data: &str) -> BTreeMap<String, String> {
        [
            ("DATABASE_URL", database),
            ("REDIS_URL", redis),
            ("SMTP_URL", smtp),
            ("EVENTLY_DATA_DIR", data),
            ("EVENTLY_SIGNING_KEY_FILE", &format!("{data}/signing.pem")),
            ("EVENTLY_HTTP_ADDR", "127.0.0.1:0"),
            ("EVENTLY_METRICS_ADDR", "127.0.0.1:0"),
            ("EVENTLY_PUBLIC_URL", "http://evently.test"),
            ("EVENTLY_RATE_LIMITS", "off"),
            ("EVENTLY_LOG_FORMAT", "json"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// Starts the processes and answers once they serve.
    pub async fn launch(&mut self) {
        let data = self.env.get("EVENTLY_DATA_DIR").unwrap().to_owned();
        let through = |postgres, redis, smtp: &str| {
            let address = |link| self.proxies[&link].address;
            let database = format!("postgres://evently@{}/evently", address(postgres));
            Self::env(&database, &format!("redis://{}", address(redis)), smtp, &data)
        };
        let id = Uuid::now_v7().simple();
        for n in 0..APIS {
            let env = through(Link::ApiToPostgres(n), Link::ApiToRedis(n), &self.smtp.url());
            self.apis.push(Arc::new(Role::start(&format!("api{n}-{id}"), &["api"], env).into()));
        }
        for n in 0..WORKERS {
            let smtp = format!("smtp://{}", self.proxies[&Link::WorkerToSmtp(n)].address);
            let env = through(Link::WorkerToPostgres(n), Link::WorkerToRedis(n), &smtp);
            let role = Role::start(&format!("worker{n}-{id}"), &["worker", "--all"], env);
            self.workers.push(Arc::new(role.into()));
        }
        for n in 0..APIS {
            self.lead(n).await;
        }
    }

    /// Where clients find the APIs.
    pub fn urls(&self) -> Vec<String> {
        (0..APIS).map(|n| format!("http://{}", self.proxies[&Link::ClientToApi(n)].address)).collect()
    }

    async fn lead(&self, n: usize) {
        let address = self.apis[n].lock().await.address().await;
        self.proxies[&Link::ClientToApi(n)].lead_to(Upstream::Tcp(address));
    }

    /// Lets everything of a lane happen, and notes when it did.
    pub async fn befall(self: Arc<Self>, lane: Lane, shop: Arc<Shop>, length: Duration) {
        for (pause, fault) in lane.faults {
            sleep(pause).await;
            let begun_ms = shop.now_ms();
            if u128::from(begun_ms) >= length.as_millis() {
                return;
            }
            let what = format!("{:?}: {fault:?}", lane.target);
            let flush = fault == Fault::Flush;
            self.happen(lane.target, fault).await;
            let ended_ms = shop.now_ms();
            shop.history.lock().unwrap().faults.push(Happened { begun_ms, ended_ms, what, flush });
        }
    }

    async fn happen(&self, target: Target, fault: Fault) {
        match (target, fault) {
            (Target::Api(n), fault) => {
                trouble(&self.apis[n], fault).await;
                self.lead(n).await;
            }
            (Target::Worker(n), fault) => trouble(&self.workers[n], fault).await,
            (Target::Redis, Fault::Flush) => {
                let mut connection = self.redis.lock().await.connect().await;
                let _: () = redis::cmd("FLUSHALL").query_async(&mut connection).await.unwrap();
            }
            (Target::Redis, Fault::Kill { down } | Fault::Restart { down }) => {
                let mut redis = self.redis.lock().await;
                block_in_place(
                    || if matches!(fault, Fault::Kill { .. }) { redis.kill() } else { redis.stop() },
                );
                sleep(down).await;
                block_in_place(|| redis.restart());
            }
            (Target::Postgres, Fault::Kill { down } | Fault::Restart { down }) => {
                let mut postgres = self.postgres.lock().await;
                let end = |postgres: &mut TestPostgres| match fault {
                    Fault::Kill { .. } => postgres.kill(),
                    _ => postgres.stop(),
                };
                block_in_place(|| end(&mut postgres));
                sleep(down).await;
                block_in_place(|| postgres.restart());
            }
            (_, Fault::Weather { link, weather, length }) => {
                self.proxies[&link].set(weather);
                sleep(length).await;
                self.proxies[&link].set(Weather::Fair);
            }
            (_, Fault::Cut { link }) => self.proxies[&link].cut(),
            (_, Fault::Reset { link }) => self.proxies[&link].reset(),
            (_, Fault::Mail { how, count }) => (0..count).for_each(|_| self.smtp.misbehave(how)),
            (target, fault) => unreachable!("{target:?}: {fault:?}"),
        }
    }

    /// Starts again what ended by itself, as a supervisor would, until it is aborted.
    pub async fn supervise(self: Arc<Self>, shop: Arc<Shop>) {
        loop {
            sleep(Duration::from_millis(500)).await;
            for (n, role) in self.apis.iter().chain(&self.workers).enumerate() {
                // One whose lane has it just now is looked after.
                let Ok(mut role) = role.try_lock() else { continue };
                if !role.revive() {
                    continue;
                }
                drop(role);
                let now = shop.now_ms();
                let what = format!("process {n} ended by itself and was started again");
                let happened = Happened { begun_ms: now, ended_ms: now, what, flush: false };
                shop.history.lock().unwrap().faults.push(happened);
                if n < APIS {
                    self.lead(n).await;
                }
            }
        }
    }

    /// Ends all trouble, once the lanes are through: clocks are right and every process serves.
    pub async fn heal(&self) {
        for proxy in self.proxies.values() {
            proxy.set(Weather::Fair);
        }
        self.smtp.behave();
        for role in self.apis.iter().chain(&self.workers) {
            let is_off = role.lock().await.clock_secs != 0;
            if is_off {
                trouble(role, Fault::Kill { down: Duration::ZERO }).await;
            }
        }
        for n in 0..APIS {
            self.lead(n).await;
        }
    }
}

async fn trouble(role: &Owned<Role>, fault: Fault) {
    let mut role = role.lock().await;
    match fault {
        Fault::Kill { down } | Fault::Restart { down } => {
            let kill = matches!(fault, Fault::Kill { .. });
            block_in_place(|| if kill { role.kill() } else { role.terminate() });
            sleep(down).await;
            role.clock_secs = 0;
            role.launch();
        }
        Fault::Suspend { length } => {
            role.suspend();
            sleep(length).await;
            role.resume();
        }
        Fault::Clock { secs } => {
            block_in_place(|| role.kill());
            role.clock_secs = secs;
            role.launch();
        }
        other => unreachable!("{other:?}"),
    }
}
