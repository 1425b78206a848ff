//! Everything that is kept about one's own account, in one answer.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use domain::{
    bookings::{self, Booking, BookingFilter, ListError},
    clock,
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{sessions::SessionView, users::UserView};
use crate::{
    App, AppState,
    caller::Caller,
    error::{ApiResult, Code},
    listing::invalid_cursor,
};

/// How many rows are read at a time. How many there are in all, the limits on logins and on tickets a person keep small.
const PAGE: u32 = 100;

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(export))
}

/// What is kept about an account.
#[derive(Serialize, ToSchema)]
struct Export {
    exported_at: DateTime<Utc>,
    user: UserView,
    /// Open ones, newest first.
    sessions: Vec<SessionView>,
    /// All of them, newest first.
    bookings: Vec<Booking>,
}

/// Everything about you
///
/// Your account, your open sessions and all your bookings, as a file.
#[utoipa::path(get, path = "/v1/me/export", tag = "Accounts", operation_id = "export_me",
    security(("bearer" = [])),
    responses((status = OK, description = "All of it", body = Export,
        headers(("Content-Disposition" = String, description = "`attachment`, with the name of a file")))))]
async fn export(State(app): AppState, caller: Caller) -> ApiResult<Response> {
    let user = app.accounts.user(caller.id()).await?.ok_or(Code::Unauthenticated)?;
    let (sessions, bookings) = (sessions(&app, &caller).await?, bookings(&app, &caller).await?);
    let export = Export { exported_at: clock::now(), user: user.into(), sessions, bookings };
    let name = (header::CONTENT_DISPOSITION, "attachment; filename=\"evently.json\"");
    Ok(([name], Json(export)).into_response())
}

async fn sessions(app: &App, caller: &Caller) -> ApiResult<Vec<SessionView>> {
    let (mut all, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let page = app.accounts.sessions(caller.id(), cursor.as_deref(), PAGE).await?;
        all.extend(page.data.into_iter().map(|session| SessionView::new(session, caller.0.session_id)));
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(all);
        }
    }
}

async fn bookings(app: &App, caller: &Caller) -> ApiResult<Vec<Booking>> {
    let filter = BookingFilter { user_id: Some(caller.id()), ..BookingFilter::default() };
    let (mut all, mut cursor) = (Vec::new(), None::<String>);
    loop {
        // A connection a page: others get their turn in between.
        let mut conn = app.db.conn().await?;
        let page = bookings::page(&mut conn, &filter, PAGE, cursor.as_deref()).await;
        let page = page.map_err(|error| match error {
            ListError::InvalidCursor(_) => invalid_cursor(),
            ListError::Fault(fault) => fault.into(),
        })?;
        all.extend(page.data);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(all);
        }
    }
}
