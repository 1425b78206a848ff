//! Venues as organizers enter and change them.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::venues::{self, Venue, VenueFields};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    App, AppState,
    caller::Organizer,
    error::ApiResult,
    extract::{IfMatch, Path, Unchecked, etag},
};

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(create)).routes(routes!(replace))
}

/// Enter a venue
#[utoipa::path(post, path = "/v1/admin/venues", tag = "Admin: events", operation_id = "create_venue",
    security(("bearer" = [])), request_body = VenueFields,
    responses(
        (status = CREATED, description = "The venue", body = Venue,
         headers(("ETag" = String, description = "Its version"), ("Location" = String, description = "Its address"))),
    ))]
async fn create(
    State(app): AppState,
    Organizer(caller): Organizer,
    Unchecked(fields): Unchecked<VenueFields>,
) -> ApiResult<Response> {
    let venue = venues::create(&app.db, Some(caller.id()), &fields).await?;
    let location = format!("/v1/venues/{}", venue.id);
    let headers = [(header::ETAG, etag(venue.version)), (header::LOCATION, location)];
    Ok((StatusCode::CREATED, headers, Json(venue)).into_response())
}

/// Change a venue
///
/// Organizers change those that they entered, admins all.
#[utoipa::path(put, path = "/v1/admin/venues/{id}", tag = "Admin: events", operation_id = "replace_venue",
    security(("bearer" = [])), request_body = VenueFields,
    params(
        ("id" = Uuid, Path, description = "The venue"),
        ("If-Match" = String, Header, description = "The `ETag` of the version that you change"),
    ),
    responses(
        (status = OK, description = "The venue as it is now", body = Venue,
         headers(("ETag" = String, description = "Its version"))),
    ))]
async fn replace(
    State(app): AppState,
    Organizer(caller): Organizer,
    Path(id): Path<Uuid>,
    IfMatch(expected): IfMatch,
    Unchecked(fields): Unchecked<VenueFields>,
) -> ApiResult<Response> {
    let replaced = venues::replace(&app.db, caller.editor(), id, expected, &fields).await?;
    app.catalog.forget(&replaced.events).await;
    Ok(([(header::ETAG, etag(replaced.venue.version))], Json(replaced.venue)).into_response())
}
