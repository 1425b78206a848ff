//! Chaos: real processes under load while everything around them fails, and then a checker that must find nothing.
//!
//! A seed decides what is asked for and what breaks. `make chaos` runs one at length, `make test` a short one.

mod check;
mod check_test;
mod dice;
mod ending;
mod history;
mod line;
mod load;
mod money;
mod plan;
mod rest;
mod stage;
mod waiting;

use std::{convert::Infallible, fmt::Write as _, path::PathBuf, sync::Arc, time::Duration};

use domain::{
    accounts::{
        provision::{ensure_admin, seed_users},
        sessions::Client,
    },
    events::{self, Editor, RefundStep},
    inventory::sync_event,
    samples,
    venues::{self, VenueFields},
};
use secrecy::SecretString;
use tokio::time::sleep;

use self::{
    check::{Violation, check, sub_history},
    ending::Ending,
    history::{History, Sample},
    load::Shop,
    plan::{EVENTS, HOLD_TTL_SECS, OFFER_TTL_SECS, Plan, REFUNDS, Size},
    stage::Stage,
};
use crate::support::{
    children,
    events::{TestEvent, on_sale, ticket_type},
    people::PASSWORD,
};

/// How long all that is under way has to come to rest after healing. Much of what was lost is looked for each minute.
const REST: Duration = Duration::from_mins(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_short_run() {
    let size = Size { length: Duration::from_secs(6), people: 6, hard: false };
    // On a busy machine nothing is too slow.
    run(11, size, REST).await;
}

/// `make chaos`: `CHAOS_SECONDS`, `CHAOS_SEED`.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "runs for as long as it is told to: make chaos"]
async fn at_length() {
    let number =
        |name| std::env::var(name).ok().filter(|text| !text.is_empty()).map(|text| text.parse().unwrap());
    let secs = number("CHAOS_SECONDS").unwrap_or(60);
    let seed = number("CHAOS_SEED").unwrap_or_else(|| u64::from(uuid::Uuid::new_v4().as_fields().0));
    let size = Size { length: Duration::from_secs(secs), people: 8, hard: true };
    run(seed, size, Duration::from_mins(1)).await;
}

/// Runs what the seed plans; `patience` is how long after healing a confirm may take.
async fn run(seed: u64, size: Size, patience: Duration) {
    eprintln!("chaos: seed {seed}, {} s", size.length.as_secs());
    let plan = Plan::draw(seed, size);
    let mut stage = Stage::set().await;
    let (app, _) = evently::api::bind(&stage.env).unwrap();
    let (events, tokens) = furnish(&app, size.people).await;
    stage.launch().await;
    let addresses = tokens[..size.people].iter().map(|token| address(&app, token)).collect();
    let shop = Shop::new(stage.urls(), events.clone(), tokens, Arc::clone(&stage.smtp), addresses);
    let stage = Arc::new(stage);

    let supervising = tokio::spawn(Arc::clone(&stage).supervise(Arc::clone(&shop)));
    let sampling = tokio::spawn(sample(Arc::clone(&shop), stage.database_url.clone()));
    let mut under_way = tokio::task::JoinSet::new();
    for (person, stories) in plan.stories.into_iter().enumerate() {
        under_way.spawn(Arc::clone(&shop).live(person, stories, size.length));
    }
    for (person, waits) in plan.waits.into_iter().enumerate() {
        under_way.spawn(Arc::clone(&shop).wait(person, waits, size.length));
    }
    under_way.spawn(Arc::clone(&shop).organize(size.people, plan.capacities, size.length));
    let mut troubles = tokio::task::JoinSet::new();
    for lane in plan.lanes {
        troubles.spawn(Arc::clone(&stage).befall(lane, Arc::clone(&shop), size.length));
    }
    while let Some(ended) = troubles.join_next().await {
        ended.unwrap();
    }
    stage.heal().await;
    let healed_ms = shop.now_ms();
    shop.history.lock().unwrap().healed_ms = healed_ms;
    while let Some(ended) = under_way.join_next().await {
        ended.unwrap();
    }

    let reads = rest::read_all(&shop, patience.max(REST)).await;
    shop.leave_waitlists().await;
    // Connections of its own, none of which has seen any trouble.
    let (app, _) = evently::api::bind(&stage.env).unwrap();
    rest::come_to_rest(&stage, &app, &events, REST).await;
    sampling.abort();
    supervising.abort();
    let ending = rest::ending(&stage, &app, &shop, reads).await;
    let history = shop.history.lock().unwrap().clone();
    let found = check(&history, &ending, patience);
    eprintln!("chaos: seed {seed}: {}", summary(&history, &ending, shop.now_ms()));
    assert!(found.is_empty(), "{}", report(seed, &history, &ending, &found));
}

/// Something to sell, people to buy it, and at the end of them an admin's token.
async fn furnish(app: &api::App, people: usize) -> (Vec<TestEvent>, Vec<String>) {
    let (email, password) = ("owner@evently.test".parse().unwrap(), SecretString::from(PASSWORD));
    let owner = ensure_admin(&app.db, &email, password.clone()).await.unwrap();
    let fields = VenueFields {
        name: "Kesselhaus".to_owned(),
        address: "Sandtorkai 30".to_owned(),
        city: "Hamburg".to_owned(),
        country: "DE".to_owned(),
        latitude: 53.5436,
        longitude: 9.9886,
        timezone: "Europe/Berlin".to_owned(),
    };
    let venue = venues::create(&app.db, None, &fields).await.unwrap().id;
    let mut events = Vec::new();
    for ((kinds, percent), ttl) in EVENTS.iter().zip(REFUNDS).zip(HOLD_TTL_SECS) {
        let mut event = on_sale(venue, 1);
        event.max_tickets_per_user = 1_000;
        event.hold_ttl_secs = ttl.into();
        event.offer_ttl_secs = OFFER_TTL_SECS;
        event.refund_policy = vec![RefundStep { hours_before: 0, percent: percent.into() }];
        let kinds = kinds.iter().enumerate();
        event.ticket_types = kinds
            .map(|(n, (capacity, cents))| ticket_type(&format!("Block {n}"), *capacity, *cents))
            .collect();
        let id = samples::create_event(&app.db, owner.id, event).await.unwrap();
        let editor = Editor { user_id: owner.id, is_admin: true };
        let published = events::publish(&app.db, editor, id, None).await.unwrap();
        sync_event(&app.inventory, &app.db, id, false).await.unwrap();
        let ticket_types = published.event.ticket_types.iter().map(|kind| kind.id).collect();
        events.push(TestEvent { id, ticket_types });
    }
    let mut tokens = seed_users(&app.db, app.accounts.tokens(), people, password.clone()).await.unwrap();
    tokens.push(app.accounts.log_in(&email, password, &Client::default()).await.unwrap().access_token);
    (events, tokens)
}

/// Where somebody who was seeded gets mail.
fn address(app: &api::App, token: &str) -> String {
    let user = app.accounts.tokens().verify(token).unwrap().user_id;
    format!("load-{}@evently.test", user.simple())
}

/// Looks at the seats all the time, whenever Postgres answers.
async fn sample(shop: Arc<Shop>, url: String) {
    loop {
        // It ends with every fault of Postgres.
        drop(sample_on(&shop, &url).await);
        sleep(Duration::from_millis(100)).await;
    }
}

async fn sample_on(shop: &Shop, url: &str) -> Result<Infallible, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let statement = client.prepare(rest::SAMPLE).await?;
    loop {
        let at_ms = shop.now_ms();
        let rows = client.query(&statement, &[]).await?;
        let samples = rows.iter().map(|row| Sample {
            at_ms,
            ticket_type: row.get::<_, String>(0).parse().unwrap(),
            capacity: row.get::<_, i32>(1).into(),
            sold: row.get::<_, i32>(2).into(),
            reserved: row.get::<_, i32>(3).into(),
            tickets: row.get(4),
            passed_over: row.get(5),
        });
        shop.history.lock().unwrap().samples.extend(samples);
        sleep(Duration::from_millis(100)).await;
    }
}

fn summary(history: &History, ending: &Ending, ended_ms: u64) -> String {
    let count = |wanted: fn(u16) -> bool| {
        history.entries.iter().filter(|entry| wanted(entry.outcome.status())).count()
    };
    let booked = ending.bookings.iter().filter(|row| row.was_confirmed()).count();
    format!(
        "{} requests ({} without an answer, {} refused with 5xx), {} holds confirmed and {} failed, {} places on \
         waitlists with {} offers ({} sold), {} faults, {} samples, {} mails; healed at {} s, at rest at {} s",
        history.entries.len(),
        count(|status| status == 0),
        count(|status| status >= 500),
        booked,
        ending.bookings.len() - booked,
        ending.entries.len(),
        ending.offers.len(),
        ending.offers.iter().filter(|offer| offer.status == "sold").count(),
        history.faults.len(),
        history.samples.len(),
        ending.delivered.len(),
        history.healed_ms / 1_000,
        ended_ms / 1_000,
    )
}

/// What went wrong, with what led to it; all of it goes to a file, and the logs of the processes beside it.
fn report(seed: u64, history: &History, ending: &Ending, found: &[Violation]) -> String {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{seed}"));
    std::fs::create_dir_all(&dir).unwrap();
    for log in std::fs::read_dir(children::root()).unwrap().map(|entry| entry.unwrap().path()) {
        if log.extension().is_some_and(|extension| extension == "log") {
            std::fs::copy(&log, dir.join(log.file_name().unwrap())).unwrap();
        }
    }
    let file = dir.join("history.json");
    let all = serde_json::json!({"seed": seed, "history": history, "ending": ending});
    std::fs::write(&file, serde_json::to_vec_pretty(&all).unwrap()).unwrap();
    let mut text = format!("seed {seed} broke {} promises; all of it: {}\n", found.len(), file.display());
    let _ = writeln!(text, "what was done to it:");
    for fault in &history.faults {
        let _ = writeln!(text, "  {:>6}–{:<6} {}", fault.begun_ms, fault.ended_ms, fault.what);
    }
    for violation in found.iter().take(10) {
        let _ = writeln!(text, "[{}] {:?} {}", violation.rule, violation.about, violation.what);
        let about = violation.about.map(|about| sub_history(history, about)).unwrap_or_default();
        for entry in about {
            let _ = writeln!(
                text,
                "  {:>6}–{:<6} {:?} {:?}",
                entry.begun_ms, entry.ended_ms, entry.op, entry.outcome
            );
        }
    }
    text
}
