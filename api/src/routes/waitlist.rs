//! The waitlist: join, look, leave.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::{
    jobs::PromoteWaitlist,
    kill_point::kill_point,
    waitlist::{self, Ended, Entry, JoinError, JoinRequest},
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::bookings::tagged;
use crate::{
    App, AppState,
    caller::Caller,
    error::{ApiError, ApiResult, Code},
    extract::{Body, Path, Query},
};

/// The most tickets one entry may wait for.
const MOST_TICKETS: i32 = 1000;

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(join)).routes(routes!(mine, leave))
}

/// For what to wait
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = JoinWaitlist)]
struct JoinBody {
    #[garde(skip)]
    ticket_type_id: Uuid,
    /// How many tickets; all of them are offered together.
    #[garde(range(min = 1, max = MOST_TICKETS))]
    #[schema(minimum = 1, maximum = 1000, example = 2)]
    quantity: i32,
}

/// Join the waitlist
///
/// Takes the place at the end of the line. Whoever has a place keeps it: joining again answers that one with 200.
/// First come, first served, by the quantity that fits: a party that wants more than is free is passed over and keeps
/// its place.
#[utoipa::path(post, path = "/v1/events/{id}/waitlist", tag = "Waitlist", operation_id = "join_waitlist",
    security(("bearer" = [])), params(("id" = Uuid, Path, description = "The event")), request_body = JoinBody,
    responses(
        (status = CREATED, description = "A place at the end of the line", body = Entry,
         headers(("Location" = String, description = "Where it is read"))),
        (status = OK, description = "The place that you have already", body = Entry),
    ),
    extensions(("x-problems" = json!(["seats-available", "sale-closed", "limit-exceeded", "email-unverified",
        "inventory-rebuilding"]))))]
async fn join(
    State(app): AppState,
    caller: Caller,
    Path(event_id): Path<Uuid>,
    Body(body): Body<JoinBody>,
) -> ApiResult<Response> {
    if app.config.require_verified && !caller.0.verified {
        return Err(Code::EmailUnverified.into());
    }
    let request = JoinRequest {
        event_id,
        ticket_type_id: body.ticket_type_id,
        user_id: caller.id(),
        quantity: body.quantity,
    };
    let joined = app.waitlist.join(request).await.map_err(refusal)?;
    if !joined.created {
        return Ok(Json(joined.entry).into_response());
    }
    let location = format!("/v1/events/{event_id}/waitlist/me");
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(joined.entry)).into_response())
}

fn refusal(error: JoinError) -> ApiError {
    match error {
        JoinError::NotFound => ApiError::not_found(),
        JoinError::UnknownTicketType => ApiError::field("/ticket_type_id", "is no ticket type of this event"),
        JoinError::MoreThanAll { capacity } => {
            ApiError::field("/quantity", format!("is more than the {capacity} seats that there are in all"))
        }
        JoinError::SaleClosed => Code::SaleClosed.into(),
        JoinError::SeatsAvailable => Code::SeatsAvailable.into(),
        JoinError::LimitExceeded { have, may } => ApiError::new(
            Code::LimitExceeded,
            format!("You hold or own {have} tickets of this event; {may} is the most one person may have."),
        ),
        JoinError::Rebuilding => Code::InventoryRebuilding.into(),
        JoinError::Fault(fault) => fault.into(),
    }
}

/// One's places
#[derive(Serialize, ToSchema)]
struct Places {
    /// Of each ticket type the newest, also when it is over.
    data: Vec<Entry>,
}

/// Your places on the waitlist
#[utoipa::path(get, path = "/v1/events/{id}/waitlist/me", tag = "Waitlist", operation_id = "read_waitlist",
    security(("bearer" = [])), params(("id" = Uuid, Path, description = "The event")),
    responses((status = OK, description = "Of each ticket type the newest, also when it is over", body = Places,
        headers(("ETag" = String, description = "Changes with any of them, position included")))))]
async fn mine(
    State(app): AppState,
    caller: Caller,
    Path(event_id): Path<Uuid>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let data = waitlist::mine(&mut *app.db.conn().await?, event_id, caller.id()).await?;
    if data.is_empty() && app.catalog.event(event_id).await?.is_none() {
        return Err(ApiError::not_found());
    }
    Ok(tagged(&headers, &Places { data }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LeaveQuery {
    /// Only the place for this ticket type.
    ticket_type_id: Option<Uuid>,
}

/// Leave the waitlist
///
/// An open offer is declined with it. Leaving again does nothing.
#[utoipa::path(delete, path = "/v1/events/{id}/waitlist/me", tag = "Waitlist", operation_id = "leave_waitlist",
    security(("bearer" = [])), params(("id" = Uuid, Path, description = "The event"), LeaveQuery),
    responses((status = NO_CONTENT, description = "You do not wait")))]
async fn leave(
    State(app): AppState,
    caller: Caller,
    Path(event_id): Path<Uuid>,
    Query(query): Query<LeaveQuery>,
) -> ApiResult<StatusCode> {
    let ended = waitlist::leave(&app.db, event_id, caller.id(), query.ticket_type_id).await?;
    if ended.count == 0 && app.catalog.event(event_id).await?.is_none() {
        return Err(ApiError::not_found());
    }
    pass_on(&app, event_id, ended).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets the next one have what somebody gave up. It stands in Postgres already: what fails here, a sweep does.
pub(super) async fn pass_on(app: &App, event_id: Uuid, ended: Ended) {
    if ended.count == 0 {
        return;
    }
    kill_point("waitlist.ended");
    ended.changes.tell(&app.inventory).await;
    kill_point("waitlist.told");
    if let Err(error) = app.queue.enqueue(&PromoteWaitlist { event_id }).await {
        tracing::warn!(%error, %event_id, "could not enqueue a promotion");
    }
}
