//! Registration, login and what keeps a login going.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State, http::StatusCode, response::Response};
use domain::{
    accounts::{
        recovery::ResetError,
        registration::{Newcomer, RegisterError, VerifyEmailError},
        sessions::{Credentials, LoginError, RefreshError},
    },
    rate_limit::Taking,
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::users::{UserAnswer, UserView, address, is_address, is_name};
use crate::{
    App, AppState,
    caller::{Caller, Origin},
    error::{ApiError, ApiResult, Code},
    extract::Body,
    limits::{self, limited},
};

/// How long the routes that must not tell whether an address has an account take at least.
const EVEN_TIME: Duration = Duration::from_millis(100);

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(verify_email))
        .routes(routes!(resend))
        .routes(routes!(login))
        .routes(routes!(refresh))
        .routes(routes!(logout))
        .routes(routes!(forgot_password))
        .routes(routes!(reset_password))
}

#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct RegisterRequest {
    #[garde(custom(is_address))]
    #[schema(format = Email, max_length = 254, example = "ada@example.com")]
    email: String,
    #[garde(length(chars, min = 10, max = 128))]
    #[schema(format = Password, min_length = 10, max_length = 128, example = "correct-horse-battery")]
    password: String,
    #[garde(custom(is_name))]
    #[schema(min_length = 1, max_length = 200, example = "Ada Lovelace")]
    name: String,
}

/// Create an account
///
/// A one-time code is mailed to the address.
#[utoipa::path(post, path = "/v1/auth/register", tag = "Accounts", operation_id = "register",
    request_body = RegisterRequest,
    responses(
        (status = CREATED, description = "The account; its address is not verified yet", body = UserAnswer,
         headers(("RateLimit-Policy" = String, description = "The limits"),
                 ("RateLimit" = String, description = "What is left of them"))),
    ),
    extensions(("x-problems" = json!(["email-taken"]))))]
async fn register(State(app): AppState, origin: Origin, Body(body): Body<RegisterRequest>) -> Response {
    let subject = origin.subject();
    limited(&app, &[Taking { limit: limits::REGISTER, subject: &subject }], async {
        let newcomer = Newcomer {
            email: address(&body.email)?,
            name: body.name.trim().to_owned(),
            password: body.password.into(),
        };
        let user = app.accounts.register(newcomer).await?;
        Ok((StatusCode::CREATED, Json(UserAnswer::from(user))))
    })
    .await
}

#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct VerifyEmailRequest {
    #[garde(custom(is_address))]
    #[schema(format = Email, max_length = 254)]
    email: String,
    /// Six digits.
    #[garde(length(chars, min = 1, max = 64))]
    #[schema(pattern = "^[0-9]{6}$", example = "042137")]
    code: String,
}

/// Verify the address with the mailed code
///
/// A code is good for ten minutes, five tries and one use.
#[utoipa::path(post, path = "/v1/auth/verify-email", tag = "Accounts", operation_id = "verify_email",
    request_body = VerifyEmailRequest,
    responses(
        (status = OK, description = "The account, verified", body = UserAnswer,
         headers(("RateLimit-Policy" = String, description = "The limits"),
                 ("RateLimit" = String, description = "What is left of them"))),
    ),
    extensions(("x-problems" = json!(["code-invalid"]))))]
async fn verify_email(
    State(app): AppState,
    origin: Origin,
    Body(body): Body<VerifyEmailRequest>,
) -> ApiResult<Response> {
    let email = address(&body.email)?;
    let subject = origin.subject();
    let takings = [
        Taking { limit: limits::CODE_ADDRESS, subject: &subject },
        Taking { limit: limits::CODE_ACCOUNT, subject: email.as_str() },
    ];
    let verified = async { Ok(Json(UserAnswer::from(app.accounts.verify_email(&email, &body.code).await?))) };
    Ok(limited(&app, &takings, verified).await)
}

#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct AddressRequest {
    #[garde(custom(is_address))]
    #[schema(format = Email, max_length = 254)]
    email: String,
}

/// The request was taken; whether a mail comes of it only its recipient learns.
#[derive(Serialize, ToSchema)]
struct Accepted {
    #[schema(example = "accepted")]
    status: &'static str,
}

/// Mail a new code
///
/// It replaces the older one. The answer is the same whether or not there is an unverified account.
#[utoipa::path(post, path = "/v1/auth/verify-email/resend", tag = "Accounts", operation_id = "resend_code",
    request_body = AddressRequest,
    responses(
        (status = ACCEPTED, description = "Taken", body = Accepted,
         headers(("RateLimit-Policy" = String, description = "The limits"),
                 ("RateLimit" = String, description = "What is left of them"))),
    ))]
async fn resend(
    State(app): AppState,
    origin: Origin,
    Body(body): Body<AddressRequest>,
) -> ApiResult<Response> {
    let email = address(&body.email)?;
    mail(&app, &origin, email.as_str(), app.accounts.resend_code(&email)).await
}

/// Mail a code that allows a new password
///
/// The answer is the same whether or not there is an account.
#[utoipa::path(post, path = "/v1/auth/password/forgot", tag = "Accounts", operation_id = "forgot_password",
    request_body = AddressRequest,
    responses(
        (status = ACCEPTED, description = "Taken", body = Accepted,
         headers(("RateLimit-Policy" = String, description = "The limits"),
                 ("RateLimit" = String, description = "What is left of them"))),
    ))]
async fn forgot_password(
    State(app): AppState,
    origin: Origin,
    Body(body): Body<AddressRequest>,
) -> ApiResult<Response> {
    let email = address(&body.email)?;
    mail(&app, &origin, email.as_str(), app.accounts.forgot_password(&email)).await
}

/// Asks for a mail, in a time that does not tell whether it will be sent.
async fn mail(
    app: &App,
    origin: &Origin,
    email: &str,
    request: impl Future<Output = Result<(), domain::fault::Fault>>,
) -> ApiResult<Response> {
    let subject = origin.subject();
    let takings = [
        Taking { limit: limits::MAIL_ADDRESS, subject: &subject },
        Taking { limit: limits::MAIL_ACCOUNT, subject: email },
    ];
    let asked = async {
        let (asked, ()) = tokio::join!(request, tokio::time::sleep(EVEN_TIME));
        asked?;
        Ok((StatusCode::ACCEPTED, Json(Accepted { status: "accepted" })))
    };
    Ok(limited(app, &takings, asked).await)
}

#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct LoginRequest {
    #[garde(custom(is_address))]
    #[schema(format = Email, max_length = 254, example = "ada@evently.test")]
    email: String,
    #[garde(length(chars, min = 1, max = 128))]
    #[schema(format = Password, min_length = 1, max_length = 128, example = "correct-horse-battery")]
    password: String,
}

/// What a client needs to act as a user.
#[derive(Serialize, ToSchema)]
struct TokenAnswer {
    /// For `Authorization: Bearer`; an Ed25519-signed JWT.
    access_token: String,
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Seconds that the access token is good for.
    #[schema(example = 900)]
    expires_in: u64,
    /// Gets the next pair of tokens, once, within 7 days.
    refresh_token: String,
    user: UserView,
}

impl From<Credentials> for TokenAnswer {
    fn from(credentials: Credentials) -> Self {
        Self {
            access_token: credentials.access_token,
            token_type: "Bearer",
            expires_in: credentials.expires_in,
            refresh_token: credentials.refresh_token,
            user: credentials.user.into(),
        }
    }
}

/// Log in
///
/// Opens a session. An account whose address is not verified may log in too.
#[utoipa::path(post, path = "/v1/auth/login", tag = "Accounts", operation_id = "login",
    request_body = LoginRequest,
    responses(
        (status = OK, description = "Tokens of a new session", body = TokenAnswer,
         headers(("RateLimit-Policy" = String, description = "The limits on failures"),
                 ("RateLimit" = String, description = "What is left of them"))),
    ),
    extensions(("x-problems" = json!(["invalid-credentials"]))))]
async fn login(State(app): AppState, origin: Origin, Body(body): Body<LoginRequest>) -> ApiResult<Response> {
    let email = address(&body.email)?;
    let subject = origin.subject();
    let both = format!("{subject} {email}");
    let takings = [
        Taking { limit: limits::LOGIN_ADDRESS, subject: &subject },
        Taking { limit: limits::LOGIN_ACCOUNT, subject: &both },
        Taking { limit: limits::LOGIN_ACCOUNT_ANYWHERE, subject: email.as_str() },
    ];
    let client = origin.into();
    let logged_in = async {
        let credentials = app.accounts.log_in(&email, body.password.into(), &client).await?;
        // Only failures count. If this fails, one success does too: no reason to fail the login.
        if let Err(error) = app.limiter.give_back(&takings).await {
            tracing::warn!(%error, "a login stays counted");
        }
        Ok(Json(TokenAnswer::from(credentials)))
    };
    Ok(limited(&app, &takings, logged_in).await)
}

#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct RefreshRequest {
    #[garde(length(chars, min = 1, max = 512))]
    #[schema(max_length = 512)]
    refresh_token: String,
}

/// Trade the refresh token for a new pair
///
/// A refresh token works once. One that comes again ends the whole session, for whoever holds it.
#[utoipa::path(post, path = "/v1/auth/refresh", tag = "Accounts", operation_id = "refresh",
    request_body = RefreshRequest,
    responses((status = OK, description = "The next tokens of the session", body = TokenAnswer)),
    extensions(("x-problems" = json!(["unauthenticated", "token-expired", "refresh-reused"]))))]
async fn refresh(State(app): AppState, Body(body): Body<RefreshRequest>) -> ApiResult<Json<TokenAnswer>> {
    Ok(Json(app.accounts.refresh(&body.refresh_token).await?.into()))
}

/// End this session
///
/// Its access and refresh tokens are worthless from then on.
#[utoipa::path(post, path = "/v1/auth/logout", tag = "Accounts", operation_id = "logout",
    security(("bearer" = [])),
    responses((status = NO_CONTENT, description = "The session is over")))]
async fn logout(State(app): AppState, caller: Caller) -> ApiResult<StatusCode> {
    app.accounts.end_session(caller.id(), caller.0.session_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct ResetRequest {
    #[garde(custom(is_address))]
    #[schema(format = Email, max_length = 254)]
    email: String,
    /// Six digits.
    #[garde(length(chars, min = 1, max = 64))]
    #[schema(pattern = "^[0-9]{6}$", example = "042137")]
    code: String,
    /// The new password.
    #[garde(length(chars, min = 10, max = 128))]
    #[schema(format = Password, min_length = 10, max_length = 128)]
    password: String,
}

/// Set a new password with the mailed code
///
/// Ends every session. The address counts as verified.
#[utoipa::path(post, path = "/v1/auth/password/reset", tag = "Accounts", operation_id = "reset_password",
    request_body = ResetRequest,
    responses(
        (status = OK, description = "The password is set; log in with it", body = UserAnswer,
         headers(("RateLimit-Policy" = String, description = "The limits"),
                 ("RateLimit" = String, description = "What is left of them"))),
    ),
    extensions(("x-problems" = json!(["code-invalid"]))))]
async fn reset_password(
    State(app): AppState,
    origin: Origin,
    Body(body): Body<ResetRequest>,
) -> ApiResult<Response> {
    let email = address(&body.email)?;
    let subject = origin.subject();
    let takings = [
        Taking { limit: limits::CODE_ADDRESS, subject: &subject },
        Taking { limit: limits::CODE_ACCOUNT, subject: email.as_str() },
    ];
    let reset = async {
        let user = app.accounts.reset_password(&email, &body.code, body.password.into()).await?;
        Ok(Json(UserAnswer::from(user)))
    };
    Ok(limited(&app, &takings, reset).await)
}

fn busy() -> ApiError {
    ApiError::new(Code::Unavailable, "Too many people log in or register just now.").retry_after(2)
}

impl From<RegisterError> for ApiError {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::EmailTaken => Code::EmailTaken.into(),
            RegisterError::Busy(_) => busy(),
            RegisterError::Fault(fault) => fault.into(),
        }
    }
}

impl From<VerifyEmailError> for ApiError {
    fn from(error: VerifyEmailError) -> Self {
        match error {
            VerifyEmailError::CodeInvalid => Code::CodeInvalid.into(),
            VerifyEmailError::Fault(fault) => fault.into(),
        }
    }
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::InvalidCredentials => Code::InvalidCredentials.into(),
            LoginError::Busy(_) => busy(),
            LoginError::Fault(fault) => fault.into(),
        }
    }
}

impl From<RefreshError> for ApiError {
    fn from(error: RefreshError) -> Self {
        match error {
            RefreshError::Invalid => {
                Self::new(Code::Unauthenticated, "The refresh token is not valid. Log in anew.")
            }
            RefreshError::Expired => {
                Self::new(Code::TokenExpired, "The refresh token has expired. Log in anew.")
            }
            RefreshError::Reused => Code::RefreshReused.into(),
            RefreshError::Fault(fault) => fault.into(),
        }
    }
}

impl From<ResetError> for ApiError {
    fn from(error: ResetError) -> Self {
        match error {
            ResetError::CodeInvalid => Code::CodeInvalid.into(),
            ResetError::Busy(_) => busy(),
            ResetError::Fault(fault) => fault.into(),
        }
    }
}
