//! `evently doctor`: finds what is wrong, and a system that runs.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};

use domain::config::Env;
use evently::{
    doctor::{self, Finding, Verdict},
    running::{Lock, State},
};

use crate::support::app::TestApp;

/// What the doctor calls a problem.
async fn problems(env: &Env) -> Vec<String> {
    let findings = doctor::examine(env).await.unwrap();
    let problems = findings.iter().filter(|finding| finding.verdict == Verdict::Problem);
    problems.map(|problem| format!("{}: {}", problem.about, problem.says)).collect()
}

fn about<'a>(findings: &'a [Finding], about: &str) -> Vec<&'a str> {
    findings.iter().filter(|finding| finding.about == about).map(|finding| finding.says.as_str()).collect()
}

/// Runs the command with nothing in its environment but this.
fn evently_doctor(env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evently"));
    command.arg("doctor").env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.envs(env.iter().copied()).output().unwrap()
}

#[tokio::test]
async fn a_sound_system_has_no_problem_but_what_makes_tests_fast() {
    let app = TestApp::builder().with_smtp().with_durable_redis().start().await;
    let only =
        "commits: fsync is off, full_page_writes is off: a crash of the machine may destroy everything";
    assert_eq!(problems(&app.env).await, [only]);
    let findings = doctor::examine(&app.env).await.unwrap();
    assert_eq!(about(&findings, "schema"), ["up to date"]);
    assert_eq!(about(&findings, "mail"), ["the SMTP server is there"]);
    assert!(about(&findings, "signing key")[0].ends_with("mode 0600"));
}

#[tokio::test]
async fn what_payments_lack_is_said_by_name() {
    let app = TestApp::start().await;
    let findings = doctor::examine(&app.env).await.unwrap();
    assert_eq!(about(&findings, "payments"), ["the sandbox moves no money"]);
    let mut env = BTreeMap::from([("EVENTLY_PAYMENTS", "stripe"), ("STRIPE_SECRET_KEY", "sk_test_1")]);
    for name in ["DATABASE_URL", "REDIS_URL", "EVENTLY_DATA_DIR"] {
        env.insert(name, app.env.get(name).unwrap());
    }
    let lacking: Env = env.clone().into_iter().collect();
    let says = "STRIPE_WEBHOOK_SECRET: is not set, and EVENTLY_PAYMENTS=stripe needs it";
    let findings = doctor::examine(&lacking).await.unwrap();
    assert_eq!(about(&findings, "payments"), [says]);
    // Nor does anything start without it.
    let mut command = Command::new(env!("CARGO_BIN_EXE_evently"));
    let output = command.args(["worker", "confirm"]).envs(env).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(says), "{said}");
}

#[tokio::test]
async fn a_forgetful_redis_and_an_open_key_are_problems() {
    let app = TestApp::start().await;
    let key = api::signing_key_file(&app.env);
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    app.database.execute("DELETE FROM __diesel_schema_migrations").await;
    let problems = problems(&app.env).await.join("\n");
    assert!(problems.contains("appendonly is no"), "{problems}");
    assert!(problems.contains("has mode 0644"), "{problems}");
    assert!(problems.contains("schema: lacks 2026-11-20-000001_spine"), "{problems}");
}

#[test]
fn servers_that_are_away_are_problems_a_line_each() {
    let dir = tempfile::tempdir().unwrap();
    // Held, and nobody accepts: it is no API.
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap().to_string();
    let output = evently_doctor(&[
        ("DATABASE_URL", "postgres://evently:secret@127.0.0.1:1/evently"),
        ("REDIS_URL", "redis://:secret@127.0.0.1:1"),
        ("SMTP_URL", "smtp://me:secret@127.0.0.1:1"),
        ("EVENTLY_HTTP_ADDR", &taken),
        ("EVENTLY_METRICS_ADDR", "127.0.0.1:0"),
        ("EVENTLY_DATA_DIR", dir.path().to_str().unwrap()),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    for about in ["Postgres", "Redis", "mail", "API port"] {
        let line = format!("problem  {about:<13} ");
        assert_eq!(said.lines().filter(|said| said.starts_with(&line)).count(), 1, "{about} in\n{said}");
    }
    assert!(!said.contains("secret"), "{said}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "evently: there are 4 problems\n");
}

#[tokio::test]
async fn finds_what_up_runs() {
    let app = TestApp::builder().with_durable_redis().start().await;
    let dir = tempfile::tempdir().unwrap();
    let lock = Lock::take(dir.path()).unwrap();
    let named = ["DATABASE_URL", "REDIS_URL", "EVENTLY_SIGNING_KEY_FILE"];
    let env: BTreeMap<_, _> =
        named.map(|name| (name.to_owned(), app.env.get(name).unwrap().to_owned())).into();
    let state = State { pid: std::process::id(), url: app.url.clone(), processes: BTreeMap::new(), env };
    lock.publish(dir.path(), &state).unwrap();
    let data_dir = dir.path().to_str().unwrap().to_owned();
    let address = app.url.trim_start_matches("http://").to_owned();
    let output = tokio::task::spawn_blocking(move || {
        evently_doctor(&[("EVENTLY_DATA_DIR", &data_dir), ("EVENTLY_HTTP_ADDR", &address)])
    });
    let said = String::from_utf8(output.await.unwrap().stdout).unwrap();
    assert!(said.contains("ok       schema        up to date\n"), "{said}");
    assert!(said.contains("ok       Redis         appendonly is yes\n"), "{said}");
    assert!(
        said.contains(&format!("the API at {} is ready\n", app.url.trim_start_matches("http://"))),
        "{said}"
    );
}
