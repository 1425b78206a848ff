//! What every request meets: health, limits, the headers of every answer, and how a process goes.

use std::time::Duration;

use tokio::time::sleep;

use crate::support::app::TestApp;

#[tokio::test]
async fn health_says_what_is_up() {
    let mut app = TestApp::start().await;
    assert_eq!(app.get("/livez").await.expect(200)["status"], "alive");
    let ready = app.get("/readyz").await.expect(200);
    assert_eq!(ready["checks"]["postgres"], "up");
    let info = app.get("/info").await.expect(200);
    assert_eq!((&info["name"], &info["version"]), (&"evently".into(), &env!("CARGO_PKG_VERSION").into()));

    app.redis.kill();
    sleep(Duration::from_secs(1)).await;
    let problem = app.get("/readyz").await;
    assert_eq!(problem.header("retry-after"), Some("1"));
    let problem = problem.expect_problem(503, "unavailable");
    assert!(problem["detail"].as_str().unwrap().contains("redis"), "{problem}");
    app.get("/livez").await.expect(200);
}

#[tokio::test]
async fn a_process_that_stops_says_so_and_goes_on_for_a_while() {
    let mut app = TestApp::builder().with_env("EVENTLY_DRAIN_SECS", "2").start().await;
    app.get("/readyz").await.expect(200);
    let (ready, alive) = (app.get("/readyz"), app.get("/livez"));
    let asked = async {
        sleep(Duration::from_millis(300)).await;
        (ready.await, alive.await)
    };
    let ((), (ready, alive)) = tokio::join!(app.stop(), asked);
    ready.expect_problem(503, "unavailable");
    alive.expect(200);
}

#[tokio::test]
async fn a_full_process_refuses_at_once_but_still_tells_its_health() {
    let app = TestApp::builder().with_env("EVENTLY_MAX_IN_FLIGHT", "0").start().await;
    let refused = app.get("/v1/me").await;
    assert_eq!(refused.header("retry-after"), Some("1"));
    refused.expect_problem(503, "unavailable");
    app.get("/livez").await.expect(200);
    app.get("/readyz").await.expect(200);
}

#[tokio::test]
async fn every_answer_is_guarded_and_wrong_methods_name_the_right_ones() {
    let app = TestApp::start().await;
    for path in ["/livez", "/nope", "/docs", "/v1/me", "/problems/sold-out"] {
        let answer = app.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert!(answer.header("cache-control").is_some(), "{path}");
    }
    assert_eq!(app.get("/v1/me").await.header("cache-control"), Some("no-store"));

    let wrong = app.call(reqwest::Method::POST, "/livez").await;
    assert_eq!(wrong.header("allow"), Some("GET,HEAD"));
    wrong.expect_problem(405, "method-not-allowed");
    let wrong = app.call(reqwest::Method::OPTIONS, "/livez").await;
    assert_eq!(wrong.header("allow"), Some("GET,HEAD"));
    let head = app.call(reqwest::Method::HEAD, "/livez").await;
    assert_eq!((head.status, head.bytes.len()), (200, 0));
}

#[tokio::test]
async fn a_trace_is_taken_up_and_a_broken_one_is_not() {
    let app = TestApp::start().await;
    let theirs = "4bf92f3577b34da6a3ce929d0e0e4736";
    let asked = app.get("/nope").header("traceparent", format!("00-{theirs}-00f067aa0ba902b7-01")).await;
    assert_eq!(asked.expect_problem(404, "not-found")["trace_id"], theirs);
    for broken in [format!("00-{theirs}-0000000000000000-01"), "00-x-y-01".to_owned(), String::new()] {
        let problem = app.get("/nope").header("traceparent", broken).await.expect_problem(404, "not-found");
        let fresh = problem["trace_id"].as_str().unwrap().to_owned();
        assert!(fresh.len() == 32 && fresh != theirs, "{problem}");
    }
}

#[tokio::test]
async fn each_code_has_a_page() {
    let app = TestApp::start().await;
    for code in api::error::Code::ALL {
        let path = format!("/problems/{}", code.slug());
        assert_eq!(app.get(&path).await.expect(200)["status"], code.status());
        let page = app.get(&path).header("accept", "text/html,*/*;q=0.8").await;
        assert!(page.text().contains("<!doctype html>") && page.text().contains(code.slug()), "{path}");
    }
    app.get("/problems/no-such-code").await.expect_problem(404, "not-found");
}
