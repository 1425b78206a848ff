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
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
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
};

mod numbers;

use numbers::Numbers;

/// The longest path and query together.
const MAX_URI_BYTES: usize = 8 * 1024;
/// The most that names and values of all headers may add up to.
const MAX_HEADER_BYTES: usize = 32 * 1024;
/// Routes that answer however busy the process is.
const EXEMPT: [&str; 3] = ["/livez", "/readyz", "/info"];

/// The layer. All clones count together.
#[derive(Clone)]
pub struct Edge(Arc<Shared>);

struct Shared {
    max_in_flight: usize,
    in_flight: AtomicUsize,
    numbers: Numbers,
}

impl Edge {
    pub fn new(config: &HttpConfig) -> Self {
        let in_flight = AtomicUsize::new(0);
        Self(Arc::new(Shared { max_in_flight: config.max_in_flight, in_flight, numbers: Numbers::default() }))
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
        let seat = Seat::take(&self.shared);
        let route = request.extensions().get::<MatchedPath>().cloned();
        let method = numbers::method(request.method());
        let remote = remote_context(request.headers());
        let span = span(method, route_of(route.as_ref()));
        let context = trace::enter(&span, remote);
        let with_credentials = request.headers().contains_key(header::AUTHORIZATION);
        let refused = check(&request, route.as_ref())
            .or_else(|| (!seat.is_free && !is_exempt(route.as_ref())).then(overloaded));
        // The inner service makes its future now, but all it does happens when that is polled.
        let inner = if refused.is_none() { Some(self.inner.call(request)) } else { None };
        let answer = async move {
            let mut response = match (inner, refused) {
                (Some(inner), _) => answered(inner).await,
                (None, Some(error)) => error.into_response(),
                (None, None) => ApiError::from(Code::Internal).into_response(),
            };
            finish(&mut response, with_credentials);
            let (status, elapsed) = (response.status(), began.elapsed());
            let route = route_of(route.as_ref());
            seat.shared.numbers.record(method, route, status.as_u16(), elapsed);
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

/// A place among the requests in flight, given back when the answer is made or the client gone.
struct Seat {
    shared: Arc<Shared>,
    is_free: bool,
}

impl Seat {
    fn take(shared: &Arc<Shared>) -> Self {
        let before = shared.in_flight.fetch_add(1, Ordering::Relaxed);
        shared.numbers.in_flight.increment(1);
        Self { shared: Arc::clone(shared), is_free: before < shared.max_in_flight }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.shared.numbers.in_flight.decrement(1);
    }
}

fn overloaded() -> ApiError {
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
    let code = response.extensions().get::<Code>().map(|code| code.slug());
    if status >= 500 {
        tracing::warn!(target: "evently::request", method, route, status, code, ?elapsed, "answered");
    } else {
        tracing::debug!(target: "evently::request", method, route, status, code, ?elapsed, "answered");
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
