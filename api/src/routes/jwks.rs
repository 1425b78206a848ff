//! For other services: the public key of access tokens, and what a token is worth right now.

use std::sync::Arc;

use axum::{Json, extract::State, http::header, response::IntoResponse};
use domain::accounts::{
    Role,
    tokens::{AUDIENCE, ISSUER, Jwk},
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{App, AppState, caller::Operator, error::ApiResult, extract::Body};

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(jwks)).routes(routes!(introspect))
}

/// A JSON Web Key Set (RFC 7517).
#[derive(Serialize, ToSchema)]
struct JwkSet {
    keys: Vec<Jwk>,
}

/// The keys that sign access tokens
///
/// Check `iss` = `evently`, `aud` = `evently-api`, `exp`, and that `alg` is `EdDSA`.
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "Accounts", operation_id = "jwks",
    responses((status = OK, description = "The key set", body = JwkSet,
        headers(("Cache-Control" = String, description = "May be kept for five minutes")))))]
async fn jwks(State(app): AppState) -> impl IntoResponse {
    let keys = vec![app.accounts.tokens().jwk()];
    ([(header::CACHE_CONTROL, "public, max-age=300")], Json(JwkSet { keys }))
}

#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct IntrospectRequest {
    /// An access token.
    #[garde(length(chars, min = 1, max = 4096))]
    #[schema(max_length = 4096)]
    token: String,
}

/// What a token is worth (RFC 7662). Only `active` where it is worth nothing.
#[derive(Default, Serialize, ToSchema)]
struct Introspection {
    active: bool,
    #[serde(flatten)]
    claims: Option<IntrospectedClaims>,
}

#[derive(Serialize, ToSchema)]
struct IntrospectedClaims {
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// The account.
    sub: Uuid,
    /// The session.
    sid: Uuid,
    jti: Uuid,
    /// The role as it is now.
    role: Role,
    email_verified: bool,
    #[schema(example = "evently")]
    iss: &'static str,
    #[schema(example = "evently-api")]
    aud: &'static str,
    /// Unix seconds.
    iat: i64,
    /// Unix seconds.
    exp: i64,
}

/// Ask whether an access token is good
///
/// Also asks the database whether its session is open and its account active. Needs the role `operator` or
/// `admin`.
#[utoipa::path(post, path = "/v1/auth/introspect", tag = "Accounts", operation_id = "introspect",
    security(("bearer" = [])), request_body = IntrospectRequest,
    responses((status = OK, description = "What the token is worth", body = Introspection)),
    extensions(("x-problems" = json!(["forbidden"]))))]
async fn introspect(
    State(app): AppState,
    _: Operator,
    Body(body): Body<IntrospectRequest>,
) -> ApiResult<Json<Introspection>> {
    let Ok(claims) = app.accounts.tokens().verify(&body.token) else {
        return Ok(Json(Introspection::default()));
    };
    if !app.accounts.session_is_open(claims.session_id).await? {
        return Ok(Json(Introspection::default()));
    }
    let claims = IntrospectedClaims {
        token_type: "Bearer",
        sub: claims.user_id,
        sid: claims.session_id,
        jti: claims.token_id,
        role: claims.role,
        email_verified: claims.verified,
        iss: ISSUER,
        aud: AUDIENCE,
        iat: claims.issued_at.timestamp(),
        exp: claims.expires_at.timestamp(),
    };
    Ok(Json(Introspection { active: true, claims: Some(claims) }))
}
