//! Registration, codes, logins, refresh tokens and their reuse, recovery.

use serde_json::{Value, json};

use crate::support::app::TestApp;

const PASSWORD: &str = "correct-horse-battery";

/// Registers an account and answers it.
pub async fn register(app: &TestApp, email: &str) -> Value {
    let body = json!({"email": email, "password": PASSWORD, "name": "Ada"});
    app.post("/v1/auth/register", &body).await.expect(201)["user"].clone()
}

/// Logs in and answers the tokens.
pub async fn log_in(app: &TestApp, email: &str) -> Value {
    app.post("/v1/auth/login", &json!({"email": email, "password": PASSWORD})).await.expect(200)
}

pub fn access(tokens: &Value) -> &str {
    tokens["access_token"].as_str().unwrap()
}

/// The code of the newest mail of this kind.
async fn code(app: &TestApp, kind: &str) -> String {
    let sql = format!("SELECT data->>'code' FROM mails WHERE kind = '{kind}' ORDER BY id DESC LIMIT 1");
    app.database.value(&sql).await.unwrap()
}

fn another(code: &str) -> String {
    format!("{:06}", (code.parse::<u32>().unwrap() + 1) % 1_000_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_one_account_in_any_spelling() {
    let app = TestApp::start().await;
    let user = register(&app, "Ada@Example.com").await;
    assert_eq!(user["email"], "ada@example.com");
    assert_eq!((&user["role"], &user["email_verified"]), (&json!("user"), &json!(false)));
    let again = json!({"email": "ADA@example.com", "password": PASSWORD, "name": "Other"});
    app.post("/v1/auth/register", &again).await.expect_problem(409, "email-taken");

    let same = json!({"email": "grace@example.com", "password": PASSWORD, "name": "Grace"});
    let many = (0..8).map(|_| app.post("/v1/auth/register", &same).into_future());
    let mut statuses: Vec<_> =
        futures::future::join_all(many).await.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
    assert_eq!(app.database.value("SELECT count(*) FROM mails").await.unwrap(), "2", "one mail an account");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_at_fault_is_named() {
    let app = TestApp::start().await;
    let body = json!({"email": "nobody", "password": "short", "name": " "});
    let problem = app.post("/v1/auth/register", &body).await.expect_problem(422, "validation-failed");
    let mut pointers: Vec<_> =
        problem["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    pointers.sort_unstable();
    assert_eq!(pointers, ["/email", "/name", "/password"]);
    let extra = json!({"email": "a@example.com", "password": PASSWORD, "name": "A", "role": "admin"});
    app.post("/v1/auth/register", &extra).await.expect_problem(422, "validation-failed");
    let nul = json!({"email": "a@example.com", "password": PASSWORD, "name": "A\u{0}"});
    app.post("/v1/auth/register", &nul).await.expect_problem(422, "validation-failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_works_once_and_amends_the_tokens_that_are_out() {
    let app = TestApp::start().await;
    register(&app, "ada@example.com").await;
    let tokens = log_in(&app, "ada@example.com").await;
    let code = code(&app, "verify_email").await;
    let verify = json!({"email": "ada@example.com", "code": code});
    app.post("/v1/auth/verify-email", &json!({"email": "ada@example.com", "code": another(&code)}))
        .await
        .expect_problem(422, "code-invalid");
    let verified = app.post("/v1/auth/verify-email", &verify).await.expect(200);
    assert_eq!(verified["user"]["email_verified"], true);
    app.post("/v1/auth/verify-email", &verify).await.expect_problem(422, "code-invalid");
    let me = app.get("/v1/me").bearer(access(&tokens)).await.expect(200);
    assert_eq!(me["email_verified"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_wrong_tries_use_a_code_up_and_a_new_one_replaces_it() {
    let app = TestApp::start().await;
    register(&app, "ada@example.com").await;
    let first = code(&app, "verify_email").await;
    let verify =
        |code: String| app.post("/v1/auth/verify-email", &json!({"email": "ada@example.com", "code": code}));
    for _ in 0..5 {
        verify(another(&first)).await.expect_problem(422, "code-invalid");
    }
    verify(first.clone()).await.expect_problem(422, "code-invalid");

    let ada = json!({"email": "ada@example.com"});
    let known = app.post("/v1/auth/verify-email/resend", &ada).await;
    let unknown = app.post("/v1/auth/verify-email/resend", &json!({"email": "who@example.com"})).await;
    known.expect(202);
    assert_eq!((known.status, &known.bytes), (unknown.status, &unknown.bytes));
    let second = code(&app, "verify_email").await;
    verify(second).await.expect(200);

    register(&app, "grace@example.com").await;
    let late = code(&app, "verify_email").await;
    app.database.execute("UPDATE email_codes SET expires_at = now() - interval '1 second'").await;
    app.post("/v1/auth/verify-email", &json!({"email": "grace@example.com", "code": late}))
        .await
        .expect_problem(422, "code-invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_login_does_not_tell_whether_there_is_an_account() {
    let app = TestApp::start().await;
    register(&app, "ada@example.com").await;
    let attempt = |email| app.post("/v1/auth/login", &json!({"email": email, "password": "wrong-password"}));
    let (known, unknown) = (attempt("ada@example.com").await, attempt("who@example.com").await);
    let mut problems = [&known, &unknown].map(|answer| answer.expect_problem(401, "invalid-credentials"));
    assert!(known.header("www-authenticate").is_some());
    for problem in &mut problems {
        problem["trace_id"] = Value::Null;
    }
    assert_eq!(problems[0], problems[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_refresh_token_ends_its_family() {
    let app = TestApp::start().await;
    register(&app, "ada@example.com").await;
    let other = log_in(&app, "ada@example.com").await;
    let first = log_in(&app, "ada@example.com").await;
    let refresh = |tokens: &Value| {
        app.post("/v1/auth/refresh", &json!({"refresh_token": tokens["refresh_token"]})).into_future()
    };
    let second = refresh(&first).await.expect(200);
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    app.get("/v1/me").bearer(access(&second)).await.expect(200);

    refresh(&first).await.expect_problem(401, "refresh-reused");
    refresh(&second).await.expect_problem(401, "refresh-reused");
    app.get("/v1/me").bearer(access(&second)).await.expect_problem(401, "unauthenticated");
    app.get("/v1/me").bearer(access(&other)).await.expect(200);

    let at_once = futures::future::join_all((0..6).map(|_| refresh(&other))).await;
    assert_eq!(at_once.iter().filter(|answer| answer.status == 200).count(), 1, "a token works once");
    refresh(&json!({"refresh_token": "unknown"})).await.expect_problem(401, "unauthenticated");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_session_is_over_in_every_process() {
    let app = TestApp::start().await;
    register(&app, "ada@example.com").await;
    let (here, there) = (log_in(&app, "ada@example.com").await, log_in(&app, "ada@example.com").await);
    let (other, listener) = evently::api::bind(&app.env).unwrap();
    let url = other.config.public_url.clone();
    let stop = tokio_util::sync::CancellationToken::new();
    let serving = tokio::spawn(api::serve(other, listener, stop.clone()));
    let elsewhere = || app.client.get(format!("{url}/v1/me")).bearer_auth(access(&there)).send();
    assert_eq!(elsewhere().await.unwrap().status(), 200, "cached there");

    let sessions = app.get("/v1/auth/sessions").bearer(access(&here)).await.expect(200);
    let sessions = sessions["data"].as_array().unwrap();
    assert_eq!(sessions.len(), 2);
    let foreign = sessions.iter().find(|session| session["current"] == false).unwrap();
    let path = format!("/v1/auth/sessions/{}", foreign["id"].as_str().unwrap());
    app.delete(&path).bearer(access(&here)).await.expect(204);
    app.delete(&path).bearer(access(&here)).await.expect_problem(404, "not-found");
    app.get("/v1/me").bearer(access(&there)).await.expect_problem(401, "unauthenticated");
    let began = std::time::Instant::now();
    while elsewhere().await.unwrap().status() != 401 {
        assert!(began.elapsed().as_secs() < 5, "the other process hears of it");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }

    app.post("/v1/auth/logout", &json!({})).bearer(access(&here)).await.expect(204);
    app.get("/v1/me").bearer(access(&here)).await.expect_problem(401, "unauthenticated");
    stop.cancel();
    serving.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_password_ends_every_session() {
    let app = TestApp::start().await;
    register(&app, "ada@example.com").await;
    let tokens = log_in(&app, "ada@example.com").await;
    let unknown = app.post("/v1/auth/password/forgot", &json!({"email": "who@example.com"})).await;
    let known = app.post("/v1/auth/password/forgot", &json!({"email": "ada@example.com"})).await;
    known.expect(202);
    assert_eq!((known.status, &known.bytes), (unknown.status, &unknown.bytes));

    let code = code(&app, "reset_password").await;
    let reset =
        |code: &str| json!({"email": "ada@example.com", "code": code, "password": "new-horse-battery"});
    app.post("/v1/auth/password/reset", &reset(&another(&code))).await.expect_problem(422, "code-invalid");
    app.post("/v1/auth/password/reset", &reset(&code)).await.expect(200);
    app.get("/v1/me").bearer(access(&tokens)).await.expect_problem(401, "unauthenticated");
    app.post("/v1/auth/refresh", &json!({"refresh_token": tokens["refresh_token"]}))
        .await
        .expect_problem(401, "unauthenticated");
    app.post("/v1/auth/login", &json!({"email": "ada@example.com", "password": PASSWORD}))
        .await
        .expect_problem(401, "invalid-credentials");
    app.post("/v1/auth/login", &json!({"email": "ada@example.com", "password": "new-horse-battery"}))
        .await
        .expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_count_failures_and_say_what_is_left() {
    let app = TestApp::builder().with_env("EVENTLY_RATE_LIMITS", "on").start().await;
    register(&app, "ada@example.com").await;
    for _ in 0..30 {
        log_in(&app, "ada@example.com").await;
    }
    let wrong = json!({"email": "ada@example.com", "password": "wrong-password"});
    for left in (0..10).rev() {
        let answer = app.post("/v1/auth/login", &wrong).await;
        answer.expect_problem(401, "invalid-credentials");
        let said = answer.header("ratelimit").unwrap();
        assert!(said.contains(&format!("\"login-account\";r={left};")), "{said}");
        assert!(answer.header("ratelimit-policy").unwrap().contains("\"login-account\";q=10;w=900"));
    }
    let refused = app.post("/v1/auth/login", &wrong).await;
    refused.expect_problem(429, "rate-limited");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=90).contains(&wait), "{wait}");
    assert!(refused.header("ratelimit").unwrap().contains("\"login-account\";r=0;"));
}
