//! The ticket types of an event as organizers write them.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::events::{self, Target, TicketType, TicketTypeFields, WrittenTicketType};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    App, AppState,
    caller::Organizer,
    error::ApiResult,
    extract::{IfMatch, Path, Unchecked, etag},
};

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(add)).routes(routes!(replace, delete))
}

/// Add a ticket type
#[utoipa::path(post, path = "/v1/admin/events/{id}/ticket_types", tag = "Admin: events",
    operation_id = "add_ticket_type", security(("bearer" = [])), request_body = TicketTypeFields,
    params(("id" = Uuid, Path, description = "The event")),
    extensions(("x-problems" = json!(["invalid-state"]))),
    responses(
        (status = CREATED, description = "The ticket type", body = TicketType,
         headers(("ETag" = String, description = "Its version"))),
    ))]
async fn add(
    State(app): AppState,
    Organizer(caller): Organizer,
    Path(id): Path<Uuid>,
    Unchecked(fields): Unchecked<TicketTypeFields>,
) -> ApiResult<Response> {
    let written = events::add_ticket_type(&app.db, caller.editor(), id, &fields).await?;
    Ok((StatusCode::CREATED, changed(&app, written).await).into_response())
}

/// Change a ticket type
///
/// Capacity may grow at once, and be cut down to what is sold, held and offered. A new `base_price` is the price
/// from now on; holds keep theirs.
#[utoipa::path(put, path = "/v1/admin/events/{id}/ticket_types/{ticket_type_id}", tag = "Admin: events",
    operation_id = "replace_ticket_type", security(("bearer" = [])), request_body = TicketTypeFields,
    params(
        ("id" = Uuid, Path, description = "The event"),
        ("ticket_type_id" = Uuid, Path, description = "The ticket type"),
        ("If-Match" = String, Header, description = "The ticket type's own tag: `\"v\" + version`"),
    ),
    extensions(("x-problems" = json!(["invalid-state", "capacity-in-use", "inventory-rebuilding"]))),
    responses(
        (status = OK, description = "The ticket type as it is now", body = TicketType,
         headers(("ETag" = String, description = "Its version"))),
    ))]
async fn replace(
    State(app): AppState,
    Organizer(caller): Organizer,
    Path((event_id, id)): Path<(Uuid, Uuid)>,
    IfMatch(expected): IfMatch,
    Unchecked(fields): Unchecked<TicketTypeFields>,
) -> ApiResult<Response> {
    let target = Target { editor: caller.editor(), event_id, id, expected };
    let written = events::replace_ticket_type(&app.db, &app.inventory, target, &fields).await?;
    Ok(changed(&app, written).await)
}

/// Remove a ticket type
///
/// Nothing of it may be sold, held or offered, and a published event keeps one.
#[utoipa::path(delete, path = "/v1/admin/events/{id}/ticket_types/{ticket_type_id}", tag = "Admin: events",
    operation_id = "delete_ticket_type", security(("bearer" = [])),
    params(
        ("id" = Uuid, Path, description = "The event"),
        ("ticket_type_id" = Uuid, Path, description = "The ticket type"),
        ("If-Match" = String, Header, description = "The ticket type's own tag: `\"v\" + version`"),
    ),
    extensions(("x-problems" = json!(["invalid-state", "capacity-in-use", "inventory-rebuilding"]))),
    responses((status = NO_CONTENT, description = "It is gone"),
    ))]
async fn delete(
    State(app): AppState,
    Organizer(caller): Organizer,
    Path((event_id, id)): Path<(Uuid, Uuid)>,
    IfMatch(expected): IfMatch,
) -> ApiResult<StatusCode> {
    let target = Target { editor: caller.editor(), event_id, id, expected };
    let written = events::delete_ticket_type(&app.db, &app.inventory, target).await?;
    app.catalog.changed(written.event).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Tells Redis and the caches, and answers the ticket type with the seats that can be held now.
async fn changed(app: &App, written: WrittenTicketType) -> Response {
    let event = app.catalog.changed(written.event).await;
    let present = event.ticket_types.into_iter().find(|kind| kind.id == written.ticket_type.id);
    let kind = present.unwrap_or(written.ticket_type);
    ([(header::ETAG, etag(kind.version))], Json(kind)).into_response()
}
