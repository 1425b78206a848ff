//! One's own account.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::users::{UserView, is_name};
use crate::{
    App, AppState,
    caller::Caller,
    error::{ApiResult, Code},
    extract::{Body, IfMatch, etag, none_match},
};

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(read, change))
}

/// Your account
#[utoipa::path(get, path = "/v1/me", tag = "Accounts", operation_id = "me", security(("bearer" = [])),
    responses(
        (status = OK, description = "The account", body = UserView,
         headers(("ETag" = String, description = "Its version: `\"v7\"`"))),
    ))]
async fn read(State(app): AppState, caller: Caller, headers: HeaderMap) -> ApiResult<Response> {
    // A token whose account is gone or deactivated proves nothing.
    let user = app.accounts.user(caller.id()).await?.ok_or(Code::Unauthenticated)?;
    let tag = etag(user.version);
    if none_match(&headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    Ok(([(header::ETAG, tag)], Json(UserView::from(user))).into_response())
}

#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeRequest {
    #[garde(inner(custom(is_name)))]
    #[schema(min_length = 1, max_length = 200, example = "Ada King")]
    name: Option<String>,
}

/// Change your account
#[utoipa::path(patch, path = "/v1/me", tag = "Accounts", operation_id = "change_me", security(("bearer" = [])),
    params(("If-Match" = Option<String>, Header, description = "Change this version only")),
    request_body = ChangeRequest,
    responses(
        (status = OK, description = "The account as it is now", body = UserView,
         headers(("ETag" = String, description = "Its version: `\"v8\"`"))),
    ))]
async fn change(
    State(app): AppState,
    caller: Caller,
    expected: Option<IfMatch>,
    Body(body): Body<ChangeRequest>,
) -> ApiResult<Response> {
    let present = app.accounts.user(caller.id()).await?.ok_or(Code::Unauthenticated)?;
    let expected = expected.map(|IfMatch(version)| version);
    let user = match body.name {
        Some(name) => app.accounts.rename(caller.id(), name.trim(), expected).await?,
        None => Some(present).filter(|user| expected.is_none_or(|version| version == user.version)),
    };
    let user = user.ok_or(Code::PreconditionFailed)?;
    Ok(([(header::ETAG, etag(user.version))], Json(UserView::from(user))).into_response())
}
