//! The document is whole: valid, complete, and true to what is routed.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::Value;

use crate::support::app::TestApp;

/// The routes of the contract's tables, with what they must take.
const CONTRACT: &[(&str, &str, &[&str])] = &[
    ("post", "/v1/auth/register", &[]),
    ("post", "/v1/auth/verify-email", &[]),
    ("post", "/v1/auth/verify-email/resend", &[]),
    ("post", "/v1/auth/login", &[]),
    ("post", "/v1/auth/refresh", &[]),
    ("post", "/v1/auth/logout", &[]),
    ("get", "/v1/auth/sessions", &[]),
    ("delete", "/v1/auth/sessions/{}", &[]),
    ("post", "/v1/auth/password/forgot", &[]),
    ("post", "/v1/auth/password/reset", &[]),
    ("get", "/v1/me", &[]),
    ("patch", "/v1/me", &[]),
    ("delete", "/v1/me", &[]),
    ("get", "/v1/me/export", &[]),
    ("get", "/.well-known/jwks.json", &[]),
    ("post", "/v1/auth/introspect", &[]),
    ("get", "/v1/admin/users", &[]),
    ("put", "/v1/admin/users/{}/role", &[]),
    ("post", "/v1/admin/users/{}/deactivate", &[]),
    ("post", "/v1/admin/users/{}/activate", &[]),
    ("get", "/v1/admin/users/{}/sessions", &[]),
    ("delete", "/v1/admin/users/{}/sessions", &[]),
    ("get", "/v1/events", &[]),
    ("get", "/v1/events/popular", &[]),
    ("get", "/v1/events/suggestions", &[]),
    ("get", "/v1/events/{}", &[]),
    ("get", "/v1/events/{}/availability", &[]),
    ("get", "/v1/events/{}/seats", &[]),
    ("get", "/v1/events/{}/stream", &[]),
    ("get", "/v1/venues", &[]),
    ("get", "/v1/venues/{}", &[]),
    ("post", "/v1/admin/events", &["Idempotency-Key"]),
    ("put", "/v1/admin/events/{}", &["If-Match"]),
    ("delete", "/v1/admin/events/{}", &["If-Match"]),
    ("post", "/v1/admin/events/{}/publish", &[]),
    ("post", "/v1/admin/events/{}/cancel", &[]),
    ("post", "/v1/admin/events/{}/ticket_types", &[]),
    ("put", "/v1/admin/events/{}/ticket_types/{}", &["If-Match"]),
    ("delete", "/v1/admin/events/{}/ticket_types/{}", &["If-Match"]),
    ("post", "/v1/admin/venues", &[]),
    ("put", "/v1/admin/venues/{}", &["If-Match"]),
    ("put", "/v1/admin/venues/{}/seat_map", &["If-Match"]),
    ("post", "/v1/events/{}/holds", &["Idempotency-Key"]),
    ("get", "/v1/events/{}/holds/{}", &[]),
    ("delete", "/v1/events/{}/holds/{}", &[]),
    ("post", "/v1/events/{}/holds/{}/confirm", &["Prefer"]),
    ("get", "/v1/bookings", &[]),
    ("get", "/v1/bookings/{}", &[]),
    ("post", "/v1/bookings/{}/cancel", &["Idempotency-Key"]),
    ("get", "/v1/admin/bookings", &[]),
    ("get", "/v1/admin/bookings/{}", &[]),
    ("get", "/v1/bookings/{}/tickets/{}/qr.svg", &[]),
    ("get", "/v1/bookings/{}/tickets/{}/qr.png", &[]),
    ("get", "/v1/bookings/{}/calendar.ics", &[]),
    ("post", "/v1/events/{}/checkins", &[]),
    ("post", "/v1/events/{}/waitlist", &[]),
    ("get", "/v1/events/{}/waitlist/me", &[]),
    ("delete", "/v1/events/{}/waitlist/me", &[]),
    ("get", "/v1/offers/{}", &[]),
    ("post", "/v1/offers/{}/claim", &[]),
    ("post", "/v1/offers/{}/decline", &[]),
    ("get", "/v1/admin/events/{}/waitlist", &[]),
    ("post", "/v1/admin/events/{}/waitlist/{}/offer", &[]),
    ("post", "/v1/admin/events/{}/waitlist/{}/move", &[]),
    ("get", "/v1/admin/analytics", &[]),
    ("get", "/v1/admin/analytics/daily", &[]),
    ("get", "/v1/admin/analytics/export.csv", &[]),
    ("get", "/v1/admin/analytics/events/{}", &[]),
    ("get", "/v1/admin/analytics/events/{}/daily", &[]),
    ("get", "/v1/admin/analytics/events/{}/export.csv", &[]),
    ("get", "/v1/admin/events/capacity_utilization", &[]),
    ("get", "/v1/admin/events/capacity_utilization/export.csv", &[]),
    ("get", "/v1/admin/events/{}/pricing", &[]),
    ("put", "/v1/admin/events/{}/pricing", &["If-Match"]),
    ("get", "/v1/admin/events/{}/price_history", &[]),
    ("post", "/v1/admin/events/{}/pricing/simulate", &[]),
    ("get", "/v1/ops/queues", &[]),
    ("get", "/v1/ops/queues/{}/jobs", &[]),
    ("post", "/v1/ops/queues/{}/pause", &[]),
    ("post", "/v1/ops/queues/{}/resume", &[]),
    ("post", "/v1/ops/queues/{}/retry", &[]),
    ("get", "/v1/ops/jobs/{}", &[]),
    ("post", "/v1/ops/jobs/{}/retry", &[]),
    ("post", "/v1/ops/jobs/{}/discard", &[]),
    ("get", "/v1/ops/schedules", &[]),
    ("post", "/v1/ops/schedules/{}/run", &[]),
    ("get", "/livez", &[]),
    ("get", "/readyz", &[]),
    ("get", "/info", &[]),
    ("get", "/openapi.json", &[]),
    ("get", "/docs", &[]),
];

/// Every operation: method, path and what is said of it.
fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let each = paths.iter().flat_map(|(path, item)| {
        item.as_object().unwrap().iter().map(move |(method, it)| (method.clone(), path.clone(), it))
    });
    each.collect()
}

/// A path with every parameter replaced.
fn filled(path: &str, with: &str) -> String {
    let parts = path.split('/').map(|part| match part.split_once('{') {
        Some((before, rest)) => format!("{before}{with}{}", rest.split_once('}').unwrap().1),
        None => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Whether a template's parameters can stand for parts of a path.
fn covers(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len() && template.iter().zip(path).all(|(t, p)| t.starts_with('{') || *t == p)
}

/// Whether the router knows this method of this path.
async fn is_routed(app: &TestApp, method: &str, path: &str) -> bool {
    let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
    let path = filled(path, "01932f0c-5f6e-7b3a-9d2c-3f1a2b4c5d6e");
    let answer = app.call(method, &path).await;
    answer.status != 405 && !answer.text().contains("There is no such route.")
}

#[tokio::test]
async fn it_is_served_once_rendered_and_revalidated() {
    let app = TestApp::start().await;
    let first = app.get("/openapi.json").await;
    assert_eq!(first.header("content-type"), Some("application/json"));
    let again = app.get("/openapi.json").header("if-none-match", first.etag()).await;
    assert_eq!((again.status, again.bytes.len()), (304, 0));
}

#[tokio::test]
async fn what_is_documented_is_routed() {
    let app = TestApp::start().await;
    let document = app.get("/openapi.json").await.expect(200);
    for (method, path, _) in operations(&document) {
        if !path.ends_with("/stream") {
            assert!(is_routed(&app, &method, &path).await, "{method} {path} is documented and not routed");
        }
    }
}

#[tokio::test]
async fn what_the_contract_names_and_is_routed_is_documented() {
    let app = TestApp::start().await;
    let document = app.get("/openapi.json").await.expect(200);
    let documented = operations(&document);
    for (method, path, headers) in CONTRACT {
        let it = documented.iter().find(|(m, p, _)| m == method && filled(p, "{}") == *path);
        let Some((.., it)) = it else {
            // `/events/{id}` answers for `/events/suggestions` while that is not there.
            let is_anothers = documented.iter().any(|(m, p, _)| m == method && covers(p, path));
            if !is_anothers && !path.ends_with("/stream") {
                let routed = is_routed(&app, method, path).await;
                assert!(!routed, "{method} {path} is routed and not documented");
            }
            continue;
        };
        for header in *headers {
            let named =
                it["parameters"].as_array().unwrap().iter().any(|parameter| {
                    parameter["in"] == "header" && parameter["name"].as_str() == Some(header)
                });
            assert!(named, "{method} {path} does not document {header}");
        }
    }
}

#[tokio::test]
async fn it_is_sound() {
    let app = TestApp::start().await;
    let document = app.get("/openapi.json").await.expect(200);
    assert_eq!(document["openapi"], "3.1.0");
    let tags: BTreeSet<_> =
        document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    let mut ids = BTreeSet::new();
    for (method, path, it) in operations(&document) {
        let at = format!("{method} {path}");
        assert!(ids.insert(it["operationId"].as_str().expect(&at)), "{at}: its id is another's too");
        assert!(tags.contains(it["tags"][0].as_str().expect(&at)), "{at}: {} is no known tag", it["tags"]);
        assert!(it["summary"].as_str().is_some_and(|text| !text.is_empty()), "{at} has no summary");
        let responses = it["responses"].as_object().expect(&at);
        assert!(responses.keys().any(|status| status.starts_with(['2', '3'])), "{at} never succeeds");
        assert!(responses.contains_key("500") && responses.contains_key("503"), "{at}");
        let named = |place: &str| -> BTreeSet<_> {
            let all = it["parameters"].as_array().into_iter().flatten().filter(|p| p["in"] == place);
            all.map(|p| p["name"].as_str().unwrap().to_owned()).collect()
        };
        let template: BTreeSet<_> =
            path.split('{').skip(1).map(|rest| rest.split_once('}').unwrap().0.to_owned()).collect();
        assert_eq!(named("path"), template, "{at}");
        for slug in it["x-problems"].as_array().unwrap() {
            assert!(api::error::Code::ALL.iter().any(|code| slug == code.slug()), "{at}: no code {slug}");
        }
        if it.get("security").is_some() {
            assert!(responses.contains_key("401"), "{at}");
        }
        if it.get("requestBody").is_some() {
            for status in ["400", "408", "413", "415", "422"] {
                assert!(responses.contains_key(status), "{at} lacks {status}");
            }
        }
    }
    let mut broken = Vec::new();
    find_broken(&document, &document, &mut broken);
    assert!(broken.is_empty(), "{broken:?}");
}

fn find_broken(document: &Value, it: &Value, broken: &mut Vec<String>) {
    match it {
        Value::Object(members) => {
            if let Some(target) = members.get("$ref").and_then(Value::as_str) {
                let found = target.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
                if found.is_none() {
                    broken.push(target.to_owned());
                }
            }
            members.values().for_each(|member| find_broken(document, member, broken));
        }
        Value::Array(all) => all.iter().for_each(|one| find_broken(document, one, broken)),
        _ => {}
    }
}
