//! Accounts as admins see and change them.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::IntoResponse,
};
use chrono::{DateTime, Utc};
use domain::accounts::{
    Role, User,
    management::{Decision, ListUsersError, ManageError, UserFilter},
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    sessions::{SessionPage, SessionQuery},
    users::UserView,
};
use crate::{
    App, AppState,
    caller::Admin,
    error::{ApiError, ApiResult, Code},
    extract::{Body, IfMatch, NoBody, Path, Query, etag},
    listing::{invalid_cursor, limit, next_link},
};

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(set_role))
        .routes(routes!(deactivate))
        .routes(routes!(activate))
        .routes(routes!(list_sessions, end_sessions))
}

/// An account as admins see it.
#[derive(Serialize, ToSchema)]
struct AdminUser {
    #[serde(flatten)]
    user: UserView,
    /// Since when it can neither log in nor act; null while it is active.
    deactivated_at: Option<DateTime<Utc>>,
}

impl From<User> for AdminUser {
    fn from(user: User) -> Self {
        Self { deactivated_at: user.deactivated_at, user: user.into() }
    }
}

/// Accounts, newest first.
#[derive(Serialize, ToSchema)]
struct UserPage {
    data: Vec<AdminUser>,
    /// Opens the next page; none on the last.
    next_cursor: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum UserStatus {
    Active,
    Deactivated,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct UserQuery {
    /// Part of the address or the name.
    #[param(max_length = 254)]
    q: Option<String>,
    role: Option<Role>,
    #[param(inline)]
    status: Option<UserStatus>,
    /// Entries of a page.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Every account, newest first
#[utoipa::path(get, path = "/v1/admin/users", tag = "Admin: accounts", operation_id = "list_users",
    security(("bearer" = [])), params(UserQuery),
    responses((status = OK, description = "A page of accounts", body = UserPage,
        headers(("Link" = String, description = "`rel=\"next\"`: the next page, if there is one")))))]
async fn list(
    State(app): AppState,
    _: Admin,
    uri: Uri,
    Query(query): Query<UserQuery>,
) -> ApiResult<(HeaderMap, Json<UserPage>)> {
    if query.q.as_ref().is_some_and(|q| q.len() > 254) {
        return Err(ApiError::new(Code::InvalidParameter, "q: must have 254 bytes at most."));
    }
    let active = query.status.map(|status| matches!(status, UserStatus::Active));
    let filter = UserFilter { q: query.q, role: query.role, active };
    let page = app.accounts.users(&filter, query.cursor.as_deref(), limit(query.limit)?).await?;
    let link = next_link(&uri, page.next_cursor.as_deref());
    let data = page.data.into_iter().map(AdminUser::from).collect();
    Ok((link, Json(UserPage { data, next_cursor: page.next_cursor })))
}

#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
struct RoleRequest {
    role: Role,
}

/// Give an account a role
///
/// Access tokens that are out follow at once. The last active admin keeps theirs: `invalid-state`.
#[utoipa::path(put, path = "/v1/admin/users/{id}/role", tag = "Admin: accounts", operation_id = "set_role",
    security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The account"),
           ("If-Match" = Option<String>, Header, description = "Change this version only")),
    request_body = RoleRequest,
    responses((status = OK, description = "The account as it is now", body = AdminUser,
        headers(("ETag" = String, description = "Its version")))),
    extensions(("x-problems" = json!(["invalid-state"]))))]
async fn set_role(
    State(app): AppState,
    Admin(caller): Admin,
    Path(id): Path<Uuid>,
    expected: Option<IfMatch>,
    Body(body): Body<RoleRequest>,
) -> ApiResult<impl IntoResponse> {
    decide(&app, caller.id(), id, Decision::Role(body.role), expected).await
}

/// Deactivate an account
///
/// It can no longer log in, and every session and token of it ends at once. Its bookings stay.
#[utoipa::path(post, path = "/v1/admin/users/{id}/deactivate", tag = "Admin: accounts",
    operation_id = "deactivate_user", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The account"),
           ("If-Match" = Option<String>, Header, description = "Change this version only")),
    responses((status = OK, description = "The account as it is now", body = AdminUser,
        headers(("ETag" = String, description = "Its version")))),
    extensions(("x-problems" = json!(["invalid-state"]))))]
async fn deactivate(
    State(app): AppState,
    Admin(caller): Admin,
    Path(id): Path<Uuid>,
    expected: Option<IfMatch>,
    _: NoBody,
) -> ApiResult<impl IntoResponse> {
    decide(&app, caller.id(), id, Decision::Deactivate, expected).await
}

/// Activate a deactivated account
///
/// It may log in again; sessions that ended stay ended.
#[utoipa::path(post, path = "/v1/admin/users/{id}/activate", tag = "Admin: accounts",
    operation_id = "activate_user", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The account"),
           ("If-Match" = Option<String>, Header, description = "Change this version only")),
    responses((status = OK, description = "The account as it is now", body = AdminUser,
        headers(("ETag" = String, description = "Its version")))))]
async fn activate(
    State(app): AppState,
    Admin(caller): Admin,
    Path(id): Path<Uuid>,
    expected: Option<IfMatch>,
    _: NoBody,
) -> ApiResult<impl IntoResponse> {
    decide(&app, caller.id(), id, Decision::Activate, expected).await
}

async fn decide(
    app: &App,
    actor: Uuid,
    id: Uuid,
    decision: Decision,
    expected: Option<IfMatch>,
) -> ApiResult<impl IntoResponse + use<>> {
    let expected = expected.map(|IfMatch(version)| version);
    let user = app.accounts.decide(actor, id, decision, expected).await?;
    Ok(([(header::ETAG, etag(user.version))], Json(AdminUser::from(user))))
}

/// The open sessions of an account, newest first
#[utoipa::path(get, path = "/v1/admin/users/{id}/sessions", tag = "Admin: accounts",
    operation_id = "list_user_sessions", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The account"), SessionQuery),
    responses((status = OK, description = "A page of sessions", body = SessionPage,
        headers(("Link" = String, description = "`rel=\"next\"`: the next page, if there is one")))))]
async fn list_sessions(
    State(app): AppState,
    Admin(caller): Admin,
    Path(id): Path<Uuid>,
    uri: Uri,
    Query(query): Query<SessionQuery>,
) -> ApiResult<(HeaderMap, Json<SessionPage>)> {
    let limit = limit(query.limit)?;
    if !app.accounts.user_exists(id).await? {
        return Err(ApiError::not_found());
    }
    let page = app.accounts.sessions(id, query.cursor.as_deref(), limit).await?;
    let link = next_link(&uri, page.next_cursor.as_deref());
    Ok((link, Json(SessionPage::new(page, caller.0.session_id))))
}

/// End every session of an account
///
/// Its access and refresh tokens are worthless from then on; it may log in again.
#[utoipa::path(delete, path = "/v1/admin/users/{id}/sessions", tag = "Admin: accounts",
    operation_id = "end_user_sessions", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The account")),
    responses((status = NO_CONTENT, description = "The sessions are over")))]
async fn end_sessions(
    State(app): AppState,
    Admin(caller): Admin,
    Path(id): Path<Uuid>,
) -> ApiResult<StatusCode> {
    app.accounts.end_sessions(caller.id(), id).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<ListUsersError> for ApiError {
    fn from(error: ListUsersError) -> Self {
        match error {
            ListUsersError::InvalidCursor(_) => invalid_cursor(),
            ListUsersError::Fault(fault) => fault.into(),
        }
    }
}

impl From<ManageError> for ApiError {
    fn from(error: ManageError) -> Self {
        match error {
            ManageError::NotFound => Self::not_found(),
            ManageError::Stale => Code::PreconditionFailed.into(),
            ManageError::LastAdmin => {
                Self::new(Code::InvalidState, "This is the last active admin; make another one first.")
            }
            ManageError::Fault(fault) => fault.into(),
        }
    }
}
