//! The OpenAPI document: what routes say of themselves, and what holds for all of them, added once at start.
//!
//! A route annotates what is special to it: parameters, body, successes, `security(("bearer" = []))` where it takes
//! a token, `params(IdempotencyKey)` or `params(IfMatch)` where it takes those, `headers(("ETag" = String))` where
//! a success has one, and its own codes as `extensions(("x-problems" = json!(["sold-out"])))`. The errors and
//! headers that follow from its shape are derived here, so that no route can forget one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use crate::{
    error::{Code, FieldError, Problem},
    router,
};

/// What every route's tag is about, in the order of the page.
const TAGS: [(&str, &str); 11] = [
    ("Accounts", "Registration, sessions and tokens, and the account itself."),
    ("Events", "What is on, what it costs, and how much is left of it."),
    ("Holds", "Seats set aside for minutes, and their confirmation."),
    ("Bookings", "What was bought: tickets, calendar entries, cancellation."),
    ("Waitlist", "A place in the queue for what is sold out, and the offers that come of it."),
    ("Check-in", "Tickets at the door."),
    ("Admin: events", "For organizers and admins: events, ticket types, venues."),
    ("Admin: bookings", "For organizers and admins: what was sold, and its payments."),
    ("Admin: accounts", "For admins: accounts, roles, sessions."),
    ("Admin: insight", "For organizers and admins: numbers, prices, the audit log."),
    ("Operations", "For those who run Evently: health, builds, queues, and this documentation."),
];

const DESCRIPTION: &str = "\
Evently sells tickets when far more people want them than there are seats.

A booking takes two calls: `POST /v1/events/{id}/holds` sets seats aside for some minutes, and `POST …/confirm` pays \
and books them. What is acknowledged with 201 is durable; what is answered 202 ends as confirmed or failed.

**Errors** are `application/problem+json` (RFC 9457). Programs branch on `code`; `trace_id` finds the request in the \
logs; `errors` points at fields. Each code has a page at its `type`.

**Repeating.** Routes with an `Idempotency-Key` may be repeated with the same key and body for 24 hours and give the \
first answer, marked `Idempotency-Replayed: true`.

**Changing.** Admin objects carry an `ETag`; writes name it in `If-Match`, so that nobody's change is lost.

**Lists** take `limit` and `cursor` and answer `next_cursor` and `Link: rel=\"next\"`.

**Tracing.** A W3C `traceparent` is carried through the job to the e-mail.";

/// The methods of each route that takes no parameter in its query.
static WITHOUT_QUERY: LazyLock<BTreeMap<&str, Vec<String>>> = LazyLock::new(|| {
    let paths = DOCUMENT["paths"].as_object().into_iter().flatten();
    let without = |item: &Value| {
        let operations = item.as_object().into_iter().flatten();
        let plain = operations.filter(|(_, it)| it.as_object().is_some_and(|it| !takes(it, "query", "")));
        plain.map(|(method, _)| method.to_ascii_uppercase()).collect()
    };
    paths
        .filter(|(path, _)| path.starts_with("/v1/"))
        .map(|(path, item)| (path.as_str(), without(item)))
        .collect()
});

/// Whether every parameter in a query is unknown to this route. Routes that take some refuse the others themselves.
pub fn takes_no_query(method: &str, route: &str) -> bool {
    let method = if method == "HEAD" { "GET" } else { method };
    WITHOUT_QUERY.get(route).is_some_and(|methods| methods.iter().any(|one| one == method))
}

/// The finished document. Built at first use, the same for the life of the process.
pub static DOCUMENT: LazyLock<Value> = LazyLock::new(build);

#[derive(OpenApi)]
#[openapi(components(schemas(Problem, FieldError)))]
struct Shared;

fn build() -> Value {
    let mut parts = Shared::openapi();
    parts.merge(router::routes().into_openapi());
    // The parts are maps with string keys and plain values: they always serialise.
    let mut document = serde_json::to_value(parts).expect("a document is JSON");
    let mut used = BTreeSet::new();
    for (path, item) in document["paths"].as_object_mut().into_iter().flatten() {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            if let Some(operation) = operation.as_object_mut() {
                complete(path, method, operation);
                let tags = operation.get("tags").and_then(Value::as_array).into_iter().flatten();
                used.extend(tags.filter_map(Value::as_str).map(str::to_owned));
            }
        }
    }
    document["info"] = json!({
        "title": "Evently",
        "version": env!("CARGO_PKG_VERSION"),
        "summary": "Tickets, when far more people want them than there are seats",
        "description": DESCRIPTION,
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    });
    document["servers"] = json!([{"url": "/", "description": "The server that this document came from"}]);
    document["tags"] = TAGS
        .iter()
        .filter(|(name, _)| used.contains(*name))
        .map(|(name, about)| json!({"name": name, "description": about}))
        .collect();
    document["components"]["securitySchemes"] = json!({"bearer": {
        "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
        "description": "The `access_token` of `POST /v1/auth/login`: signed with Ed25519, good for 15 minutes.",
    }});
    document["components"]["parameters"] = json!({
        "traceparent": {
            "name": "traceparent", "in": "header", "required": false, "schema": {"type": "string"},
            "description": "W3C trace context, carried through the job to the e-mail.",
            "example": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        },
        "IfNoneMatch": {
            "name": "If-None-Match", "in": "header", "required": false, "schema": {"type": "string"},
            "description": "The ETag that the client has: 304 if it is still the one.", "example": "\"v7\"",
        },
    });
    document["components"]["headers"] = json!({
        "RetryAfter": header("integer", "Seconds to wait before the request is repeated."),
        "WwwAuthenticate": header("string", "The scheme that is asked for, and what is wrong with the token."),
        "RateLimit": header("string", "What is left of the limit, and in how many seconds it is whole again."),
        "RateLimitPolicy": header("string", "The limit: how many requests in how many seconds."),
        "IdempotencyReplayed": header("string", "`true` when this is the first answer again."),
    });
    document
}

fn header(kind: &str, description: &str) -> Value {
    json!({"description": description, "schema": {"type": kind}})
}

/// Adds what follows from an operation's shape: parameters, headers and every error it can give.
fn complete(path: &str, method: &str, operation: &mut Map<String, Value>) {
    if operation.get("description").is_some_and(|description| description == "") {
        operation.remove("description");
    }
    let has_tag = method == "get" && operation["responses"]["200"]["headers"].get("ETag").is_some();
    let with_key = takes(operation, "header", "Idempotency-Key");
    let codes = codes(path, method, operation);
    operation.insert("x-problems".to_owned(), codes.iter().map(|code| json!(code.slug())).collect());

    let mut added = Vec::new();
    if has_tag && !takes(operation, "header", "If-None-Match") {
        added.push(json!({"$ref": "#/components/parameters/IfNoneMatch"}));
    }
    if path.starts_with("/v1/") && !takes(operation, "header", "traceparent") {
        added.push(json!({"$ref": "#/components/parameters/traceparent"}));
    }
    if !added.is_empty() {
        let list = operation.entry("parameters").or_insert_with(|| json!([]));
        list.as_array_mut().into_iter().for_each(|list| list.append(&mut added));
    }

    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else { return };
    if has_tag {
        responses
            .entry("304")
            .or_insert_with(|| json!({"description": "The client's copy is still the one"}));
    }
    if with_key {
        for (_, response) in responses.iter_mut().filter(|(status, _)| status.starts_with('2')) {
            response["headers"]["Idempotency-Replayed"] =
                json!({"$ref": "#/components/headers/IdempotencyReplayed"});
        }
    }
    add_problems(responses, codes);
}

/// Whether an operation has such a parameter; an empty name stands for any.
fn takes(operation: &Map<String, Value>, place: &str, name: &str) -> bool {
    let parameters = operation.get("parameters").and_then(Value::as_array).into_iter().flatten();
    parameters.filter(|parameter| parameter["in"] == place).any(|parameter| {
        name.is_empty()
            || parameter["name"].as_str().is_some_and(|present| present.eq_ignore_ascii_case(name))
    })
}

/// Whether an operation cannot do without this header.
fn requires(operation: &Map<String, Value>, name: &str) -> bool {
    let parameters = operation.get("parameters").and_then(Value::as_array).into_iter().flatten();
    parameters.filter(|parameter| parameter["name"] == name).any(|parameter| parameter["required"] == true)
}

/// Every code that the operation can answer with: its own, and those of what it takes.
fn codes(path: &str, method: &str, operation: &Map<String, Value>) -> BTreeSet<Code> {
    let mut codes = BTreeSet::from([Code::Internal, Code::Unavailable]);
    for slug in operation.get("x-problems").and_then(Value::as_array).into_iter().flatten() {
        codes.extend(Code::ALL.iter().filter(|code| slug == code.slug()));
    }
    // Where nothing is asked for, an empty object may be sent, and nothing else.
    if operation.contains_key("requestBody") || method == "post" {
        codes.extend([Code::MalformedJson, Code::RequestTimeout, Code::TooLarge]);
        codes.extend([Code::UnsupportedMediaType, Code::ValidationFailed]);
    }
    let in_path = takes(operation, "path", "");
    if in_path {
        codes.insert(Code::NotFound);
    }
    if in_path || takes(operation, "query", "") || path.starts_with("/v1/") {
        codes.insert(Code::InvalidParameter);
    }
    if operation.contains_key("security") {
        codes.extend([Code::Unauthenticated, Code::TokenExpired]);
        if path.starts_with("/v1/admin/") || path.starts_with("/v1/ops/") {
            codes.insert(Code::Forbidden);
        }
    }
    if takes(operation, "header", "Idempotency-Key") {
        codes.extend([Code::IdempotencyKeyInvalid, Code::IdempotencyKeyReused, Code::IdempotencyInProgress]);
    }
    if takes(operation, "header", "If-Match") {
        codes.insert(Code::PreconditionFailed);
        if requires(operation, "If-Match") {
            codes.insert(Code::PreconditionRequired);
        }
    }
    if path.starts_with("/v1/") {
        codes.insert(Code::RateLimited);
    }
    codes
}

/// A response for each status of the codes. What the route itself says of a status stays, and is made complete.
fn add_problems(responses: &mut Map<String, Value>, codes: BTreeSet<Code>) {
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in codes {
        by_status.entry(code.status()).or_default().push(code);
    }
    for (status, codes) in by_status {
        let described = problem_response(status, &codes);
        let response = responses.entry(status.to_string()).or_insert_with(|| described.clone());
        let examples = described["content"]["application/problem+json"].clone();
        response["content"]["application/problem+json"] = examples;
        for (name, header) in described["headers"].as_object().into_iter().flatten() {
            response["headers"][name] = header.clone();
        }
    }
    let problem = json!({"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}});
    let any = json!({"description": "Any other error: also a problem", "content": problem});
    responses.entry("default").or_insert(any);
}

/// One status with every code it may carry, each with an example.
fn problem_response(status: u16, codes: &[Code]) -> Value {
    let examples: Map<String, Value> = codes
        .iter()
        .map(|code| {
            let value = json!({
                "type": format!("/problems/{}", code.slug()),
                "title": code.title(),
                "status": status,
                "detail": code.explanation(),
                "code": code.slug(),
                "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
            });
            (code.slug().to_owned(), json!({"summary": code.title(), "value": value}))
        })
        .collect();
    let named: Vec<_> = codes.iter().map(|code| format!("`{}`", code.slug())).collect();
    let mut headers = Map::new();
    let mut refer = |name: &str, component: &str| {
        headers.insert(name.to_owned(), json!({"$ref": format!("#/components/headers/{component}")}));
    };
    match status {
        401 => refer("WWW-Authenticate", "WwwAuthenticate"),
        503 => refer("Retry-After", "RetryAfter"),
        429 => {
            refer("Retry-After", "RetryAfter");
            refer("RateLimit", "RateLimit");
            refer("RateLimit-Policy", "RateLimitPolicy");
        }
        409 if codes.contains(&Code::IdempotencyInProgress) => refer("Retry-After", "RetryAfter"),
        _ => {}
    }
    json!({
        "description": named.join(", "),
        "headers": headers,
        "content": {"application/problem+json": {
            "schema": {"$ref": "#/components/schemas/Problem"},
            "examples": examples,
        }},
    })
}
