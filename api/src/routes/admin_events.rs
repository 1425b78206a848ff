//! Events as organizers write them.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::{
    events::{self, Event, EventFields, NewEvent, StoredEvent, WriteError},
    idempotency::{self, Decision, KeyedRequest},
};
use futures::FutureExt;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    App, AppState,
    caller::Organizer,
    error::{ApiError, ApiResult, Code, FieldError},
    extract::{IdempotencyKey, IfMatch, NoBody, Path, Unchecked, etag},
    keyed,
};

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(replace, delete))
        .routes(routes!(publish))
        .routes(routes!(cancel))
}

/// Create an event with its ticket types, as a draft
#[utoipa::path(post, path = "/v1/admin/events", tag = "Admin: events", operation_id = "create_event",
    security(("bearer" = [])), request_body = NewEvent,
    params(("Idempotency-Key" = String, Header, description = "1 to 255 visible ASCII characters")),
    responses(
        (status = CREATED, description = "The draft", body = Event,
         headers(
             ("ETag" = String, description = "Its version"),
             ("Location" = String, description = "Its address"),
         )),
    ))]
async fn create(
    State(app): AppState,
    Organizer(caller): Organizer,
    IdempotencyKey(key): IdempotencyKey,
    Unchecked(event): Unchecked<NewEvent>,
) -> ApiResult<Response> {
    let user_id = caller.id();
    let fingerprint = idempotency::fingerprint(&event);
    let request = KeyedRequest { user_id, operation: "events.create", key: &key, fingerprint };
    let answer = idempotency::once(&app.db, request, |conn| {
        async move {
            let created = events::create(conn, user_id, event).await?;
            Ok::<_, WriteError>(Decision { status: 201, body: serde_json::to_value(created.event)? })
        }
        .boxed()
    })
    .await?;
    let text = |field: &str| answer.decision.body[field].as_str().unwrap_or_default().to_owned();
    let location = HeaderValue::try_from(format!("/v1/events/{}", text("id")));
    let version = answer.decision.body["version"].as_i64().unwrap_or_default();
    let mut response = keyed::respond(answer)?;
    // Both are made of an id and a number.
    response.headers_mut().insert(header::LOCATION, location.map_err(|_| Code::Internal)?);
    response.headers_mut().insert(header::ETAG, etag(version).try_into().map_err(|_| Code::Internal)?);
    Ok(response)
}

/// Change an event's own fields
///
/// Its ticket types have routes of their own. What is left out becomes its default, but for `sales_start_at`,
/// which stays.
#[utoipa::path(put, path = "/v1/admin/events/{id}", tag = "Admin: events", operation_id = "replace_event",
    security(("bearer" = [])), request_body = EventFields,
    params(
        ("id" = Uuid, Path, description = "The event"),
        ("If-Match" = String, Header, description = "The `ETag` of the version that you change"),
    ),
    extensions(("x-problems" = json!(["invalid-state"]))),
    responses(
        (status = OK, description = "The event as it is now", body = Event,
         headers(("ETag" = String, description = "Its version"))),
    ))]
async fn replace(
    State(app): AppState,
    Organizer(caller): Organizer,
    Path(id): Path<Uuid>,
    IfMatch(expected): IfMatch,
    Unchecked(fields): Unchecked<EventFields>,
) -> ApiResult<Response> {
    let written = events::replace(&app.db, caller.editor(), id, expected, fields).await?;
    Ok(changed(&app, written).await)
}

/// Delete a draft
///
/// What was published once is cancelled instead.
#[utoipa::path(delete, path = "/v1/admin/events/{id}", tag = "Admin: events", operation_id = "delete_event",
    security(("bearer" = [])),
    params(
        ("id" = Uuid, Path, description = "The event"),
        ("If-Match" = String, Header, description = "The `ETag` of the version that you delete"),
    ),
    extensions(("x-problems" = json!(["invalid-state"]))),
    responses((status = NO_CONTENT, description = "It is gone"),
    ))]
async fn delete(
    State(app): AppState,
    Organizer(caller): Organizer,
    Path(id): Path<Uuid>,
    IfMatch(expected): IfMatch,
) -> ApiResult<StatusCode> {
    events::delete(&app.db, caller.editor(), id, expected).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Publish a draft
///
/// It needs a ticket type, and its end must lie ahead.
#[utoipa::path(post, path = "/v1/admin/events/{id}/publish", tag = "Admin: events", operation_id = "publish_event",
    security(("bearer" = [])),
    params(
        ("id" = Uuid, Path, description = "The event"),
        ("If-Match" = Option<String>, Header, description = "Publish this version only"),
    ),
    extensions(("x-problems" = json!(["invalid-state"]))),
    responses(
        (status = OK, description = "The event, published", body = Event,
         headers(("ETag" = String, description = "Its version"))),
    ))]
async fn publish(
    State(app): AppState,
    Organizer(caller): Organizer,
    Path(id): Path<Uuid>,
    expected: Option<IfMatch>,
    _: NoBody,
) -> ApiResult<Response> {
    let expected = expected.map(|IfMatch(version)| version);
    let written = events::publish(&app.db, caller.editor(), id, expected).await?;
    Ok(changed(&app, written).await)
}

/// Cancel a published event
///
/// At once no more seats are held. Then every booking is cancelled, refunded in full and told by mail. A cancelled
/// event is answered as it is.
#[utoipa::path(post, path = "/v1/admin/events/{id}/cancel", tag = "Admin: events", operation_id = "cancel_event",
    security(("bearer" = [])),
    params(
        ("id" = Uuid, Path, description = "The event"),
        ("If-Match" = Option<String>, Header, description = "Cancel this version only"),
    ),
    extensions(("x-problems" = json!(["invalid-state"]))),
    responses(
        (status = OK, description = "The event, cancelled", body = Event,
         headers(("ETag" = String, description = "Its version"))),
    ))]
async fn cancel(
    State(app): AppState,
    Organizer(caller): Organizer,
    Path(id): Path<Uuid>,
    expected: Option<IfMatch>,
    _: NoBody,
) -> ApiResult<Response> {
    let expected = expected.map(|IfMatch(version)| version);
    let written = events::cancel(&app.db, caller.editor(), id, expected).await?;
    Ok(changed(&app, written).await)
}

/// Tells Redis and the caches, and answers the event.
async fn changed(app: &App, written: StoredEvent) -> Response {
    let event = app.catalog.changed(written.event).await;
    ([(header::ETAG, etag(event.version))], Json(event)).into_response()
}

impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::NotFound => Self::not_found(),
            WriteError::Stale => Code::PreconditionFailed.into(),
            WriteError::InvalidState(why) => Self::new(Code::InvalidState, why),
            WriteError::Invalid(errors) => Self::fields(errors.into_iter().map(FieldError::from).collect()),
            WriteError::CapacityInUse => Code::CapacityInUse.into(),
            WriteError::Rebuilding => Code::InventoryRebuilding.into(),
            WriteError::Fault(fault) => fault.into(),
        }
    }
}
