//! Captured mail, to look at: where there is no SMTP server, mails are files, and `/dev/mail` shows them.

use std::{
    io,
    path::{Path as FilePath, PathBuf},
    sync::Arc,
};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
    response::{Html, IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use mail_parser::{Message, MessageParser, MimeHeaders};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::docs::html;
use crate::{
    App, AppState,
    error::{ApiError, ApiResult, Code},
    extract::Path,
};

/// How many mails the list shows, newest first.
const SHOWN: usize = 200;

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(captured_mails))
        .routes(routes!(captured_mail))
        .routes(routes!(captured_mail_html))
        .routes(routes!(captured_mail_raw))
}

/// A captured mail, as the list shows it.
#[derive(Serialize, ToSchema)]
struct CapturedMail {
    /// The name of its file, without `.eml`.
    #[schema(example = "20261120T180000123Z-0199c0de-0000-7000-8000-000000000001")]
    name: String,
    /// When it became due.
    date: String,
    to: String,
    subject: String,
}

#[derive(Serialize, ToSchema)]
struct CapturedMails {
    data: Vec<CapturedMail>,
}

/// A captured mail, whole.
#[derive(Serialize, ToSchema)]
struct CapturedMailContent {
    #[serde(flatten)]
    mail: CapturedMail,
    from: String,
    message_id: String,
    text: String,
    html: String,
    attachments: Vec<CapturedAttachment>,
}

#[derive(Serialize, ToSchema)]
struct CapturedAttachment {
    name: String,
    media_type: String,
    bytes: usize,
}

/// The newest captured mails
///
/// For development: 404 where mail goes to an SMTP server. HTML for those who ask for it, else JSON.
#[utoipa::path(get, path = "/dev/mail", tag = "Operations", operation_id = "listCapturedMails",
    responses((status = OK, description = "Newest first", content(
        (CapturedMails = "application/json"), (String = "text/html")))),
    extensions(("x-problems" = json!(["not-found"]))))]
async fn captured_mails(State(app): AppState, headers: HeaderMap) -> ApiResult<Response> {
    let directory = directory(&app)?.to_owned();
    let data = off_thread(move || list(&directory)).await?;
    if !wants_html(&headers) {
        return Ok(Json(CapturedMails { data }).into_response());
    }
    let rows = data.iter().map(|mail| {
        format!(
            "<tr><td>{}</td><td>{}</td><td><a href=\"/dev/mail/{}\">{}</a></td></tr>",
            html::escape(&mail.date),
            html::escape(&mail.to),
            html::escape(&mail.name),
            html::escape(&mail.subject)
        )
    });
    let rows = if data.is_empty() {
        "<tr><td colspan=\"3\">No mail yet.</td></tr>".to_owned()
    } else {
        rows.collect()
    };
    let body = format!(
        "<main class=\"lone\"><h1>Captured mail</h1><p class=\"lead\">Without SMTP_URL, Evently sends no mail: it keeps it here.</p>\
         <table><thead><tr><th>Date</th><th>To</th><th>Subject</th></tr></thead><tbody>{rows}</tbody></table></main>"
    );
    Ok(page("Captured mail", &body, html::POLICY.1))
}

/// One captured mail
///
/// HTML for those who ask for it, else JSON.
#[utoipa::path(get, path = "/dev/mail/{name}", tag = "Operations", operation_id = "getCapturedMail",
    params(("name" = String, Path, description = "The `name` of the mail in the list")),
    responses((status = OK, description = "The mail", content(
        (CapturedMailContent = "application/json"), (String = "text/html")))))]
async fn captured_mail(
    State(app): AppState,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let raw = read(&app, name.clone()).await?;
    let content = content(name, &parse(&raw)?);
    if !wants_html(&headers) {
        return Ok(Json(content).into_response());
    }
    let name = html::escape(&content.mail.name);
    let attachments = content.attachments.iter().map(|attachment| {
        let CapturedAttachment { name, media_type, bytes } = attachment;
        format!("<li>{} ({}, {bytes} bytes)</li>", html::escape(name), html::escape(media_type))
    });
    let body = format!(
        "<main class=\"lone\"><p class=\"crumb\"><a href=\"/dev/mail\">Captured mail</a></p><h1>{}</h1>\
         <p>From {}<br>To {}<br>{}</p><p><a href=\"/dev/mail/{name}/html\">Only the HTML</a> · \
         <a href=\"/dev/mail/{name}/raw\">Source</a></p>\
         <iframe src=\"/dev/mail/{name}/html\" title=\"The mail\" sandbox width=\"100%\" height=\"800\"></iframe>\
         <h2>Attachments</h2><ul>{}</ul><h2>Plain text</h2><pre>{}</pre></main>",
        html::escape(&content.mail.subject),
        html::escape(&content.from),
        html::escape(&content.mail.to),
        html::escape(&content.mail.date),
        attachments.collect::<String>(),
        html::escape(&content.text),
    );
    Ok(page(&content.mail.subject, &body, &format!("{}; frame-src 'self'", html::POLICY.1)))
}

/// The HTML of a captured mail, with its images
#[utoipa::path(get, path = "/dev/mail/{name}/html", tag = "Operations", operation_id = "getCapturedMailHtml",
    params(("name" = String, Path, description = "The `name` of the mail in the list")),
    responses((status = OK, description = "As a mail client shows it", body = String, content_type = "text/html")))]
async fn captured_mail_html(State(app): AppState, Path(name): Path<String>) -> ApiResult<Response> {
    let raw = read(&app, name).await?;
    let mail = parse(&raw)?;
    let mut html = mail.body_html(0).unwrap_or_default().into_owned();
    for part in &mail.parts {
        if let (Some(id), Some(media_type)) = (part.content_id(), part.content_type()) {
            let media_type = format!("{}/{}", media_type.ctype(), media_type.subtype().unwrap_or_default());
            let data = format!("data:{media_type};base64,{}", STANDARD.encode(part.contents()));
            html = html.replace(&format!("cid:{id}"), &data);
        }
    }
    let policy =
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox; frame-ancestors 'self'";
    Ok(([(header::CONTENT_SECURITY_POLICY, policy)], Html(html)).into_response())
}

/// A captured mail as it would travel
#[utoipa::path(get, path = "/dev/mail/{name}/raw", tag = "Operations", operation_id = "getCapturedMailSource",
    params(("name" = String, Path, description = "The `name` of the mail in the list")),
    responses((status = OK, description = "RFC 5322", body = String, content_type = "text/plain")))]
async fn captured_mail_raw(State(app): AppState, Path(name): Path<String>) -> ApiResult<Response> {
    let raw = read(&app, name).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], raw).into_response())
}

fn directory(app: &App) -> ApiResult<&FilePath> {
    let gone = || ApiError::new(Code::NotFound, "Mail is not captured here: it goes to an SMTP server.");
    app.config.captured_mail.as_deref().ok_or_else(gone)
}

fn wants_html(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

fn page(title: &str, body: &str, policy: &str) -> Response {
    let headers = [(header::CONTENT_SECURITY_POLICY, policy), (header::VARY, "accept")];
    (headers, Html(html::page(title, body))).into_response()
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> ApiResult<T> {
    let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            return ApiError::new(Code::NotFound, "There is no such mail.");
        }
        tracing::error!(%error, "captured mail cannot be read");
        ApiError::from(Code::Internal)
    })
}

fn list(directory: &FilePath) -> io::Result<Vec<CapturedMail>> {
    let entries = match std::fs::read_dir(directory) {
        // Nothing has been sent yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    // Names begin with the time. Those that begin with a dot are being written.
    let mut names = names
        .filter_map(|name| name.strip_suffix(".eml").filter(|name| is_name(name)).map(str::to_owned))
        .collect::<Vec<_>>();
    names.sort_unstable_by(|a, b| b.cmp(a));
    names.truncate(SHOWN);
    Ok(names
        .into_iter()
        .filter_map(|name| {
            let raw = std::fs::read(directory.join(format!("{name}.eml"))).ok()?;
            Some(summary(name, &MessageParser::default().parse_headers(&raw)?))
        })
        .collect())
}

/// Whether this can be the name of a mail: nothing that leads to another directory or a hidden file.
fn is_name(name: &str) -> bool {
    !name.starts_with('.') && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
}

async fn read(app: &App, name: String) -> ApiResult<Vec<u8>> {
    let directory = directory(app)?;
    if !is_name(&name) {
        return Err(ApiError::new(Code::NotFound, "There is no such mail."));
    }
    let file: PathBuf = directory.join(format!("{name}.eml"));
    off_thread(move || std::fs::read(file)).await
}

fn parse(raw: &[u8]) -> ApiResult<Message<'_>> {
    MessageParser::default().parse(raw).ok_or_else(|| ApiError::new(Code::NotFound, "There is no such mail."))
}

fn summary(name: String, mail: &Message<'_>) -> CapturedMail {
    let to = mail.to().and_then(|to| to.first()).and_then(|to| to.address()).unwrap_or_default();
    CapturedMail {
        name,
        date: mail.date().map(mail_parser::DateTime::to_rfc3339).unwrap_or_default(),
        to: to.to_owned(),
        subject: mail.subject().unwrap_or_default().to_owned(),
    }
}

fn content(name: String, mail: &Message<'_>) -> CapturedMailContent {
    let from = mail.from().and_then(|from| from.first()).and_then(|from| from.address()).unwrap_or_default();
    let attachments = mail.attachments().map(|part| CapturedAttachment {
        name: part.attachment_name().unwrap_or_default().to_owned(),
        media_type: part.content_type().map_or_else(String::new, |media_type| {
            format!("{}/{}", media_type.ctype(), media_type.subtype().unwrap_or_default())
        }),
        bytes: part.contents().len(),
    });
    CapturedMailContent {
        mail: summary(name, mail),
        from: from.to_owned(),
        message_id: mail.message_id().unwrap_or_default().to_owned(),
        text: mail.body_text(0).unwrap_or_default().into_owned(),
        html: mail.body_html(0).unwrap_or_default().into_owned(),
        attachments: attachments.collect(),
    }
}
