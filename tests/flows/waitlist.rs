//! Bookings cancelled under load while many wait and strangers try: offers in order, and each seat ends once.
//!
//! `EVENTLY_TEST_WAITING=500` lets so many wait as the promise speaks of, with 10,000 tries of strangers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use futures::future::{join, join_all};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{assert_at_rest, confirm_path, hold_path, pay, place};
use crate::support::{
    app::TestApp,
    events::TestEvent,
    http::{Answer, Call},
};

/// How long all of it may take, however busy the machine is.
const PATIENCE: Duration = Duration::from_mins(8);

/// Entries before one that was served: all want one ticket, and nobody leaves.
const PASSED_OVER: &str = "SELECT count(*) FROM waitlist_entries WHERE status = 'waiting' AND place <
    (SELECT max(place) FROM waitlist_entries WHERE status <> 'waiting')";

/// How many of everybody there are.
struct Numbers {
    waiting: usize,
    tries: usize,
}

impl Numbers {
    fn of_environment() -> Self {
        let waiting = std::env::var("EVENTLY_TEST_WAITING").map_or(60, |waiting| waiting.parse().unwrap());
        Self { waiting, tries: if waiting < 500 { 300 } else { 10_000 } }
    }

    fn seats(&self) -> usize {
        self.waiting / 2
    }

    fn cancelled(&self) -> usize {
        self.waiting * 2 / 5
    }

    fn strangers(&self) -> usize {
        self.waiting / 3
    }
}

/// What people make of their offers.
#[derive(Default)]
struct Deeds {
    /// Offers that were answered.
    answered: AtomicUsize,
    bought: AtomicUsize,
    /// While strangers try, so many offers are answered that somebody waits all the time.
    strangers_are_done: AtomicBool,
}

/// The address of whom a token is.
fn address(app: &TestApp, token: &str) -> String {
    let user = app.app.accounts.tokens().verify(token).unwrap().user_id;
    format!("load-{}@evently.test", user.simple())
}

/// The token of the offer that a mail is about.
fn offer_in(raw: &str) -> Option<String> {
    let text = raw.replace("=\r\n", "");
    let at = text.find("/v1/offers/")? + "/v1/offers/".len();
    let is_token = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    Some(text[at..].chars().take_while(is_token).collect())
}

/// Sends a request again while a process that has more to do than it can refuses it.
async fn insist(call: impl Fn() -> Call) -> Answer {
    let begun = Instant::now();
    loop {
        let answer = call().await;
        if answer.status != 503 {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "{answer:?}");
        sleep(Duration::from_millis(200)).await;
    }
}

/// Claims an offer twice, and pays or gives it back.
async fn claim(app: &TestApp, event: &TestEvent, offer: &str, token: &str, buys: bool) {
    let path = format!("/v1/offers/{offer}/claim");
    let claim = || app.post(&path, &json!({}));
    let (one, other) = join(insist(claim), insist(claim)).await;
    assert_eq!(one.json()["id"], other.json()["id"]);
    assert_eq!(one.status + other.status, 401, "one is first: {one:?} {other:?}");
    let hold = one.json();
    if buys {
        let path = confirm_path(event, &hold);
        let confirm = || app.post(&path, &pay("tok_ok")).bearer(token).header("prefer", "wait=30");
        let mut booked = insist(confirm).await;
        // Workers die meanwhile: what is accepted is asked for again.
        while booked.status == 202 {
            booked = insist(confirm).await;
        }
        assert_eq!(booked.expect(201)["status"], "confirmed");
    } else {
        insist(|| app.delete(&hold_path(event, &hold)).bearer(token)).await.expect(204);
    }
}

/// Answers every offer as its mail arrives, until everybody who waits has had one: the first of three declines, the
/// second buys, the third claims and lets go.
async fn answer(app: &TestApp, event: &TestEvent, waiting: &[String], deeds: &Deeds, numbers: &Numbers) {
    let people: BTreeMap<String, &String> =
        waiting.iter().map(|token| (address(app, token), token)).collect();
    let (mut seen, mut read) = (BTreeSet::new(), 0);
    let begun = Instant::now();
    while deeds.answered.load(Relaxed) < numbers.waiting {
        assert!(begun.elapsed() < PATIENCE, "only {} offers", deeds.answered.load(Relaxed));
        let mails = app.smtp().received();
        // What is left for the end is looked at again.
        let mut fresh = Vec::new();
        for mail in &mails[read..] {
            let answered = deeds.answered.load(Relaxed) + fresh.len();
            if !deeds.strangers_are_done.load(Relaxed) && answered >= numbers.waiting / 2 {
                break;
            }
            read += 1;
            if let (Some(token), Some(offer)) = (people.get(&mail.to), offer_in(&mail.raw))
                && seen.insert(offer.clone())
            {
                fresh.push((answered, offer, *token));
            }
        }
        let answers = fresh.iter().map(async |(n, offer, token)| match n % 3 {
            0 => {
                let path = format!("/v1/offers/{offer}/decline");
                insist(|| app.post(&path, &json!({}))).await.expect(204);
            }
            1 => {
                claim(app, event, offer, token, true).await;
                deeds.bought.fetch_add(1, Relaxed);
            }
            _ => claim(app, event, offer, token, false).await,
        });
        join_all(answers).await;
        deeds.answered.fetch_add(fresh.len(), Relaxed);
        sleep(Duration::from_millis(20)).await;
    }
}

/// Strangers try as often as they are to, and for as long as offers are answered beside them; answers how often they
/// got a seat.
async fn snatch(
    app: &TestApp,
    event: &TestEvent,
    strangers: &[String],
    deeds: &Deeds,
    numbers: &Numbers,
) -> usize {
    let (mut tries, mut taken) = (0, 0);
    let begun = Instant::now();
    while tries < numbers.tries || deeds.answered.load(Relaxed) < numbers.waiting / 2 {
        assert!(begun.elapsed() < PATIENCE, "only {} offers", deeds.answered.load(Relaxed));
        let key = format!("s{tries}");
        let calls = strangers.iter().map(|token| place(app, event, token, &key, &[1]).into_future());
        let answers = join_all(calls).await;
        taken += answers.iter().filter(|answer| answer.status == 201).count();
        tries += answers.len();
    }
    deeds.strangers_are_done.store(true, Relaxed);
    eprintln!("waitlist: {tries} tries of strangers, {taken} seats");
    taken
}

/// Looks all the time whether anybody was passed over; answers how often it looked.
async fn watch_the_order(app: &TestApp, deeds: &Deeds, numbers: &Numbers) -> usize {
    let mut looks = 0;
    while deeds.answered.load(Relaxed) < numbers.waiting {
        assert_eq!(app.database.value(PASSED_OVER).await.as_deref(), Some("0"), "strictly in order");
        looks += 1;
        sleep(Duration::from_millis(10)).await;
    }
    looks
}

#[tokio::test(flavor = "multi_thread")]
async fn freed_seats_go_to_those_who_wait_in_order_and_to_no_stranger() {
    let numbers = Numbers::of_environment();
    let (seats, waiting, freed) = (numbers.seats(), numbers.waiting, numbers.cancelled());
    let app = TestApp::builder().with_smtp().start().await;
    let workers = app.work();
    let event = app.event(i64::try_from(seats).unwrap()).await;
    let crowd = app.crowd(seats + waiting + numbers.strangers()).await;
    let (buyers, rest) = crowd.split_at(seats);
    let (waiters, strangers) = rest.split_at(waiting);
    let buy = async |token: &String| {
        let hold = place(&app, &event, token, "k", &[1]).await.expect(201);
        let path = confirm_path(&event, &hold);
        let confirm = || app.post(&path, &pay("tok_ok")).bearer(token).header("prefer", "wait=30");
        insist(confirm).await.expect(201)["id"].as_str().unwrap().to_owned()
    };
    let bookings = join_all(buyers.iter().map(buy)).await;
    let joined = join_all(waiters.iter().map(|token| insist(|| app.join(&event, token, 1)))).await;
    let mut positions: Vec<_> =
        joined.iter().map(|joined| joined.expect(201)["position"].as_u64().unwrap()).collect();
    positions.sort_unstable();
    assert_eq!(positions, (1..=waiting as u64).collect::<Vec<_>>());

    // Bookings are cancelled, all at once, offers are answered as they come, strangers try, and workers die.
    let cancel = async |(n, id): (usize, &String)| {
        let path = format!("/v1/bookings/{id}/cancel");
        insist(|| app.post(&path, &json!({})).bearer(&buyers[n]).key("c")).await.expect(200);
    };
    let deeds = Deeds::default();
    let dying = async {
        sleep(Duration::from_millis(300)).await;
        drop(workers);
        let second = app.work();
        sleep(Duration::from_millis(1_500)).await;
        drop(second);
        app.work()
    };
    let (_, (), taken, looks, workers) = tokio::join!(
        join_all(bookings[..freed].iter().enumerate().map(cancel)),
        answer(&app, &event, waiters, &deeds, &numbers),
        snatch(&app, &event, strangers, &deeds, &numbers),
        watch_the_order(&app, &deeds, &numbers),
        dying,
    );
    assert_eq!(taken, 0, "no stranger gets a freed seat");
    assert!(looks > 10, "the order was looked at {looks} times");
    let over = "SELECT count(*) FROM waitlist_entries WHERE status IN ('waiting', 'offered')";
    assert_eq!(app.database.value(over).await.as_deref(), Some("0"));
    let offers = "SELECT count(*) || ':' || count(DISTINCT entry_id) FROM waitlist_offers";
    assert_eq!(app.database.value(offers).await, Some(format!("{waiting}:{waiting}")), "one offer each");

    // Every freed seat was sold to one who waited, or is the public's.
    let bought = deeds.bought.load(Relaxed);
    let public = freed - bought;
    app.seats(&event, |seen| seen["available"] == public && seen["held"] == 0 && seen["offered"] == 0).await;
    let calls = strangers.iter().map(|token| place(&app, &event, token, "late", &[1]).into_future());
    let late = join_all(calls).await;
    assert_eq!(late.iter().filter(|answer| answer.status == 201).count(), public);
    for (answer, token) in late.iter().zip(strangers).filter(|(answer, _)| answer.status == 201) {
        app.delete(&hold_path(&event, &answer.json())).bearer(token).await.expect(204);
    }
    app.rest().await;
    let sold = i64::try_from(seats - public).unwrap();
    assert_at_rest(&app, &event, sold, 0).await;
    app.database.assert_ledger_is_bookings().await;
    let ends = "SELECT string_agg(status || ':' || n, ',' ORDER BY status) FROM
                (SELECT status, count(*) AS n FROM waitlist_offers GROUP BY 1) AS counted";
    eprintln!("waitlist: {looks} looks at the order; offers: {:?}", app.database.value(ends).await);
    workers.stop().await;
}
