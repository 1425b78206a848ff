//! The metrics of requests, with their handles kept: the facade would build a key of strings at every call.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use axum::http::Method;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// The method as a label. Whatever a client makes up is one label, so that it cannot grow the metrics.
pub(super) fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

/// `evently_http_requests_total`, `evently_http_request_duration_seconds` and `evently_http_in_flight`.
pub(super) struct Numbers {
    pub(super) in_flight: Gauge,
    routes: RwLock<HashMap<String, Route>>,
}

/// A route's handles: by method, and by method and status.
#[derive(Default)]
struct Route {
    durations: HashMap<&'static str, Histogram>,
    requests: HashMap<(&'static str, u16), Counter>,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { in_flight: gauge!("evently_http_in_flight"), routes: RwLock::default() }
    }
}

impl Numbers {
    /// Counts one answered request. `route` is a pattern out of the router, never a path that a client wrote.
    pub(super) fn record(&self, method: &'static str, route: &str, status: u16, elapsed: Duration) {
        // A panic cannot leave the map half changed: each entry is inserted whole.
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = routes.get(route)
            && let (Some(duration), Some(requests)) =
                (kept.durations.get(method), kept.requests.get(&(method, status)))
        {
            duration.record(elapsed);
            requests.increment(1);
            return;
        }
        drop(routes);
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let kept = routes.entry(route.to_owned()).or_default();
        kept.durations
            .entry(method)
            .or_insert_with(|| {
                histogram!("evently_http_request_duration_seconds",
                    "method" => method, "route" => route.to_owned())
            })
            .record(elapsed);
        kept.requests
            .entry((method, status))
            .or_insert_with(|| {
                counter!("evently_http_requests_total",
                    "method" => method, "route" => route.to_owned(), "status" => status.to_string())
            })
            .increment(1);
    }
}
