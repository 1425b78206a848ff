//! Ticket types of an event that is being sold: added, raised, cut, removed.

use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    events::{TestEvent, ticket_type},
    people::Person,
};

struct Sale {
    app: TestApp,
    event: TestEvent,
    admin: Person,
    ada: Person,
}

impl Sale {
    async fn start(capacity: i64) -> Self {
        let app = TestApp::start().await;
        let event = app.event(capacity).await;
        let (admin, ada) = (app.admin().await, app.user("ada").await);
        Self { app, event, admin, ada }
    }

    fn path(&self) -> String {
        format!("/v1/admin/events/{}/ticket_types", self.event.id)
    }

    async fn capacity(&self, capacity: i64, version: i64) -> crate::support::http::Answer {
        let fields = serde_json::to_value(ticket_type("Standing", capacity, 4500)).unwrap();
        let path = format!("{}/{}", self.path(), self.event.ticket_types[0]);
        self.app.put(&path, &fields).bearer(&self.admin.token).if_match(&format!("\"v{version}\"")).await
    }

    async fn hold(&self, quantity: i64, key: &str) -> crate::support::http::Answer {
        let items = json!({"items": [{"ticket_type_id": self.event.ticket_types[0], "quantity": quantity}]});
        let path = format!("/v1/events/{}/holds", self.event.id);
        self.app.post(&path, &items).bearer(&self.ada.token).key(key).await
    }

    async fn seats(&self) -> Value {
        let path = format!("/v1/events/{}/availability", self.event.id);
        self.app.get(&path).await.expect(200)["ticket_types"][0].clone()
    }
}

#[tokio::test]
async fn raised_at_once_and_cut_to_what_is_held() {
    let sale = Sale::start(2).await;
    sale.hold(2, "a").await.expect(201);
    sale.hold(1, "b").await.expect_problem(409, "sold-out");
    let raised = sale.capacity(5, 1).await;
    assert_eq!((raised.expect(200)["available"].clone(), raised.etag()), (json!(3), "\"v2\""));
    sale.hold(1, "c").await.expect(201);

    sale.capacity(2, 2).await.expect_problem(409, "capacity-in-use");
    assert_eq!(sale.seats().await["capacity"], 5);
    sale.capacity(4, 1).await.expect_problem(412, "precondition-failed");
    assert_eq!(sale.capacity(3, 2).await.expect(200)["available"], 0);
    sale.hold(1, "d").await.expect_problem(409, "sold-out");
    let row = sale.app.database.rows("SELECT capacity, version, inventory_version FROM ticket_types").await;
    assert_eq!(row[0], ["3", "3", "3"].map(|text| Some(text.to_owned())));
    let event = sale.app.get(&format!("/v1/events/{}", sale.event.id)).await.expect(200);
    assert_eq!(event["version"], 4);
}

#[tokio::test]
async fn a_cut_counts_sales_that_redis_has_not_heard_of() {
    let sale = Sale::start(5).await;
    sale.app.database.execute("UPDATE ticket_types SET sold = 4").await;
    sale.capacity(3, 1).await.expect_problem(409, "capacity-in-use");
    let seats = sale.seats().await;
    assert_eq!(seats["capacity"], 5);
}

#[tokio::test]
async fn a_cut_without_an_inventory_waits_for_one() {
    let sale = Sale::start(5).await;
    let mut connection = sale.app.app.redis.connection.clone();
    redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await.unwrap();
    assert_eq!(sale.capacity(3, 1).await.expect(200)["available"], 3);
}

#[tokio::test]
async fn added_changed_and_removed() {
    let sale = Sale::start(2).await;
    let (app, admin) = (&sale.app, &sale.admin);
    let add = |name: &str, currency: &str| {
        let fields =
            json!({"name": name, "capacity": 3, "base_price": {"amount": 700, "currency": currency}});
        app.post(&sale.path(), &fields).bearer(&admin.token)
    };
    let problem = add("Balcony", "USD").await.expect_problem(422, "validation-failed");
    assert_eq!(problem["errors"][0]["pointer"], "/base_price/currency");
    let added = add("Balcony", "EUR").await;
    assert_eq!((added.expect(201)["available"].clone(), added.etag()), (json!(3), "\"v1\""));
    let path = format!("{}/{}", sale.path(), added.json()["id"].as_str().unwrap());
    let read = || async { app.get(&format!("/v1/events/{}", sale.event.id)).await.expect(200) };
    assert_eq!(read().await["ticket_types"].as_array().unwrap().len(), 2);

    let fields = json!({"name": "Gallery", "capacity": 3, "base_price": {"amount": 800, "currency": "EUR"}});
    let changed = app.put(&path, &fields).bearer(&admin.token).if_match("\"v1\"").await;
    assert_eq!(changed.expect(200)["price"]["amount"], 800);
    assert_eq!(read().await["ticket_types"][1]["name"], "Gallery");

    let delete = |tag: &str| app.delete(&path).bearer(&admin.token).if_match(tag);
    delete("\"v1\"").await.expect_problem(412, "precondition-failed");
    assert_eq!(delete("\"v2\"").await.status, 204);
    delete("\"v2\"").await.expect_problem(404, "not-found");
    assert_eq!(read().await["ticket_types"].as_array().unwrap().len(), 1);
    let last = format!("{}/{}", sale.path(), sale.event.ticket_types[0]);
    let answer = app.delete(&last).bearer(&admin.token).if_match("\"v1\"").await;
    answer.expect_problem(409, "invalid-state");
    add("Balcony", "EUR").await.expect(201);
    sale.hold(1, "a").await.expect(201);
    let answer = app.delete(&last).bearer(&admin.token).if_match("\"v1\"").await;
    answer.expect_problem(409, "capacity-in-use");
    assert_eq!(sale.seats().await["capacity"], 2);
}
