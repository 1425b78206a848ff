//! The export of everything that is kept about an account.

use domain::{clock, jobs::Pool};

use super::{confirm_path, hold, pay};
use crate::support::app::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn an_export_holds_ones_own_account_and_nobody_elses() {
    let app = TestApp::start().await;
    let _workers = app.work_on(&[Pool::Confirm]);
    let (event, ada, eve) = (app.event(5).await, app.user("ada").await, app.user("eve").await);
    let hold = hold(&app, &event, &ada, "k1", 2).await;
    let paid = app.post(&confirm_path(&event, &hold), &pay("tok_ok")).bearer(&ada.token);
    let booking = paid.header("prefer", "wait=20").await.expect(201);

    let answer = app.get("/v1/me/export").bearer(&ada.token).await;
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"evently.json\""));
    let export = answer.expect(200);
    assert_eq!(export["user"], app.get("/v1/me").bearer(&ada.token).await.expect(200));
    assert_eq!(export["bookings"].as_array().unwrap().len(), 1);
    assert_eq!(export["bookings"][0]["id"], booking["id"]);
    assert_eq!(export["sessions"], app.get("/v1/auth/sessions").bearer(&ada.token).await.expect(200)["data"]);

    let other = app.get("/v1/me/export").bearer(&eve.token).await.expect(200);
    assert_eq!(other["bookings"].as_array().unwrap().len(), 0);
    assert_eq!(other["user"]["email"], "eve@evently.test");
    app.get("/v1/me/export").await.expect_problem(401, "unauthenticated");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_goes_on_past_one_page() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let more = format!(
        "INSERT INTO sessions (id, user_id, expires_at)
         SELECT gen_random_uuid(), '{}', now() + interval '1 day' FROM generate_series(1, 205)",
        ada.id
    );
    app.database.execute(&more).await;
    let before = clock::now();
    let export = app.get("/v1/me/export").bearer(&ada.token).await.expect(200);
    let mut sessions: Vec<_> = export["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|session| session["id"].as_str().unwrap())
        .collect();
    sessions.sort_unstable();
    sessions.dedup();
    assert_eq!(sessions.len(), 206);
    let at: chrono::DateTime<chrono::Utc> = export["exported_at"].as_str().unwrap().parse().unwrap();
    assert!(at >= before && at <= clock::now());
}
