//! The application under test: the real API on a port of its own, over a database and a Redis of its own.

use std::{collections::BTreeMap, sync::Arc};

use domain::{config::Env, db::Db};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{children, database::TestDatabase, http::Call, redis::TestRedis, smtp::SmtpSink};

/// A running application. Dropping it ends it.
pub struct TestApp {
    pub url: String,
    /// What the processes of this application would have as their environment.
    pub env: Env,
    pub db: Db,
    /// What the API's own routes work with.
    pub app: Arc<api::App>,
    pub client: reqwest::Client,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
    /// Where mail arrives, if the test asked for it.
    pub smtp: Option<SmtpSink>,
    // After what uses them: fields are dropped in this order.
    pub database: TestDatabase,
    pub redis: TestRedis,
}

/// What a test wants different from a plain application.
pub struct TestAppBuilder {
    env: BTreeMap<String, String>,
    durable_redis: bool,
    smtp: bool,
}

impl TestAppBuilder {
    /// Sets a variable of the application's environment.
    pub fn with_env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    /// Lets Redis keep its data over a kill, for tests that kill it.
    pub fn with_durable_redis(mut self) -> Self {
        self.durable_redis = true;
        self
    }

    /// Sends mail to a server of the test's own, [`TestApp::smtp`], instead of into files.
    pub fn with_smtp(mut self) -> Self {
        self.smtp = true;
        self
    }

    /// Starts the application; it answers when this returns.
    pub async fn start(self) -> TestApp {
        let database = TestDatabase::create().await;
        let redis = if self.durable_redis { TestRedis::durable() } else { TestRedis::start() };
        let data_dir = children::root().join(format!("data-{}", Uuid::now_v7().simple()));
        let mut env = BTreeMap::from([
            ("DATABASE_URL".to_owned(), database.url()),
            // Every connection is a process, and most tests end before they need a fourth.
            ("EVENTLY_DB_CONNECTIONS".to_owned(), "4".to_owned()),
            ("REDIS_URL".to_owned(), redis.url()),
            ("EVENTLY_HTTP_ADDR".to_owned(), "127.0.0.1:0".to_owned()),
            ("EVENTLY_DATA_DIR".to_owned(), data_dir.to_string_lossy().into_owned()),
            (
                "EVENTLY_SIGNING_KEY_FILE".to_owned(),
                data_dir.join("keys/signing.pem").to_string_lossy().into_owned(),
            ),
            // Tests do in a second what people do in an hour.
            ("EVENTLY_RATE_LIMITS".to_owned(), "off".to_owned()),
            ("EVENTLY_DRAIN_SECS".to_owned(), "0".to_owned()),
        ]);
        let smtp = if self.smtp { Some(SmtpSink::start().await) } else { None };
        env.extend(smtp.as_ref().map(|smtp| ("SMTP_URL".to_owned(), smtp.url())));
        env.extend(self.env);

        let (app, listener) = evently::api::bind(&env.clone().into_iter().collect()).unwrap();
        // Workers link to where the API really is.
        env.entry("EVENTLY_PUBLIC_URL".to_owned()).or_insert_with(|| app.config.public_url.clone());
        let env: Env = env.into_iter().collect();
        let (url, db) = (format!("http://{}", listener.local_addr().unwrap()), app.db.clone());
        let shutdown = CancellationToken::new();
        let server = api::serve(Arc::clone(&app), listener, shutdown.clone());
        let serving = tokio::spawn(async move { server.await.unwrap() });
        let client = reqwest::Client::new();
        TestApp { url, env, db, app, client, shutdown, serving, smtp, database, redis }
    }
}

impl TestApp {
    pub fn builder() -> TestAppBuilder {
        TestAppBuilder { env: BTreeMap::new(), durable_redis: false, smtp: false }
    }

    /// A plain application.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// The server that mail arrives at, of an application that was started `with_smtp`.
    pub fn smtp(&self) -> &SmtpSink {
        self.smtp.as_ref().unwrap()
    }

    pub fn get(&self, path: &str) -> Call {
        self.call(reqwest::Method::GET, path)
    }

    pub fn post(&self, path: &str, body: &Value) -> Call {
        self.call(reqwest::Method::POST, path).json(body)
    }

    pub fn put(&self, path: &str, body: &Value) -> Call {
        self.call(reqwest::Method::PUT, path).json(body)
    }

    pub fn patch(&self, path: &str, body: &Value) -> Call {
        self.call(reqwest::Method::PATCH, path).json(body)
    }

    pub fn delete(&self, path: &str) -> Call {
        self.call(reqwest::Method::DELETE, path)
    }

    /// A request that is still to be completed: `app.call(GET, "/v1/me").bearer(&token).await`.
    pub fn call(&self, method: reqwest::Method, path: &str) -> Call {
        Call::new(self.client.request(method, format!("{}{path}", self.url)))
    }

    /// Stops serving and waits until everything that ran has ended, as SIGTERM does.
    pub async fn stop(&mut self) {
        self.shutdown.cancel();
        (&mut self.serving).await.unwrap();
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.serving.abort();
    }
}
