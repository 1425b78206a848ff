//! Open sessions: one's own here, anybody's for admins in `admin_users.rs`.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
};
use chrono::{DateTime, Utc};
use domain::{
    accounts::sessions::{ListSessionsError, Session},
    listing::Page,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    App, AppState,
    caller::Caller,
    error::{ApiError, ApiResult},
    extract::{Path, Query},
    listing::{invalid_cursor, limit, next_link},
};

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(end))
}

/// An open session.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
pub struct SessionView {
    pub id: Uuid,
    /// What the client called itself at login.
    pub user_agent: Option<String>,
    /// From where the login came.
    pub ip: Option<String>,
    /// Whether it is the session of this request.
    pub current: bool,
    pub created_at: DateTime<Utc>,
    /// When its tokens were last refreshed.
    pub last_used_at: DateTime<Utc>,
    /// When it ends unless its tokens are refreshed before.
    pub expires_at: DateTime<Utc>,
}

impl SessionView {
    pub fn new(session: Session, current: Uuid) -> Self {
        Self {
            current: session.id == current,
            id: session.id,
            user_agent: session.user_agent,
            ip: session.ip,
            created_at: session.created_at,
            last_used_at: session.last_used_at,
            expires_at: session.expires_at,
        }
    }
}

/// Open sessions, newest first.
#[derive(Serialize, ToSchema)]
pub struct SessionPage {
    pub data: Vec<SessionView>,
    /// Opens the next page; none on the last.
    pub next_cursor: Option<String>,
}

impl SessionPage {
    pub fn new(page: Page<Session>, current: Uuid) -> Self {
        let data = page.data.into_iter().map(|session| SessionView::new(session, current)).collect();
        Self { data, next_cursor: page.next_cursor }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SessionQuery {
    /// Entries of a page.
    #[param(minimum = 1, maximum = 100, default = 20)]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// Your open sessions, newest first
#[utoipa::path(get, path = "/v1/auth/sessions", tag = "Accounts", operation_id = "list_sessions",
    security(("bearer" = [])), params(SessionQuery),
    responses((status = OK, description = "A page of sessions", body = SessionPage,
        headers(("Link" = String, description = "`rel=\"next\"`: the next page, if there is one")))))]
async fn list(
    State(app): AppState,
    caller: Caller,
    uri: Uri,
    Query(query): Query<SessionQuery>,
) -> ApiResult<(HeaderMap, Json<SessionPage>)> {
    let page = app.accounts.sessions(caller.id(), query.cursor.as_deref(), limit(query.limit)?).await?;
    let link = next_link(&uri, page.next_cursor.as_deref());
    Ok((link, Json(SessionPage::new(page, caller.0.session_id))))
}

/// End one of your sessions
///
/// Its access and refresh tokens are worthless from then on.
#[utoipa::path(delete, path = "/v1/auth/sessions/{id}", tag = "Accounts", operation_id = "end_session",
    security(("bearer" = [])), params(("id" = Uuid, Path, description = "The session")),
    responses((status = NO_CONTENT, description = "The session is over")))]
async fn end(State(app): AppState, caller: Caller, Path(id): Path<Uuid>) -> ApiResult<StatusCode> {
    if app.accounts.end_session(caller.id(), id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::not_found())
    }
}

impl From<ListSessionsError> for ApiError {
    fn from(error: ListSessionsError) -> Self {
        match error {
            ListSessionsError::InvalidCursor(_) => invalid_cursor(),
            ListSessionsError::Fault(fault) => fault.into(),
        }
    }
}
