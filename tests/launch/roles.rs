//! The roles of the binary, started and stopped.

use serde_json::json;

use crate::support::app::TestApp;

#[tokio::test]
async fn the_api_is_ready_and_stops() {
    let mut app = TestApp::start().await;
    app.get("/readyz").await.expect(200);
    app.get("/no/such/route").await.expect_problem(404, "not-found");
    app.stop().await;
    assert!(app.client.get(&app.url).send().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_send_what_the_api_owes() {
    let app = TestApp::builder().with_smtp().start().await;
    let body = json!({"email": "new@evently.test", "password": "a long password", "name": "New"});
    app.post("/v1/auth/register", &body).await.expect(201);
    app.drain().await;
    assert_eq!(app.smtp().received().iter().filter(|mail| mail.to == "new@evently.test").count(), 1);
    app.drain().await;
    assert_eq!(app.smtp().received().len(), 1);
}

#[tokio::test]
async fn everybody_has_a_session_and_something_to_buy() {
    let app = TestApp::start().await;
    let (ada, event) = (app.user("ada").await, app.event(100).await);
    app.get("/v1/me").bearer(&ada.token).await.expect(200);
    for token in app.crowd(3).await {
        app.get("/v1/me").bearer(&token).await.expect(200);
    }
    let (_, seats) = app.app.inventory.availability(event.id, &event.ticket_types).await.unwrap().unwrap();
    assert_eq!(seats.len(), 1);
}
