//! The contract's table of errors, row by row, where no other test has it; and what hostile clients add.

use std::time::Duration;

use domain::accounts::{Role, tokens::Grant};
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::accounts::{access, log_in, register};
use crate::support::{
    app::TestApp,
    events::{TestEvent, ticket_type},
    http::Call,
};

fn basket(event: &TestEvent, quantity: impl Into<Value>) -> Value {
    let quantity = quantity.into();
    json!({"items": [{"ticket_type_id": event.ticket_types[0], "quantity": quantity}]})
}

fn holds(event: &TestEvent) -> String {
    format!("/v1/events/{}/holds", event.id)
}

#[expect(clippy::too_many_lines, reason = "a table")]
#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_table() {
    let app = TestApp::start().await;
    let _workers = app.work();
    let (event, other) = (app.event(5).await, app.event(5).await);
    let (ada, eve, admin) = (app.user("ada").await, app.user("eve").await, app.admin().await);
    let path = holds(&event);
    let place = |body: &Value, key: &str| app.post(&path, body).bearer(&ada.token).key(key);
    let hold = place(&basket(&event, 1), "mine").await.expect(201);
    let mine = format!("{path}/{}", hold["id"].as_str().unwrap());
    let confirm = format!("{mine}/confirm");
    let pay = json!({"payment": {"provider": "sandbox", "token": "tok_ok"}});
    let nobody = Uuid::now_v7();
    let key_of = |bytes: usize| "k".repeat(bytes);
    let raw = |body: &str| {
        let call = app.call(Method::POST, &path).bearer(&ada.token).key("raw");
        call.header("content-type", "application/json").body(body.to_owned())
    };
    let cancel = |id: &str| format!("/v1/bookings/{id}/cancel");
    let booked = hold["id"].as_str().unwrap();

    let cases: Vec<(&str, Call, u16, &str)> = vec![
        ("broken JSON", raw("{"), 400, "malformed-json"),
        ("too deep", raw(&"[".repeat(20_000)), 400, "malformed-json"),
        ("U+0000", raw(r#"{"items":"\u0000"}"#), 422, "validation-failed"),
        ("no body", raw(""), 400, "malformed-json"),
        (
            "media type",
            app.call(Method::POST, &path).bearer(&ada.token).key("k").body("{}"),
            415,
            "unsupported-media-type",
        ),
        ("too large", raw(&" ".repeat(65_537)), 413, "too-large"),
        (
            "bad id",
            app.post("/v1/events/x/holds", &json!({})).bearer(&ada.token).key("k"),
            400,
            "invalid-parameter",
        ),
        ("bad id of a hold", app.get(&format!("{path}/x")).bearer(&ada.token), 400, "invalid-parameter"),
        ("unknown parameter", app.get(&format!("/v1/events/{}?x=1", event.id)), 400, "invalid-parameter"),
        (
            "unknown parameter of a write",
            app.post(&format!("{path}?x=1"), &json!({})).bearer(&ada.token),
            400,
            "invalid-parameter",
        ),
        (
            "unknown parameter of a list",
            app.get("/v1/bookings?x=1").bearer(&ada.token),
            400,
            "invalid-parameter",
        ),
        ("no UTF-8", app.get("/v1/events?q=%ff"), 400, "invalid-parameter"),
        ("no list", app.get("/v1/bookings?limit=0").bearer(&ada.token), 400, "invalid-parameter"),
        ("too long a list", app.get("/v1/bookings?limit=101").bearer(&ada.token), 400, "invalid-parameter"),
        ("no cursor", app.get("/v1/bookings?cursor=x").bearer(&ada.token), 400, "invalid-parameter"),
        ("no token", app.post(&path, &json!({})).key("k"), 401, "unauthenticated"),
        (
            "another scheme",
            app.get("/v1/bookings").header("authorization", "Basic YTpi"),
            401,
            "unauthenticated",
        ),
        ("role", app.get("/v1/admin/bookings").bearer(&ada.token), 403, "forbidden"),
        (
            "unknown event",
            app.post(&format!("/v1/events/{nobody}/holds"), &basket(&event, 1)).bearer(&ada.token).key("k"),
            404,
            "not-found",
        ),
        ("unknown hold", app.get(&format!("{path}/{nobody}")).bearer(&ada.token), 404, "not-found"),
        ("foreign hold", app.get(&mine).bearer(&eve.token), 404, "not-found"),
        ("foreign release", app.delete(&mine).bearer(&eve.token), 404, "not-found"),
        (
            "hold of another event",
            app.get(&mine.replace(&event.id.to_string(), &other.id.to_string())).bearer(&ada.token),
            404,
            "not-found",
        ),
        ("unknown booking", app.get(&format!("/v1/bookings/{nobody}")).bearer(&ada.token), 404, "not-found"),
        (
            "a hold is no booking",
            app.get(&format!("/v1/bookings/{booked}")).bearer(&ada.token),
            404,
            "not-found",
        ),
        ("wrong method", app.delete(&path).bearer(&ada.token), 405, "method-not-allowed"),
        (
            "key missing",
            app.post(&path, &basket(&event, 1)).bearer(&ada.token),
            400,
            "idempotency-key-invalid",
        ),
        ("key empty", place(&basket(&event, 1), "\"\""), 400, "idempotency-key-invalid"),
        ("key too long", place(&basket(&event, 1), &key_of(256)), 400, "idempotency-key-invalid"),
        ("key with a space", place(&basket(&event, 1), "a b"), 400, "idempotency-key-invalid"),
        ("key twice", place(&basket(&event, 1), "a").key("b"), 400, "idempotency-key-invalid"),
        (
            "key missing for a cancellation",
            app.post(&cancel(booked), &json!({})).bearer(&ada.token),
            400,
            "idempotency-key-invalid",
        ),
        ("no seats", place(&basket(&event, 6), "sold-out"), 409, "sold-out"),
        (
            "unknown hold to confirm",
            app.post(&format!("{path}/{nobody}/confirm"), &pay).bearer(&ada.token),
            404,
            "not-found",
        ),
        ("ticket type of another event", place(&basket(&other, 1), "k"), 422, "validation-failed"),
        ("no quantity", place(&basket(&event, 0), "k"), 422, "validation-failed"),
        ("half a ticket", place(&basket(&event, 1.5), "k"), 422, "validation-failed"),
        ("a word", place(&basket(&event, "1"), "k"), 422, "validation-failed"),
        ("too many", place(&basket(&event, 1001), "k"), 422, "validation-failed"),
        ("empty basket", place(&json!({"items": []}), "k"), 422, "validation-failed"),
        (
            "a line twice",
            place(&json!({"items": [basket(&event, 1)["items"][0], basket(&event, 1)["items"][0]]}), "k"),
            422,
            "validation-failed",
        ),
        (
            "unknown field",
            place(&json!({"items": basket(&event, 1)["items"], "price": 1}), "k"),
            422,
            "validation-failed",
        ),
        (
            "priced without payment",
            app.post(&confirm, &json!({})).bearer(&ada.token),
            422,
            "validation-failed",
        ),
        (
            "unknown provider",
            app.post(&confirm, &json!({"payment": {"provider": "x", "token": "t"}})).bearer(&ada.token),
            422,
            "validation-failed",
        ),
        (
            "hold token",
            app.post(&confirm, &json!({"payment": pay["payment"], "hold_token": "x"})).bearer(&ada.token),
            422,
            "hold-token-invalid",
        ),
        ("over the limit", place(&basket(&event, 11), "k"), 422, "limit-exceeded"),
        (
            "no card",
            app.post(&confirm, &json!({"payment": {"provider": "sandbox", "token": "4242"}}))
                .bearer(&ada.token)
                .header("prefer", "wait=30"),
            402,
            "payment-declined",
        ),
        (
            "cancel of what is no booking",
            app.post(&cancel(&nobody.to_string()), &json!({})).bearer(&ada.token).key("c"),
            404,
            "not-found",
        ),
        (
            "cancel of a failed booking",
            app.post(&cancel(booked), &json!({})).bearer(&ada.token).key("c"),
            409,
            "invalid-state",
        ),
        (
            "cancel with a body",
            app.post(&cancel(booked), &json!({"x": 1})).bearer(&ada.token).key("c"),
            422,
            "validation-failed",
        ),
        (
            "publish what is",
            app.post(&format!("/v1/admin/events/{}/publish", event.id), &json!([])).bearer(&admin.token),
            422,
            "validation-failed",
        ),
    ];
    for (what, call, status, code) in cases {
        let answer = call.await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        let problem = answer.expect_problem(status, code);
        assert_eq!(problem["trace_id"].as_str().unwrap().len(), 32, "{what}");
        assert_eq!(status == 401, answer.header("www-authenticate").is_some(), "{what}");
        assert_eq!(status == 405, answer.header("allow").is_some(), "{what}");
        if code == "validation-failed" {
            assert!(problem["errors"][0]["pointer"].is_string(), "{what}: {problem}");
        }
    }
    // None of it has cost a seat; what failed may be confirmed still.
    app.post(&confirm, &pay).bearer(&ada.token).header("prefer", "wait=30").await.expect(201);
    place(&basket(&event, 4), &key_of(255)).await.expect(201);
}

#[tokio::test]
async fn what_is_foreign_and_what_is_unknown_look_the_same() {
    let app = TestApp::start().await;
    let (event, ada, eve) = (app.event(5).await, app.user("ada").await, app.user("eve").await);
    let path = holds(&event);
    let hold = app.post(&path, &basket(&event, 1)).bearer(&ada.token).key("k").await.expect(201);
    let theirs = hold["id"].as_str().unwrap();
    let unknown = Uuid::now_v7().to_string();
    for route in ["/v1/events/EVENT/holds/HOLD", "/v1/bookings/HOLD", "/v1/bookings/HOLD/calendar.ics"] {
        let ask = async |id: &str| {
            let path = route.replace("EVENT", &event.id.to_string()).replace("HOLD", id);
            let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
            app.get(&path).bearer(&eve.token).header("traceparent", trace).await
        };
        let (foreign, unknown) = (ask(theirs).await, ask(&unknown).await);
        foreign.expect_problem(404, "not-found");
        assert_eq!(foreign.bytes, unknown.bytes, "{route}");
        let names = |answer: &crate::support::http::Answer| {
            answer.headers.keys().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names(&foreign), names(&unknown), "{route}");
    }
}

#[tokio::test]
async fn tokens_that_are_old_altered_or_of_somebody_else() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let grant = Grant {
        user_id: ada.id,
        session_id: Uuid::now_v7(),
        role: Role::User,
        verified: true,
        user_version: 1,
    };
    let brief = app.app.accounts.tokens().issue(&grant, Duration::from_secs(2));
    app.get("/v1/bookings").bearer(&brief).await.expect(200);
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    // The same token, which was checked before and is remembered.
    let expired = app.get("/v1/bookings").bearer(&brief).await;
    expired.expect_problem(401, "token-expired");
    assert!(expired.header("www-authenticate").unwrap().contains("expired"));

    let (head, rest) = ada.token.split_once('.').unwrap();
    let (claims, signature) = rest.split_once('.').unwrap();
    for forged in [
        format!("{head}.{claims}."),
        format!("eyJhbGciOiJub25lIn0.{claims}."),
        // HS256 with whatever key: one algorithm is taken, whatever the header says.
        format!("eyJhbGciOiJIUzI1NiJ9.{claims}.{signature}"),
        format!("{head}.{}A.{signature}", &claims[..claims.len() - 1]),
        ada.refresh_token.clone(),
        "x".repeat(9_000),
    ] {
        let answer = app.get("/v1/bookings").bearer(&forged).await;
        if forged.len() < 8_000 {
            answer.expect_problem(401, "unauthenticated");
        } else {
            assert!(matches!(answer.status, 401 | 431), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn sales_that_have_not_begun_or_are_over_and_drafts() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let hour = chrono::TimeDelta::hours(1);
    let now = domain::clock::now();
    let early = app.event_with(5, |event| event.sales_start_at = Some(now + hour)).await;
    let late = app
        .event_with(5, |event| {
            event.sales_start_at = Some(now - hour * 2);
            event.sales_end_at = Some(now - hour);
        })
        .await;
    for event in [&early, &late] {
        for n in 0..2 {
            let call = app.post(&holds(event), &basket(event, 1)).bearer(&ada.token).key("k").await;
            call.expect_problem(409, "sale-closed");
            assert_eq!(call.header("idempotency-replayed"), (n == 1).then_some("true"));
        }
    }
    let event = app.event_with(5, |event| event.ticket_types = vec![ticket_type("Free", 5, 0)]).await;
    app.database.execute(&format!("UPDATE events SET status = 'draft' WHERE id = '{}'", event.id)).await;
    domain::inventory::sync_event(&app.app.inventory, &app.db, event.id, true).await.unwrap();
    let draft = app.post(&holds(&event), &basket(&event, 1)).bearer(&ada.token).key("k").await;
    draft.expect_problem(404, "not-found");
}

#[tokio::test]
async fn where_it_is_required_only_who_has_verified_an_address_holds_seats() {
    let app = TestApp::builder().with_env("EVENTLY_REQUIRE_VERIFIED", "on").start().await;
    let event = app.event(5).await;
    register(&app, "new@evently.test").await;
    let tokens = log_in(&app, "new@evently.test").await;
    let place = || app.post(&holds(&event), &basket(&event, 1)).bearer(access(&tokens)).key("k");
    place().await.expect_problem(403, "email-unverified");
    let code = app.database.value("SELECT data->>'code' FROM mails").await.unwrap();
    let verify = json!({"email": "new@evently.test", "code": code});
    app.post("/v1/auth/verify-email", &verify).await.expect(200);
    // The refusal was not kept under its key, and the token that is out is good now.
    place().await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_are_limited_by_user_and_say_so() {
    let app = TestApp::builder().with_env("EVENTLY_RATE_LIMITS", "on").start().await;
    let (event, ada, eve) = (app.event(5).await, app.user("ada").await, app.user("eve").await);
    let place = |token: &str| app.post(&holds(&event), &basket(&event, 1)).bearer(token).key("same");
    let answers = join_all((0..260).map(|_| place(&ada.token).into_future())).await;
    let limited: Vec<_> = answers.iter().filter(|answer| answer.status != 201).collect();
    assert!(!limited.is_empty() && limited.len() <= 60, "{}", limited.len());
    for answer in limited {
        answer.expect_problem(429, "rate-limited");
        assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
        assert!(answer.header("ratelimit").is_some() && answer.header("ratelimit-policy").is_some());
    }
    assert!(answers[0].header("ratelimit").is_some());
    // Somebody else is not concerned; nor is what they decide kept under the key.
    place(&eve.token).await.expect(201);
}
