//! Queues, jobs and schedules in operators' hands, over HTTP and on the command line.

use std::{collections::BTreeSet, process::Command};

use domain::{
    accounts::Role,
    jobs::{Job, Pool},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::support::{app::TestApp, http::Call, people::Person};

/// A job that no worker knows: it dies at its first start.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Strange {
    number: u32,
}

impl Job for Strange {
    const NAME: &'static str = "strange";
    const POOL: Pool = Pool::Upkeep;

    fn key(&self) -> String {
        self.number.to_string()
    }
}

/// Reads until the answer is as wanted; gives up after 40 s.
async fn until(call: impl Fn() -> Call, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..400 {
        let answer = call().await;
        if answer.status == 200 && wanted(&answer.json()) {
            return answer.json();
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("it does not come to be: {:?}", call().await);
}

async fn operator(app: &TestApp) -> Person {
    app.person("olga", Role::Operator).await
}

fn row<'a>(queues: &'a Value, pool: &str) -> &'a Value {
    queues["data"].as_array().unwrap().iter().find(|row| row["pool"] == pool).unwrap()
}

/// So many codes, to be mailed to people who have just registered.
async fn mails(app: &TestApp, count: usize) {
    for number in 0..count {
        let body =
            json!({"email": format!("p{number}@evently.test"), "password": "a long password", "name": "P"});
        app.post("/v1/auth/register", &body).await.expect(201);
    }
}

/// What the audit log says of operators, line by line.
async fn audited(app: &TestApp) -> Vec<String> {
    let sql = "SELECT concat_ws(' ', action, detail->>'name', detail->>'reason', detail->>'because') FROM audit_log \
               WHERE object_type IN ('pool', 'job', 'schedule') ORDER BY id";
    app.database.rows(sql).await.into_iter().map(|row| row[0].clone().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_only() {
    let app = TestApp::start().await;
    let (ada, orga) = (app.user("ada").await, app.person("orga", Role::Organizer).await);
    let calls = || {
        [
            app.get("/v1/ops/queues"),
            app.get("/v1/ops/queues/email/jobs"),
            app.post("/v1/ops/queues/email/pause", &json!({})),
            app.post("/v1/ops/queues/email/resume", &json!({})),
            app.post("/v1/ops/queues/email/retry", &json!({})),
            app.get("/v1/ops/jobs/send_mail:1"),
            app.post("/v1/ops/jobs/send_mail:1/retry", &json!({})),
            app.post("/v1/ops/jobs/send_mail:1/discard", &json!({})),
            app.get("/v1/ops/schedules"),
            app.post("/v1/ops/schedules/retention/run", &json!({})),
        ]
    };
    for call in calls() {
        call.await.expect_problem(401, "unauthenticated");
    }
    for person in [ada, orga] {
        for call in calls() {
            call.bearer(&person.token).await.expect_problem(403, "forbidden");
        }
    }
    let admin = app.admin().await;
    let queues = app.get("/v1/ops/queues").bearer(&admin.token).await.expect(200);
    let pools: Vec<_> = queues["data"].as_array().unwrap().iter().map(|row| &row["pool"]).collect();
    assert_eq!(json!(pools), json!(Pool::ALL));
    for path in ["queues/cinema/pause", "jobs/send_mail:1/retry", "jobs/x/discard", "schedules/nap/run"] {
        let answer = app.post(&format!("/v1/ops/{path}"), &json!({})).bearer(&admin.token).await;
        answer.expect_problem(404, "not-found");
    }
    let pause = |body: Value| app.post("/v1/ops/queues/email/pause", &body).bearer(&admin.token);
    pause(json!({"reason": ""})).await.expect_problem(422, "validation-failed");
    pause(json!({"why": "x"})).await.expect_problem(422, "validation-failed");
    assert!(audited(&app).await.is_empty(), "what was refused is not logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_pool_waits_and_a_resumed_one_drains() {
    let app = TestApp::builder().with_smtp().start().await;
    let ops = operator(&app).await;
    let queues = || app.get("/v1/ops/queues").bearer(&ops.token);
    let body = json!({"reason": "the mail server moves"});
    let paused = app.post("/v1/ops/queues/email/pause", &body).bearer(&ops.token).await.expect(200);
    assert_eq!((&paused["pool"], &paused["paused"]), (&json!("email"), &json!(true)));
    let _workers = app.work();
    mails(&app, 3).await;
    let waiting = until(queues, |all| {
        let email = row(all, "email");
        email["depth"] == 3 && email["oldest_age_ms"].as_u64() > Some(0) && email["workers"] != json!([])
    })
    .await;
    let email = row(&waiting, "email");
    assert_eq!(
        (&email["paused"], &email["in_flight"], &email["run_ms"]["p99"]),
        (&json!(true), &json!(0), &Value::Null)
    );
    assert_eq!(email["workers"][0]["version"], env!("CARGO_PKG_VERSION"));
    assert!(app.smtp().received().is_empty());

    // The body may be left out.
    app.call(reqwest::Method::POST, "/v1/ops/queues/email/resume").bearer(&ops.token).await.expect(200);
    app.smtp().wait_for(3).await;
    let done = until(queues, |all| row(all, "email")["per_minute"] == 3).await;
    let email = row(&done, "email");
    assert_eq!((&email["depth"], &email["dead"], &email["retries"]), (&json!(0), &json!(0), &json!(0)));
    for what in ["wait_ms", "run_ms"] {
        let of = |hundredths: &str| email[what][hundredths].as_u64().unwrap();
        assert!(of("p50") <= of("p95") && of("p95") <= of("p99"), "{email}");
    }
    app.rest().await;
    assert_eq!(app.smtp().received().len(), 3, "each mail once");
    assert_eq!(audited(&app).await, ["pool.paused email the mail server moves", "pool.resumed email"]);
    let actor =
        app.database.value("SELECT DISTINCT actor_id FROM audit_log WHERE object_type = 'pool'").await;
    assert_eq!(actor, Some(ops.id.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_paged_shown_without_their_arguments_and_discarded() {
    let app = TestApp::builder().with_smtp().start().await;
    let ops = operator(&app).await;
    app.app.queue.pause(Pool::Email).await.unwrap();
    let _workers = app.work();
    mails(&app, 5).await;
    let get = |path: &str| app.get(path).bearer(&ops.token);
    until(|| get("/v1/ops/queues/email/jobs?limit=100"), |all| all["data"].as_array().unwrap().len() == 5)
        .await;

    let mut path = "/v1/ops/queues/email/jobs?status=pending&limit=2".to_owned();
    let (mut ids, mut cursor) = (BTreeSet::new(), None);
    loop {
        let answer = get(&path).await;
        let page = answer.expect(200);
        for job in page["data"].as_array().unwrap() {
            assert_eq!((&job["status"], &job["job"]), (&json!("pending"), &json!("send_mail")));
            assert_eq!(job["payload"], json!({"mail_id": "[redacted]"}));
            ids.insert(job["id"].as_str().unwrap().to_owned());
        }
        let Some(link) = answer.header("link") else { break };
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        path = link.trim_start_matches('<').split('>').next().unwrap().to_owned();
    }
    assert_eq!(ids.len(), 5);
    for query in ["status=dead", "status=pending&limit=0", "status=lost", "other=1"] {
        let query = format!("/v1/ops/queues/email/jobs?{query}&cursor={}", cursor.as_deref().unwrap());
        get(&query).await.expect_problem(400, "invalid-parameter");
    }
    let dead = get("/v1/ops/queues/email/jobs?status=dead").await.expect(200);
    assert_eq!(dead, json!({"data": [], "next_cursor": null}));

    let id = ids.first().unwrap();
    let path = format!("/v1/ops/jobs/{id}");
    let shown = get(&path).await.expect(200);
    assert_eq!((&shown["attempts"], &shown["errors"]), (&json!(0), &json!([])));
    assert_eq!(shown["payload"]["mail_id"], "[redacted]");
    let revealed = get(&format!("{path}?reveal=true")).await.expect(200);
    assert!(id.ends_with(revealed["payload"]["mail_id"].as_str().unwrap()));

    let post = |what: &str| app.post(&format!("{path}/{what}"), &json!({"reason": "r"})).bearer(&ops.token);
    post("retry").await.expect_problem(409, "invalid-state");
    post("discard").await.expect(204);
    post("discard").await.expect_problem(404, "not-found");
    get(&path).await.expect_problem(404, "not-found");
    let buried = "SELECT error FROM outbox WHERE dead_at IS NOT NULL";
    assert_eq!(app.database.value(buried).await.unwrap(), "discarded by an operator");
    assert_eq!(audited(&app).await, [format!("job.revealed {id}"), format!("job.discarded {id} r")]);

    app.app.queue.resume(Pool::Email).await.unwrap();
    app.smtp().wait_for(4).await;
    app.rest().await;
    assert_eq!(app.smtp().received().len(), 4, "what was discarded is not sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_are_retried_one_by_one_or_all_of_a_kind() {
    let app = TestApp::start().await;
    let ops = operator(&app).await;
    let _workers = app.work_on(&[Pool::Upkeep]);
    for number in 1..=3 {
        app.app.queue.enqueue(&Strange { number }).await.unwrap();
    }
    let dead = || app.get("/v1/ops/queues/upkeep/jobs?status=dead").bearer(&ops.token);
    until(dead, |all| all["data"].as_array().unwrap().len() == 3).await;
    let post = |path: &str, body: Value| app.post(&format!("/v1/ops/{path}"), &body).bearer(&ops.token);
    post("jobs/strange:2/retry", json!({})).await.expect(204);
    let job = || app.get("/v1/ops/jobs/strange:2").bearer(&ops.token);
    let twice = until(job, |job| job["errors"].as_array().unwrap().len() == 2).await;
    assert_eq!((&twice["status"], &twice["attempts"]), (&json!("dead"), &json!(1)));
    for failure in twice["errors"].as_array().unwrap() {
        assert_eq!(failure["error"], "upkeep has no job of this name");
        assert!(failure["at"].is_string() && failure["attempt"] == 1, "{failure}");
    }
    let none = post("queues/upkeep/retry", json!({"job": "sync_inventory"})).await.expect(200);
    assert_eq!(none, json!({"retried": 0}));
    let three = post("queues/upkeep/retry", json!({"job": "strange", "reason": "fixed"})).await.expect(200);
    assert_eq!(three, json!({"retried": 3}));
    until(job, |job| job["errors"].as_array().unwrap().len() == 3).await;
    let log = ["job.retried strange:2", "jobs.retried upkeep", "jobs.retried upkeep fixed"];
    assert_eq!(audited(&app).await, log);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_over_and_over_is_listed_and_run_at_once() {
    let app = TestApp::start().await;
    let ops = operator(&app).await;
    let _workers = app.work_on(&[Pool::Upkeep]);
    let list = || app.get("/v1/ops/schedules?limit=100").bearer(&ops.token);
    let find = |all: &Value| {
        all["data"].as_array().unwrap().iter().find(|one| one["name"] == "forget_inventories").cloned()
    };
    // Once an hour.
    let ran = |one: &Value| one["outcome"] == "done" && one["wanted_at"].is_null();
    let first = find(&until(list, |all| find(all).is_some_and(|one| ran(&one))).await).unwrap();
    assert_eq!((&first["pool"], &first["every_ms"]), (&json!("upkeep"), &json!(3_600_000)));
    let run = || app.post("/v1/ops/schedules/forget_inventories/run", &json!({})).bearer(&ops.token);
    assert!(run().await.expect(202)["wanted_at"].is_string());
    let again = |one: Value| ran(&one) && one["last_started_at"] != first["last_started_at"];
    until(list, |all| find(all).is_some_and(again)).await;
    assert_eq!(audited(&app).await, ["schedule.requested forget_inventories"]);

    let page = app.get("/v1/ops/schedules?limit=1").bearer(&ops.token).await.expect(200);
    let cursor = page["next_cursor"].as_str().unwrap();
    let next =
        app.get(&format!("/v1/ops/schedules?limit=1&cursor={cursor}")).bearer(&ops.token).await.expect(200);
    assert_ne!(page["data"][0]["name"], next["data"][0]["name"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_does_the_same_and_says_who() {
    let app = TestApp::start().await;
    let (database, redis) = (app.database.url(), app.redis.url());
    let jobs = async |args: &'static [&'static str]| {
        let (database, redis) = (database.clone(), redis.clone());
        let output = tokio::task::spawn_blocking(move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_evently"));
            command.arg("jobs").args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
            command.env("USER", "olga").env("DATABASE_URL", database).env("REDIS_URL", redis);
            command.env("EVENTLY_DATA_DIR", "/nonexistent").output().unwrap()
        });
        let output = output.await.unwrap();
        let (done, said) =
            (output.status.success(), if output.status.success() { output.stdout } else { output.stderr });
        (done, String::from_utf8(said).unwrap())
    };
    assert_eq!(jobs(&["pause", "email", "--reason", "moving"]).await, (true, "email: paused\n".to_owned()));
    assert!(app.app.queue.stats(Pool::Email).await.unwrap().paused);
    app.app.queue.enqueue(&Strange { number: 7 }).await.unwrap();
    let (_, stats) = jobs(&["stats", "--json"]).await;
    let stats: Value = serde_json::from_str(&stats).unwrap();
    assert_eq!(stats[3]["paused"], true, "{stats}");
    let (_, shown) = jobs(&["show", "strange:7"]).await;
    assert!(shown.contains(r#"{"number":"[redacted]"}"#), "{shown}");
    let (_, shown) = jobs(&["show", "strange:7", "--reveal"]).await;
    assert!(shown.contains(r#"{"number":7}"#), "{shown}");
    assert!(jobs(&["discard", "strange:7"]).await.0);
    let (known, said) = jobs(&["retry", "strange:7"]).await;
    assert!(!known && said.contains("there is no such job"), "{said}");
    let lines = ["pool.paused email moving", "job.revealed strange:7", "job.discarded strange:7"];
    assert_eq!(audited(&app).await, lines);
    let by = "SELECT DISTINCT detail->>'by' FROM audit_log WHERE object_type IN ('pool', 'job')";
    assert_eq!(app.database.value(by).await.unwrap(), "olga, on the command line");
}
