//! Far more than a process can serve, clients that are slow on purpose, and a flood of logins: refused at once and in
//! form, and what is admitted is served.
//!
//! `EVENTLY_TEST_OVERLOAD_CONNECTIONS=5000` runs the first test at full size and with the limits of production; the
//! times that it prints are for whoever runs it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::{
    io::AsyncWriteExt,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::support::{
    api_process::ApiProcess,
    app::TestApp,
    events::TestEvent,
    wire::{Wire, WireAnswer, request},
};

/// Nothing takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_mins(1);

fn place(event: &TestEvent, token: &str, key: &str) -> Vec<u8> {
    let path = format!("/v1/events/{}/holds", event.id);
    let items = json!({"items": [{"ticket_type_id": event.ticket_types[0], "quantity": 1}]});
    let bearer = format!("Bearer {token}");
    request("POST", &path, &[("authorization", &bearer), ("idempotency-key", key)], Some(&items))
}

/// One request on a connection of its own.
async fn ask(address: SocketAddr, request: &[u8]) -> WireAnswer {
    let answer = async { Wire::connect(address).await?.ask(request).await };
    timeout(PATIENCE, answer).await.expect("an answer in time").unwrap()
}

/// How long each of some holds takes, one after the other; all of them are placed.
async fn holds_one_by_one(
    address: SocketAddr,
    event: &TestEvent,
    token: &str,
    prefix: &str,
    count: usize,
) -> Times {
    let mut times = Times::default();
    for n in 0..count {
        let begun = Instant::now();
        let answer = ask(address, &place(event, token, &format!("{prefix}-{n}"))).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        times.0.push(begun.elapsed());
    }
    times
}

#[derive(Clone, Debug, Default)]
struct Times(Vec<Duration>);

impl Times {
    fn quantile(&self, q: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "an index"
        )]
        let at = (sorted.len().saturating_sub(1) as f64 * q) as usize;
        sorted.get(at).copied().unwrap_or_default()
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (count, [p50, p99, max]) = (self.0.len(), [0.5, 0.99, 1.0].map(|q| self.quantile(q)));
        write!(f, "{count} answers, p50 {p50:.1?}, p99 {p99:.1?}, longest {max:.1?}")
    }
}

/// Whether a question for health was answered, not refused. A machine that is busy with other things may leave
/// Postgres or Redis without an answer for a moment, and `/readyz` says so.
fn is_health(path: &str, answer: &WireAnswer) -> bool {
    answer.status == 200 || path == "/readyz" && answer.is_refusal() && !is_shed(answer)
}

/// Asks for health, each time on a connection of its own, until it is told to stop.
async fn watch_health(address: SocketAddr, stop: Arc<AtomicBool>) -> Times {
    let mut times = Times::default();
    while !stop.load(Ordering::Relaxed) {
        for path in ["/livez", "/readyz"] {
            let begun = Instant::now();
            let answer = ask(address, &request("GET", path, &[], None)).await;
            assert!(is_health(path, &answer), "{path}: {answer:?}");
            if answer.status != 200 {
                eprintln!("not ready: {}", String::from_utf8_lossy(&answer.body));
            }
            times.0.push(begun.elapsed());
        }
        sleep(Duration::from_millis(100)).await;
    }
    times
}

/// Whether the process refused the request because it has too many, and has done nothing for it.
fn is_shed(answer: &WireAnswer) -> bool {
    answer.is_refusal() && String::from_utf8_lossy(&answer.body).contains("more requests than it can answer")
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Served,
    /// Refused at once.
    Shed,
    /// Refused because something did not answer: whether it was done is not known.
    Unknown,
}

/// The requests of one kind, and how each of them ended.
#[derive(Clone, Default)]
struct Pressure {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    shed: Arc<AtomicUsize>,
}

impl Pressure {
    /// What one connection does: the next request as soon as the last one is answered, a short rest after a refusal.
    async fn press(self, address: SocketAddr, next: impl Fn(usize) -> Vec<u8>) -> Vec<(End, Duration)> {
        let mut wire = timeout(PATIENCE, Wire::connect(address)).await.expect("connected in time").unwrap();
        let mut seen = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let (request, begun) = (next(seen.len()), Instant::now());
            let answer = timeout(PATIENCE, wire.ask(&request)).await.expect("an answer in time").unwrap();
            let end = match answer.status {
                200 | 201 => End::Served,
                _ if is_shed(&answer) => End::Shed,
                _ => End::Unknown,
            };
            assert!(end != End::Unknown || answer.is_refusal(), "{answer:?}");
            seen.push((end, begun.elapsed()));
            if end == End::Served {
                self.served.fetch_add(1, Ordering::Relaxed);
            } else {
                self.shed.fetch_add(usize::from(end == End::Shed), Ordering::Relaxed);
                sleep(Duration::from_millis(50)).await;
            }
        }
        seen
    }

    /// Until some were served and some refused.
    async fn has_both(&self) {
        let begun = Instant::now();
        while [&self.served, &self.shed].iter().any(|count| count.load(Ordering::Relaxed) == 0) {
            assert!(begun.elapsed() < PATIENCE, "{:?} served, {:?} refused", self.served, self.shed);
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_times_too_much_is_refused_in_form_and_the_rest_is_served() {
    let wanted = std::env::var("EVENTLY_TEST_OVERLOAD_CONNECTIONS").ok();
    let connections = wanted.as_ref().map_or(400, |count| count.parse::<usize>().unwrap());
    let app = TestApp::start().await;
    let event = app.event_with(1_000_000, |event| event.max_tickets_per_user = 1_000).await;
    let crowd = Arc::new(app.crowd(if wanted.is_some() { 500 } else { 100 }).await);
    // At full size as it is in production; else so little that this many are far too many.
    let small = [("EVENTLY_MAX_IN_FLIGHT", "40".to_owned()), ("EVENTLY_DB_CONNECTIONS", "2".to_owned())];
    let process = ApiProcess::start(&app, if wanted.is_some() { &[] } else { &small }).await;
    let (address, started) = (process.address, Instant::now());
    let calm = holds_one_by_one(address, &event, &crowd[0], "calm", 20).await;

    let holds = Pressure::default();
    let reads = Pressure { stop: Arc::clone(&holds.stop), ..Pressure::default() };
    let health = tokio::spawn(watch_health(address, Arc::clone(&holds.stop)));
    let (mut holding, mut reading) = (JoinSet::new(), JoinSet::new());
    for n in 0..connections {
        let (crowd, event) = (Arc::clone(&crowd), event.clone());
        let token = move || crowd[n % crowd.len()].clone();
        if n % 4 == 0 {
            // Each of these needs Postgres.
            reading.spawn(reads.clone().press(address, move |_| {
                let bearer = format!("Bearer {}", token());
                request("GET", "/v1/bookings", &[("authorization", &bearer)], None)
            }));
        } else {
            let next = move |i: usize| place(&event, &token(), &format!("{n}-{i}"));
            holding.spawn(holds.clone().press(address, next));
        }
    }
    sleep(Duration::from_secs(if wanted.is_some() { 10 } else { 1 })).await;
    holds.has_both().await;
    reads.has_both().await;
    holds.stop.store(true, Ordering::Relaxed);
    let stopped = Instant::now();
    let mut count = BTreeMap::new();
    for (what, pressing) in [("holds", holding), ("reads", reading)] {
        let mut by_end: BTreeMap<End, Times> = BTreeMap::new();
        for (end, time) in pressing.join_all().await.into_iter().flatten() {
            by_end.entry(end).or_default().0.push(time);
        }
        for (end, times) in by_end {
            eprintln!("{what} {end:?}: {times}");
            count.insert((what, end), times.0.len());
        }
    }
    eprintln!("health meanwhile: {}", health.await.unwrap());
    eprintln!("the last answers came {:.1?} after the end", stopped.elapsed());

    // Itself again: it takes whatever comes.
    let again = holds_one_by_one(address, &event, &crowd[0], "again", 20).await;
    eprintln!("before: {calm}; afterwards: {again}, all after {:.1?}", stopped.elapsed());
    // Each hold that was answered is there, and of the others at most those that nobody knows about.
    let placed = calm.0.len() + again.0.len() + count[&("holds", End::Served)];
    let unknown = count.get(&("holds", End::Unknown)).copied().unwrap_or_default();
    let (_, seats) = app.app.inventory.availability(event.id, &event.ticket_types).await.unwrap().unwrap();
    let held = usize::try_from(seats[0].held).unwrap();
    assert!((placed..=placed + unknown).contains(&held), "{placed} placed, {unknown} unknown, {held} held");
    // Of each kind of line some a second, and what a process says anyway.
    let lines = u64::try_from(process.log().lines().count()).unwrap();
    let most = 200 + 50 * started.elapsed().as_secs();
    assert!(lines <= most, "{lines} lines of log, not {most}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_and_huge_bodies_take_nobodys_turn() {
    let app = TestApp::start().await;
    let (event, ada) = (app.event_with(1000, |e| e.max_tickets_per_user = 1000).await, app.user("ada").await);
    let process = ApiProcess::start(&app, &[("EVENTLY_MAX_IN_FLIGHT", "8".to_owned())]).await;
    let address = process.address;
    let calm = holds_one_by_one(address, &event, &ada.token, "calm", 20).await;

    let whole = place(&event, &ada.token, "slow");
    let mut slow = Vec::new();
    for n in 0..200 {
        let mut wire = Wire::connect(address).await.unwrap();
        let sent = match n % 3 {
            0 => &whole[..10],
            1 => &whole[..whole.len() - 1],
            _ => {
                b"POST /v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                   content-length: 60000\r\n\r\n{"
            }
        };
        wire.stream.write_all(sent).await.unwrap();
        slow.push(wire);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let huge = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            let (spaces, mut refused) = (vec![b' '; 1 << 20], 0);
            // At least one answer.
            while !stop.load(Ordering::Relaxed) || refused == 0 {
                let mut wire = Wire::connect(address).await.unwrap();
                let head = "POST /v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                            content-length: 2000000000\r\n\r\n";
                wire.stream.write_all(head.as_bytes()).await.unwrap();
                // The server reads some of it after its answer, then hangs up.
                let _ = timeout(PATIENCE, wire.stream.write_all(&spaces)).await.expect("taken in time");
                // On a machine that leaves this test waiting for seconds it is gone already, and its answer with it.
                let answer = timeout(PATIENCE, wire.answer()).await.expect("an answer in time");
                let Ok(answer) = answer else { continue };
                assert_eq!((answer.status, answer.code().as_deref()), (413, Some("too-large")), "{answer:?}");
                refused += 1;
            }
            refused
        }
    });
    let meanwhile = holds_one_by_one(address, &event, &ada.token, "meanwhile", 50).await;
    stop.store(true, Ordering::Relaxed);
    eprintln!("before: {calm}; beside 200 slow clients and {} huge bodies: {meanwhile}", huge.await.unwrap());
    // Who was slow and comes to an end is served as well.
    let mut late = slow.swap_remove(1);
    late.stream.write_all(&whole[whole.len() - 1..]).await.unwrap();
    let answer = timeout(PATIENCE, late.answer()).await.unwrap().unwrap();
    // Or had taken more than its ten seconds by now, on a machine as slow as that.
    assert!([201, 408].contains(&answer.status), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_logins_slows_down_logins() {
    let app = TestApp::start().await;
    let (event, ada) = (app.event_with(1000, |e| e.max_tickets_per_user = 1000).await, app.user("ada").await);
    let process = ApiProcess::start(&app, &[]).await;
    let address = process.address;
    let calm = holds_one_by_one(address, &event, &ada.token, "calm", 50).await;
    let stop = Arc::new(AtomicBool::new(false));
    let refused = Arc::new(AtomicUsize::new(0));
    let body = json!({"email": ada.email, "password": "not-her-password"});
    let login = request("POST", "/v1/auth/login", &[], Some(&body));
    let mut flood = JoinSet::new();
    for _ in 0..600 {
        let (stop, refused, login) = (Arc::clone(&stop), Arc::clone(&refused), login.clone());
        flood.spawn(async move {
            let mut wire = timeout(PATIENCE, Wire::connect(address)).await.unwrap().unwrap();
            while !stop.load(Ordering::Relaxed) {
                wire.stream.write_all(&login).await.unwrap();
                let answer = loop {
                    if let Ok(answer) = timeout(Duration::from_secs(1), wire.answer()).await {
                        break answer.unwrap();
                    }
                    // Those in the line when the flood ends are not waited for.
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                };
                assert!(answer.status == 401 || answer.is_refusal(), "{answer:?}");
                refused.fetch_add(usize::from(answer.status == 503), Ordering::Relaxed);
                sleep(Duration::from_millis(200)).await;
            }
        });
    }
    let begun = Instant::now();
    while refused.load(Ordering::Relaxed) < 100 {
        assert!(begun.elapsed() < PATIENCE, "the line of logins is not full");
        sleep(Duration::from_millis(20)).await;
    }
    let meanwhile = holds_one_by_one(address, &event, &ada.token, "meanwhile", 100).await;
    stop.store(true, Ordering::Relaxed);
    flood.join_all().await;
    eprintln!(
        "before: {calm}; beside the logins: {meanwhile}; {} logins refused",
        refused.load(Ordering::Relaxed)
    );
    let begun = Instant::now();
    while ask(address, &request("GET", "/readyz", &[], None)).await.status != 200 {
        assert!(begun.elapsed() < PATIENCE, "not ready");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_last_connection_health_is_answered_and_nothing_else() {
    let app = TestApp::builder().with_env("EVENTLY_MAX_CONNECTIONS", "2").start().await;
    let address: SocketAddr = app.url.strip_prefix("http://").unwrap().parse().unwrap();
    let (livez, events) = (request("GET", "/livez", &[], None), request("GET", "/v1/events", &[], None));
    let mut idle = Vec::new();
    for _ in 0..2 {
        let mut wire = Wire::connect(address).await.unwrap();
        assert_eq!(wire.ask(&livez).await.unwrap().status, 200);
        idle.push(wire);
    }
    let login =
        request("POST", "/v1/auth/login", &[], Some(&json!({"email": "a@b.example", "password": "x"})));
    for refused in [&events, &login, &events] {
        let answer = ask(address, refused).await;
        assert!(answer.is_refusal() && answer.header("connection") == Some("close"), "{answer:?}");
        for path in ["/livez", "/readyz"] {
            let answer = ask(address, &request("GET", path, &[], None)).await;
            assert!(is_health(path, &answer), "{path}: {answer:?}");
        }
    }
    idle.pop();
    let begun = Instant::now();
    while ask(address, &events).await.status != 200 {
        assert!(begun.elapsed() < PATIENCE, "a connection that ended makes room for no other");
        sleep(Duration::from_millis(20)).await;
    }
}
