//! What every request passes through: its trace, its span, its numbers, its limits and its last resort.
//!
//! One layer does it all, because the hot path pays for each: a request costs one allocation here, and the
//! handles of its metrics are looked up, not built. Answers that leave early are problems like any other.

use std::{
    any::Any,
    convert::Infallible,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderValue, Uri, Version, header},
    response::{IntoResponse, Response},
};
use domain::trace::{self, TraceContext};
use futures::FutureExt;
use percent_encoding::percent_decode_str;
use tower::{Layer, Service};
use tracing::{Instrument, Span, field::Empty};

use crate::{
    config::HttpConfig,
    error::{ApiError, Code},
    openapi::takes_no_query,
    sparing::Sparing,
};

mod numbers;
mod seats;

use numbers::Numbers;
pub use seats::aside;
use seats::{Seat, Seats};

/// The longest path and query together.
const MAX_URI_BYTES: usize = 8 * 1024;
/// The most that names and values of all headers may add up to.
const MAX_HEADER_BYTES: usize = 32 * 1024;
/// Routes that answer however busy the process is.
const EXEMPT: [&str; 3] = ["/livez", "/readyz", "/info"];

/// The layer, and the gate before it. All clones count together.
#[derive(Clone)]
pub struct Edge(Arc<Shared>);

struct Shared {
    seats: Arc<Seats>,
    numbers: Numbers,
}

impl Edge {
    pub fn new(config: &HttpConfig) -> Self {
        let seats = Arc::new(Seats::new(config.max_in_flight));
        Self(Arc::new(Shared { seats, numbers: Numbers::default() }))
    }

    /// The answer to a request that the process has no room for, given before it is even routed: in a rush there are
    /// more of these than of all others. Health is always let through, and without room nothing else is.
    pub(crate) fn refuse<B>(&self, request: &hyper::Request<B>, without_room: bool) -> Option<Response> {
        if !without_room && !self.0.seats.are_taken() || EXEMPT.contains(&request.uri().path()) {
            return None;
        }
        let began = Instant::now();
        let method = numbers::method(request.method());
        let trace = remote_context(request.headers()).unwrap_or_else(TraceContext::root);
        let mut response = overloaded().answer(trace);
        finish(&mut response, false);
        self.0.numbers.record(method, "refused", response.status().as_u16(), began.elapsed());
        report(method, "refused", &response, began.elapsed());
        Some(response)
    }
}

impl<S> Layer<S> for Edge {
    type Service = EdgeService<S>;

    fn layer(&self, inner: S) -> EdgeService<S> {
        EdgeService { inner, shared: Arc::clone(&self.0) }
    }
}

#[derive(Clone)]
pub struct EdgeService<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Service<Request> for EdgeService<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let began = Instant::now();
        let present = Present::new(Arc::clone(&self.shared));
        let route = request.extensions().get::<MatchedPath>().cloned();
        let method = numbers::method(request.method());
        let remote = remote_context(request.headers());
        let span = span(method, route_of(route.as_ref()));
        let context = trace::enter(&span, remote);
        let with_credentials = request.headers().contains_key(header::AUTHORIZATION);
        let admitted = match check(&request, route.as_ref()) {
            Some(error) => Err(error),
            None => self.seat(route.as_ref()).ok_or_else(overloaded),
        };
        // The inner service makes its future now, but all it does happens when that is polled.
        let admitted = admitted.map(|seat| (seat, self.inner.call(request)));
        let answer = async move {
            let mut response = match admitted {
                Ok((seat, inner)) => seat.scope(answered(inner)).await,
                Err(error) => error.into_response(),
            };
            finish(&mut response, with_credentials);
            let (status, elapsed) = (response.status(), began.elapsed());
            let route = route_of(route.as_ref());
            present.0.numbers.record(method, route, status.as_u16(), elapsed);
            report(method, route, &response, elapsed);
            Ok(response)
        };
        Box::pin(context.scope(answer.instrument(span)))
    }
}

fn route_of(route: Option<&MatchedPath>) -> &str {
    route.map_or("unmatched", MatchedPath::as_str)
}

fn is_exempt(route: Option<&MatchedPath>) -> bool {
    route.is_some_and(|route| EXEMPT.contains(&route.as_str()))
}

impl<S> EdgeService<S> {
    /// The request's seat, unless the process has none for it.
    fn seat(&self, route: Option<&MatchedPath>) -> Option<Seat> {
        if is_exempt(route) { Some(Seat::exempt()) } else { Seat::take(&self.shared.seats) }
    }
}

/// A request that is in flight, whatever it waits for.
struct Present(Arc<Shared>);

impl Present {
    fn new(shared: Arc<Shared>) -> Self {
        shared.numbers.in_flight.increment(1);
        Self(shared)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.numbers.in_flight.decrement(1);
    }
}

/// What a request is told that the process has no room for.
pub(crate) fn overloaded() -> ApiError {
    metrics::counter!("evently_http_shed_total").increment(1);
    ApiError::new(Code::Unavailable, "This server has more requests than it can answer just now.")
}

/// The position that the caller names; a header that is missing, doubled or broken starts a new trace.
fn remote_context(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all("traceparent").iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    value.to_str().ok()?.trim().parse().ok()
}

/// Below `info`: where nothing collects traces it is not even made, and logs take the trace from the context.
fn span(method: &'static str, route: &str) -> Span {
    let span = tracing::debug_span!(
        target: "evently::request",
        "request",
        otel.name = Empty,
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
    );
    if !span.is_disabled() {
        span.record("otel.name", format!("{method} {route}"));
    }
    span
}

/// What no route shall see, because every route would have to look for it.
fn check(request: &Request, route: Option<&MatchedPath>) -> Option<ApiError> {
    let (uri, headers) = (request.uri(), request.headers());
    if uri.path_and_query().is_some_and(|text| text.as_str().len() > MAX_URI_BYTES) {
        return Some(Code::UriTooLong.into());
    }
    let header_bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if header_bytes > MAX_HEADER_BYTES {
        return Some(Code::HeadersTooLarge.into());
    }
    if !names_one_host(request.version(), uri, headers) {
        return Some(ApiError::new(Code::MalformedRequest, "A request needs one Host header."));
    }
    if !is_text(uri.path()) {
        return Some(ApiError::new(
            Code::InvalidParameter,
            "The path is not percent-encoded UTF-8 without U+0000.",
        ));
    }
    let asks = uri.query().is_some_and(|query| !query.is_empty());
    if asks && route.is_some_and(|route| takes_no_query(request.method().as_str(), route.as_str())) {
        return Some(ApiError::new(Code::InvalidParameter, "This route knows no parameters in the query."));
    }
    None
}

fn names_one_host(version: Version, uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => false,
        (Some(_), None) => true,
        (None, None) => version < Version::HTTP_11 || uri.host().is_some(),
    }
}

/// Whether a path decodes to text that can be stored.
fn is_text(path: &str) -> bool {
    if !path.contains('%') {
        return true;
    }
    let escapes_are_whole = path.split('%').skip(1).all(|rest| {
        matches!(rest.as_bytes(), [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
    });
    escapes_are_whole && percent_decode_str(path).decode_utf8().is_ok_and(|text| !text.contains('\0'))
}

/// The route's answer, or a problem in place of its panic.
async fn answered(inner: impl Future<Output = Result<Response, Infallible>>) -> Response {
    match AssertUnwindSafe(inner).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(panic) => {
            tracing::error!(panic = panic_text(&*panic), "a route panicked");
            ApiError::from(Code::Internal).into_response()
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("not a text")
}

/// Headers that every answer carries unless its route has said otherwise.
fn finish(response: &mut Response, with_credentials: bool) {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !headers.contains_key(header::CACHE_CONTROL) {
        // What has a tag may be kept by the client that asked, if it asks again each time.
        let policy = match (headers.contains_key(header::ETAG), with_credentials) {
            (true, true) => "private, no-cache",
            (true, false) => "no-cache",
            (false, _) => "no-store",
        };
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(policy));
    }
}

/// A rush or an outage brings the same line for each request; anything else that is ours is told each time.
static UNAVAILABLE: Sparing = Sparing::new();

/// Writes the outcome to the span and to the log: failures of ours loud, all others for who wants to see them.
fn report(method: &str, route: &str, response: &Response, elapsed: std::time::Duration) {
    let status = response.status().as_u16();
    let span = Span::current();
    if !span.is_disabled() {
        span.record("http.response.status_code", status);
        if status >= 500 {
            span.record("otel.status_code", "ERROR");
        }
    }
    let code = response.extensions().get::<Code>().copied();
    let slug = code.map(Code::slug);
    let unlogged = if code == Some(Code::Unavailable) { UNAVAILABLE.may_write() } else { Some(0) };
    if let (500.., Some(unlogged)) = (status, unlogged) {
        tracing::warn!(target: "evently::request", method, route, status, code = slug, ?elapsed, unlogged, "answered");
    } else {
        tracing::debug!(target: "evently::request", method, route, status, code = slug, ?elapsed, "answered");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_text_or_refused() {
        for path in ["/", "/v1/events/a%20b", "/%C3%A4", "/v1/events?q=%"] {
            assert!(is_text(path.split('?').next().unwrap_or_default()), "{path}");
        }
        for path in ["/%00", "/%", "/%4", "/%zz", "/%ff", "/a%C3/b", "/%C0%80"] {
            assert!(!is_text(path), "{path}");
        }
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_and_a_wrong_method_names_the_right_one() {
        use axum::{Router, body::Body, routing::get};
        use tower::ServiceExt;

        async fn panics() {
            panic!("on purpose");
        }
        let router = Router::new()
            .route("/", get(panics))
            .method_not_allowed_fallback(async || ApiError::from(Code::MethodNotAllowed))
            .layer(Edge::new(&HttpConfig::default()));
        let ask = |method: &str| {
            let request = Request::builder().method(method).header("host", "x").body(Body::empty()).unwrap();
            router.clone().oneshot(request)
        };
        let panicked = ask("GET").await.unwrap();
        assert_eq!(panicked.status(), 500);
        assert_eq!(panicked.headers()[header::CONTENT_TYPE], "application/problem+json");
        let wrong = ask("POST").await.unwrap();
        assert_eq!(
            (wrong.status().as_u16(), &wrong.headers()[header::ALLOW]),
            (405, &"GET,HEAD".parse().unwrap())
        );
    }
}
