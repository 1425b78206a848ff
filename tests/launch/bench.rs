//! `evently bench` still measures everything: quickly and little of it, whatever the figures are.

use std::process::{Command, Stdio};

use evently::launch::command;
use serde_json::Value;

use crate::support::children;

#[tokio::test]
async fn every_figure_is_still_measured() {
    let dir = children::root().join("bench");
    std::fs::create_dir(&dir).unwrap();
    let json = dir.join("bench.json");
    let mut bench: Command = command::dependent(env!("CARGO_BIN_EXE_evently").as_ref(), "TERM");
    bench.args(["bench", "--seconds", "0.3", "--size", "small", "--json"]).arg(&json).env("TMPDIR", "/tmp");
    bench.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = children::spawn(bench);
    let output = tokio::task::spawn_blocking(|| child.wait_with_output()).await.unwrap().unwrap();
    let (lines, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{lines}\n{log}");

    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let figures = report["figures"].as_array().unwrap();
    assert_eq!(figures.len(), lines.lines().count(), "{lines}");
    for wanted in [
        "holds",
        "hold p99",
        "5 seats",
        "event detail",
        "event list",
        "bookings, one",
        "bookings, 100",
        "201 p99",
        "paid bookings",
        "waitlist joins",
        "promotions, 100 waiting",
        "promotions, 2000 waiting",
        "no-op jobs",
        "enqueue to start p50",
        "enqueue to start p99",
        "e-mails",
        "memory",
        "API start",
        "hold, 2000",
        "fetch a hold",
        "expire a hold",
        "confirm",
        "log rows rolled up",
        "overview, p99",
        "overview, two years",
        "overview, an organizer's",
        "days of two years",
        "one event's two years",
        "one event's days",
        "how full 100",
    ] {
        let figure = figures.iter().find(|figure| figure["name"].as_str().unwrap().starts_with(wanted));
        let figure = figure.unwrap_or_else(|| panic!("no {wanted}: {lines}"));
        assert!(figure["value"].as_f64().unwrap() > 0.0, "{figure}");
        assert!(figure["reach"].is_number() && figure["mark"].is_string(), "{figure}");
    }
}
