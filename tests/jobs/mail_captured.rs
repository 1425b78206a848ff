//! `/dev/mail`: what is captured can be looked at, and only where it is captured.

use domain::{
    jobs::{Job, Pool, SendMail},
    mails::{self, DueMail, MailContent},
};
use workers::Context;

use crate::support::app::TestApp;

/// Sends the tickets of the booking in `booking.sql`.
async fn send_tickets(app: &TestApp) {
    app.database.execute(include_str!("booking.sql")).await;
    let ctx = Context::from_env(&app.env).unwrap();
    let due = DueMail {
        cause: "test".to_owned(),
        user_id: "00000000-0000-7000-8000-00000000000a".parse().unwrap(),
        recipient: "ada@evently.test".to_owned(),
        content: MailContent::BookingConfirmed {
            booking_id: "00000000-0000-7000-8000-00000000000b".parse().unwrap(),
        },
        deadline: None,
        traceparent: None,
    };
    mails::owe(&ctx.db.conn().await.unwrap(), &[due]).await.unwrap();
    let mail_id = app.database.value("SELECT id FROM mails").await.unwrap().parse().unwrap();
    let payload = serde_json::value::to_raw_value(&SendMail { mail_id }).unwrap();
    let handler = workers::spec(Pool::Email).jobs.iter().find(|job| job.name == SendMail::NAME).unwrap();
    (handler.run)(&payload, ctx).await.unwrap();
}

#[tokio::test]
async fn captured_mail_can_be_looked_at() {
    let app = TestApp::start().await;
    let empty = app.get("/dev/mail").header("accept", "text/html").await;
    assert!(empty.status == 200 && empty.text().contains("No mail yet."));

    send_tickets(&app).await;
    let list: serde_json::Value = serde_json::from_slice(&app.get("/dev/mail").await.bytes).unwrap();
    let mail = &list["data"][0];
    assert_eq!(mail["subject"], "Your tickets for Winter Lights");
    assert_eq!(mail["to"], "ada@evently.test");
    let path = format!("/dev/mail/{}", mail["name"].as_str().unwrap());

    let shown: serde_json::Value = serde_json::from_slice(&app.get(&path).await.bytes).unwrap();
    assert!(shown["text"].as_str().unwrap().contains("AAAA-BBBB-CCCC"));
    assert_eq!(shown["attachments"].as_array().unwrap().last().unwrap()["name"], "event.ics");
    for page in ["/dev/mail", &path] {
        let page = app.get(page).header("accept", "text/html").await;
        assert!(page.status == 200 && page.text().contains("Your tickets for Winter Lights"));
    }
    let html = app.get(&format!("{path}/html")).await.text();
    assert!(html.contains("src=\"data:image/png;base64,") && !html.contains("cid:"));
    let raw = app.get(&format!("{path}/raw")).await;
    assert_eq!(raw.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(raw.text().starts_with("From: Evently <tickets@evently.test>"));
}

#[tokio::test]
async fn only_captured_mail_is_shown() {
    let app = TestApp::start().await;
    for name in ["nothing", "..%2F..%2Fkeys%2Fsigning", ".hidden", "%2e%2e", "a%5cb"] {
        for path in [format!("/dev/mail/{name}"), format!("/dev/mail/{name}/raw")] {
            assert_eq!(app.get(&path).await.status, 404, "{path}");
        }
    }
    let elsewhere = TestApp::builder().with_env("SMTP_URL", "smtp://127.0.0.1:1").start().await;
    assert_eq!(elsewhere.get("/dev/mail").await.status, 404);
}
