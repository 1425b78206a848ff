//! The page of each error code: what happened, and what a client does about it.

use std::sync::Arc;

use axum::{
    Json,
    http::{HeaderMap, header},
    response::{Html, IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App,
    error::{ApiError, ApiResult, Code},
    extract::Path,
    routes::docs::html,
};

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(problem))
}

/// One error code, explained.
#[derive(Serialize, ToSchema)]
struct ProblemPage {
    #[schema(example = "sold-out")]
    code: &'static str,
    #[schema(example = 409)]
    status: u16,
    #[schema(example = "Not enough seats are left")]
    title: &'static str,
    explanation: &'static str,
}

/// What an error code means
///
/// The `type` of every problem leads here. HTML for those who ask for it, else JSON.
#[utoipa::path(get, path = "/problems/{code}", tag = "Operations", operation_id = "explain_problem",
    params(("code" = String, Path, description = "The `code` of the problem", example = "sold-out")),
    responses((status = OK, description = "The explanation", content(
        (ProblemPage = "application/json"), (String = "text/html")))))]
async fn problem(Path(slug): Path<String>, headers: HeaderMap) -> ApiResult<Response> {
    let code = Code::ALL
        .iter()
        .find(|code| code.slug() == slug)
        .ok_or_else(|| ApiError::new(Code::NotFound, "There is no such code."))?;
    let vary = (header::VARY, "accept");
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    if !accepted.contains("text/html") {
        let page = ProblemPage {
            code: code.slug(),
            status: code.status(),
            title: code.title(),
            explanation: code.explanation(),
        };
        return Ok(([vary], Json(page)).into_response());
    }
    let (slug, status, title) = (code.slug(), code.status(), code.title());
    let body = format!(
        "<main class=\"lone\"><p class=\"crumb\"><a href=\"/docs#errors\">Evently API</a> / errors</p>\
         <h1>{}</h1><p><span class=\"status s{}\">{status}</span> <code>{slug}</code></p><p class=\"lead\">{}</p></main>",
        html::escape(title),
        status / 100,
        html::marked(code.explanation()),
    );
    Ok(([vary, html::POLICY], Html(html::page(&format!("{title} · Evently API"), &body))).into_response())
}
