//! Bookings as organisers see them, with their payments.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, Uri},
    response::Response,
};
use domain::{
    accounts::Role,
    bookings::{self, Booking, BookingFilter, BookingStatus},
    money::Money,
    payments::{PaymentStatus, refunds},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::bookings::{BookingPage, page, tagged};
use crate::{
    App, AppState,
    caller::Organizer,
    error::{ApiError, ApiResult},
    extract::{Path, Query},
};

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(read))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Of this status only. Bookings under way are not listed.
    status: Option<BookingStatus>,
    /// Of this event only.
    event_id: Option<Uuid>,
    /// Of this user only.
    user_id: Option<Uuid>,
    /// How many; 20 unless given.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
    /// `next_cursor` of the page before, with the same filters.
    cursor: Option<String>,
}

/// A booking with every attempt to pay it
#[derive(Serialize, ToSchema)]
struct AdminBooking {
    #[serde(flatten)]
    booking: Booking,
    user_id: Uuid,
    payments: Vec<PaymentView>,
}

#[derive(Serialize, ToSchema)]
struct PaymentView {
    id: Uuid,
    #[schema(example = "sandbox")]
    provider: String,
    /// The provider's own reference, once it gave one.
    reference: Option<String>,
    status: PaymentStatus,
    amount: Money,
    /// How much of it went back.
    refunded: Money,
}

/// Bookings, newest first
///
/// An organizer's are those of their own events.
#[utoipa::path(get, path = "/v1/admin/bookings", tag = "Admin: bookings", operation_id = "list_all_bookings",
    security(("bearer" = [])), params(ListQuery),
    responses((status = OK, description = "A page", body = BookingPage,
        headers(("Link" = Option<String>, description = "`rel=\"next\"`, unless it is the last page")))))]
async fn list(
    State(app): AppState,
    Organizer(caller): Organizer,
    uri: Uri,
    Query(query): Query<ListQuery>,
) -> ApiResult<Response> {
    let filter = BookingFilter {
        user_id: query.user_id,
        organizer_id: (caller.role() != Role::Admin).then(|| caller.id()),
        event_id: query.event_id,
        status: query.status,
    };
    page(&app, &uri, &filter, query.limit, query.cursor.as_deref()).await
}

/// A booking with its payments
#[utoipa::path(get, path = "/v1/admin/bookings/{id}", tag = "Admin: bookings",
    operation_id = "read_any_booking", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The booking")),
    responses((status = OK, description = "The booking", body = AdminBooking,
        headers(("ETag" = String, description = "Changes with the booking and its payments")))))]
async fn read(
    State(app): AppState,
    Organizer(caller): Organizer,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let mut conn = app.db.conn().await?;
    let kept = bookings::read(&mut conn, id, None).await?.ok_or_else(ApiError::not_found)?;
    let event_id = kept.booking.event_id;
    if caller.role() != Role::Admin && !bookings::is_organizers(&mut conn, event_id, caller.id()).await? {
        return Err(ApiError::not_found());
    }
    let mut payments = Vec::new();
    for payment in refunds::payments_of(&mut conn, id).await? {
        payments.push(PaymentView {
            id: payment.id,
            status: payment.status()?,
            provider: payment.provider,
            reference: payment.reference,
            amount: Money::new(payment.amount, &payment.currency),
            refunded: Money::new(payment.refunded, &payment.currency),
        });
    }
    Ok(tagged(&headers, &AdminBooking { booking: kept.booking, user_id: kept.user_id, payments }))
}
