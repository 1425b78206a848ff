//! One job in an operator's hands.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use domain::fault::Fault;
use queue::JobDetail;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App, AppState,
    caller::Operator,
    deed::{Reason, operations, operator},
    error::{ApiError, ApiResult},
    extract::{OrEmpty, Path, Query},
};

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(read)).routes(routes!(retry)).routes(routes!(discard))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DetailQuery {
    /// Shows what its arguments say; the audit log keeps that you have seen it.
    #[serde(default)]
    #[param(default = false)]
    reveal: bool,
}

/// One job
///
/// Where it is in its life, its attempts and their errors. What its arguments say is redacted. A job that is done is
/// gone: 404.
#[utoipa::path(get, path = "/v1/ops/jobs/{id}", tag = "Operations", operation_id = "get_job",
    security(("bearer" = [])), params(("id" = String, Path, description = "The job"), DetailQuery),
    responses((status = OK, description = "The job", body = JobDetail)))]
async fn read(
    State(app): AppState,
    Operator(caller): Operator,
    Path(id): Path<String>,
    Query(query): Query<DetailQuery>,
) -> ApiResult<Json<JobDetail>> {
    if query.reveal {
        return Ok(Json(operations(&app).reveal(&operator(&caller, None), &id).await?));
    }
    let job = app.queue.job(&id).await.map_err(Fault::from)?.ok_or_else(ApiError::not_found)?;
    Ok(Json(job.redacted()))
}

/// Retry a dead or scheduled job
///
/// It waits for a worker, with all its attempts before it. A job that runs or waits already: `invalid-state`.
#[utoipa::path(post, path = "/v1/ops/jobs/{id}/retry", tag = "Operations", operation_id = "retry_job",
    security(("bearer" = [])), params(("id" = String, Path, description = "The job")),
    request_body = Option<Reason>,
    responses((status = NO_CONTENT, description = "It waits for a worker")),
    extensions(("x-problems" = json!(["invalid-state"]))))]
async fn retry(
    State(app): AppState,
    Operator(caller): Operator,
    Path(id): Path<String>,
    OrEmpty(body): OrEmpty<Reason>,
) -> ApiResult<StatusCode> {
    operations(&app).retry(&operator(&caller, body.reason), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Discard a job
///
/// It is gone, and what caused it brings it not back. A job that runs: `invalid-state`.
#[utoipa::path(post, path = "/v1/ops/jobs/{id}/discard", tag = "Operations", operation_id = "discard_job",
    security(("bearer" = [])), params(("id" = String, Path, description = "The job")),
    request_body = Option<Reason>,
    responses((status = NO_CONTENT, description = "It is gone")),
    extensions(("x-problems" = json!(["invalid-state"]))))]
async fn discard(
    State(app): AppState,
    Operator(caller): Operator,
    Path(id): Path<String>,
    OrEmpty(body): OrEmpty<Reason>,
) -> ApiResult<StatusCode> {
    operations(&app).discard(&operator(&caller, body.reason), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
