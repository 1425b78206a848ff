//! The log of a worker process, as its operators read it.

use std::{process::Command, time::Duration};

use super::{confirm_path, hold, pay};
use crate::support::{app::TestApp, children};

const THEIRS: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test(flavor = "multi_thread")]
async fn jobs_log_the_trace_of_the_request_that_caused_them() {
    let app = TestApp::builder().with_smtp().start().await;
    let (event, ada) = (app.event(2).await, app.user("ada").await);
    let held = hold(&app, &event, &ada, "k", 1).await;
    let path = children::root().join(format!("log-{}", event.id));
    let log = std::fs::File::create(&path).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_evently"));
    command.args(["worker", "--all"]).env_clear();
    for name in ["DATABASE_URL", "REDIS_URL", "SMTP_URL", "EVENTLY_DATA_DIR", "EVENTLY_SIGNING_KEY_FILE"] {
        command.env(name, app.env.get(name).unwrap());
    }
    command.env("EVENTLY_METRICS_ADDR", "127.0.0.1:0").env("EVENTLY_LOG", "debug");
    command.env("EVENTLY_LOG_FORMAT", "json").stdout(log.try_clone().unwrap()).stderr(log);
    let mut worker = children::spawn(command);

    let confirm = app.post(&confirm_path(&event, &held), &pay("tok_ok")).bearer(&ada.token);
    let confirm = confirm.header("traceparent", format!("00-{THEIRS}-00f067aa0ba902b7-01"));
    confirm.header("prefer", "wait=30").await.expect(201);
    app.smtp().wait_for(1).await;
    let wanted = ["confirm_booking", "send_mail"];
    let mut missing = wanted.to_vec();
    for _ in 0..100 {
        let text = std::fs::read_to_string(&path).unwrap();
        let traced: Vec<_> = text.lines().filter(|line| line.contains(THEIRS)).collect();
        missing = wanted.into_iter().filter(|job| !traced.iter().any(|line| line.contains(job))).collect();
        if missing.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    worker.kill().unwrap();
    worker.wait().unwrap();
    assert!(missing.is_empty(), "{missing:?} of {}", std::fs::read_to_string(&path).unwrap());
}
