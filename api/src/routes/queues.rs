//! Queues in operators' hands: how each pool stands, its jobs, pausing and resuming it.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, Uri},
};
use domain::{
    fault::Fault,
    jobs::Pool,
    listing::{Fingerprint, InvalidCursor},
};
use garde::Validate;
use queue::{JobDetail, JobStatus, PoolStats, QueueError};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App, AppState,
    caller::Operator,
    deed::{Reason, operations, operator},
    error::{ApiError, ApiResult},
    extract::{OrEmpty, Path, Query},
    listing::{invalid_cursor, limit, next_link},
};

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(jobs))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(retry))
}

/// The pools, in the order in which they are listed to people.
#[derive(Serialize, ToSchema)]
struct QueuePage {
    data: Vec<PoolStats>,
    /// Opens the next page; none on the last.
    next_cursor: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct QueueQuery {
    /// Entries of a page.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// How each pool stands
#[utoipa::path(get, path = "/v1/ops/queues", tag = "Operations", operation_id = "list_queues",
    security(("bearer" = [])), params(QueueQuery),
    responses((status = OK, description = "A row a pool", body = QueuePage,
        headers(("Link" = String, description = "`rel=\"next\"`: the next page, if there is one")))))]
async fn list(
    State(app): AppState,
    _: Operator,
    uri: Uri,
    Query(query): Query<QueueQuery>,
) -> ApiResult<(HeaderMap, Json<QueuePage>)> {
    let limit = limit(query.limit)?;
    let list = Fingerprint::of("queues", &());
    let passed: u32 = position(list, query.cursor.as_deref())?.unwrap_or(0);
    let rows = app.queue.all_stats().await.map_err(fault)?;
    let rest: Vec<_> = (1_u32..).zip(rows).skip(passed as usize).collect();
    let page = list.page(rest, limit, |(place, _)| *place);
    let link = next_link(&uri, page.next_cursor.as_deref());
    let data = page.data.into_iter().map(|(_, row)| row).collect();
    Ok((link, Json(QueuePage { data, next_cursor: page.next_cursor })))
}

/// Jobs, their arguments redacted.
#[derive(Serialize, ToSchema)]
struct JobPage {
    data: Vec<JobDetail>,
    /// Opens the next page; none on the last.
    next_cursor: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct JobQuery {
    /// Only jobs that are here in their life.
    #[param(inline)]
    status: Option<JobStatus>,
    /// Entries of a page.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The jobs of a pool
///
/// Those that run, wait, are scheduled and are dead, in this order: the first in line, the next due, the last dead first.
/// Jobs move on between two pages: one may be missed, or be seen twice.
#[utoipa::path(get, path = "/v1/ops/queues/{pool}/jobs", tag = "Operations", operation_id = "list_jobs",
    security(("bearer" = [])), params(("pool" = Pool, Path, description = "The pool"), JobQuery),
    responses((status = OK, description = "A page of jobs, their arguments redacted", body = JobPage,
        headers(("Link" = String, description = "`rel=\"next\"`: the next page, if there is one")))))]
async fn jobs(
    State(app): AppState,
    _: Operator,
    Path(name): Path<String>,
    uri: Uri,
    Query(query): Query<JobQuery>,
) -> ApiResult<(HeaderMap, Json<JobPage>)> {
    let (pool, limit) = (pool(&name)?, limit(query.limit)?);
    let order = [JobStatus::Running, JobStatus::Pending, JobStatus::Scheduled, JobStatus::Dead];
    let statuses = query.status.map_or(order.to_vec(), |status| vec![status]);
    let list = Fingerprint::of("jobs", &(pool, query.status));
    let (mut at, mut passed): (usize, u32) = position(list, query.cursor.as_deref())?.unwrap_or((0, 0));
    let mut found = Vec::new();
    // One more than the page holds says whether there is another.
    let wanted = limit as usize + 1;
    while let Some(status) = statuses.get(at).filter(|_| found.len() < wanted) {
        let jobs = app.queue.list_after(pool, *status, passed, wanted - found.len()).await.map_err(fault)?;
        found.extend((u64::from(passed) + 1..).zip(jobs).map(|(place, job)| ((at, place), job)));
        (at, passed) = (at + 1, 0);
    }
    let page = list.page(found, limit, |(place, _)| *place);
    let link = next_link(&uri, page.next_cursor.as_deref());
    let data = page.data.into_iter().map(|(_, job)| job.redacted()).collect();
    Ok((link, Json(JobPage { data, next_cursor: page.next_cursor })))
}

/// Pause a pool
///
/// Within two seconds none of its workers starts a job any more; what runs goes on, and what is done over and over is
/// still done. Safe to repeat.
#[utoipa::path(post, path = "/v1/ops/queues/{pool}/pause", tag = "Operations", operation_id = "pause_queue",
    security(("bearer" = [])), params(("pool" = Pool, Path, description = "The pool")),
    request_body = Option<Reason>,
    responses((status = OK, description = "How the pool stands now", body = PoolStats)))]
async fn pause(
    State(app): AppState,
    Operator(caller): Operator,
    Path(name): Path<String>,
    OrEmpty(body): OrEmpty<Reason>,
) -> ApiResult<Json<PoolStats>> {
    let pool = pool(&name)?;
    Ok(Json(operations(&app).pause(&operator(&caller, body.reason), pool).await?))
}

/// Resume a pool
///
/// Its workers start jobs again, the first in line first. Safe to repeat.
#[utoipa::path(post, path = "/v1/ops/queues/{pool}/resume", tag = "Operations", operation_id = "resume_queue",
    security(("bearer" = [])), params(("pool" = Pool, Path, description = "The pool")),
    request_body = Option<Reason>,
    responses((status = OK, description = "How the pool stands now", body = PoolStats)))]
async fn resume(
    State(app): AppState,
    Operator(caller): Operator,
    Path(name): Path<String>,
    OrEmpty(body): OrEmpty<Reason>,
) -> ApiResult<Json<PoolStats>> {
    let pool = pool(&name)?;
    Ok(Json(operations(&app).resume(&operator(&caller, body.reason), pool).await?))
}

/// Which dead jobs to retry, and why; the body may be left out.
#[derive(Debug, Default, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct RetryRequest {
    /// Only jobs of this kind.
    #[garde(inner(length(chars, min = 1, max = 100)))]
    #[schema(min_length = 1, max_length = 100, example = "send_mail")]
    job: Option<String>,
    /// For the audit log.
    #[garde(inner(length(chars, min = 1, max = 500)))]
    #[schema(min_length = 1, max_length = 500, example = "the mail server is back")]
    reason: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct RetriedJobs {
    /// How many jobs wait for a worker again.
    retried: usize,
}

/// Retry the dead jobs of a pool
///
/// All of them, or those of one kind, each with all its attempts before it. What dies meanwhile is left alone.
#[utoipa::path(post, path = "/v1/ops/queues/{pool}/retry", tag = "Operations", operation_id = "retry_dead_jobs",
    security(("bearer" = [])), params(("pool" = Pool, Path, description = "The pool")),
    request_body = Option<RetryRequest>,
    responses((status = OK, description = "How many were retried", body = RetriedJobs)))]
async fn retry(
    State(app): AppState,
    Operator(caller): Operator,
    Path(name): Path<String>,
    OrEmpty(body): OrEmpty<RetryRequest>,
) -> ApiResult<Json<RetriedJobs>> {
    let pool = pool(&name)?;
    let operator = operator(&caller, body.reason);
    let retried = operations(&app).retry_all(&operator, pool, body.job.as_deref()).await?;
    Ok(Json(RetriedJobs { retried }))
}

fn pool(name: &str) -> ApiResult<Pool> {
    name.parse().map_err(|_| ApiError::not_found())
}

fn position<P: serde::de::DeserializeOwned>(list: Fingerprint, cursor: Option<&str>) -> ApiResult<Option<P>> {
    cursor.map(|cursor| list.position(cursor)).transpose().map_err(|InvalidCursor| invalid_cursor())
}

fn fault(error: QueueError) -> ApiError {
    Fault::from(error).into()
}
