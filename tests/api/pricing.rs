//! How prices move, as organizers write it: versions, owners, fields, history, simulation.

use domain::accounts::Role;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    app::TestApp,
    events::{on_sale, ticket_type},
    http::{Answer, Call},
    people::Person,
};

/// A published event of an organizer.
struct Owned {
    app: TestApp,
    owner: Person,
    path: String,
    event_path: String,
    ticket_type: String,
}

impl Owned {
    async fn start() -> Self {
        let app = TestApp::start().await;
        let owner = app.person("orga", Role::Organizer).await;
        let event = serde_json::to_value(on_sale(app.venue().await, 5)).unwrap();
        let draft = app.post("/v1/admin/events", &event).bearer(&owner.token).key("k").await.expect(201);
        let event_path = format!("/v1/admin/events/{}", draft["id"].as_str().unwrap());
        app.post(&format!("{event_path}/publish"), &json!({})).bearer(&owner.token).await.expect(200);
        let path = format!("{event_path}/pricing");
        let ticket_type = draft["ticket_types"][0]["id"].as_str().unwrap().to_owned();
        Self { app, owner, path, event_path, ticket_type }
    }

    fn get(&self) -> Call {
        self.app.get(&self.path).bearer(&self.owner.token)
    }

    fn put(&self, rules: &Value, tag: &str) -> Call {
        self.app.put(&self.path, rules).bearer(&self.owner.token).if_match(tag)
    }

    fn history(&self, query: &str) -> Call {
        self.app.get(&format!("{}/price_history{query}", self.event_path)).bearer(&self.owner.token)
    }

    fn simulate(&self, rules: &Value) -> Call {
        self.app.post(&format!("{}/simulate", self.path), rules).bearer(&self.owner.token)
    }

    async fn set_base_price(&self, cents: i64, tag: &str) -> Answer {
        let fields = serde_json::to_value(ticket_type("Standing", 5, cents)).unwrap();
        let path = format!("{}/ticket_types/{}", self.event_path, self.ticket_type);
        self.app.put(&path, &fields).bearer(&self.owner.token).if_match(tag).await
    }
}

#[tokio::test]
async fn rules_are_off_until_they_are_written_and_each_version_is_written_once() {
    let it = Owned::start().await;
    let unwritten = it.get().await;
    assert_eq!((unwritten.expect(200)["enabled"].clone(), unwritten.etag()), (json!(false), "\"v0\""));
    assert_eq!(unwritten.json()["every_minutes"], 1440);
    let rules = json!({
        "enabled": true, "every_minutes": 1, "floor_bps": 9000, "ceiling_bps": 20_000, "largest_step_bps": 500,
        "round_to": 50, "cool_down_minutes": 5,
        "utilisation": [{"from_bps": 5000, "adjust_bps": 1000}],
        "velocity": {"window_minutes": 30, "expected_bps": 9000, "steps": [{"from_bps": 0, "adjust_bps": 0}]},
        "time_to_event": [{"hours_before": 48, "adjust_bps": -500}, {"hours_before": 24, "adjust_bps": 500}],
        "waitlist": [{"from_tickets": 1, "adjust_bps": 500}],
    });
    it.app.put(&it.path, &rules).bearer(&it.owner.token).await.expect_problem(428, "precondition-required");
    it.put(&rules, "\"v1\"").await.expect_problem(412, "precondition-failed");
    let written = it.put(&rules, "\"v0\"").await;
    assert_eq!(written.etag(), "\"v1\"");
    assert_eq!(written.expect(200), rules, "what is read can be written");
    it.put(&rules, "\"v0\"").await.expect_problem(412, "precondition-failed");
    let kept = it.get().header("if-none-match", "\"v1\"").await;
    assert_eq!((kept.status, kept.bytes.len(), kept.etag()), (304, 0, "\"v1\""));
    assert_eq!(it.get().await.expect(200), rules);
    let off = it.put(&json!({}), "\"v1\"").await;
    assert_eq!((off.expect(200)["enabled"].clone(), off.etag()), (json!(false), "\"v2\""));
    let audited = "SELECT string_agg(concat(detail ->> 'version', detail -> 'rules' -> 'to' ->> 'enabled',
                                            detail -> 'rules' -> 'from' ->> 'enabled'), ' ' ORDER BY id)
                   FROM audit_log WHERE action = 'pricing.updated' AND object_type = 'event' AND actor_id IS NOT NULL";
    assert_eq!(it.app.database.value(audited).await.unwrap(), "1true 2falsetrue");
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_a_pointer_to_it() {
    let it = Owned::start().await;
    for (rules, pointer) in [
        (json!({"every_minutes": 0}), "/every_minutes"),
        (json!({"every_minutes": 1.5}), "/every_minutes"),
        (json!({"colour": "red"}), "/colour"),
        (json!({"velocity": {"speed": 1}}), "/velocity/speed"),
        (json!({"utilisation": [{"from_bps": 1}]}), "/utilisation/0"),
        (json!({"round_to": 451}), "/round_to"),
        (
            json!({"utilisation": [{"from_bps": 1, "adjust_bps": 5}, {"from_bps": 2, "adjust_bps": 4}]}),
            "/utilisation/1/adjust_bps",
        ),
        (json!([]), ""),
    ] {
        for call in [it.put(&rules, "\"v0\""), it.simulate(&rules)] {
            let problem = call.await.expect_problem(422, "validation-failed");
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
        }
    }
    let many = it.put(&json!({"floor_bps": -1, "ceiling_bps": 1}), "\"v0\"").await;
    assert_eq!(many.expect_problem(422, "validation-failed")["errors"].as_array().unwrap().len(), 2);
    it.history("?limit=0").await.expect_problem(400, "invalid-parameter");
    it.history("?cursor=x").await.expect_problem(400, "invalid-parameter");
    it.history("?colour=red").await.expect_problem(400, "invalid-parameter");
    assert_eq!(it.get().await.etag(), "\"v0\"");
}

#[tokio::test]
async fn organizers_see_their_own_and_write_while_it_is_open() {
    let it = Owned::start().await;
    let (app, ada) = (&it.app, it.app.user("ada").await);
    let (other, admin) = (app.person("other", Role::Organizer).await, app.admin().await);
    let nowhere = format!("/v1/admin/events/{}", Uuid::now_v7());
    let calls = |path: &str, token: &str| {
        [
            app.get(&format!("{path}/pricing")).bearer(token),
            app.put(&format!("{path}/pricing"), &json!({})).bearer(token).if_match("\"v0\""),
            app.get(&format!("{path}/price_history")).bearer(token),
            app.post(&format!("{path}/pricing/simulate"), &json!({})).bearer(token),
        ]
    };
    for call in calls(&it.event_path, &other.token).into_iter().chain(calls(&nowhere, &admin.token)) {
        call.await.expect_problem(404, "not-found");
    }
    for call in calls(&it.event_path, &ada.token) {
        call.await.expect_problem(403, "forbidden");
    }
    for call in calls(&it.event_path, &admin.token) {
        call.await.expect(200);
    }
    app.post(&format!("{}/cancel", it.event_path), &json!({})).bearer(&it.owner.token).await.expect(200);
    it.put(&json!({}), "\"v1\"").await.expect_problem(409, "invalid-state");
    it.get().await.expect(200);
}

#[tokio::test]
async fn a_price_set_by_hand_is_in_the_history_with_who_set_it() {
    let it = Owned::start().await;
    assert_eq!(it.history("").await.expect(200), json!({"data": [], "next_cursor": null}));
    it.set_base_price(5_000, "\"v1\"").await.expect(200);
    it.set_base_price(5_000, "\"v2\"").await.expect(200);
    it.set_base_price(5_500, "\"v3\"").await.expect(200);
    let first = it.history("?limit=1").await;
    let page = first.expect(200);
    let change = &page["data"][0];
    assert_eq!(change["ticket_type_id"], it.ticket_type);
    assert_eq!((&change["cause"], &change["reason"]), (&json!("manual"), &Value::Null));
    assert_eq!(change["actor_id"], it.owner.id.to_string());
    let money = |amount: i64| json!({"amount": amount, "currency": "EUR"});
    assert_eq!((&change["from"], &change["to"]), (&money(5_000), &money(5_500)));
    let cursor = page["next_cursor"].as_str().unwrap();
    assert!(first.header("link").unwrap().contains(cursor));
    let second = it.history(&format!("?limit=1&cursor={cursor}")).await.expect(200);
    assert_eq!((&second["data"][0]["from"], &second["next_cursor"]), (&money(4_500), &Value::Null));
    let other = format!("?ticket_type_id={}", Uuid::now_v7());
    assert_eq!(it.history(&other).await.expect(200)["data"], json!([]));
    let mixed = format!("?cursor={cursor}&ticket_type_id={}", it.ticket_type);
    it.history(&mixed).await.expect_problem(400, "invalid-parameter");
    // Nothing was evaluated: it is simulated at each interval of the rules, of which none has passed.
    let simulated = it.simulate(&json!({"every_minutes": 60})).await.expect(200);
    assert_eq!((&simulated["instants"], &simulated["evaluations"]), (&json!("scheduled"), &json!(0)));
    let paths = &simulated["ticket_types"][0];
    assert_eq!(paths["actual"]["prices"][0], json!({"at": null, "price": money(4_500)}));
    assert_eq!(paths["actual"]["prices"][2]["price"], money(5_500));
    assert_eq!(paths["actual"], paths["simulated"]);
}
