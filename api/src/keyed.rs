//! Answers of operations under an `Idempotency-Key`.

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use domain::{
    fault::Fault,
    idempotency::{Answer, KeyedError},
};

use crate::error::{ApiError, ApiResult, Code};

/// Says that an answer is an earlier one.
pub static REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The answer as it was decided, the first time or again.
pub fn respond(answer: Answer) -> ApiResult<Response> {
    let status = StatusCode::from_u16(answer.decision.status)
        .map_err(|_| Fault::Corrupt(format!("kept status {}", answer.decision.status)))?;
    let mut response = (status, Json(answer.decision.body)).into_response();
    if answer.replayed {
        response.headers_mut().insert(REPLAYED.clone(), HeaderValue::from_static("true"));
    }
    Ok(response)
}

impl<E: Into<ApiError>> From<KeyedError<E>> for ApiError {
    fn from(error: KeyedError<E>) -> Self {
        match error {
            KeyedError::InProgress => Code::IdempotencyInProgress.into(),
            KeyedError::Reused => Code::IdempotencyKeyReused.into(),
            KeyedError::Undecided(error) => error.into(),
            KeyedError::Fault(fault) => fault.into(),
        }
    }
}
