//! How full events are.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::Uri,
    response::{IntoResponse, Response},
};
use domain::{
    analytics::{self, Band, EventUtilization, UtilizationError, UtilizationFilter},
    events::EventStatus,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::admin_analytics::scope;
use crate::{App, AppState, caller::Organizer, error::ApiResult, extract::Query, listing};

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Events of this status; `published` unless given.
    status: Option<EventStatus>,
    /// Only events this full: `high` from 80 %, `medium` from 50 %.
    band: Option<Band>,
    /// How many; 20 unless given.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
    /// `next_cursor` of the page before, with the same filters.
    cursor: Option<String>,
}

/// A page of events with their seats
#[derive(Serialize, ToSchema)]
struct UtilizationPage {
    data: Vec<EventUtilization>,
    /// Opens the next page; none on the last.
    next_cursor: Option<String>,
}

/// How full events are, fullest first
///
/// Seats sold to seats there are, now. An organizer's are those of their own events.
#[utoipa::path(get, path = "/v1/admin/events/capacity_utilization", tag = "Admin: insight",
    operation_id = "capacity_utilization", security(("bearer" = [])), params(ListQuery),
    responses((status = OK, description = "A page", body = UtilizationPage,
        headers(("Link" = Option<String>, description = "`rel=\"next\"`, unless it is the last page")))))]
async fn list(
    State(app): AppState,
    Organizer(caller): Organizer,
    uri: Uri,
    Query(query): Query<ListQuery>,
) -> ApiResult<Response> {
    let status = query.status.unwrap_or(EventStatus::Published);
    let filter = UtilizationFilter::new(scope(&caller), status, query.band);
    let limit = listing::limit(query.limit)?;
    let conn = &mut *app.db.conn().await?;
    let page = analytics::utilization_page(conn, &filter, limit, query.cursor.as_deref()).await;
    let page = page.map_err(|error| match error {
        UtilizationError::Cursor(_) => listing::invalid_cursor(),
        UtilizationError::Fault(fault) => fault.into(),
    })?;
    let link = listing::next_link(&uri, page.next_cursor.as_deref());
    let page = UtilizationPage { data: page.data, next_cursor: page.next_cursor };
    Ok((link, Json(page)).into_response())
}
