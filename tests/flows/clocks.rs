//! Processes whose clocks are wrong.

use std::collections::BTreeMap;

use super::{assert_at_rest, confirm_path, confirmed, hold, pay};
use crate::support::{app::TestApp, roles::Role};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_an_hour_ahead_owes_is_done_at_once() {
    let app = TestApp::builder().with_smtp().start().await;
    let names = ["DATABASE_URL", "REDIS_URL", "SMTP_URL", "EVENTLY_DATA_DIR", "EVENTLY_PUBLIC_URL"];
    let mut env: BTreeMap<_, _> =
        names.map(|name| (name.to_owned(), app.env.get(name).unwrap().to_owned())).into();
    env.insert("EVENTLY_METRICS_ADDR".to_owned(), "127.0.0.1:0".to_owned());
    let _worker = Role::start_off("ahead", &["worker", "--all"], env, 3_600);
    let (event, ada) = (app.event(2).await, app.user("ada").await);
    let held = hold(&app, &event, &ada, "k", 2).await;
    let confirm = app.post(&confirm_path(&event, &held), &pay("tok_ok")).bearer(&ada.token);
    // Sooner or later: its process may still be starting.
    assert!(matches!(confirm.await.status, 201 | 202));
    confirmed(&app, &held, &ada).await;
    // The confirmation, by way of the outbox.
    app.smtp().wait_for(1).await;
    app.rest().await;
    assert_at_rest(&app, &event, 2, 0).await;
}
