//! One's own bookings: list, read, cancel.

use std::{fmt::Write as _, sync::Arc};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use domain::{
    bookings::{self, Booking, BookingFilter, BookingStatus, CancelError, ListError},
    fault::Fault,
    holds::{self, HoldStatus},
    idempotency::{self, Decision, KeyedRequest},
    kill_point::kill_point,
};
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::confirm;
use crate::{
    App, AppState,
    caller::Caller,
    error::{ApiError, ApiResult, Code},
    extract::{IdempotencyKey, NoBody, Path, Query, none_match},
    keyed,
    listing::{invalid_cursor, limit, next_link},
};

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(read)).routes(routes!(cancel))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Of this status only. Bookings under way are not listed.
    status: Option<BookingStatus>,
    /// Of this event only.
    event_id: Option<Uuid>,
    /// How many; 20 unless given.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
    /// `next_cursor` of the page before, with the same filters.
    cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct BookingPage {
    pub data: Vec<Booking>,
    /// Opens the next page; null on the last.
    pub next_cursor: Option<String>,
}

/// A page of bookings with the link to the next one.
pub(super) async fn page(
    app: &App,
    uri: &Uri,
    filter: &BookingFilter,
    asked: Option<u32>,
    cursor: Option<&str>,
) -> ApiResult<Response> {
    let mut conn = app.db.conn().await?;
    let page =
        bookings::page(&mut conn, filter, limit(asked)?, cursor).await.map_err(|error| match error {
            ListError::InvalidCursor(_) => invalid_cursor(),
            ListError::Fault(fault) => fault.into(),
        })?;
    let links = next_link(uri, page.next_cursor.as_deref());
    Ok((links, Json(BookingPage { data: page.data, next_cursor: page.next_cursor })).into_response())
}

/// An answer with a tag that changes with any of its bytes, or 304.
pub(super) fn tagged<T: Serialize>(headers: &HeaderMap, view: &T) -> Response {
    let mut tag = String::from("\"v");
    for byte in &idempotency::fingerprint(view)[..12] {
        // Writing into a string cannot fail.
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    if none_match(headers, &tag) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
    }
    ([(header::ETAG, tag)], Json(view)).into_response()
}

/// Your bookings, newest first
#[utoipa::path(get, path = "/v1/bookings", tag = "Bookings", operation_id = "list_bookings",
    security(("bearer" = [])), params(ListQuery),
    responses((status = OK, description = "A page", body = BookingPage,
        headers(("Link" = Option<String>, description = "`rel=\"next\"`, unless it is the last page")))))]
async fn list(
    State(app): AppState,
    caller: Caller,
    uri: Uri,
    Query(query): Query<ListQuery>,
) -> ApiResult<Response> {
    let filter = BookingFilter {
        user_id: Some(caller.id()),
        organizer_id: None,
        event_id: query.event_id,
        status: query.status,
    };
    page(&app, &uri, &filter, query.limit, query.cursor.as_deref()).await
}

/// A booking of yours
///
/// While its confirm is under way it is `confirming`.
#[utoipa::path(get, path = "/v1/bookings/{id}", tag = "Bookings", operation_id = "read_booking",
    security(("bearer" = [])), params(("id" = Uuid, Path, description = "The booking: the id of its hold")),
    responses((status = OK, description = "The booking", body = Booking,
        headers(("ETag" = String, description = "Changes with the booking")))))]
async fn read(
    State(app): AppState,
    caller: Caller,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let kept = bookings::read(&mut *app.db.conn().await?, id, Some(caller.id())).await?;
    let kept = kept.map(|kept| kept.booking);
    // What failed may be under way again, with another payment.
    let settled = kept.as_ref().is_some_and(|booking| booking.status != BookingStatus::Failed);
    let booking = if settled { kept } else { under_way(&app, id, caller.id()).await?.or(kept) };
    Ok(tagged(&headers, &booking.ok_or_else(ApiError::not_found)?))
}

async fn under_way(app: &App, id: Uuid, user_id: Uuid) -> Result<Option<Booking>, Fault> {
    let Some(event_id) = holds::event_of_booking(&app.inventory, id).await? else { return Ok(None) };
    let hold = holds::read(&app.inventory, event_id, id).await?;
    if !hold.is_some_and(|hold| hold.status == HoldStatus::Confirming) {
        return Ok(None);
    }
    confirm::under_way(app, event_id, id, user_id).await
}

/// Cancel a booking
///
/// Until its event begins. What comes back is what the event's refund policy gives, rounded down to the minor unit;
/// the booking is `refunded` once the money is on its way. Cancelling it again changes nothing.
#[utoipa::path(post, path = "/v1/bookings/{id}/cancel", tag = "Bookings", operation_id = "cancel_booking",
    security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The booking"), IdempotencyKey),
    responses((status = OK, description = "The booking, cancelled or refunded", body = Booking)),
    extensions(("x-problems" = json!(["invalid-state"]))))]
async fn cancel(
    State(app): AppState,
    caller: Caller,
    Path(id): Path<Uuid>,
    IdempotencyKey(key): IdempotencyKey,
    _: NoBody,
) -> ApiResult<Response> {
    let user_id = caller.id();
    let fingerprint = idempotency::fingerprint(&id);
    let request = KeyedRequest { user_id, operation: "bookings.cancel", key: &key, fingerprint };
    // Nothing comes of a key that was answered before.
    let (sender, changes) = oneshot::channel();
    let answer = idempotency::once(&app.db, request, move |conn| {
        async move {
            let mut cancelled = bookings::cancel(conn, id, user_id).await?;
            let _ = sender.send(cancelled.changes);
            let booking = cancelled.bookings.pop().ok_or(CancelError::NotFound)?;
            let body = serde_json::to_value(booking).map_err(Fault::from)?;
            Ok::<_, CancelError>(Decision { status: 200, body })
        }
        .boxed()
    })
    .await?;
    kill_point("cancel.cancelled");
    if let Ok(changes) = changes.await {
        changes.tell(&app.inventory).await;
    }
    kill_point("cancel.told");
    keyed::respond(answer)
}

impl From<CancelError> for ApiError {
    fn from(error: CancelError) -> Self {
        match error {
            CancelError::NotFound => Self::not_found(),
            CancelError::InvalidState(why) => {
                Self::new(Code::InvalidState, format!("The booking cannot be cancelled: {why}."))
            }
            CancelError::Fault(fault) => fault.into(),
        }
    }
}
