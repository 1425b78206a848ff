//! What workers do over and over, in operators' hands.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
};
use domain::{
    listing::{Fingerprint, InvalidCursor},
    schedules::{self, Schedule},
};
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
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(run))
}

/// Schedules, by pool and name.
#[derive(Serialize, ToSchema)]
struct SchedulePage {
    data: Vec<Schedule>,
    /// Opens the next page; none on the last.
    next_cursor: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ScheduleQuery {
    /// Entries of a page.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// What workers do over and over
///
/// When each last ran, which process had it, and how it ended.
#[utoipa::path(get, path = "/v1/ops/schedules", tag = "Operations", operation_id = "list_schedules",
    security(("bearer" = [])), params(ScheduleQuery),
    responses((status = OK, description = "A page of schedules", body = SchedulePage,
        headers(("Link" = String, description = "`rel=\"next\"`: the next page, if there is one")))))]
async fn list(
    State(app): AppState,
    _: Operator,
    uri: Uri,
    Query(query): Query<ScheduleQuery>,
) -> ApiResult<(HeaderMap, Json<SchedulePage>)> {
    let limit = limit(query.limit)?;
    let list = Fingerprint::of("schedules", &());
    let after: Option<(String, String)> = query
        .cursor
        .map(|cursor| list.position(&cursor))
        .transpose()
        .map_err(|InvalidCursor| invalid_cursor())?;
    let place = |schedule: &Schedule| (schedule.pool.clone(), schedule.name.clone());
    // There are as many as the code names: a few dozen.
    let mut rest = schedules::list(&app.db).await?;
    rest.sort_by_key(place);
    rest.retain(|schedule| after.as_ref().is_none_or(|after| place(schedule) > *after));
    let page = list.page(rest, limit, place);
    let link = next_link(&uri, page.next_cursor.as_deref());
    Ok((link, Json(SchedulePage { data: page.data, next_cursor: page.next_cursor })))
}

/// Run a schedule at once
///
/// A process of its pool does it within seconds; `wanted_at` is null again when that was done. Safe to repeat.
#[utoipa::path(post, path = "/v1/ops/schedules/{name}/run", tag = "Operations", operation_id = "run_schedule",
    security(("bearer" = [])), params(("name" = String, Path, description = "The schedule")),
    request_body = Option<Reason>,
    responses((status = ACCEPTED, description = "It is to run at once", body = Schedule)))]
async fn run(
    State(app): AppState,
    Operator(caller): Operator,
    Path(name): Path<String>,
    OrEmpty(body): OrEmpty<Reason>,
) -> ApiResult<(StatusCode, Json<Schedule>)> {
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(ApiError::not_found());
    }
    let schedule = operations(&app).run_now(&operator(&caller, body.reason), &name).await?;
    Ok((StatusCode::ACCEPTED, Json(schedule)))
}
