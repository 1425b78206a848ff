//! The one map from what went wrong to what the client is told: every code, its status and its page.

use std::borrow::Cow;

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::{fault::Fault, trace::TraceContext};
use serde::Serialize;
use utoipa::ToSchema;

use crate::sparing::Sparing;

macro_rules! codes {
    ($($variant:ident $status:literal $slug:literal $title:literal $explanation:literal),* $(,)?) => {
        /// Every code that an error can carry. The slug is part of the contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($variant),* }

        impl Code {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The HTTP status, as a number.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }

            /// The stable name: `code` in the body, last part of `type`.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$variant => $slug),* }
            }

            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),* }
            }

            /// What happened and what a client does about it, for `/problems/<slug>`.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $explanation),* }
            }
        }
    };
}

codes! {
    MalformedJson 400 "malformed-json" "The body is not JSON"
        "The body could not be parsed as JSON. Check quoting, commas and encoding (UTF-8), then send it again.",
    InvalidParameter 400 "invalid-parameter" "A parameter is not valid"
        "A path or query parameter is malformed, out of range or unknown to this route. The detail names it.",
    IdempotencyKeyInvalid 400 "idempotency-key-invalid" "The Idempotency-Key is missing or malformed"
        "This route needs an Idempotency-Key header of 1 to 255 visible ASCII characters. Use a fresh random one for each operation, and the same one to repeat it.",
    MalformedRequest 400 "malformed-request" "The request is not HTTP as it should be"
        "The request line, a header or the encoding of the path is broken. No route has seen the request.",
    Unauthenticated 401 "unauthenticated" "Authentication is needed"
        "The request has no access token, or one that is not valid. Log in and send it as `Authorization: Bearer <token>`.",
    TokenExpired 401 "token-expired" "The access token has expired"
        "Get a new access token with the refresh token and repeat the request.",
    InvalidCredentials 401 "invalid-credentials" "E-mail or password is wrong"
        "No active account has this e-mail and password.",
    RefreshReused 401 "refresh-reused" "The refresh token was used before"
        "A refresh token works once. Because a used one was seen again, its whole session has ended: log in anew.",
    PaymentDeclined 402 "payment-declined" "The payment was declined"
        "The provider declined the payment. The hold is kept until its deadline: confirm it again with another payment.",
    Forbidden 403 "forbidden" "Your role does not allow this"
        "The account is known, but its role does not include this operation.",
    EmailUnverified 403 "email-unverified" "The e-mail address is not verified"
        "Verify the address with the code that was mailed, then log in or refresh to get a token that says so.",
    NotFound 404 "not-found" "Not found"
        "There is no such object, or it is not yours to see.",
    MethodNotAllowed 405 "method-not-allowed" "The method is not allowed here"
        "The route exists with other methods: see the Allow header.",
    RequestTimeout 408 "request-timeout" "The request took too long to arrive"
        "The body did not arrive within 10 seconds.",
    SoldOut 409 "sold-out" "Not enough seats are left"
        "At least one line of the basket asks for more seats than are free. Nothing was held.",
    InvalidState 409 "invalid-state" "The object's state does not allow this"
        "The object exists, but the operation does not fit its present state. Read it again.",
    SaleClosed 409 "sale-closed" "The event is not on sale"
        "Sales have not begun, have ended, or the event was cancelled.",
    CapacityInUse 409 "capacity-in-use" "The capacity is in use"
        "The new capacity is below what is sold, held or offered already.",
    EmailTaken 409 "email-taken" "The e-mail address has an account"
        "Log in, or ask for a new password.",
    IdempotencyInProgress 409 "idempotency-in-progress" "The first request with this key is still running"
        "Wait as long as Retry-After says and repeat the same request.",
    AlreadyCheckedIn 409 "already-checked-in" "The ticket is checked in already"
        "Each ticket lets one person in, once. The detail says when it was scanned.",
    SeatsAvailable 409 "seats-available" "Seats are still free"
        "The waitlist is for what is sold out: place a hold instead.",
    HoldExpired 410 "hold-expired" "The hold is over"
        "The hold has expired or was released, and its seats went back. Place a new one.",
    OfferExpired 410 "offer-expired" "The offer is over"
        "The offer has run out or was declined. You may join the waitlist again, at its end.",
    PreconditionFailed 412 "precondition-failed" "The object has changed"
        "If-Match does not name the present version. Read the object again and repeat the change on it.",
    TooLarge 413 "too-large" "The body is too large"
        "A body may have 64 KiB at most.",
    UriTooLong 414 "uri-too-long" "The URI is too long"
        "Path and query together may have 8 KiB at most.",
    SignatureInvalid 400 "signature-invalid" "The signature is not valid"
        "The message is not signed with the secret of this endpoint, or was signed more than five minutes ago.",
    UnsupportedMediaType 415 "unsupported-media-type" "The media type is not supported"
        "Send `Content-Type: application/json`.",
    ValidationFailed 422 "validation-failed" "The request is not valid"
        "The JSON is well-formed, but fields are missing, unknown or out of range; `errors` names each by JSON pointer.",
    IdempotencyKeyReused 422 "idempotency-key-reused" "The Idempotency-Key belongs to another request"
        "The key was used with another body within the last 24 hours. Use a fresh one.",
    CodeInvalid 422 "code-invalid" "The code is not valid"
        "The one-time code is wrong, used, too old or out of tries. Ask for a new one.",
    HoldTokenInvalid 422 "hold-token-invalid" "The hold token is not valid"
        "The hold token was altered, or belongs to another hold or user.",
    LimitExceeded 422 "limit-exceeded" "The limit per person is exceeded"
        "With these tickets, what you hold and own of this event would be more than one person may have.",
    PreconditionRequired 428 "precondition-required" "If-Match is needed"
        "Send the object's ETag as If-Match, so that nobody's change is overwritten unseen.",
    HeadersTooLarge 431 "headers-too-large" "The headers are too large"
        "A request may have 100 headers, and 32 KiB of them at most.",
    RateLimited 429 "rate-limited" "Too many requests"
        "Wait as long as Retry-After says.",
    Internal 500 "internal" "Something went wrong on our side"
        "The request could not be finished because of a defect. The trace_id finds it in the logs.",
    Unavailable 503 "unavailable" "Not available just now"
        "Something that the request needs is down or overloaded. Repeat it after Retry-After; with an Idempotency-Key it is safe.",
    InventoryRebuilding 503 "inventory-rebuilding" "The seat inventory is being rebuilt"
        "The seat inventory of this event is being read anew from the database, which takes moments. Repeat after Retry-After.",
}

/// A field at fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// RFC 6901 pointer into the body.
    #[schema(example = "/items/0/quantity")]
    pub pointer: String,
    pub detail: String,
}

/// RFC 9457, with `code`, `trace_id` and, where fields are at fault, `errors`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// `/problems/<code>`: a page that explains it.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: &'static str,
    pub status: u16,
    pub detail: Cow<'static, str>,
    pub code: &'static str,
    /// 32 hexadecimal digits, as in the logs.
    pub trace_id: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// What a route answers instead of a result.
#[derive(Debug)]
pub struct ApiError {
    code: Code,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        let mut error = Self { code, detail: detail.into(), errors: Vec::new(), headers: Vec::new() };
        match code {
            Code::Unauthenticated | Code::InvalidCredentials | Code::RefreshReused => {
                error.push(header::WWW_AUTHENTICATE, "Bearer realm=\"evently\"");
            }
            Code::TokenExpired => error.push(
                header::WWW_AUTHENTICATE,
                "Bearer realm=\"evently\", error=\"invalid_token\", error_description=\"expired\"",
            ),
            Code::Unavailable | Code::InventoryRebuilding | Code::IdempotencyInProgress => {
                error.push(header::RETRY_AFTER, "1");
            }
            _ => {}
        }
        error
    }

    /// The object does not exist or is not the caller's: the same bytes either way.
    pub fn not_found() -> Self {
        Self::new(Code::NotFound, "There is no such object.")
    }

    /// One field of the body is at fault.
    pub fn field(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::fields(vec![FieldError { pointer: pointer.into(), detail: detail.into() }])
    }

    pub fn fields(errors: Vec<FieldError>) -> Self {
        Self { errors, ..Self::new(Code::ValidationFailed, "Fields of the body are not valid.") }
    }

    /// Adds or replaces a header of the answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.retain(|(present, _)| *present != name);
        self.headers.push((name, value));
        self
    }

    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.with_header(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    pub fn code(&self) -> Code {
        self.code
    }

    /// The body of the answer.
    pub(crate) fn problem(self, context: TraceContext) -> Problem {
        Problem {
            kind: format!("/problems/{}", self.code.slug()),
            title: self.code.title(),
            status: self.code.status(),
            detail: self.detail,
            code: self.code.slug(),
            trace_id: context.trace_id_hex(),
            errors: self.errors,
        }
    }

    fn push(&mut self, name: HeaderName, value: &'static str) {
        self.headers.push((name, HeaderValue::from_static(value)));
    }
}

impl From<Code> for ApiError {
    fn from(code: Code) -> Self {
        Self::new(code, code.explanation())
    }
}

/// An outage is 503 and worth repeating; anything else beneath us is a defect. Logged here, once.
impl From<&Fault> for ApiError {
    fn from(fault: &Fault) -> Self {
        if fault.is_transient() {
            static DOWN: Sparing = Sparing::new();
            if let Some(unlogged) = DOWN.may_write() {
                tracing::warn!(error = %fault, unlogged, "a dependency is down");
            }
            Self::new(Code::Unavailable, "A service that this request needs does not answer just now.")
        } else {
            tracing::error!(error = %fault, "a defect");
            Code::Internal.into()
        }
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        (&fault).into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.answer(TraceContext::current().unwrap_or_else(TraceContext::root))
    }
}

impl ApiError {
    /// The answer to a request at this position in its trace.
    pub(crate) fn answer(mut self, trace: TraceContext) -> Response {
        let code = self.code;
        // Every code's status is a literal of this file, checked by a test below.
        let status = StatusCode::from_u16(code.status()).expect("statuses are valid");
        let headers = std::mem::take(&mut self.headers);
        let problem = self.problem(trace);
        let mut response = (status, Json(problem)).into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        for (name, value) in headers {
            response.headers_mut().insert(name, value);
        }
        response.extensions_mut().insert(code);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_their_statuses_valid() {
        for code in Code::ALL {
            assert!(StatusCode::from_u16(code.status()).is_ok(), "{}", code.slug());
        }
        let slugs: std::collections::HashSet<_> = Code::ALL.iter().map(|code| code.slug()).collect();
        assert_eq!(slugs.len(), Code::ALL.len());
    }
}
