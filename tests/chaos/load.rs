//! People who buy, and an organizer who changes his mind: each request is entered in the history.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use domain::clock;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::{
    history::{Entry, History, Op, Outcome},
    plan::{Cancel, CapacityChange, EVENTS, Story, Then},
};
use crate::support::{events::TestEvent, smtp::SmtpSink};

/// How long anybody waits for an answer.
const PATIENCE: Duration = Duration::from_secs(13);
/// How often a request without an answer is sent again, and after which pause.
const TRIES: usize = 5;
const PAUSE: Duration = Duration::from_millis(400);

/// What everybody who sends requests shares.
pub struct Shop {
    client: reqwest::Client,
    /// The APIs, each behind its proxy.
    urls: Vec<String>,
    pub(super) events: Vec<TestEvent>,
    tokens: Vec<String>,
    /// Where the mails arrive, and the address of each of those who buy.
    pub(super) smtp: Arc<SmtpSink>,
    pub(super) addresses: Vec<String>,
    pub history: Mutex<History>,
    /// What holds were placed, with their tokens: what a person would have kept.
    pub kept: Mutex<BTreeMap<Uuid, Kept>>,
    turn: AtomicUsize,
    pub(super) begun: Instant,
    begun_at: DateTime<Utc>,
}

#[derive(Clone, Debug)]
pub struct Kept {
    pub person: usize,
    pub event: Uuid,
    pub hold_token: String,
    pub is_free: bool,
    /// Whether its confirm carries the token.
    pub with_token: bool,
}

impl Shop {
    pub fn new(
        urls: Vec<String>,
        events: Vec<TestEvent>,
        tokens: Vec<String>,
        smtp: Arc<SmtpSink>,
        addresses: Vec<String>,
    ) -> Arc<Self> {
        // A connection that a proxy left in the dark is not to be met again and again.
        let client = reqwest::Client::builder().timeout(PATIENCE).pool_idle_timeout(Duration::from_secs(2));
        Arc::new(Self {
            client: client.build().unwrap(),
            urls,
            events,
            tokens,
            smtp,
            addresses,
            history: Mutex::default(),
            kept: Mutex::default(),
            turn: AtomicUsize::new(0),
            begun: Instant::now(),
            begun_at: clock::now(),
        })
    }

    /// The clock time at which the run began, in milliseconds since 1970.
    pub fn begun_at_ms(&self) -> u64 {
        u64::try_from(self.begun_at.timestamp_millis()).unwrap()
    }

    /// Milliseconds since the run began.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap()
    }

    /// Sends a request to the next API, once.
    pub(super) async fn send(&self, op: &Op, person: usize, call: &Call) -> Outcome {
        let begun_ms = self.now_ms();
        let url = &self.urls[self.turn.fetch_add(1, Ordering::Relaxed) % self.urls.len()];
        let mut request = self.client.request(call.method.clone(), format!("{url}{}", call.path));
        request = request.bearer_auth(&self.tokens[person]);
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        if !call.body.is_null() {
            request = request.json(&call.body);
        }
        let answer = async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            Ok::<_, reqwest::Error>((status, response.bytes().await?))
        };
        let outcome = match answer.await {
            Ok((status, bytes)) => {
                let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                Outcome::Answer { status, body }
            }
            Err(error) => Outcome::Unknown(format!("{:?}", error.without_url())),
        };
        let ended_ms = self.now_ms();
        let (op, kept) = (op.clone(), outcome.clone());
        self.history.lock().unwrap().entries.push(Entry { person, begun_ms, ended_ms, op, outcome: kept });
        outcome
    }

    /// Sends it until it is decided, and gives up after some tries.
    pub(super) async fn insist(&self, op: Op, person: usize, call: Call) -> Outcome {
        let mut outcome = self.send(&op, person, &call).await;
        for _ in 1..TRIES {
            if !outcome.is_open() {
                break;
            }
            sleep(PAUSE).await;
            outcome = self.send(&op, person, &call).await;
        }
        outcome
    }

    /// Reads a booking, once.
    pub async fn read(&self, booking: Uuid, person: usize) -> Outcome {
        let call = Call::new(Method::GET, format!("/v1/bookings/{booking}"));
        self.send(&Op::Read { booking }, person, &call).await
    }

    /// Confirms a hold as its owner would, until that is decided.
    pub async fn confirm(&self, hold: Uuid, kept: &Kept, card: &str, wait_secs: u32) -> Outcome {
        let mut body = json!({});
        if !kept.is_free {
            body["payment"] = json!({"provider": "sandbox", "token": card});
        }
        if kept.with_token {
            body["hold_token"] = json!(kept.hold_token);
        }
        let mut call = Call::new(Method::POST, format!("/v1/events/{}/holds/{hold}/confirm", kept.event));
        call.headers.push(("prefer", format!("wait={wait_secs}")));
        call.body = body;
        let op = Op::Confirm { hold, card: card.to_owned(), with_token: kept.with_token, wait_secs };
        self.insist(op, kept.person, call).await
    }

    /// Lives through one person's stories, those that still begin before the end.
    pub async fn live(self: Arc<Self>, person: usize, stories: Vec<Story>, length: Duration) {
        for (n, story) in stories.into_iter().enumerate() {
            sleep_until(self.begun + story.at).await;
            if self.begun.elapsed() >= length {
                return;
            }
            self.live_through(person, n, &story).await;
        }
    }

    async fn live_through(&self, person: usize, n: usize, story: &Story) {
        let event = &self.events[story.event];
        let lines = event.ticket_types.iter().copied().zip(story.quantities.iter().copied());
        let items: Vec<(Uuid, u32)> = lines.filter(|(_, quantity)| *quantity > 0).collect();
        let wire: Vec<_> =
            items.iter().map(|(id, quantity)| json!({"ticket_type_id": id, "quantity": quantity})).collect();
        let key = format!("{person}-{n}");
        let mut call = Call::new(Method::POST, format!("/v1/events/{}/holds", event.id));
        call.headers.push(("idempotency-key", key.clone()));
        call.body = json!({ "items": wire });
        let op = Op::Place { event: event.id, key, items };
        if story.again {
            self.send(&op, person, &call).await;
        }
        let placed = self.insist(op, person, call).await;
        if placed.status() == 201 {
            sleep(story.think).await;
            self.go_on(person, event.id, placed.body(), &story.then).await;
        }
    }

    /// What somebody does who has got a hold, as it was answered.
    pub(super) async fn go_on(&self, person: usize, event: Uuid, answer: &Value, then: &Then) {
        let hold: Uuid = answer["id"].as_str().unwrap().parse().unwrap();
        match then {
            Then::Leave => {}
            Then::Release => {
                let path = format!("/v1/events/{event}/holds/{hold}");
                self.insist(Op::Release { hold }, person, Call::new(Method::DELETE, path)).await;
            }
            Then::Confirm { card, wait_secs, with_token, again, cancel } => {
                let kept = Kept {
                    person,
                    event,
                    hold_token: answer["hold_token"].as_str().unwrap().to_owned(),
                    is_free: answer["total"]["amount"] == 0,
                    with_token: *with_token,
                };
                self.kept.lock().unwrap().insert(hold, kept.clone());
                let first = self.confirm(hold, &kept, card, *wait_secs);
                let outcome = if *again {
                    tokio::join!(first, self.confirm(hold, &kept, card, *wait_secs)).0
                } else {
                    first.await
                };
                // Another card, as people do.
                if outcome.status() == 402 {
                    self.confirm(hold, &kept, "tok_ok", *wait_secs).await;
                }
                self.read(hold, person).await;
                if let Some(cancel) = cancel {
                    self.cancel(hold, person, *cancel).await;
                }
            }
        }
    }

    async fn cancel(&self, booking: Uuid, person: usize, cancel: Cancel) {
        sleep(cancel.after).await;
        let key = format!("cancel-{booking}");
        for _ in 0..=usize::from(cancel.again) {
            let mut call = Call::new(Method::POST, format!("/v1/bookings/{booking}/cancel"));
            call.headers.push(("idempotency-key", key.clone()));
            self.insist(Op::Cancel { booking, key: key.clone() }, person, call).await;
        }
    }

    /// Sets capacities, some above and some below what is sold; `person` is an admin.
    pub async fn organize(self: Arc<Self>, person: usize, changes: Vec<CapacityChange>, length: Duration) {
        for change in changes {
            sleep_until(self.begun + change.at).await;
            if self.begun.elapsed() >= length {
                return;
            }
            let event = &self.events[change.event];
            let ticket_type = event.ticket_types[change.ticket_type];
            let url = &self.urls[self.turn.fetch_add(1, Ordering::Relaxed) % self.urls.len()];
            let read = self.client.get(format!("{url}/v1/events/{}", event.id)).send();
            // What cannot be read just now is not changed either.
            let Ok(Ok(read)) =
                tokio::time::timeout(PATIENCE, async { read.await?.json::<Value>().await }).await
            else {
                continue;
            };
            let kinds = read["ticket_types"].as_array().map(Vec::as_slice).unwrap_or_default();
            let Some(kind) = kinds.iter().find(|kind| kind["id"] == ticket_type.to_string()) else {
                continue;
            };
            let price = EVENTS[change.event][change.ticket_type].1;
            let path = format!("/v1/admin/events/{}/ticket_types/{ticket_type}", event.id);
            let mut call = Call::new(Method::PUT, path);
            call.headers.push(("if-match", format!("\"v{}\"", kind["version"])));
            call.body = json!({"name": kind["name"], "capacity": change.to,
                "base_price": {"amount": price, "currency": "EUR"}});
            self.send(&Op::Capacity { ticket_type, to: change.to }, person, &call).await;
        }
    }
}

pub(super) struct Call {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    pub(super) body: Value,
}

impl Call {
    pub(super) fn new(method: Method, path: String) -> Self {
        Self { method, path, headers: Vec::new(), body: Value::Null }
    }
}
