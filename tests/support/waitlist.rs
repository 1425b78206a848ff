//! Waiting, as tests do it.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    app::TestApp,
    events::TestEvent,
    http::{Answer, Call},
};

impl TestApp {
    /// `POST …/waitlist` for so many tickets of the first ticket type.
    pub fn join(&self, event: &TestEvent, token: &str, quantity: u32) -> Call {
        let body = json!({"ticket_type_id": event.ticket_types[0], "quantity": quantity});
        self.post(&format!("/v1/events/{}/waitlist", event.id), &body).bearer(token)
    }

    /// The newest entry of the first ticket type.
    pub async fn waits(&self, event: &TestEvent, token: &str) -> Value {
        let path = format!("/v1/events/{}/waitlist/me", event.id);
        self.get(&path).bearer(token).await.expect(200)["data"][0].clone()
    }

    /// The token in the newest offer's mail to this user, once there is one: while no `email` pool runs.
    pub async fn offer_token(&self, user_id: Uuid) -> String {
        let sql = format!(
            "SELECT data ->> 'token' FROM mails WHERE kind = 'waitlist_offer' AND user_id = '{user_id}' \
             ORDER BY id DESC LIMIT 1"
        );
        self.eventually(&sql, Option::is_some).await.unwrap()
    }

    /// The first value of a query, once it is as wanted; fails after 60 s.
    pub async fn eventually(&self, sql: &str, wanted: impl Fn(&Option<String>) -> bool) -> Option<String> {
        for _ in 0..1_200 {
            let value = self.database.value(sql).await;
            if wanted(&value) {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it does not come to be: {sql}: {:?}", self.database.value(sql).await);
    }

    /// What the public sees of the first ticket type, once it is as wanted; fails after 60 s.
    pub async fn seats(&self, event: &TestEvent, wanted: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/v1/events/{}/availability", event.id);
        let mut seen = Value::Null;
        for _ in 0..600 {
            let answer: Answer = self.get(&path).await;
            if answer.status == 200 {
                seen = answer.json()["ticket_types"][0].clone();
                if wanted(&seen) {
                    return seen;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("it does not come to be: {seen}");
    }
}
