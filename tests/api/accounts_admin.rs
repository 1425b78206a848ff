//! One's own account, and accounts in the hands of admins.

use domain::accounts::{
    Role,
    provision::{ensure_admin, seed_users},
    tokens::Tokens,
};
use serde_json::{Value, json};

use super::accounts::{access, log_in, register};
use crate::support::app::TestApp;

async fn admin(app: &TestApp) -> Value {
    let email = "root@example.com".parse().unwrap();
    let user = ensure_admin(&app.db, &email, "correct-horse-battery".into()).await.unwrap();
    let again = ensure_admin(&app.db, &email, "another-password".into()).await.unwrap();
    assert_eq!((user.role, user.id), (Role::Admin, again.id));
    log_in(app, "root@example.com").await
}

#[tokio::test(flavor = "multi_thread")]
async fn ones_own_account_is_read_and_changed_by_version() {
    let app = TestApp::start().await;
    register(&app, "ada@example.com").await;
    let tokens = log_in(&app, "ada@example.com").await;
    let token = access(&tokens);
    let me = app.get("/v1/me").bearer(token).await;
    assert_eq!(me.expect(200)["name"], "Ada");
    assert_eq!(me.etag(), "\"v1\"");
    let unchanged = app.get("/v1/me").bearer(token).header("if-none-match", me.etag()).await;
    unchanged.expect(304);
    let changed = app.patch("/v1/me", &json!({"name": " Ada King "})).bearer(token).if_match("\"v1\"").await;
    assert_eq!(changed.expect(200)["name"], "Ada King");
    let stale = app.patch("/v1/me", &json!({"name": "x"})).bearer(token).if_match("\"v1\"").await;
    stale.expect_problem(412, "precondition-failed");
    app.patch("/v1/me", &json!({"email": "x@y.zz"}))
        .bearer(token)
        .await
        .expect_problem(422, "validation-failed");
    for (header, value) in [("authorization", "Basic x"), ("authorization", "Bearer a.b.c"), ("x-none", "")] {
        let answer = app.get("/v1/me").header(header, value).await;
        answer.expect_problem(401, "unauthenticated");
        assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_holds_for_tokens_that_are_out() {
    let app = TestApp::start().await;
    let (root, user) = (admin(&app).await, register(&app, "ada@example.com").await);
    let tokens = log_in(&app, "ada@example.com").await;
    let introspect = || {
        app.post("/v1/auth/introspect", &json!({"token": access(&root)}))
            .bearer(access(&tokens))
            .into_future()
    };
    introspect().await.expect_problem(403, "forbidden");
    app.get("/v1/admin/users").bearer(access(&tokens)).await.expect_problem(403, "forbidden");

    let path = format!("/v1/admin/users/{}/role", user["id"].as_str().unwrap());
    let change = |role| app.put(&path, &json!({"role": role})).bearer(access(&root)).into_future();
    change("king").await.expect_problem(422, "validation-failed");
    assert_eq!(change("operator").await.expect(200)["role"], "operator");
    assert_eq!(introspect().await.expect(200)["active"], true);
    change("user").await.expect(200);
    introspect().await.expect_problem(403, "forbidden");
    let audit = "SELECT count(*) FROM audit_log WHERE action = 'user.role_changed'";
    assert_eq!(app.database.value(audit).await.unwrap(), "2");
    let unknown = format!("/v1/admin/users/{}/role", uuid::Uuid::now_v7());
    app.put(&unknown, &json!({"role": "user"})).bearer(access(&root)).await.expect_problem(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deactivated_account_is_out_at_once_and_its_sessions_for_good() {
    let app = TestApp::start().await;
    let (root, user) = (admin(&app).await, register(&app, "ada@example.com").await);
    let tokens = log_in(&app, "ada@example.com").await;
    let path = format!("/v1/admin/users/{}", user["id"].as_str().unwrap());
    let act =
        |what: &str| app.post(&format!("{path}/{what}"), &json!({})).bearer(access(&root)).into_future();
    let deactivated = act("deactivate").await;
    let body = deactivated.expect(200);
    assert!(body["deactivated_at"].is_string());
    assert_eq!(act("deactivate").await.expect(200), body, "twice is once");
    app.get("/v1/me").bearer(access(&tokens)).await.expect_problem(401, "unauthenticated");
    let login = json!({"email": "ada@example.com", "password": "correct-horse-battery"});
    app.post("/v1/auth/login", &login).await.expect_problem(401, "invalid-credentials");
    let gone =
        app.post("/v1/auth/introspect", &json!({"token": access(&tokens)})).bearer(access(&root)).await;
    assert_eq!(gone.expect(200), json!({"active": false}));

    act("activate").await.expect(200);
    app.get("/v1/me").bearer(access(&tokens)).await.expect_problem(401, "unauthenticated");
    let anew = log_in(&app, "ada@example.com").await;
    let sessions = app.get(&format!("{path}/sessions")).bearer(access(&root)).await.expect(200);
    assert_eq!(sessions["data"].as_array().unwrap().len(), 1);
    app.delete(&format!("{path}/sessions")).bearer(access(&root)).await.expect(204);
    app.get("/v1/me").bearer(access(&anew)).await.expect_problem(401, "unauthenticated");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_admins_who_remove_each_other_leave_one() {
    let app = TestApp::start().await;
    let root = admin(&app).await;
    let other = register(&app, "ada@example.com").await;
    let role = |id: &Value| format!("/v1/admin/users/{}/role", id.as_str().unwrap());
    let promoted = app.put(&role(&other["id"]), &json!({"role": "admin"})).bearer(access(&root)).await;
    promoted.expect(200);
    let ada = log_in(&app, "ada@example.com").await;
    let (one, two) = tokio::join!(
        app.put(&role(&other["id"]), &json!({"role": "user"})).bearer(access(&root)).into_future(),
        app.put(&role(&root["user"]["id"]), &json!({"role": "user"})).bearer(access(&ada)).into_future(),
    );
    let statuses = [one.status, two.status];
    assert!(statuses.contains(&200) && statuses.iter().any(|s| matches!(s, 403 | 409)), "{statuses:?}");
    let admins = "SELECT count(*) FROM users WHERE role = 'admin'";
    assert_eq!(app.database.value(admins).await.unwrap(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_listed_a_page_at_a_time() {
    let app = TestApp::start().await;
    let root = admin(&app).await;
    let tokens =
        Tokens::load(&std::path::PathBuf::from(app.env.get("EVENTLY_SIGNING_KEY_FILE").unwrap())).unwrap();
    let issued = seed_users(&app.db, &tokens, 24, "correct-horse-battery".into()).await.unwrap();
    let seeded = app.get("/v1/me").bearer(&issued[7]).await.expect(200);
    assert_eq!(seeded["email_verified"], true);

    let mut path = "/v1/admin/users?limit=10&role=user&status=active".to_owned();
    let mut seen = std::collections::BTreeSet::new();
    loop {
        let answer = app.get(&path).bearer(access(&root)).await;
        let page = answer.expect(200);
        seen.extend(page["data"].as_array().unwrap().iter().map(|user| user["id"].to_string()));
        let Some(link) = answer.header("link") else { break };
        path = link.trim_start_matches('<').split('>').next().unwrap().to_owned();
    }
    assert_eq!(seen.len(), 24);
    for query in ["limit=0", "limit=x", "role=king", "cursor=x", "other=1"] {
        let answer = app.get(&format!("/v1/admin/users?{query}")).bearer(access(&root)).await;
        answer.expect_problem(400, "invalid-parameter");
    }
    let found = app.get("/v1/admin/users?q=ROOT%40").bearer(access(&root)).await.expect(200);
    assert_eq!(found["data"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_published_key_verifies_access_tokens() {
    let app = TestApp::start().await;
    register(&app, "ada@example.com").await;
    let tokens = log_in(&app, "ada@example.com").await;
    let keys = app.get("/.well-known/jwks.json").await.expect(200);
    let key = &keys["keys"][0];
    assert_eq!((&key["kty"], &key["crv"], &key["alg"]), (&json!("OKP"), &json!("Ed25519"), &json!("EdDSA")));
    let ours =
        Tokens::load(&std::path::PathBuf::from(app.env.get("EVENTLY_SIGNING_KEY_FILE").unwrap())).unwrap();
    assert_eq!(serde_json::to_value(ours.jwk()).unwrap(), *key);
    assert_eq!(ours.verify(access(&tokens)).unwrap().user_id.to_string(), tokens["user"]["id"]);
}
