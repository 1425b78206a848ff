//! People who wait for what is sold out: when they join, and what they make of their offers.

use std::{sync::Arc, time::Duration};

use reqwest::Method;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    dice::Dice,
    history::Op,
    load::{Call, Shop},
    plan::{EVENTS, Then, WAITED_FOR},
};

/// How often somebody who waits looks for mail.
const LOOK: Duration = Duration::from_millis(100);

/// One time somebody waits, if there is anything to wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    pub at: Duration,
    pub event: usize,
    pub quantity: u32,
    /// How long he looks for an offer, before he leaves or goes about other things.
    pub patience: Duration,
    pub leaves: bool,
    pub think: Duration,
    pub then: Answer,
}

/// What somebody makes of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Lets it run out.
    Nothing,
    Decline,
    Claim {
        /// Sends the claim twice, at the same time.
        again: bool,
        then: Then,
    },
}

impl Wait {
    pub fn draw(dice: &mut Dice, length: Duration) -> Vec<Self> {
        let mut waits = Vec::new();
        let mut at = dice.millis(0, 1_500);
        while at < length {
            let then = match dice.between(0, 9) {
                0 => Answer::Nothing,
                1 | 2 => Answer::Decline,
                _ => Answer::Claim { again: dice.chance(30), then: after_claim(dice) },
            };
            let event = dice.pick(&WAITED_FOR);
            waits.push(Self {
                at,
                event,
                quantity: if dice.chance(70) { 1 } else { 2 },
                patience: dice.millis(500, 6_000),
                leaves: dice.chance(30),
                think: dice.millis(0, 800),
                then,
            });
            at += dice.millis(200, 1_500);
        }
        waits
    }
}

fn after_claim(dice: &mut Dice) -> Then {
    match dice.between(0, 9) {
        0 => Then::Leave,
        1 => Then::Release,
        _ => Then::confirm(dice),
    }
}

/// The token of the offer that a mail carries.
fn token_in(raw: &str) -> Option<String> {
    let text = raw.replace("=\r\n", "");
    let at = text.find("/v1/offers/")? + "/v1/offers/".len();
    let is_token = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    Some(text[at..].chars().take_while(is_token).collect())
}

impl Shop {
    /// Waits as one person does, as often as that still begins before the end.
    pub async fn wait(self: Arc<Self>, person: usize, waits: Vec<Wait>, length: Duration) {
        let mut read = 0;
        let mut known = Vec::new();
        for wait in waits {
            sleep_until(self.begun + wait.at).await;
            if self.begun.elapsed() >= length {
                return;
            }
            self.wait_once(person, &wait, &mut read, &mut known).await;
        }
    }

    async fn wait_once(&self, person: usize, wait: &Wait, read: &mut usize, known: &mut Vec<String>) {
        let event = &self.events[wait.event];
        let ticket_type = event.ticket_types[EVENTS[wait.event].len() - 1];
        let mut call = Call::new(Method::POST, format!("/v1/events/{}/waitlist", event.id));
        call.body = json!({"ticket_type_id": ticket_type, "quantity": wait.quantity});
        let op = Op::Join { event: event.id, ticket_type, quantity: wait.quantity };
        let joined = self.insist(op, person, call).await;
        if !matches!(joined.status(), 200 | 201) {
            return;
        }
        let until = Instant::now() + wait.patience;
        while Instant::now() < until {
            let mails = self.smtp.received_after(*read);
            *read += mails.len();
            let mine = mails.iter().filter(|mail| mail.to == self.addresses[person]);
            let fresh = mine.filter_map(|mail| token_in(&mail.raw)).find(|token| !known.contains(token));
            if let Some(token) = fresh {
                known.push(token.clone());
                sleep(wait.think).await;
                return self.answer(person, &token, &wait.then).await;
            }
            sleep(LOOK).await;
        }
        if wait.leaves {
            self.leave_waitlist(person, wait.event).await;
        }
    }

    async fn answer(&self, person: usize, token: &str, answer: &Answer) {
        let (path, token) = (format!("/v1/offers/{token}"), token.to_owned());
        self.send(&Op::Look { token: token.clone() }, person, &Call::new(Method::GET, path.clone())).await;
        match answer {
            Answer::Nothing => {}
            Answer::Decline => {
                let call = Call::new(Method::POST, format!("{path}/decline"));
                self.insist(Op::Decline { token }, person, call).await;
            }
            Answer::Claim { again, then } => {
                let claim = || {
                    let call = Call::new(Method::POST, format!("{path}/claim"));
                    self.insist(Op::Claim { token: token.clone() }, person, call)
                };
                let claimed = if *again { tokio::join!(claim(), claim()).0 } else { claim().await };
                let event = claimed.body()["event_id"].as_str().and_then(|id| id.parse().ok());
                if let Some(event) = event.filter(|_| matches!(claimed.status(), 200 | 201)) {
                    self.go_on(person, event, claimed.body(), then).await;
                }
            }
        }
    }

    async fn leave_waitlist(&self, person: usize, event: usize) {
        let event = self.events[event].id;
        let call = Call::new(Method::DELETE, format!("/v1/events/{event}/waitlist/me"));
        self.insist(Op::Leave { event }, person, call).await;
    }

    /// Lets everybody leave every waitlist: what comes free afterwards is the public's.
    pub async fn leave_waitlists(&self) {
        for person in 0..self.addresses.len() {
            for event in WAITED_FOR {
                self.leave_waitlist(person, event).await;
            }
        }
    }
}
