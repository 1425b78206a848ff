//! The documentation: the OpenAPI document, and the page rendered from it, which needs nothing from elsewhere.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, LazyLock},
};

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{App, extract::none_match, openapi::DOCUMENT};

mod example;
#[expect(clippy::format_push_string, clippy::format_collect, reason = "rendered once a process")]
pub(super) mod html;
#[expect(clippy::format_push_string, clippy::format_collect, reason = "rendered once a process")]
mod page;
mod schema;

static JSON: LazyLock<Text> =
    LazyLock::new(|| Text::new("application/json", serde_json::to_string(&*DOCUMENT).unwrap_or_default()));
static PAGE: LazyLock<Text> =
    LazyLock::new(|| Text::new("text/html; charset=utf-8", page::render(&DOCUMENT)));
static STYLE: LazyLock<Text> =
    LazyLock::new(|| Text::new("text/css; charset=utf-8", include_str!("docs/style.css").to_owned()));
static SEARCH: LazyLock<Text> =
    LazyLock::new(|| Text::new("text/javascript; charset=utf-8", include_str!("docs/search.js").to_owned()));

/// A text made once, with the tag of its content.
struct Text {
    media_type: &'static str,
    bytes: Bytes,
    tag: String,
}

impl Text {
    fn new(media_type: &'static str, text: String) -> Self {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Self { media_type, tag: format!("\"{:016x}\"", hasher.finish()), bytes: text.into() }
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        let common = [(header::ETAG, self.tag.as_str()), (header::CACHE_CONTROL, "no-cache"), html::POLICY];
        if none_match(headers, &self.tag) {
            return (StatusCode::NOT_MODIFIED, common).into_response();
        }
        (common, [(header::CONTENT_TYPE, self.media_type)], self.bytes.clone()).into_response()
    }
}

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(openapi))
        .routes(routes!(docs))
        .route("/docs/style.css", axum::routing::get(async |headers: HeaderMap| STYLE.answer(&headers)))
        .route("/docs/search.js", axum::routing::get(async |headers: HeaderMap| SEARCH.answer(&headers)))
}

/// This document
#[utoipa::path(get, path = "/openapi.json", tag = "Operations", operation_id = "openapi",
    responses((status = OK, description = "OpenAPI 3.1", body = Object, content_type = "application/json",
        headers(("ETag" = String, description = "Changes when the document does")))))]
async fn openapi(headers: HeaderMap) -> Response {
    JSON.answer(&headers)
}

/// This document as a page
#[utoipa::path(get, path = "/docs", tag = "Operations", operation_id = "docs",
    responses((status = OK, description = "Every operation, field and error", body = String,
        content_type = "text/html", headers(("ETag" = String, description = "Changes when the page does")))))]
async fn docs(headers: HeaderMap) -> Response {
    PAGE.answer(&headers)
}
