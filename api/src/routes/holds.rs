//! Holds: place, read, release.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use domain::{
    holds::{self, Hold, HoldRequest, HoldStatus, HoldTokens, PlaceError, ReleaseError, RequestedItem},
    jobs::ExpireHolds,
    kill_point::kill_point,
    money::Money,
    rate_limit::Taking,
    waitlist,
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::waitlist::pass_on;
use crate::{
    App, AppState,
    caller::Caller,
    error::{ApiError, ApiResult, Code},
    extract::{Body, IdempotencyKey, Path, etag, none_match},
    limits::{HOLD_USER, limited},
};

/// Whether an answer repeats what was decided before.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The most lines of a basket, and the most tickets of a line.
const MOST_LINES: usize = 50;
const MOST_TICKETS: u32 = 1000;

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(place)).routes(routes!(read, release))
}

/// A basket
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct PlaceRequest {
    /// One line a ticket type; all of them are held, or none.
    #[garde(length(min = 1, max = MOST_LINES), dive)]
    #[schema(min_items = 1, max_items = 50)]
    items: Vec<LineRequest>,
}

#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct LineRequest {
    #[garde(skip)]
    ticket_type_id: Uuid,
    /// How many tickets.
    #[garde(range(min = 1, max = MOST_TICKETS))]
    #[schema(minimum = 1, maximum = 1000, example = 2)]
    quantity: u32,
}

/// Seats held for a while
#[derive(Serialize, ToSchema)]
#[schema(as = Hold)]
pub struct HoldView {
    id: Uuid,
    event_id: Uuid,
    status: HoldStatus,
    items: Vec<HeldItemView>,
    total: Money,
    /// Confirm before then.
    expires_at: DateTime<Utc>,
    /// Proof of the hold: send it with the confirm, and the hold is honoured even if we lost it.
    hold_token: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = HeldItem)]
pub struct HeldItemView {
    ticket_type_id: Uuid,
    quantity: u32,
    /// Labels of numbered seats; empty with general admission.
    seats: Vec<String>,
    /// As quoted when the hold was placed, whatever the price does since.
    unit_price: Money,
}

impl HoldView {
    pub(super) fn new(hold: &Hold, tokens: &HoldTokens) -> Self {
        let items = hold.items.iter().map(|item| HeldItemView {
            ticket_type_id: item.ticket_type_id,
            quantity: item.quantity,
            seats: item.seats.clone(),
            unit_price: Money::new(item.unit_price, &hold.currency),
        });
        Self {
            id: hold.id,
            event_id: hold.event_id,
            status: hold.status,
            items: items.collect(),
            total: Money::new(hold.total, &hold.currency),
            expires_at: hold.expires_at,
            hold_token: tokens.sign(hold),
        }
    }
}

/// Hold seats
///
/// Takes the seats of every line at once, or none. The same key and basket bring the same answer for 24 hours.
#[utoipa::path(post, path = "/v1/events/{id}/holds", tag = "Holds", operation_id = "place_hold",
    security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The event"), IdempotencyKey),
    request_body = PlaceRequest,
    responses(
        (status = CREATED, description = "The seats are held", body = HoldView,
         headers(("Location" = String, description = "The hold"),
                 ("RateLimit-Policy" = String, description = "The limits"),
                 ("RateLimit" = String, description = "What is left of them"))),
    ),
    extensions(("x-problems" = json!(["sold-out", "sale-closed", "limit-exceeded", "email-unverified",
        "inventory-rebuilding"]))))]
async fn place(
    State(app): AppState,
    caller: Caller,
    Path(event_id): Path<Uuid>,
    IdempotencyKey(idempotency_key): IdempotencyKey,
    Body(body): Body<PlaceRequest>,
) -> Response {
    let subject = caller.id().to_string();
    limited(&app, &[Taking { limit: HOLD_USER, subject: &subject }], async {
        if app.config.require_verified && !caller.0.verified {
            return Err(Code::EmailUnverified.into());
        }
        let request = HoldRequest { event_id, user_id: caller.id(), items: lines(body)?, idempotency_key };
        let placed = app.placer.place(request).await.map_err(refusal)?;
        kill_point("place.placed");
        if let Some(at) = placed.sweep_at {
            // Without the sweep the seats come back a little later: no reason to refuse a hold that stands.
            let sweep = ExpireHolds { event_id, due_second: at.timestamp() };
            if let Err(error) = app.queue.enqueue_at(&sweep, at).await {
                tracing::warn!(%error, %event_id, "could not plan the sweep of a hold");
            }
        }
        kill_point("place.planned");
        let location = format!("/v1/events/{event_id}/holds/{}", placed.hold.id);
        let view = HoldView::new(&placed.hold, &app.hold_tokens);
        Ok(replay_marked(placed.replayed, (StatusCode::CREATED, [(header::LOCATION, location)], Json(view))))
    })
    .await
}

fn lines(body: PlaceRequest) -> ApiResult<Vec<RequestedItem>> {
    let mut seen = std::collections::HashSet::with_capacity(body.items.len());
    for (at, line) in body.items.iter().enumerate() {
        if !seen.insert(line.ticket_type_id) {
            return Err(ApiError::field(
                format!("/items/{at}/ticket_type_id"),
                "stands in an earlier line already: join the two",
            ));
        }
    }
    let item =
        |line: LineRequest| RequestedItem { ticket_type_id: line.ticket_type_id, quantity: line.quantity };
    Ok(body.items.into_iter().map(item).collect())
}

fn refusal(error: PlaceError) -> ApiError {
    match error {
        PlaceError::NotFound => ApiError::not_found(),
        PlaceError::SoldOut { line, replayed } => marked(
            replayed,
            ApiError::new(
                Code::SoldOut,
                format!(
                    "Line {line} of the basket (from 0) asks for more seats than are free. Nothing was held."
                ),
            ),
        ),
        PlaceError::SaleClosed { replayed } => marked(replayed, Code::SaleClosed.into()),
        PlaceError::UnknownTicketType(line) => {
            ApiError::field(format!("/items/{line}/ticket_type_id"), "is no ticket type of this event")
        }
        PlaceError::LimitExceeded { have, may } => ApiError::new(
            Code::LimitExceeded,
            format!("You hold or own {have} tickets of this event; {may} is the most one person may have."),
        ),
        PlaceError::KeyReused => Code::IdempotencyKeyReused.into(),
        PlaceError::Rebuilding => Code::InventoryRebuilding.into(),
        PlaceError::Fault(fault) => fault.into(),
    }
}

fn marked(replayed: bool, error: ApiError) -> ApiError {
    if replayed { error.with_header(REPLAYED, HeaderValue::from_static("true")) } else { error }
}

fn replay_marked(replayed: bool, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// A hold of yours
///
/// Readable for 10 minutes after its end.
#[utoipa::path(get, path = "/v1/events/{id}/holds/{hold_id}", tag = "Holds", operation_id = "read_hold",
    security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The event"), ("hold_id" = Uuid, Path, description = "The hold")),
    responses(
        (status = OK, description = "The hold", body = HoldView,
         headers(("ETag" = String, description = "Changes with the hold's status"))),
    ))]
async fn read(
    State(app): AppState,
    caller: Caller,
    Path((event_id, hold_id)): Path<(Uuid, Uuid)>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let hold =
        holds::read(&app.inventory, event_id, hold_id).await?.filter(|hold| hold.user_id == caller.id());
    let hold = hold.ok_or_else(ApiError::not_found)?;
    // A hold changes in nothing but its status.
    let tag = etag(hold.status as i64 + 1);
    if none_match(&headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    Ok(([(header::ETAG, tag)], Json(HoldView::new(&hold, &app.hold_tokens))).into_response())
}

/// Release a hold
///
/// Gives its seats back at once. Releasing it again, or after it ran out, does nothing.
#[utoipa::path(delete, path = "/v1/events/{id}/holds/{hold_id}", tag = "Holds",
    operation_id = "release_hold", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The event"), ("hold_id" = Uuid, Path, description = "The hold")),
    responses((status = NO_CONTENT, description = "The seats are given back")),
    extensions(("x-problems" = json!(["invalid-state"]))))]
async fn release(
    State(app): AppState,
    caller: Caller,
    Path((event_id, hold_id)): Path<(Uuid, Uuid)>,
) -> ApiResult<StatusCode> {
    match holds::release(&app.inventory, event_id, hold_id, caller.id()).await {
        Ok(offered) => {
            if offered {
                kill_point("waitlist.released");
                let ended = waitlist::lapse(&app.db, &[hold_id]).await?;
                pass_on(&app, event_id, ended).await;
            }
            Ok(StatusCode::NO_CONTENT)
        }
        Err(ReleaseError::NotFound) => Err(ApiError::not_found()),
        Err(ReleaseError::Busy(status)) => {
            Err(ApiError::new(Code::InvalidState, format!("The hold is {status}: it cannot be released.")))
        }
        Err(ReleaseError::Fault(fault)) => Err(fault.into()),
    }
}
