//! Venues as everybody reads them.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use domain::venues::{self, ListError, Venue};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    App, AppState,
    error::{ApiError, ApiResult},
    extract::{Path, Query, etag, none_match},
    listing,
};

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(one))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u32>,
    /// `next_cursor` of the page before
    cursor: Option<String>,
}

/// A page of venues.
#[derive(Serialize, ToSchema)]
struct VenueList {
    data: Vec<Venue>,
    /// Opens the next page; null on the last.
    next_cursor: Option<String>,
}

/// Every venue
#[utoipa::path(get, path = "/v1/venues", tag = "Events", operation_id = "list_venues", params(ListQuery),
    responses(
        (status = OK, description = "A page of venues, in the order in which they were entered", body = VenueList,
         headers(("Link" = String, description = "`rel=\"next\"`: the next page, if there is one"))),
    ))]
async fn list(State(app): AppState, uri: Uri, Query(query): Query<ListQuery>) -> ApiResult<Response> {
    let limit = listing::limit(query.limit)?;
    let page = venues::list(&app.db, limit, query.cursor.as_deref()).await?;
    let link = listing::next_link(&uri, page.next_cursor.as_deref());
    Ok((link, Json(VenueList { data: page.data, next_cursor: page.next_cursor })).into_response())
}

/// One venue
#[utoipa::path(get, path = "/v1/venues/{id}", tag = "Events", operation_id = "venue",
    params(
        ("id" = Uuid, Path, description = "The venue"),
    ),
    responses(
        (status = OK, description = "The venue", body = Venue,
         headers(("ETag" = String, description = "Its version: `\"v7\"`"))),
    ))]
async fn one(State(app): AppState, Path(id): Path<Uuid>, headers: HeaderMap) -> ApiResult<Response> {
    let venue = venues::find(&app.db, id).await?.ok_or_else(ApiError::not_found)?;
    let tag = etag(venue.version);
    if none_match(&headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    Ok(([(header::ETAG, tag)], Json(venue)).into_response())
}

impl From<ListError> for ApiError {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Cursor(_) => listing::invalid_cursor(),
            ListError::Fault(fault) => fault.into(),
        }
    }
}
