//! Settings of the API.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use domain::config::{ConfigError, Env};

#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// Where it listens; port 0 picks one.
    pub http_addr: SocketAddr,
    /// Base of every link that leaves the house, without a trailing slash.
    pub public_url: String,
    /// Whether rate limits apply; `off` for load tests only.
    pub rate_limits: bool,
    /// Whether holds and waitlists need a verified e-mail address.
    pub require_verified: bool,
    /// Where mail is captured when there is no SMTP server; `None` hides `/dev/mail`.
    pub captured_mail: Option<PathBuf>,
    pub http: HttpConfig,
}

/// How much one process takes on at once, and how it goes.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Open connections; on more of them only health is answered, and everything else `unavailable`.
    pub max_connections: usize,
    /// Requests being worked on; more are told `unavailable` at once. One that waits for its body or for a job's
    /// result is not worked on. At 20,000 requests a second the last of them is answered after a tenth of one.
    pub max_in_flight: usize,
    /// How long a request's head may take to arrive, and a connection idle between requests.
    pub header_timeout: Duration,
    /// The same while more than three quarters of the connections are taken.
    pub hurried_header_timeout: Duration,
    /// How long a client may take to read some of its answer.
    pub write_timeout: Duration,
    /// How long requests are still taken after `/readyz` has turned false, for load balancers to notice.
    pub drain: Duration,
    /// How long running requests then have to finish.
    pub finish: Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            max_connections: 16_384,
            max_in_flight: 2_048,
            header_timeout: Duration::from_secs(30),
            hurried_header_timeout: Duration::from_secs(3),
            write_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(2),
            finish: Duration::from_secs(15),
        }
    }
}

impl HttpConfig {
    /// Reads `EVENTLY_MAX_CONNECTIONS`, `EVENTLY_MAX_IN_FLIGHT` and `EVENTLY_DRAIN_SECS`.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let default = Self::default();
        Ok(Self {
            max_connections: env.parse("EVENTLY_MAX_CONNECTIONS", default.max_connections)?,
            max_in_flight: env.parse("EVENTLY_MAX_IN_FLIGHT", default.max_in_flight)?,
            drain: Duration::from_secs(env.parse("EVENTLY_DRAIN_SECS", default.drain.as_secs())?),
            ..default
        })
    }
}

impl ApiConfig {
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let http_addr = env.parse("EVENTLY_HTTP_ADDR", SocketAddr::from(([127, 0, 0, 1], 8080)))?;
        let public_url = match env.get("EVENTLY_PUBLIC_URL") {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{http_addr}"),
        };
        let data_dir = PathBuf::from(env.get("EVENTLY_DATA_DIR").unwrap_or(".evently"));
        Ok(Self {
            http_addr,
            public_url,
            rate_limits: env.switch("EVENTLY_RATE_LIMITS", true)?,
            require_verified: env.switch("EVENTLY_REQUIRE_VERIFIED", false)?,
            captured_mail: env.get("SMTP_URL").is_none().then(|| data_dir.join("mail")),
            http: HttpConfig::from_env(env)?,
        })
    }
}
