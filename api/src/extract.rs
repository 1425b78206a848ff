//! What routes take from a request, each with the error that the contract names when it is not there.

use std::time::Duration;

use axum::{
    extract::{FromRequest, FromRequestParts, OptionalFromRequestParts, Request},
    http::{HeaderMap, header, request::Parts},
};
use futures::StreamExt;
use garde::Validate;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::error::Category;
use utoipa::{
    IntoParams,
    openapi::{
        Required,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::{ObjectBuilder, Type},
    },
};

use crate::{
    error::{ApiError, ApiResult, Code, FieldError},
    middleware::{aside, overloaded},
};

/// The most bytes of a body.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// How long a body may take to arrive.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A JSON body of the right shape whose fields are in range.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Validate<Context = ()>> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> ApiResult<Self> {
        require_json(request.headers())?;
        let bytes = read_body(request).await?;
        let value: T = parse(&bytes)?;
        value.validate().map_err(|report| {
            let errors = report.iter().map(|(path, error)| FieldError {
                pointer: pointer(&path.to_string()),
                detail: error.to_string(),
            });
            ApiError::fields(errors.collect())
        })?;
        Ok(Self(value))
    }
}

/// A JSON body of the right shape whose fields the domain checks.
pub struct Unchecked<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Unchecked<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> ApiResult<Self> {
        require_json(request.headers())?;
        parse(&read_body(request).await?).map(Self)
    }
}

/// A JSON body of the right shape whose fields are in range; none at all stands for the empty object.
pub struct OrEmpty<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Default + Validate<Context = ()>> FromRequest<S> for OrEmpty<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> ApiResult<Self> {
        let is_json = require_json(request.headers());
        let (head, body) = request.into_parts();
        let bytes = read_body(Request::from_parts(head.clone(), body)).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        is_json?;
        let Body(value) = Body::from_request(Request::from_parts(head, bytes.into()), state).await?;
        Ok(Self(value))
    }
}

/// No body, or the empty object that some clients send in its place.
pub struct NoBody;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl<S: Send + Sync> FromRequest<S> for NoBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> ApiResult<Self> {
        let is_json = require_json(request.headers());
        let bytes = read_body(request).await?;
        if !bytes.is_empty() {
            is_json?;
            parse::<Nothing>(&bytes)?;
        }
        Ok(Self)
    }
}

/// The whole body, within its limits of size and time.
pub async fn read_body(request: Request) -> ApiResult<Vec<u8>> {
    let too_large = || ApiError::from(Code::TooLarge);
    let announced =
        request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > MAX_BODY_BYTES) {
        return Err(too_large());
    }
    let mut stream = request.into_body().into_data_stream();
    let mut bytes = Vec::with_capacity(announced.unwrap_or(0));
    let read = async {
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| {
                ApiError::new(Code::MalformedJson, format!("The body broke off: {error}"))
            })?;
            if bytes.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(())
    };
    let (read, has_room) = aside(tokio::time::timeout(BODY_TIMEOUT, read)).await;
    read.map_err(|_| Code::RequestTimeout)??;
    if has_room { Ok(bytes) } else { Err(overloaded()) }
}

fn require_json(headers: &HeaderMap) -> ApiResult<()> {
    if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(ApiError::new(
            Code::UnsupportedMediaType,
            "Bodies are taken as they are, not compressed.",
        ));
    }
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = media_type.split(';').next().unwrap_or("").trim();
    let subtype =
        essence.get(..12).filter(|kind| kind.eq_ignore_ascii_case("application/")).map(|_| &essence[12..]);
    match subtype {
        Some(subtype)
            if subtype.eq_ignore_ascii_case("json") || subtype.to_ascii_lowercase().ends_with("+json") =>
        {
            Ok(())
        }
        _ => Err(Code::UnsupportedMediaType.into()),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> ApiResult<T> {
    // Serde would take a list for a struct, field by field in their order, which is nobody's contract.
    let begins = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if begins != Some(&b'{') && serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() {
        return Err(ApiError::field("", "must be an object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = pointer(&error.path().to_string());
        let error = error.into_inner();
        match error.classify() {
            // Shape errors are only shape errors when the rest of the document is JSON at all.
            Category::Data if serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() => {
                ApiError::field(path, without_position(&error))
            }
            _ => ApiError::new(Code::MalformedJson, format!("The body is not JSON: {error}.")),
        }
    })?;
    deserializer
        .end()
        .map_err(|error| ApiError::new(Code::MalformedJson, format!("The body is not JSON: {error}.")))?;
    if holds_nul(bytes) {
        return Err(ApiError::field("", "U+0000 is not allowed"));
    }
    Ok(value)
}

/// Whether a JSON text holds the escape `\u0000`: Postgres cannot store it, and no field of ours means it.
fn holds_nul(json: &[u8]) -> bool {
    let mut at = 0;
    while at < json.len() {
        if json[at] == b'\\' {
            if json[at + 1..].starts_with(b"u0000") {
                return true;
            }
            at += 1;
        }
        at += 1;
    }
    false
}

fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rfind(" at line ").map_or(text.clone(), |at| text[..at].to_owned())
}

/// A dotted path (`items[0].quantity`) as an RFC 6901 pointer (`/items/0/quantity`).
fn pointer(path: &str) -> String {
    if path.is_empty() || path == "." {
        return String::new();
    }
    let parts = path.split(['.', '[', ']']).filter(|part| !part.is_empty() && *part != "?");
    parts.fold(String::new(), |pointer, part| {
        format!("{pointer}/{}", part.replace('~', "~0").replace('/', "~1"))
    })
}

/// The query string; unknown parameters are errors when `T` denies unknown fields, as every query struct does.
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> ApiResult<Self> {
        let query = parts.uri.query().unwrap_or("");
        if !percent_decode_str(query).decode_utf8().is_ok_and(|text| !text.contains('\0')) {
            return Err(ApiError::new(Code::InvalidParameter, "The query is not UTF-8 without U+0000."));
        }
        serde_urlencoded::from_str(query).map(Self).map_err(|error| {
            ApiError::new(Code::InvalidParameter, format!("The query is not valid: {error}."))
        })
    }
}

/// Parts of the path: ids. What does not parse is 400 `invalid-parameter`.
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> ApiResult<Self> {
        <axum::extract::Path<T> as FromRequestParts<S>>::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Path(value)| Self(value))
            .map_err(|_| {
                ApiError::new(Code::InvalidParameter, "The path holds something that is no valid id.")
            })
    }
}

/// The `Idempotency-Key` header, unquoted: 1 to 255 visible ASCII characters.
pub struct IdempotencyKey(pub String);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> ApiResult<Self> {
        let mut values = parts.headers.get_all("idempotency-key").iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(Code::IdempotencyKeyInvalid.into());
        };
        let text = value.to_str().map_err(|_| Code::IdempotencyKeyInvalid)?.trim();
        let key = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
        if key.is_empty() || key.len() > 255 || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Code::IdempotencyKeyInvalid.into());
        }
        Ok(Self(key.to_owned()))
    }
}

impl IntoParams for IdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let about = "1 to 255 visible ASCII characters, fresh for each operation and the same to repeat it.";
        vec![header_param("Idempotency-Key", about, "9b2f6c3e-6f0c-4a53-8a4e-0f6f6b7c1d2a")]
    }
}

/// A required header, for the document.
fn header_param(name: &str, about: &str, example: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::True)
        .description(Some(about))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .example(Some(example.into()))
        .build()
}

/// The version that `If-Match` names; missing is 428, what can match no version 412.
pub struct IfMatch(pub i64);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> ApiResult<Self> {
        let value = parts.headers.get(header::IF_MATCH).ok_or(Code::PreconditionRequired)?;
        let version = value.to_str().ok().and_then(version_of_tag).ok_or(Code::PreconditionFailed)?;
        Ok(Self(version))
    }
}

impl IntoParams for IfMatch {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![header_param("If-Match", "The ETag of the object as the client read it.", "\"v7\"")]
    }
}

/// Where `If-Match` is optional: only what is there must be right.
impl<S: Send + Sync> OptionalFromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> ApiResult<Option<Self>> {
        if !parts.headers.contains_key(header::IF_MATCH) {
            return Ok(None);
        }
        <Self as FromRequestParts<S>>::from_request_parts(parts, state).await.map(Some)
    }
}

/// The strong tag of a version.
pub fn etag(version: i64) -> String {
    format!("\"v{version}\"")
}

fn version_of_tag(tag: &str) -> Option<i64> {
    tag.trim().strip_prefix("\"v")?.strip_suffix('"')?.parse().ok()
}

/// Whether `If-None-Match` names this tag (weakly compared, as RFC 9110 asks), so that 304 is the answer.
pub fn none_match(headers: &HeaderMap, tag: &str) -> bool {
    headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|list| {
        list.split(',')
            .map(str::trim)
            .any(|present| present == "*" || present.trim_start_matches("W/") == tag)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_nul_escape_and_nothing_else() {
        assert!(holds_nul(br#"{"a":"x\u0000"}"#));
        assert!(!holds_nul(br#"{"a":"x\\u0000"}"#));
        assert!(holds_nul(br#"{"a":"x\\\u0000"}"#));
    }

    #[test]
    fn pointers() {
        assert_eq!(pointer("items[0].quantity"), "/items/0/quantity");
        assert_eq!(pointer("."), "");
    }
}
