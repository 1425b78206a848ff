//! One trace from the request through the job to the mail.

use super::{confirm_path, hold, pay, place};
use crate::support::app::TestApp;

const THEIRS: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_trace_reaches_the_error_the_books_and_the_mail() {
    let app = TestApp::builder().with_smtp().start().await;
    let _workers = app.work();
    let (event, ada) = (app.event(2).await, app.user("ada").await);
    let parent = format!("00-{THEIRS}-00f067aa0ba902b7-01");
    let refused = place(&app, &event, &ada.token, "k0", &[3]).header("traceparent", &parent).await;
    assert_eq!(refused.expect_problem(409, "sold-out")["trace_id"], THEIRS);

    let held = hold(&app, &event, &ada, "k", 1).await;
    let confirm = app.post(&confirm_path(&event, &held), &pay("tok_ok")).bearer(&ada.token);
    confirm.header("traceparent", &parent).await.expect(201);
    let mails = app.smtp().wait_for(1).await;
    assert!(mails[0].raw.contains(&format!("X-Trace-ID: {THEIRS}")), "{}", mails[0].raw);
    let audited = "SELECT trace_id FROM audit_log WHERE action = 'booking.confirmed'";
    assert_eq!(app.database.value(audited).await.as_deref(), Some(THEIRS));
}
