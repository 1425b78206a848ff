//! Events and venues as everybody reads them: detail, seats, list, caches.

use std::time::Duration;

use domain::accounts::Role;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    app::TestApp,
    events::{on_sale, ticket_type},
};

fn titles(list: &Value) -> Vec<&str> {
    list["data"].as_array().unwrap().iter().map(|event| event["title"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn one_event_with_its_tag() {
    let app = TestApp::start().await;
    let event = app.event(5).await;
    let path = format!("/v1/events/{}", event.id);
    let answer = app.get(&path).await;
    let body = answer.expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.etag(), format!("\"v{}\"", body["version"]));
    assert_eq!(body["status"], "published");
    assert_eq!(body["slug"], "harbour-night");
    assert_eq!(body["venue"]["timezone"], "Europe/Berlin");
    assert_eq!(body["refund_policy"], json!([{"hours_before": 0, "percent": 100}]));
    let kind = &body["ticket_types"][0];
    assert_eq!(kind["price"], json!({"amount": 4500, "currency": "EUR"}));
    assert_eq!((&kind["available"], &kind["capacity"], &kind["version"]), (&json!(5), &json!(5), &json!(1)));

    let fresh = app.get(&path).header("if-none-match", answer.etag()).await;
    assert_eq!((fresh.status, fresh.bytes.len()), (304, 0));
    assert_eq!(fresh.etag(), answer.etag());
    app.get(&path).header("if-none-match", "\"v0\"").await.expect(200);

    app.get("/v1/events/not-an-id").await.expect_problem(400, "invalid-parameter");
    app.get(&format!("/v1/events/{}", Uuid::now_v7())).await.expect_problem(404, "not-found");
    app.get(&path).bearer("nonsense").await.expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn seats_are_counted_now_and_shown_within_a_second() {
    let app = TestApp::start().await;
    let event = app.event(5).await;
    let path = format!("/v1/events/{}", event.id);
    app.get(&path).await.expect(200);
    let ada = app.user("ada").await;
    let items = json!({"items": [{"ticket_type_id": event.ticket_types[0], "quantity": 2}]});
    app.post(&format!("{path}/holds"), &items).bearer(&ada.token).key("one").await.expect(201);

    let seats = app.get(&format!("{path}/availability")).await.expect(200);
    let expected = json!({"ticket_type_id": event.ticket_types[0], "capacity": 5, "sold": 0, "held": 2,
        "offered": 0, "available": 3, "waitlisted": 0});
    assert_eq!(seats["ticket_types"], json!([expected]));
    assert!(seats["as_of"].is_string());
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(app.get(&path).await.expect(200)["ticket_types"][0]["available"], 3);
    assert_eq!(app.get("/v1/events").await.expect(200)["data"][0]["ticket_types"][0]["available"], 3);
}

#[tokio::test]
async fn drafts_are_for_their_owner_and_admins() {
    let app = TestApp::start().await;
    let (owner, other) =
        (app.person("owner1", Role::Organizer).await, app.person("other", Role::Organizer).await);
    let (admin, user) = (app.admin().await, app.user("ada").await);
    let event = serde_json::to_value(on_sale(app.venue().await, 5)).unwrap();
    let draft = app.post("/v1/admin/events", &event).bearer(&owner.token).key("k").await.expect(201);
    let unknown = format!("/v1/events/{}", Uuid::now_v7());
    for suffix in ["", "/availability"] {
        let path = format!("/v1/events/{}{suffix}", draft["id"].as_str().unwrap());
        app.get(&path).bearer(&owner.token).await.expect(200);
        app.get(&path).bearer(&admin.token).await.expect(200);
        for token in [Some(&other.token), Some(&user.token), None] {
            let ask = |path: &str| token.iter().fold(app.get(path), |call, token| call.bearer(token));
            let mut foreign = ask(&path).await.expect_problem(404, "not-found");
            let mut none = ask(&format!("{unknown}{suffix}")).await.expect_problem(404, "not-found");
            (foreign["trace_id"], none["trace_id"]) = (Value::Null, Value::Null);
            assert_eq!(foreign, none);
        }
    }
    assert_eq!(titles(&app.get("/v1/events").bearer(&owner.token).await.expect(200)), [""; 0]);
}

/// Three events in two cities.
async fn city_life(app: &TestApp) {
    let admin = app.admin().await;
    let venue = |name: &str, city: &str, latitude: f64, longitude: f64| {
        json!({"name": name, "address": "1", "city": city, "country": "DE", "latitude": latitude,
            "longitude": longitude, "timezone": "Europe/Berlin"})
    };
    let mut venues = Vec::new();
    for fields in [venue("Dock", "Hamburg", 53.55, 9.99), venue("Dom", "Köln", 50.94, 6.96)] {
        let answer = app.post("/v1/admin/venues", &fields).bearer(&admin.token).await;
        assert_eq!(answer.etag(), "\"v1\"");
        venues.push(answer.expect(201)["id"].as_str().unwrap().parse::<Uuid>().unwrap());
    }
    for (at, (title, category, venue, cents, days)) in [
        ("Jazz at Sea", "concert", 0, 3000, 3),
        ("Rock", "concert", 1, 1000, 1),
        ("Hamlet", "theatre", 0, 2000, 2),
    ]
    .into_iter()
    .enumerate()
    {
        let mut event = on_sale(venues[venue], 2);
        event.title = title.to_owned();
        event.category = category.to_owned();
        event.starts_at += chrono::TimeDelta::days(days);
        event.ends_at = event.starts_at + chrono::TimeDelta::hours(2);
        event.ticket_types = vec![ticket_type("Standing", 2, cents)];
        let event = serde_json::to_value(event).unwrap();
        let draft =
            app.post("/v1/admin/events", &event).bearer(&admin.token).key(&at.to_string()).await.expect(201);
        let publish = format!("/v1/admin/events/{}/publish", draft["id"].as_str().unwrap());
        app.post(&publish, &json!({})).bearer(&admin.token).await.expect(200);
    }
}

#[tokio::test]
async fn the_list_filters_sorts_and_counts() {
    let app = TestApp::start().await;
    city_life(&app).await;
    let soonest = app.get("/v1/events").await.expect(200);
    assert_eq!(titles(&soonest), ["Rock", "Hamlet", "Jazz at Sea"]);
    assert_eq!(soonest["next_cursor"], Value::Null);
    let starts = |at: usize| soonest["data"][at]["starts_at"].as_str().unwrap();
    let (second, none): (_, [&str; 0]) = (starts(1), []);
    let cases: [(String, &[&str]); 18] = [
        ("category=Concert".into(), &["Rock", "Jazz at Sea"]),
        ("city=k%C3%B6ln".into(), &["Rock"]),
        ("city=hamburg&category=theatre".into(), &["Hamlet"]),
        (format!("from={second}"), &["Hamlet", "Jazz at Sea"]),
        (format!("to={second}"), &["Rock", "Hamlet"]),
        ("price_min=1500".into(), &["Hamlet", "Jazz at Sea"]),
        ("price_min=1500&price_max=2500".into(), &["Hamlet"]),
        ("sort=price".into(), &["Rock", "Hamlet", "Jazz at Sea"]),
        ("sort=popularity".into(), &["Jazz at Sea", "Rock", "Hamlet"]),
        ("q=jazz".into(), &["Jazz at Sea"]),
        ("q=concert%20-rock".into(), &["Jazz at Sea"]),
        ("q=concert&sort=relevance".into(), &["Jazz at Sea", "Rock"]),
        ("q=".into(), &["Rock", "Hamlet", "Jazz at Sea"]),
        ("q=nothing".into(), &none),
        ("near=50.9,6.9&radius_km=30".into(), &["Rock"]),
        ("near=53.5,10&sort=distance".into(), &["Jazz at Sea", "Hamlet", "Rock"]),
        ("available=true".into(), &["Rock", "Hamlet", "Jazz at Sea"]),
        ("category=x%27%3B%20DROP%20TABLE%20events".into(), &none),
    ];
    for (query, expected) in cases {
        assert_eq!(titles(&app.get(&format!("/v1/events?{query}")).await.expect(200)), expected, "{query}");
    }
    let counted = app.get("/v1/events?facets=category,city&limit=1").await.expect(200);
    let category = json!([{"value": "concert", "count": 2}, {"value": "theatre", "count": 1}]);
    let city = json!([{"value": "Hamburg", "count": 2}, {"value": "Köln", "count": 1}]);
    assert_eq!(counted["facets"], json!({"category": category, "city": city}));
    assert_eq!(titles(&app.get("/v1/events/popular?limit=2").await.expect(200)).len(), 2);
}

#[tokio::test]
async fn pages_follow_each_other_in_every_order() {
    let app = TestApp::start().await;
    city_life(&app).await;
    for filters in [
        "sort=starts_at",
        "sort=price",
        "sort=popularity",
        "q=concert%20or%20theatre&sort=relevance",
        "near=53,10&sort=distance",
        "available=true",
    ] {
        let whole = app.get(&format!("/v1/events?{filters}")).await.expect(200);
        let mut path = format!("/v1/events?{filters}&limit=1");
        let mut found = Vec::new();
        loop {
            let page = app.get(&path).await;
            let body = page.expect(200);
            found.extend(titles(&body).into_iter().map(str::to_owned));
            let Some(link) = page.header("link") else {
                assert_eq!(body["next_cursor"], Value::Null);
                break;
            };
            path = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
            assert!(path.contains(body["next_cursor"].as_str().unwrap()));
        }
        assert_eq!(found, titles(&whole), "{filters}");
    }
    let page = app.get("/v1/events?limit=1").await.expect(200);
    let cursor = page["next_cursor"].as_str().unwrap();
    let other = app.get(&format!("/v1/events?limit=1&city=Hamburg&cursor={cursor}")).await;
    other.expect_problem(400, "invalid-parameter");
}

#[tokio::test]
async fn queries_that_mean_nothing_are_refused() {
    let app = TestApp::start().await;
    for query in [
        "colour=red",
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=-1",
        "cursor=",
        "cursor=abc",
        "from=yesterday",
        "price_min=-1",
        "price_min=1e3",
        "price_min=2&price_max=1",
        "near=91,0",
        "near=1",
        "near=NaN,NaN",
        "radius_km=5",
        "near=1,1&radius_km=-1",
        "near=1,1&radius_km=NaN",
        "sort=colour",
        "sort=distance",
        "sort=relevance",
        "facets=price",
        "available=maybe",
        "limit=1&limit=2",
        "q=%00",
        "from=0001-01-01T00:00:00Z",
        "from=2031-01-01T00:00:00Z&to=2030-01-01T00:00:00Z",
    ] {
        app.get(&format!("/v1/events?{query}")).await.expect_problem(400, "invalid-parameter");
    }
    app.get(&format!("/v1/events?q={}", "x".repeat(201))).await.expect_problem(400, "invalid-parameter");
    app.get("/v1/events?q=%27%22%28%26%7C%21%3A%2A").await.expect(200);
    app.get("/v1/events/popular?limit=0").await.expect_problem(400, "invalid-parameter");
    app.get("/v1/events/popular?cursor=x").await.expect_problem(400, "invalid-parameter");
    app.get("/v1/venues?city=x").await.expect_problem(400, "invalid-parameter");
}

#[tokio::test]
async fn a_change_is_seen_at_once_here_and_in_other_processes() {
    let app = TestApp::start().await;
    let event = app.event(5).await;
    let path = format!("/v1/events/{}", event.id);
    let elsewhere = std::sync::Arc::new(api::App::from_env(&app.env).unwrap());
    let follower = std::sync::Arc::clone(&elsewhere);
    let following = tokio::spawn(async move { follower.catalog.follow().await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let seen = |answer: Option<std::sync::Arc<domain::events::EventAnswer>>| answer.unwrap().etag.clone();
    let before = seen(elsewhere.catalog.event(event.id).await.unwrap());
    assert_eq!(titles(&app.get("/v1/events?city=Hamburg").await.expect(200)), ["Harbour Night"]);
    let tag = app.get(&path).await.etag().to_owned();
    assert_eq!(before, tag.as_bytes());

    let admin = app.admin().await;
    let admin_path = format!("/v1/admin/events/{}", event.id);
    let mut fields = serde_json::to_value(on_sale(app.venue().await, 1)).unwrap();
    fields.as_object_mut().unwrap().remove("ticket_types");
    fields["title"] = "Harbour Day".into();
    let answer = app.put(&admin_path, &fields).bearer(&admin.token).if_match(&tag).await;
    assert_eq!(answer.expect(200)["title"], "Harbour Day");
    assert_eq!(app.get(&path).await.etag(), answer.etag());
    assert_eq!(titles(&app.get("/v1/events?city=Hamburg").await.expect(200)), ["Harbour Day"]);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(seen(elsewhere.catalog.event(event.id).await.unwrap()), answer.etag().as_bytes());
    following.abort();
}

#[tokio::test]
async fn reading_survives_a_redis_that_forgets_everything() {
    let app = TestApp::start().await;
    let event = app.event(5).await;
    let path = format!("/v1/events/{}", event.id);
    app.get(&path).await.expect(200);
    let mut connection = app.app.redis.connection.clone();
    redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await.unwrap();
    let seats = app.get(&format!("{path}/availability")).await.expect(200);
    assert_eq!(seats["ticket_types"][0]["available"], 5);
}

#[tokio::test]
async fn venues() {
    let app = TestApp::start().await;
    let (owner, other) =
        (app.person("owner1", Role::Organizer).await, app.person("other", Role::Organizer).await);
    let fields = json!({"name": "Dock", "address": "Kai 1", "city": "Hamburg", "country": "DE",
        "latitude": 53.5, "longitude": 10, "timezone": "Europe/Berlin"});
    let created = app.post("/v1/admin/venues", &fields).bearer(&owner.token).await;
    let venue = created.expect(201);
    let path = created.header("location").unwrap().to_owned();
    let read = app.get(&path).await;
    assert_eq!((read.expect(200), read.etag()), (venue.clone(), "\"v1\""));
    assert_eq!(app.get(&path).header("if-none-match", "\"v1\"").await.status, 304);
    assert_eq!(app.get("/v1/venues").await.expect(200)["data"], json!([venue]));

    let admin_path = path.replace("/v1/", "/v1/admin/");
    let mut changed = fields.clone();
    changed["name"] = "Dock 2".into();
    let put = |token: &str| app.put(&admin_path, &changed).bearer(token);
    put(&owner.token).await.expect_problem(428, "precondition-required");
    put(&other.token).if_match("\"v1\"").await.expect_problem(404, "not-found");
    put(&owner.token).if_match("\"v2\"").await.expect_problem(412, "precondition-failed");
    let answer = put(&owner.token).if_match("\"v1\"").await;
    assert_eq!((answer.expect(200)["name"].clone(), answer.etag()), (json!("Dock 2"), "\"v2\""));
    for (field, value) in [
        ("timezone", json!("Mars/Base")),
        ("latitude", json!(91)),
        ("name", json!("")),
        ("city", json!("a\nb")),
    ] {
        let mut wrong = fields.clone();
        wrong[field] = value;
        let problem = app.post("/v1/admin/venues", &wrong).bearer(&owner.token).await;
        let problem = problem.expect_problem(422, "validation-failed");
        assert_eq!(problem["errors"][0]["pointer"], format!("/{field}"));
    }
    let user = app.user("ada").await;
    app.post("/v1/admin/venues", &fields).bearer(&user.token).await.expect_problem(403, "forbidden");
    app.post("/v1/admin/venues", &fields).await.expect_problem(401, "unauthenticated");
}
