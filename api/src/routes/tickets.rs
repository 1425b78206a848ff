//! What a booking is taken along as: the QR codes of its tickets and its calendar entry.

use std::sync::Arc;

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use domain::{
    bookings::{self, Booking, BookingStatus},
    fault::Fault,
    tickets::{
        calendar::{CalendarEntry, Entry},
        qr,
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    App, AppState,
    caller::Caller,
    error::{ApiError, ApiResult},
    extract::Path,
};

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(svg)).routes(routes!(png)).routes(routes!(calendar))
}

/// A code admits whoever shows it: nobody on the way keeps it.
const PRIVATE: (header::HeaderName, &str) = (header::CACHE_CONTROL, "private, no-store");

/// A ticket as a QR code, SVG
#[utoipa::path(get, path = "/v1/bookings/{id}/tickets/{ticket_id}/qr.svg", tag = "Bookings",
    operation_id = "ticket_svg", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The booking"), ("ticket_id" = Uuid, Path, description = "The ticket")),
    responses((status = OK, description = "The code", body = String, content_type = "image/svg+xml")))]
async fn svg(
    State(app): AppState,
    caller: Caller,
    Path((id, ticket_id)): Path<(Uuid, Uuid)>,
) -> ApiResult<Response> {
    let code = code(&app, id, ticket_id, caller.id()).await?;
    Ok(([(header::CONTENT_TYPE, "image/svg+xml"), PRIVATE], qr::svg(&code)?).into_response())
}

/// A ticket as a QR code, PNG
#[utoipa::path(get, path = "/v1/bookings/{id}/tickets/{ticket_id}/qr.png", tag = "Bookings",
    operation_id = "ticket_png", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The booking"), ("ticket_id" = Uuid, Path, description = "The ticket")),
    responses((status = OK, description = "The code", body = Vec<u8>, content_type = "image/png")))]
async fn png(
    State(app): AppState,
    caller: Caller,
    Path((id, ticket_id)): Path<(Uuid, Uuid)>,
) -> ApiResult<Response> {
    let code = code(&app, id, ticket_id, caller.id()).await?;
    Ok(([(header::CONTENT_TYPE, "image/png"), PRIVATE], qr::png(&code)?).into_response())
}

async fn booking(app: &App, id: Uuid, user_id: Uuid) -> ApiResult<Booking> {
    let kept = bookings::read(&mut *app.db.conn().await?, id, Some(user_id)).await?;
    Ok(kept.ok_or_else(ApiError::not_found)?.booking)
}

async fn code(app: &App, id: Uuid, ticket_id: Uuid, user_id: Uuid) -> ApiResult<String> {
    let tickets = booking(app, id, user_id).await?.tickets;
    let ticket = tickets.into_iter().find(|ticket| ticket.id == ticket_id);
    Ok(ticket.ok_or_else(ApiError::not_found)?.code)
}

/// A booking as a calendar entry
///
/// Of a cancelled booking: the entry that strikes it out. A failed one has none.
#[utoipa::path(get, path = "/v1/bookings/{id}/calendar.ics", tag = "Bookings", operation_id = "booking_calendar",
    security(("bearer" = [])), params(("id" = Uuid, Path, description = "The booking")),
    responses((status = OK, description = "RFC 5545", body = String, content_type = "text/calendar")))]
async fn calendar(State(app): AppState, caller: Caller, Path(id): Path<Uuid>) -> ApiResult<Response> {
    let booking = booking(&app, id, caller.id()).await?;
    let entry = match booking.status {
        BookingStatus::Confirmed => Entry::Publish,
        BookingStatus::Cancelled | BookingStatus::Refunded => Entry::Cancel,
        BookingStatus::Confirming | BookingStatus::Failed => return Err(ApiError::not_found()),
    };
    let occasion = bookings::occasion(&mut *app.db.conn().await?, booking.event_id).await?;
    let occasion = occasion.ok_or_else(|| Fault::Corrupt(format!("booking {id} has no event")))?;
    let ics = CalendarEntry {
        entry,
        booking_id: id,
        reference: booking.reference.as_deref().unwrap_or_default(),
        title: &occasion.title,
        starts_at: occasion.starts_at,
        ends_at: occasion.ends_at,
        location: &[&occasion.venue, &occasion.address, &occasion.city, &occasion.country],
        url: &format!("{}/v1/bookings/{id}", app.config.public_url),
        organizer: None,
        changed_at: booking.cancelled_at.or(booking.confirmed_at).unwrap_or(booking.created_at),
    }
    .render();
    let content_type = format!("text/calendar; charset=utf-8; method={}", entry.method());
    let attachment = "attachment; filename=\"booking.ics\"".to_owned();
    let headers = [(header::CONTENT_TYPE, content_type), (header::CONTENT_DISPOSITION, attachment)];
    Ok((headers, [PRIVATE], ics).into_response())
}
