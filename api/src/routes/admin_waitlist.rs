//! The waitlist of an event as its organizer sees and overrides it.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};
use domain::waitlist::{self, AdminEntry, AdminFilter, AdminListError, EntryStatus, OverrideError};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    App, AppState,
    caller::Organizer,
    error::{ApiError, ApiResult, Code},
    extract::{Body, Path, Query},
    listing::{invalid_cursor, limit, next_link},
};

const MAX_REASON: usize = 500;

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(offer))
        .routes(routes!(move_to))
        .routes(routes!(remove))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Of this ticket type only.
    ticket_type_id: Option<Uuid>,
    /// Of this status only; those that wait or have an open offer unless given.
    status: Option<EntryStatus>,
    /// How many; 20 unless given.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
    /// `next_cursor` of the page before, with the same filters.
    cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct WaitlistPage {
    data: Vec<AdminEntry>,
    /// Opens the next page; null on the last.
    next_cursor: Option<String>,
}

/// The waitlist of an event
///
/// In the order in which it is served, with the reason why an entry that waits has no offer. First come, first served,
/// by the quantity that fits: a party that wants more than is free is passed over and keeps its place. What fits nobody
/// who waits stays with the waitlist until more comes free; the public has it once nobody waits.
#[utoipa::path(get, path = "/v1/admin/events/{id}/waitlist", tag = "Admin: events", operation_id = "list_waitlist",
    security(("bearer" = [])), params(("id" = Uuid, Path, description = "The event"), ListQuery),
    responses((status = OK, description = "A page", body = WaitlistPage,
        headers(("Link" = Option<String>, description = "`rel=\"next\"`, unless it is the last page")))))]
async fn list(
    State(app): AppState,
    Organizer(caller): Organizer,
    Path(event_id): Path<Uuid>,
    uri: Uri,
    Query(query): Query<ListQuery>,
) -> ApiResult<Response> {
    let filter = AdminFilter { event_id, ticket_type_id: query.ticket_type_id, status: query.status };
    let (limit, cursor) = (limit(query.limit)?, query.cursor.as_deref());
    let page = waitlist::page(&app.db, &app.inventory, caller.editor(), &filter, limit, cursor).await?;
    let links = next_link(&uri, page.next_cursor.as_deref());
    Ok((links, Json(WaitlistPage { data: page.data, next_cursor: page.next_cursor })).into_response())
}

impl From<AdminListError> for ApiError {
    fn from(error: AdminListError) -> Self {
        match error {
            AdminListError::NotFound => Self::not_found(),
            AdminListError::InvalidCursor(_) => invalid_cursor(),
            AdminListError::Fault(fault) => fault.into(),
        }
    }
}

#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct OverrideRequest {
    /// For the audit log.
    #[garde(length(chars, max = MAX_REASON))]
    #[schema(max_length = 500, example = "Wheelchair user")]
    reason: Option<String>,
}

/// Offer to an entry now
///
/// Whoever stands before it: out of what is free for the waitlist, or for the public.
#[utoipa::path(post, path = "/v1/admin/events/{id}/waitlist/{entry_id}/offer", tag = "Admin: events",
    operation_id = "offer_to_waitlist_entry", security(("bearer" = [])), request_body = OverrideRequest,
    params(("id" = Uuid, Path, description = "The event"), ("entry_id" = Uuid, Path, description = "The entry")),
    responses((status = NO_CONTENT, description = "It has an offer")),
    extensions(("x-problems" = json!(["invalid-state", "sold-out", "sale-closed", "inventory-rebuilding"]))))]
async fn offer(
    State(app): AppState,
    Organizer(caller): Organizer,
    Path((event_id, id)): Path<(Uuid, Uuid)>,
    Body(body): Body<OverrideRequest>,
) -> ApiResult<StatusCode> {
    let (editor, reason) = (caller.editor(), body.reason.as_deref());
    waitlist::offer_now(&app.db, &app.inventory, editor, event_id, id, reason).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct MoveRequest {
    /// Its place in line from now on, from 1; beyond the end is the end.
    #[garde(range(min = 1, max = 1_000_000))]
    #[schema(minimum = 1, maximum = 1_000_000, example = 1)]
    position: i64,
    /// For the audit log.
    #[garde(length(chars, max = MAX_REASON))]
    #[schema(max_length = 500)]
    reason: Option<String>,
}

/// Move an entry
#[utoipa::path(post, path = "/v1/admin/events/{id}/waitlist/{entry_id}/move", tag = "Admin: events",
    operation_id = "move_waitlist_entry", security(("bearer" = [])), request_body = MoveRequest,
    params(("id" = Uuid, Path, description = "The event"), ("entry_id" = Uuid, Path, description = "The entry")),
    responses((status = NO_CONTENT, description = "It stands there")),
    extensions(("x-problems" = json!(["invalid-state"]))))]
async fn move_to(
    State(app): AppState,
    Organizer(caller): Organizer,
    Path((event_id, id)): Path<(Uuid, Uuid)>,
    Body(body): Body<MoveRequest>,
) -> ApiResult<StatusCode> {
    let (editor, reason) = (caller.editor(), body.reason.as_deref());
    waitlist::move_to(&app.db, editor, event_id, id, body.position, reason).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RemoveQuery {
    /// For the audit log.
    reason: Option<String>,
}

/// Remove an entry
///
/// An open offer of it is withdrawn. Removing it again does nothing.
#[utoipa::path(delete, path = "/v1/admin/events/{id}/waitlist/{entry_id}", tag = "Admin: events",
    operation_id = "remove_waitlist_entry", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The event"), ("entry_id" = Uuid, Path, description = "The entry"),
           RemoveQuery),
    responses((status = NO_CONTENT, description = "It does not wait")))]
async fn remove(
    State(app): AppState,
    Organizer(caller): Organizer,
    Path((event_id, id)): Path<(Uuid, Uuid)>,
    Query(query): Query<RemoveQuery>,
) -> ApiResult<StatusCode> {
    let reason = query.reason.map(|reason| reason.chars().take(MAX_REASON).collect::<String>());
    let changes = waitlist::remove(&app.db, caller.editor(), event_id, id, reason.as_deref()).await?;
    changes.tell(&app.inventory).await;
    Ok(StatusCode::NO_CONTENT)
}

impl From<OverrideError> for ApiError {
    fn from(error: OverrideError) -> Self {
        match error {
            OverrideError::NotFound => Self::not_found(),
            OverrideError::NotWaiting => Self::new(Code::InvalidState, "The entry does not wait any more."),
            OverrideError::NoSeats => {
                Self::new(Code::SoldOut, "There are not as many free seats as the entry wants.")
            }
            OverrideError::SaleClosed => Code::SaleClosed.into(),
            OverrideError::Rebuilding => Code::InventoryRebuilding.into(),
            OverrideError::Fault(fault) => fault.into(),
        }
    }
}
