//! Events as organizers write them: created once a key, versions, states, jobs and entries in the logs.

use domain::accounts::Role;
use serde_json::{Value, json};

use crate::support::{app::TestApp, events::on_sale, people::Person};

async fn body(app: &TestApp) -> Value {
    serde_json::to_value(on_sale(app.venue().await, 5)).unwrap()
}

async fn draft(app: &TestApp, owner: &Person) -> (Value, String) {
    let event = body(app).await;
    let key = uuid::Uuid::now_v7().to_string();
    let draft = app.post("/v1/admin/events", &event).bearer(&owner.token).key(&key).await.expect(201);
    let path = format!("/v1/admin/events/{}", draft["id"].as_str().unwrap());
    (draft, path)
}

fn own_fields(event: &Value) -> Value {
    let mut fields = event.clone();
    let map = fields.as_object_mut().unwrap();
    map.insert("venue_id".to_owned(), event["venue"]["id"].clone());
    for other in ["id", "slug", "venue", "status", "ticket_types", "version", "created_at", "updated_at"] {
        map.remove(other);
    }
    fields
}

#[tokio::test]
async fn created_once_however_often_it_is_sent() {
    let app = TestApp::start().await;
    let owner = app.person("owner1", Role::Organizer).await;
    let event = body(&app).await;
    let create = || app.post("/v1/admin/events", &event).bearer(&owner.token);
    create().await.expect_problem(400, "idempotency-key-invalid");
    let answers = futures::future::join_all((0..20).map(|_| create().key("same").into_future())).await;
    let made: Vec<_> = answers.iter().filter(|answer| answer.status == 201).collect();
    let first = made.iter().find(|answer| answer.header("idempotency-replayed").is_none()).unwrap();
    assert_eq!(first.etag(), "\"v1\"");
    assert_eq!(first.json()["status"], "draft");
    for answer in &answers {
        if answer.status == 201 {
            assert_eq!(answer.bytes, first.bytes);
        } else {
            answer.expect_problem(409, "idempotency-in-progress");
            assert!(answer.header("retry-after").is_some());
        }
    }
    let again = create().key("\"same\"").await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (201, Some("true")));
    assert_eq!(
        (again.bytes.clone(), again.header("location")),
        (first.bytes.clone(), first.header("location"))
    );
    assert_eq!(app.database.value("SELECT count(*) FROM events").await.as_deref(), Some("1"));

    let mut other = event.clone();
    other["title"] = "Other".into();
    let clash = app.post("/v1/admin/events", &other).bearer(&owner.token).key("same").await;
    clash.expect_problem(422, "idempotency-key-reused");
    let foreign = app.person("other", Role::Organizer).await;
    app.post("/v1/admin/events", &event).bearer(&foreign.token).key("same").await.expect(201);
    // What was refused before it ran is not kept.
    other["title"] = "".into();
    let refused = app.post("/v1/admin/events", &other).bearer(&owner.token).key("late").await;
    refused.expect_problem(422, "validation-failed");
    app.post("/v1/admin/events", &event).bearer(&owner.token).key("late").await.expect(201);
    let slugs = app.database.rows("SELECT DISTINCT slug FROM events WHERE slug LIKE 'harbour-night%'").await;
    assert_eq!(slugs.len(), 3);
}

#[tokio::test]
async fn what_is_not_an_event_is_refused() {
    let app = TestApp::start().await;
    let owner = app.person("owner1", Role::Organizer).await;
    let event = body(&app).await;
    let types = |changes: Value| {
        let mut kind = event["ticket_types"][0].clone();
        kind.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        json!([kind])
    };
    for (field, value, pointer) in [
        ("title", json!("x".repeat(201)), "/title"),
        ("title", json!(7), "/title"),
        ("title", json!("a\u{0}b"), ""),
        ("venue_id", json!(uuid::Uuid::now_v7()), "/venue_id"),
        ("venue_id", json!("x"), "/venue_id"),
        ("ends_at", event["starts_at"].clone(), "/ends_at"),
        ("starts_at", json!("tomorrow"), "/starts_at"),
        ("hold_ttl_secs", json!(3601), "/hold_ttl_secs"),
        ("max_tickets_per_user", json!(1001), "/max_tickets_per_user"),
        ("refund_policy", json!([{"hours_before": -1, "percent": 5}]), "/refund_policy/0/hours_before"),
        ("ticket_types", types(json!({"capacity": 1_000_001})), "/ticket_types/0/capacity"),
        ("ticket_types", types(json!({"seating": "reserved"})), "/ticket_types/0/seating"),
        (
            "ticket_types",
            types(json!({"base_price": {"amount": -1, "currency": "EUR"}})),
            "/ticket_types/0/base_price/amount",
        ),
        ("ticket_types", json!(vec![event["ticket_types"][0].clone(); 51]), "/ticket_types"),
    ] {
        let mut wrong = event.clone();
        wrong[field] = value;
        let answer = app.post("/v1/admin/events", &wrong).bearer(&owner.token).key("k").await;
        let problem = answer.expect_problem(422, "validation-failed");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    let mut extra = event.clone();
    extra["colour"] = "red".into();
    let answer = app.post("/v1/admin/events", &extra).bearer(&owner.token).key("k").await;
    answer.expect_problem(422, "validation-failed");
    let user = app.user("ada").await;
    app.post("/v1/admin/events", &event).bearer(&user.token).key("k").await.expect_problem(403, "forbidden");
    assert_eq!(app.database.value("SELECT count(*) FROM events").await.as_deref(), Some("0"));
}

#[tokio::test]
async fn the_life_of_an_event() {
    let app = TestApp::start().await;
    let owner = app.person("owner1", Role::Organizer).await;
    let other = app.person("other", Role::Organizer).await;
    let (event, path) = draft(&app, &owner).await;
    let step =
        |name: &str, person: &Person| app.post(&format!("{path}/{name}"), &json!({})).bearer(&person.token);
    step("cancel", &owner).await.expect_problem(409, "invalid-state");
    step("publish", &other).await.expect_problem(404, "not-found");
    step("publish", &owner).if_match("\"v9\"").await.expect_problem(412, "precondition-failed");
    let published = step("publish", &owner).await;
    assert_eq!((published.expect(200)["status"].clone(), published.etag()), (json!("published"), "\"v2\""));
    step("publish", &owner).await.expect_problem(409, "invalid-state");

    let mut fields = own_fields(&event);
    fields["title"] = "Harbour Dawn".into();
    let put = || app.put(&path, &fields).bearer(&owner.token);
    put().await.expect_problem(428, "precondition-required");
    put().if_match("\"v1\"").await.expect_problem(412, "precondition-failed");
    let foreign = app.put(&path, &fields).bearer(&other.token).if_match("\"v2\"").await;
    foreign.expect_problem(404, "not-found");
    let changed = put().if_match("\"v2\"").await;
    assert_eq!((changed.expect(200)["title"].clone(), changed.etag()), (json!("Harbour Dawn"), "\"v3\""));
    assert_eq!(changed.json()["slug"], event["slug"]);
    let delete = app.delete(&path).bearer(&owner.token).if_match("\"v3\"").await;
    delete.expect_problem(409, "invalid-state");

    let ada = app.user("ada").await;
    let items = json!({"items": [{"ticket_type_id": event["ticket_types"][0]["id"], "quantity": 1}]});
    let holds = format!("/v1/events/{}/holds", event["id"].as_str().unwrap());
    app.post(&holds, &items).bearer(&ada.token).key("a").await.expect(201);
    let cancelled = step("cancel", &owner).await;
    assert_eq!(cancelled.expect(200)["status"], "cancelled");
    assert_eq!(cancelled.json()["ticket_types"][0]["available"], 0);
    app.post(&holds, &items).bearer(&ada.token).key("b").await.expect_problem(409, "sale-closed");
    let again = step("cancel", &owner).await;
    assert_eq!((again.expect(200), again.etag()), (cancelled.json(), cancelled.etag()));
    put().if_match(cancelled.etag()).await.expect_problem(409, "invalid-state");
    app.get(&path.replace("/admin", "")).await.expect(200);

    let jobs = app.database.rows("SELECT job FROM outbox WHERE job = 'cancel_event_bookings'").await;
    assert_eq!(jobs.len(), 1);
    let actions = app
        .database
        .rows("SELECT action FROM audit_log WHERE object_type = 'event' ORDER BY id")
        .await
        .into_iter()
        .map(|row| row[0].clone().unwrap())
        .collect::<Vec<_>>();
    assert_eq!(actions, ["event.created", "event.published", "event.updated", "event.cancelled"]);
}

#[tokio::test]
async fn drafts_are_deleted_and_ended_events_completed() {
    let app = TestApp::start().await;
    let owner = app.person("owner1", Role::Organizer).await;
    let (event, path) = draft(&app, &owner).await;
    app.delete(&path).bearer(&owner.token).await.expect_problem(428, "precondition-required");
    assert_eq!(app.delete(&path).bearer(&owner.token).if_match("\"v1\"").await.status, 204);
    app.delete(&path).bearer(&owner.token).if_match("\"v1\"").await.expect_problem(404, "not-found");
    let read = app.get(&format!("/v1/events/{}", event["id"].as_str().unwrap())).bearer(&owner.token).await;
    read.expect_problem(404, "not-found");

    let event = app.event(5).await;
    assert!(domain::events::complete_ended(&app.db, 10).await.unwrap().is_empty());
    app.database
        .execute(
            "UPDATE events SET starts_at = now() - interval '2 hours', ends_at = now() - interval '1 minute',
             sales_start_at = now() - interval '3 hours', sales_end_at = now() - interval '2 hours'",
        )
        .await;
    assert_eq!(domain::events::complete_ended(&app.db, 10).await.unwrap(), [event.id]);
    assert!(domain::events::complete_ended(&app.db, 10).await.unwrap().is_empty());
    let read = app.get(&format!("/v1/events/{}", event.id)).await.expect(200);
    assert_eq!((&read["status"], &read["ticket_types"][0]["available"]), (&json!("completed"), &json!(0)));
}
