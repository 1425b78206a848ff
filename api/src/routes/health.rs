//! Whether this process lives, whether it should get traffic, and which build it is.

use std::{
    collections::BTreeMap,
    fmt::Display,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use domain::clock;
use serde::Serialize;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App, AppState,
    error::{ApiError, ApiResult, Code, Problem},
};

/// A dependency that has not answered after so many turns of this length, 1.5 s, counts as down. Turns, because in a
/// process that is late with everything an answer that came in time is seen late, and each turn is late as well.
const PROBE_TURNS: u32 = 30;
const PROBE_TURN: Duration = Duration::from_millis(50);
/// How long a verdict stands, so that a crowd of probes costs one query.
const VERDICT_AGE: Duration = Duration::from_millis(900);

/// Each dependency, and whether it is up.
type Verdict = Vec<(&'static str, bool)>;

/// The health of this process.
pub struct Health {
    started_at: DateTime<Utc>,
    draining: AtomicBool,
    /// Cancelled when the server closes: what streams must end.
    pub closing: CancellationToken,
    verdict: Mutex<Option<(Instant, Verdict)>>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            started_at: clock::now(),
            draining: AtomicBool::new(false),
            closing: CancellationToken::new(),
            verdict: Mutex::new(None),
        }
    }
}

impl Health {
    /// From now on the process wants no new traffic. There is no way back.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(livez)).routes(routes!(readyz)).routes(routes!(info))
}

#[derive(Serialize, ToSchema)]
struct Liveness {
    #[schema(example = "alive")]
    status: &'static str,
}

/// Whether the process answers at all
///
/// Looks at nothing else: restart the process when this fails.
#[utoipa::path(get, path = "/livez", tag = "Operations", operation_id = "livez",
    responses((status = OK, description = "It does", body = Liveness)))]
async fn livez() -> Json<Liveness> {
    Json(Liveness { status: "alive" })
}

#[derive(Serialize, ToSchema)]
struct Readiness {
    #[schema(example = "ready")]
    status: &'static str,
    /// Each dependency that was asked.
    #[schema(example = json!({"inventory": "up", "postgres": "up", "redis": "up"}))]
    checks: BTreeMap<&'static str, &'static str>,
}

/// Whether this process should get traffic
///
/// Asks Postgres and Redis, at most once a second. False from the moment a shutdown begins.
#[utoipa::path(get, path = "/readyz", tag = "Operations", operation_id = "readyz",
    responses(
        (status = OK, description = "Send traffic", body = Readiness),
        (status = SERVICE_UNAVAILABLE, description = "A dependency is down, or the process is shutting down",
         body = Problem, content_type = "application/problem+json"),
    ))]
async fn readyz(State(app): AppState) -> ApiResult<Json<Readiness>> {
    if app.health.is_draining() {
        return Err(ApiError::new(Code::Unavailable, "The process is shutting down."));
    }
    let verdict = verdict(&app).await;
    let down: Vec<_> = verdict.iter().filter(|(_, up)| !up).map(|(name, _)| *name).collect();
    if !down.is_empty() {
        return Err(ApiError::new(Code::Unavailable, format!("Down: {}.", down.join(", "))));
    }
    let checks = verdict.into_iter().map(|(name, _)| (name, "up")).collect();
    Ok(Json(Readiness { status: "ready", checks }))
}

/// Which dependencies are up. One caller asks, the others wait for its answer.
async fn verdict(app: &App) -> Verdict {
    let mut kept = app.health.verdict.lock().await;
    if let Some((at, verdict)) = &*kept
        && at.elapsed() < VERDICT_AGE
    {
        return verdict.clone();
    }
    // A Redis answers alike whichever part of it is asked; there may be two of them.
    let (postgres, redis, inventory) = tokio::join!(
        probe("postgres", app.db.ping()),
        probe("redis", app.queue.ping()),
        probe("inventory", app.inventory.ping()),
    );
    let verdict = vec![postgres, redis, inventory];
    *kept = Some((Instant::now(), verdict.clone()));
    verdict
}

async fn probe<E: Display>(
    name: &'static str,
    ping: impl Future<Output = Result<(), E>>,
) -> (&'static str, bool) {
    let mut ping = pin!(ping);
    for _ in 0..PROBE_TURNS {
        match timeout(PROBE_TURN, ping.as_mut()).await {
            Ok(Ok(())) => return (name, true),
            Ok(Err(error)) => {
                tracing::warn!(dependency = name, %error, "not ready");
                return (name, false);
            }
            Err(_) => {}
        }
    }
    tracing::warn!(dependency = name, "not ready: no answer in time");
    (name, false)
}

#[derive(Serialize, ToSchema)]
struct Info {
    #[schema(example = "evently")]
    name: &'static str,
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// The commit it was built from, where the build was told (`EVENTLY_COMMIT`).
    commit: Option<&'static str>,
    started_at: DateTime<Utc>,
    #[schema(example = "/openapi.json")]
    openapi: &'static str,
    #[schema(example = "/docs")]
    docs: &'static str,
}

/// Which build this is, and since when it runs
#[utoipa::path(get, path = "/info", tag = "Operations", operation_id = "info",
    responses((status = OK, description = "The build", body = Info)))]
async fn info(State(app): AppState) -> (StatusCode, Json<Info>) {
    let info = Info {
        name: "evently",
        version: env!("CARGO_PKG_VERSION"),
        commit: option_env!("EVENTLY_COMMIT").filter(|commit| !commit.is_empty()),
        started_at: app.health.started_at,
        openapi: "/openapi.json",
        docs: "/docs",
    };
    (StatusCode::OK, Json(info))
}
