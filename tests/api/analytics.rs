//! Figures over HTTP: whose they are, of which days, compared with what, and as CSV.

use std::collections::BTreeSet;

use chrono::{Days, NaiveDate};
use domain::{
    accounts::Role,
    analytics,
    events::{self, Editor},
    inventory::sync_event,
    samples,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{app::TestApp, events::on_sale, people::Person};

/// A published event of somebody's.
async fn event_of(app: &TestApp, owner: &Person, title: &str, capacity: i64) -> Uuid {
    let mut event = on_sale(app.venue().await, capacity);
    event.title = title.to_owned();
    let id = samples::create_event(&app.db, owner.id, event).await.unwrap();
    let editor = Editor { user_id: owner.id, is_admin: false };
    events::publish(&app.db, editor, id, None).await.unwrap();
    sync_event(&app.app.inventory, &app.db, id, false).await.unwrap();
    id
}

/// Lets something have happened to an event, at noon of a day in Berlin, and counts it.
async fn happened(app: &TestApp, event: Uuid, kind: &str, quantity: i32, amount: i64, day: NaiveDate) {
    let append = format!(
        "INSERT INTO booking_log (at, event_id, booking_id, user_id, kind, quantity, amount, currency, items)
         VALUES (('{day} 12:00'::timestamp) AT TIME ZONE 'Europe/Berlin', '{event}', gen_random_uuid(),
                 gen_random_uuid(), '{kind}', {quantity}, {amount}, 'EUR', '[]')"
    );
    app.database.execute(&append).await;
    count(app).await;
}

/// Counts what the log holds; nobody else does in these tests.
async fn count(app: &TestApp) {
    while analytics::roll_up(&app.db, 10_000).await.unwrap().rows > 0 {}
}

/// Today in Berlin, so many days ago.
async fn day(app: &TestApp, ago: u64) -> NaiveDate {
    let today = app.database.value("SELECT (now() AT TIME ZONE 'Europe/Berlin')::date").await.unwrap();
    today.parse::<NaiveDate>().unwrap() - Days::new(ago)
}

fn eur(amount: i64) -> Value {
    json!({"amount": amount, "currency": "EUR"})
}

#[tokio::test(flavor = "multi_thread")]
async fn organizers_see_their_own_events_and_admins_all() {
    let app = TestApp::start().await;
    let (olga, otto) = (app.person("olga", Role::Organizer).await, app.person("otto", Role::Organizer).await);
    let (admin, ada) = (app.admin().await, app.user("ada").await);
    let (hers, his) = (event_of(&app, &olga, "Hers", 10).await, event_of(&app, &otto, "His", 10).await);
    let today = day(&app, 0).await;
    happened(&app, hers, "confirmed", 2, 9_000, today).await;
    happened(&app, his, "confirmed", 4, 18_000, today).await;
    happened(&app, his, "cancelled", 1, 4_500, today).await;
    happened(&app, his, "failed", 1, 4_500, today).await;

    let read = async |path: &str, who: &Person| app.get(path).bearer(&who.token).await;
    for path in ["", "/daily", "/export.csv"].map(|end| format!("/v1/admin/analytics{end}")) {
        app.get(&path).await.expect_problem(401, "unauthenticated");
        read(&path, &ada).await.expect_problem(403, "forbidden");
    }
    for (who, bookings, net, titles) in [
        (&olga, 1, 9_000, &["Hers"][..]),
        (&otto, 1, 13_500, &["His"][..]),
        (&admin, 2, 22_500, &["His", "Hers"][..]),
    ] {
        let one_day = format!("?from={today}&to={today}");
        for query in ["", "?from=2001-01-01&to=2001-01-02", one_day.as_str()] {
            let all = read(&format!("/v1/admin/analytics{query}"), who).await.expect(200);
            let counted = !query.contains("2001");
            assert_eq!(all["totals"]["bookings"], if counted { bookings } else { 0 }, "{all}");
            let expected: Vec<_> = titles.iter().filter(|_| counted).copied().collect();
            let seen =
                all["most_popular"].as_array().unwrap().iter().map(|event| event["title"].as_str().unwrap());
            assert_eq!(seen.collect::<Vec<_>>(), expected, "{all}");
            for list in ["last_7_days", "last_30_days", "all_time"] {
                let list = all["top_events"][list].as_array().unwrap();
                assert_eq!(
                    list.iter().map(|event| event["title"].as_str().unwrap()).collect::<Vec<_>>(),
                    titles
                );
            }
            if counted {
                assert_eq!(all["totals"]["revenue"][0]["net"], eur(net), "{all}");
            }
        }
        let series = read("/v1/admin/analytics/daily", who).await.expect(200);
        let days = series["data"].as_array().unwrap();
        let sum: i64 = days.iter().map(|day| day["bookings"].as_i64().unwrap()).sum();
        // Berlin may be a day ahead of UTC, up to whose today the list goes.
        let counted = series["to"].as_str().unwrap() == today.to_string();
        assert_eq!((days.len(), sum), (30, if counted { bookings } else { 0 }), "{series}");
        let csv = read("/v1/admin/analytics/export.csv", who).await;
        assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
        let lines: Vec<_> =
            csv.text().lines().skip(1).map(|line| line.split(',').nth(1).unwrap().to_owned()).collect();
        assert_eq!(lines.iter().collect::<BTreeSet<_>>().len(), titles.len(), "{}", csv.text());
        let seats = read("/v1/admin/events/capacity_utilization", who).await.expect(200);
        assert_eq!(seats["data"].as_array().unwrap().len(), titles.len());
        let seats = read("/v1/admin/events/capacity_utilization/export.csv", who).await;
        assert_eq!(seats.text().lines().count(), titles.len() + 1);
    }
    let all = read("/v1/admin/analytics", &otto).await.expect(200);
    assert_eq!(all["totals"]["cancellation_rate"], 1.0);
    assert_eq!((&all["totals"]["holds"], &all["totals"]["conversion_rate"]), (&json!(0), &Value::Null));
    assert!(all["as_of"].is_string() && all["period"].is_null() && all["previous"].is_null());

    for end in ["", "/daily", "/export.csv"] {
        let path = |id: Uuid| format!("/v1/admin/analytics/events/{id}{end}");
        for who in [&olga, &admin] {
            assert_eq!(read(&path(hers), who).await.status, 200);
        }
        read(&path(hers), &otto).await.expect_problem(404, "not-found");
        read(&path(Uuid::now_v7()), &admin).await.expect_problem(404, "not-found");
        read(&path(hers), &ada).await.expect_problem(403, "forbidden");
        let odd = path(hers).replace(&hers.to_string(), "x");
        read(&odd, &admin).await.expect_problem(400, "invalid-parameter");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_over_time_beside_the_period_before() {
    let app = TestApp::start().await;
    let olga = app.person("olga", Role::Organizer).await;
    let event = event_of(&app, &olga, "Harbour Night", 8).await;
    let read = async |path: &str| app.get(&format!("/v1/admin/analytics{path}")).bearer(&olga.token).await;
    let empty = read(&format!("/events/{event}")).await;
    let shown = empty.expect(200);
    assert_eq!((&shown["bookings"], &shown["revenue"]["net"]), (&json!(0), &eur(0)));
    let unchanged = app.get(&format!("/v1/admin/analytics/events/{event}")).bearer(&olga.token);
    assert_eq!(unchanged.header("if-none-match", empty.etag()).await.status, 304);

    let march = |day: u32| NaiveDate::from_ymd_opt(2026, 3, day).unwrap();
    happened(&app, event, "confirmed", 2, 9_000, march(2)).await;
    happened(&app, event, "confirmed", 1, 4_500, march(9)).await;
    happened(&app, event, "confirmed", 3, 13_500, march(10)).await;
    happened(&app, event, "cancelled", 2, 4_500, march(12)).await;
    happened(&app, event, "refunded", 2, 4_500, march(13)).await;
    happened(&app, event, "cancelled", 1, 4_500, march(15)).await;

    let week = read(&format!("/events/{event}?from=2026-03-09&to=2026-03-15")).await.expect(200);
    assert_eq!(week["period"], json!({"from": "2026-03-09", "to": "2026-03-15"}));
    for (field, value) in [
        ("bookings", 2),
        ("tickets", 4),
        ("cancellations", 2),
        ("cancelled_tickets", 3),
        ("refunded_bookings", 1),
    ] {
        assert_eq!(week[field], value, "{field}: {week}");
    }
    assert_eq!(
        week["revenue"],
        json!({
            "gross": eur(18_000), "refunds": eur(9_000), "refunds_pending": eur(4_500), "net": eur(9_000),
        })
    );
    assert_eq!(week["previous"]["from"], "2026-03-02");
    assert_eq!(week["previous"]["to"], "2026-03-08");
    assert_eq!(week["previous"]["totals"]["bookings"], 1);
    assert_eq!(week["change"], json!({"bookings": 1.0, "tickets": 1.0, "cancellations": null, "net": 0.0}));
    assert_eq!((&week["capacity"], &week["sold"], &week["band"]), (&json!(8), &json!(0), &json!("low")));
    let ever = read(&format!("/events/{event}")).await;
    assert_ne!(ever.etag(), empty.etag());
    assert_eq!(ever.expect(200)["cancellation_rate"], 0.6667);
    let all = read("?from=2026-03-09&to=2026-03-15").await.expect(200);
    assert_eq!(all["change"], week["change"]);
    assert_eq!(all["previous"]["totals"]["revenue"][0]["net"], eur(9_000));
    assert_eq!(all["most_popular"][0]["tickets"], 1);

    for path in [format!("/events/{event}/daily"), "/daily".to_owned()] {
        let bookings = async |query: &str| {
            let series = read(&format!("{path}?{query}")).await.expect(200);
            let data = series["data"].as_array().unwrap().iter();
            data.map(|b| (b["date"].as_str().unwrap().to_owned(), b["bookings"].as_i64().unwrap()))
                .collect::<Vec<_>>()
        };
        let of = |date: &str, bookings: i64| (date.to_owned(), bookings);
        assert_eq!(
            bookings("from=2026-03-08&to=2026-03-11").await,
            [of("2026-03-08", 0), of("2026-03-09", 1), of("2026-03-10", 1), of("2026-03-11", 0)]
        );
        assert_eq!(
            bookings("from=2026-03-03&to=2026-03-10&granularity=week").await,
            [of("2026-03-02", 0), of("2026-03-09", 2)],
            "what lies before the period is not counted"
        );
        assert_eq!(
            bookings("from=2026-02-01T00:00:00Z&to=2026-03-31&granularity=month").await,
            [of("2026-02-01", 0), of("2026-03-01", 3)]
        );
        read(&format!("{path}?granularity=hour")).await.expect_problem(400, "invalid-parameter");
        read(&format!("{path}?from=2020-01-01")).await.expect_problem(400, "invalid-parameter");
        read(&format!("{path}?from=2026-03-02&to=2026-03-01")).await.expect_problem(400, "invalid-parameter");
        read(&format!("{path}?form=2026-03-02")).await.expect_problem(400, "invalid-parameter");
    }
    let series = read(&format!("/events/{event}/daily")).await.expect(200);
    assert_eq!(series["timezone"], "Europe/Berlin");
    assert_eq!(series["data"].as_array().unwrap().len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn days_are_those_of_the_venue() {
    let app = TestApp::start().await;
    let olga = app.person("olga", Role::Organizer).await;
    let event = event_of(&app, &olga, "Late Show", 8).await;
    // Half past midnight in Berlin is the evening before in UTC; the clock went forward in between.
    for (at, quantity) in
        [("2026-03-28T23:30:00Z", 1), ("2026-03-29T21:59:59Z", 2), ("2026-03-29T22:00:00Z", 4)]
    {
        let append = format!(
            "INSERT INTO booking_log (at, event_id, booking_id, user_id, kind, quantity, amount, currency, items)
             VALUES ('{at}', '{event}', gen_random_uuid(), gen_random_uuid(), 'confirmed', {quantity}, 0, 'EUR', '[]')"
        );
        app.database.execute(&append).await;
    }
    count(&app).await;
    let path = format!("/v1/admin/analytics/events/{event}/daily?from=2026-03-28&to=2026-03-30");
    let series = app.get(&path).bearer(&olga.token).await.expect(200);
    let tickets: Vec<_> =
        series["data"].as_array().unwrap().iter().map(|day| day["tickets"].as_i64().unwrap()).collect();
    assert_eq!(tickets, [0, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_are_whole_and_hold_no_formulas() {
    let app = TestApp::start().await;
    let olga = app.person("olga", Role::Organizer).await;
    let event = event_of(&app, &olga, "=HYPERLINK(\"http://evil.test\"),@x", 8).await;
    let years = format!(
        "INSERT INTO booking_log (at, event_id, booking_id, user_id, kind, quantity, amount, currency, items)
         SELECT '2026-06-01 12:00Z'::timestamptz - n * interval '1 day', '{event}', gen_random_uuid(),
                gen_random_uuid(), CASE n WHEN 3 THEN 'cancelled' ELSE 'confirmed' END, 1, 1000, 'EUR', '[]'
         FROM generate_series(1, 2500) n"
    );
    app.database.execute(&years).await;
    count(&app).await;
    let title = "\"'=HYPERLINK(\"\"http://evil.test\"\"),@x\"";
    for path in [
        "/v1/admin/analytics/export.csv".to_owned(),
        format!("/v1/admin/analytics/events/{event}/export.csv"),
    ] {
        let whole = app.get(&path).bearer(&olga.token).await;
        assert_eq!(whole.header("content-disposition"), Some("attachment; filename=\"analytics.csv\""));
        let text = whole.text();
        let (head, body) = text.split_once("\r\n").unwrap();
        assert!(head.starts_with("event_id,title,day,timezone,currency,bookings,"), "{head}");
        assert_eq!(body.matches(title).count(), 2_500);
        let start = format!("{event},{title},");
        let days: BTreeSet<_> = body.split(&start).skip(1).map(|line| &line[..10]).collect();
        assert_eq!(days.len(), 2_500, "every day once, over several pages");
        let lines: Vec<_> = body.split(&start).filter(|line| line.starts_with("2026-05-29")).collect();
        let berlin = "\"Europe/Berlin\",\"EUR\"";
        assert_eq!(lines, [format!("2026-05-29,{berlin},0,0,0,1000,1000,-1000,1,1,0,0,0\r\n")]);
        let few = app.get(&format!("{path}?from=2026-05-01&to=2026-05-03")).bearer(&olga.token).await;
        assert_eq!(few.text().matches(title).count(), 3);
    }
    let seats = app.get("/v1/admin/events/capacity_utilization/export.csv").bearer(&olga.token).await.text();
    let (head, line) = seats.split_once("\r\n").unwrap();
    assert_eq!(head, "event_id,title,status,starts_at,capacity,sold,utilization,band");
    assert!(
        line.starts_with(&format!("{event},{title},published,")) && line.ends_with("Z,8,0,0,low\r\n"),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_listed_by_how_full_they_are() {
    let app = TestApp::start().await;
    let (olga, admin) = (app.person("olga", Role::Organizer).await, app.admin().await);
    for (title, sold) in
        [("empty", 0), ("almost half", 499), ("half", 500), ("almost full", 799), ("full", 800)]
    {
        let event = event_of(&app, &olga, title, 1_000).await;
        let sell = format!("UPDATE ticket_types SET sold = {sold} WHERE event_id = '{event}'");
        app.database.execute(&sell).await;
    }
    let list = async |query: &str| {
        let path = format!("/v1/admin/events/capacity_utilization{query}");
        let page = app.get(&path).bearer(&olga.token).await.expect(200);
        let titles =
            page["data"].as_array().unwrap().iter().map(|event| event["title"].as_str().unwrap().to_owned());
        (titles.collect::<Vec<_>>(), page["next_cursor"].as_str().map(str::to_owned))
    };
    let all = ["full", "almost full", "half", "almost half", "empty"];
    assert_eq!(list("").await.0, all);
    assert_eq!(list("?band=high").await.0, ["full"]);
    assert_eq!(list("?band=medium").await.0, ["almost full", "half"]);
    assert_eq!(list("?band=low").await.0, ["almost half", "empty"]);
    assert_eq!(list("?status=draft").await.0.len(), 0);
    let (first, cursor) = list("?limit=2").await;
    let cursor = cursor.unwrap();
    let (second, rest) = list(&format!("?limit=2&cursor={cursor}")).await;
    let (third, end) = list(&format!("?limit=2&cursor={}", rest.unwrap())).await;
    assert_eq!([first, second, third].concat(), all);
    assert_eq!(end, None);
    let other = format!("/v1/admin/events/capacity_utilization?band=low&cursor={cursor}");
    app.get(&other).bearer(&olga.token).await.expect_problem(400, "invalid-parameter");
    let overview = app.get("/v1/admin/analytics").bearer(&admin.token).await.expect(200);
    let expected = json!({
        "capacity": 5_000, "sold": 2_598, "utilization": 0.5196, "high": 1, "medium": 2, "low": 2,
    });
    assert_eq!(overview["capacity_utilization"], expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sold_lately_is_popular() {
    let app = TestApp::start().await;
    let olga = app.person("olga", Role::Organizer).await;
    let mut events = Vec::new();
    for title in ["Old glory", "Returned", "Quiet", "Hit"] {
        events.push(event_of(&app, &olga, title, 100).await);
    }
    let (long_ago, lately) = (day(&app, 9).await, day(&app, 1).await);
    happened(&app, events[0], "confirmed", 50, 1, long_ago).await;
    happened(&app, events[0], "confirmed", 1, 1, lately).await;
    happened(&app, events[1], "confirmed", 9, 1, lately).await;
    happened(&app, events[1], "cancelled", 7, 1, lately).await;
    happened(&app, events[3], "confirmed", 3, 1, lately).await;
    let titles = async |path: &str| {
        let list = app.get(path).await.expect(200);
        let titles =
            list["data"].as_array().unwrap().iter().map(|event| event["title"].as_str().unwrap().to_owned());
        titles.collect::<Vec<_>>()
    };
    assert_eq!(titles("/v1/events/popular").await, ["Hit", "Returned", "Old glory", "Quiet"]);
    assert_eq!(titles("/v1/events?sort=popularity&limit=2").await, ["Hit", "Returned"]);
    let top = app.get("/v1/admin/analytics").bearer(&olga.token).await.expect(200)["top_events"].clone();
    let best = |list: &str| top[list][0]["title"].clone();
    assert_eq!(
        (best("last_7_days"), best("last_30_days"), best("all_time")),
        ("Hit".into(), "Old glory".into(), "Old glory".into())
    );
}
