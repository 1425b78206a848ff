//! Processes come and go: they share a pool's load, die, and are replaced one by one, and nobody notices.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use domain::jobs::Pool;
use futures::future::join_all;
use redis::AsyncCommands;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{assert_at_rest, confirm_path, pay, place};
use crate::support::{app::TestApp, children, events::TestEvent, smtp::Misbehave};

/// One process of the binary under test.
struct Member {
    child: Child,
    log: PathBuf,
}

impl Member {
    fn start(app: &TestApp, args: &[&str]) -> Self {
        let log = children::root().join(format!("member-{}.log", Uuid::now_v7().simple()));
        let file = File::create(&log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_evently"));
        command.args(args).env_clear();
        for name in ["DATABASE_URL", "REDIS_URL", "EVENTLY_DATA_DIR", "EVENTLY_SIGNING_KEY_FILE", "SMTP_URL"]
        {
            command.envs(app.env.get(name).map(|value| (name, value)));
        }
        command.env("EVENTLY_HTTP_ADDR", "127.0.0.1:0").env("EVENTLY_METRICS_ADDR", "127.0.0.1:0");
        command.env("EVENTLY_LOG_FORMAT", "json").env("EVENTLY_RATE_LIMITS", "off");
        // Longer than a client takes, on however busy a machine, between asking whether a process is ready and using it.
        command.env("EVENTLY_DRAIN_SECS", "4");
        command.stdout(file.try_clone().unwrap()).stderr(file);
        Self { child: children::spawn(command), log }
    }

    fn id(&self) -> u32 {
        self.child.id()
    }

    /// What a line of its log says, once it is there: its fields beside `message`.
    async fn says(&self, message: &str) -> Value {
        for _ in 0..600 {
            let said = fs::read_to_string(&self.log).unwrap();
            let mut lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(line) = lines.find(|line| line["message"] == message) {
                return line;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("it does not say {message:?}: {}", fs::read_to_string(&self.log).unwrap());
    }

    /// Where an API process listens, once it does.
    async fn url(&self) -> String {
        format!("http://{}", self.says("listening").await["address"].as_str().unwrap())
    }

    /// Ends it as a deploy does; fails unless it ends well within a minute.
    async fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        for _ in 0..600 {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}: {}", fs::read_to_string(&self.log).unwrap());
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("it does not end: {}", fs::read_to_string(&self.log).unwrap());
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..1_200 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within a minute: {what}");
}

/// The names of a process's threads, with how nice each is.
fn threads(id: u32) -> Vec<(String, i32)> {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).unwrap();
    let of = |task: fs::DirEntry| {
        // One may end while we look.
        let stat = fs::read_to_string(task.path().join("stat")).ok()?;
        let (name, fields) = stat.split_once('(')?.1.rsplit_once(')')?;
        Some((name.to_owned(), fields.split_whitespace().nth(16)?.parse().unwrap()))
    };
    tasks.filter_map(|task| of(task.ok()?)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_and_figures_give_way_to_what_somebody_waits_for() {
    let app = TestApp::start().await;
    let worker = Member::start(&app, &["worker", "--all"]);
    let pools = async || {
        let (mut redis, mut registered) = (app.redis.connect().await, Vec::new());
        for pool in Pool::ALL {
            let workers: u64 = redis.zcard(format!("evently:{pool}:workers")).await.unwrap();
            registered.extend((workers == 1).then_some(pool));
        }
        registered
    };
    eventually("every pool works", async || pools().await == Pool::ALL).await;
    let (behind, ahead): (Vec<_>, Vec<_>) =
        threads(worker.id()).into_iter().partition(|(name, _)| name == "behind");
    assert!(behind.len() > 1 && behind.iter().all(|(_, nice)| *nice == 10), "{behind:?}");
    assert!(ahead.len() > 1 && ahead.iter().all(|(_, nice)| *nice == 0), "{ahead:?}");
    worker.stop().await;
    assert_eq!(pools().await, []);
}

/// Everybody buys a ticket.
async fn sell(app: &TestApp, event: &TestEvent, crowd: &[String]) {
    let buy = async |token: &String| {
        let hold = place(app, event, token, "k", &[1]).await.expect(201);
        let confirm = || app.post(&confirm_path(event, &hold), &pay("tok_ok")).bearer(token);
        while confirm().await.status == 202 {}
    };
    join_all(crowd.iter().map(buy)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_share_a_pool_and_one_goes_on_when_the_other_is_killed() {
    let app = TestApp::builder().with_smtp().start().await;
    let _workers = app.work_on(&[Pool::Confirm, Pool::Upkeep]);
    let queue = &app.app.queue;
    queue.pause(Pool::Email).await.unwrap();
    let (event, crowd) = (app.event(40).await, app.crowd(40).await);
    sell(&app, &event, &crowd).await;
    let args = ["worker", "email", "--concurrency", "2"];
    let (mut first, second) = (Member::start(&app, &args), Member::start(&app, &args));
    let of = |member: &Member| format!("email-{}-", member.id());
    let (prefix, other) = (of(&first), of(&second));
    eventually("both work and all wait", async || {
        let stats = queue.stats(Pool::Email).await.unwrap();
        let is_there = |prefix: &str| stats.workers.iter().any(|worker| worker.id.starts_with(prefix));
        stats.depth == 40 && is_there(&prefix) && is_there(&other)
    })
    .await;

    // The first mails of each take long enough to be killed at.
    for _ in 0..4 {
        app.smtp().misbehave(Misbehave::Slow(Duration::from_secs(10)));
    }
    let mut redis = app.redis.connect().await;
    queue.resume(Pool::Email).await.unwrap();
    // Taken from the queue, and leased: a lease that Postgres grants after the death would last its whole minute.
    let leased = "SELECT count(*) FROM mails WHERE lease_until > now()";
    eventually("each has two", async || {
        queue.stats(Pool::Email).await.unwrap().in_flight == 4
            && app.database.value(leased).await.unwrap() == "4"
    })
    .await;
    let workers: Vec<String> = redis.zrange("evently:email:workers", 0, -1).await.unwrap();
    let killed = workers.iter().find(|worker| worker.starts_with(&prefix)).unwrap();
    assert!(redis.scard::<_, usize>(format!("evently:email:inflight:{killed}")).await.unwrap() > 0);
    first.kill();
    // As if the minute for which it alone may send what it took were over; and so are its 20 s of silence.
    app.database.execute("UPDATE mails SET lease_until = now() WHERE lease_until IS NOT NULL").await;
    let _: () = redis.zadd("evently:email:workers", killed, 1).await.unwrap();
    eventually("its jobs moved", async || {
        let stats = queue.stats(Pool::Email).await.unwrap();
        stats.depth + stats.scheduled + stats.in_flight == 0 && app.smtp().received().len() >= 40
    })
    .await;
    let to: BTreeSet<_> = app.smtp().received().into_iter().map(|mail| mail.to).collect();
    assert_eq!((to.len(), queue.stats(Pool::Email).await.unwrap().dead), (40, 0));
    assert_eq!(app.database.value("SELECT count(*) FROM mails WHERE status = 'sent'").await.unwrap(), "40");
    second.stop().await;
    assert!(queue.stats(Pool::Email).await.unwrap().workers.is_empty(), "who stops signs off");
}

/// Asks a process that says that it is ready, as a gateway does, and insists on an answer.
struct Gateway {
    client: reqwest::Client,
    backends: Mutex<Vec<String>>,
    turn: AtomicUsize,
}

impl Gateway {
    async fn post(&self, path: &str, token: &str, key: Option<&str>, body: &Value) -> (u16, Value) {
        for _ in 0..600 {
            let backends = self.backends.lock().await.clone();
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            let backend = &backends[turn % backends.len()];
            let ready = self.client.get(format!("{backend}/readyz")).send().await;
            if !ready.is_ok_and(|answer| answer.status() == 200) {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            let mut request = self.client.post(format!("{backend}{path}")).bearer_auth(token).json(body);
            if let Some(key) = key {
                request = request.header("idempotency-key", key);
            }
            let answer = request.header("prefer", "wait=1").send().await.unwrap();
            let status = answer.status().as_u16();
            return (status, answer.json().await.unwrap());
        }
        panic!("no process is ready");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_process_is_replaced_under_load_and_no_request_fails() {
    let app = TestApp::start().await;
    let (event, crowd) = (app.event(100_000).await, app.crowd(200).await);
    let start_api = async || {
        let api = Member::start(&app, &["api"]);
        let url = api.url().await;
        (api, url)
    };
    // One that is told to end before it works has nothing to end well.
    let start_worker = async || {
        let worker = Member::start(&app, &["worker", "--all"]);
        worker.says("working").await;
        worker
    };
    let (mut apis, mut workers) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        apis.push(start_api().await);
        workers.push(start_worker().await);
    }
    let gateway = Arc::new(Gateway {
        // A connection a request: what is idle is closed by a process that goes.
        client: reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap(),
        backends: Mutex::new(apis.iter().map(|(_, url)| url.clone()).collect()),
        turn: AtomicUsize::new(0),
    });
    let over = Arc::new(AtomicBool::new(false));
    let buyers = (0..4).map(|buyer| {
        let (gateway, over) = (Arc::clone(&gateway), Arc::clone(&over));
        let (event, tokens) = (event.clone(), crowd[buyer * 50..][..50].to_vec());
        tokio::spawn(async move {
            let mut sold = 0;
            // As many tickets as fifty people may have.
            for number in 0..500 {
                let token = &tokens[number % 50];
                let body = json!({"items": [{"ticket_type_id": event.ticket_types[0], "quantity": 1}]});
                let path = format!("/v1/events/{}/holds", event.id);
                let (status, hold) = gateway.post(&path, token, Some(&format!("k{number}")), &body).await;
                assert_eq!(status, 201, "{hold}");
                let path = confirm_path(&event, &hold);
                loop {
                    let (status, booking) = gateway.post(&path, token, None, &pay("tok_ok")).await;
                    assert!(status == 201 || status == 202, "{booking}");
                    if status == 201 {
                        break;
                    }
                }
                sold += 1;
                if over.load(Ordering::Relaxed) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            sold
        })
    });
    let buyers: Vec<_> = buyers.collect();
    for turn in 0..2 {
        let (fresh, url) = start_api().await;
        gateway.backends.lock().await.push(url.clone());
        apis.push((fresh, url));
        let (old, gone) = apis.remove(0);
        workers.push(start_worker().await);
        let worker = workers.remove(0);
        tokio::join!(old.stop(), worker.stop());
        gateway.backends.lock().await.retain(|url| *url != gone);
        assert_eq!(gateway.backends.lock().await.len(), 2, "turn {turn}");
    }
    over.store(true, Ordering::Relaxed);
    let sold: i64 = join_all(buyers).await.into_iter().map(|sold| sold.unwrap()).sum();
    assert!(sold >= 4);
    app.rest().await;
    assert_at_rest(&app, &event, sold, 0).await;
}
