//! The nightly recount of the figures.

use domain::{analytics, jobs::Pool};
use uuid::Uuid;

use crate::support::app::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn every_night_the_figures_are_compared_with_a_recount() {
    let app = TestApp::start().await;
    let event = app.event(10).await.id;
    let append = format!(
        "INSERT INTO booking_log (event_id, booking_id, user_id, kind, quantity, amount, currency, items)
         VALUES ('{event}', '{0}', '{0}', 'confirmed', 2, 9000, 'EUR', '[]')",
        Uuid::now_v7()
    );
    app.database.execute(&append).await;
    while analytics::roll_up(&app.db, 100).await.unwrap().rows > 0 {}
    app.database.execute("UPDATE analytics_days SET tickets = 3").await;
    let checked = "SELECT checked_at > now() - interval '1 hour' FROM analytics_offset";
    let found = "SELECT differences FROM analytics_offset";

    app.database.execute("UPDATE analytics_offset SET checked_at = now() - interval '25 hours'").await;
    let workers = app.work_on(&[Pool::Analytics]);
    app.eventually(checked, |value| value.as_deref() == Some("t")).await;
    // The day, its month, and the totals of its organizer and of all.
    assert_eq!(app.database.value(found).await.as_deref(), Some("4"));
    workers.stop().await;
    assert_eq!(app.database.value("SELECT tickets FROM analytics_days").await.as_deref(), Some("3"));

    // A second run on the same day does nothing, and one on the next finds that all is well again.
    analytics::rebuild(&app.db).await.unwrap();
    let forget = "DELETE FROM schedules WHERE name = 'check_figures'";
    app.database.execute(forget).await;
    let workers = app.work_on(&[Pool::Analytics]);
    let ran = "SELECT outcome FROM schedules WHERE name = 'check_figures' AND last_ended_at IS NOT NULL";
    app.eventually(ran, |value| value.as_deref() == Some("done")).await;
    assert_eq!(app.database.value(found).await.as_deref(), Some("4"));
    workers.stop().await;
    app.database.execute(forget).await;
    app.database.execute("UPDATE analytics_offset SET checked_at = now() - interval '25 hours'").await;
    let workers = app.work_on(&[Pool::Analytics]);
    app.eventually(checked, |value| value.as_deref() == Some("t")).await;
    assert_eq!(app.database.value(found).await.as_deref(), Some("0"));
    workers.stop().await;
}
