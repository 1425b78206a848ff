//! From the basket to the booking and back, as a client sees it.

use domain::jobs::Pool;
use serde_json::{Value, json};

use super::{confirm_path, hold, pay};
use crate::support::{app::TestApp, events::ticket_type};

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_is_declined_then_paid_then_cancelled_and_refunded() {
    let app = TestApp::start().await;
    let _workers = app.work();
    let (event, ada, eve) = (app.event(3).await, app.user("ada").await, app.user("eve").await);
    let hold = hold(&app, &event, &ada, "k1", 2).await;
    let confirm = confirm_path(&event, &hold);

    app.post(&confirm, &json!({})).bearer(&ada.token).await.expect_problem(422, "validation-failed");
    app.post(&confirm, &pay("tok_ok")).bearer(&eve.token).await.expect_problem(404, "not-found");
    let stripe = json!({"payment": {"provider": "stripe", "token": "tok"}});
    app.post(&confirm, &stripe).bearer(&ada.token).await.expect_problem(422, "validation-failed");
    let tampered = json!({"payment": {"provider": "sandbox", "token": "tok_ok"}, "hold_token": "x.y.z"});
    app.post(&confirm, &tampered).bearer(&ada.token).await.expect_problem(422, "hold-token-invalid");

    app.post(&confirm, &pay("tok_declined")).bearer(&ada.token).await.expect_problem(402, "payment-declined");
    let id = hold["id"].as_str().unwrap();
    let failed = app.get(&format!("/v1/bookings/{id}")).bearer(&ada.token).await.expect(200);
    assert_eq!(failed["failure"]["code"], "payment-declined");

    let paid = app.post(&confirm, &pay("tok_ok")).bearer(&ada.token).header("prefer", "wait=20").await;
    let booking = paid.expect(201);
    assert_eq!(paid.header("location"), Some(format!("/v1/bookings/{id}").as_str()));
    assert_eq!(paid.header("preference-applied"), Some("wait=20"));
    assert_eq!(booking["status"], "confirmed");
    assert_eq!(booking["payment"], json!({"status": "captured", "provider": "sandbox"}));
    assert_eq!(booking["total"], json!({"amount": 9000, "currency": "EUR"}));
    assert_eq!(booking["tickets"].as_array().unwrap().len(), 2);
    let again = app.post(&confirm, &pay("tok_ok")).bearer(&ada.token).await.expect(201);
    assert_eq!(again, booking);

    let read = app.get(&format!("/v1/bookings/{id}")).bearer(&ada.token).await;
    assert_eq!(read.expect(200), booking);
    let unchanged = app.get(&format!("/v1/bookings/{id}")).bearer(&ada.token);
    unchanged.header("if-none-match", read.etag()).await.expect(304);
    app.get(&format!("/v1/bookings/{id}")).bearer(&eve.token).await.expect_problem(404, "not-found");
    let list = app.get("/v1/bookings?status=confirmed").bearer(&ada.token).await.expect(200);
    assert_eq!(list, json!({"data": [booking], "next_cursor": null}));

    let ticket = booking["tickets"][0]["id"].as_str().unwrap();
    let png = app.get(&format!("/v1/bookings/{id}/tickets/{ticket}/qr.png")).bearer(&ada.token).await;
    assert_eq!((png.status, png.header("content-type")), (200, Some("image/png")));
    let ics = app.get(&format!("/v1/bookings/{id}/calendar.ics")).bearer(&ada.token).await;
    assert!(ics.text().contains("Harbour Night"), "{}", ics.text());

    let cancel = format!("/v1/bookings/{id}/cancel");
    let cancelled = app.post(&cancel, &json!({})).bearer(&ada.token).key("c1").await.expect(200);
    assert_eq!(cancelled["status"], "cancelled");
    let replayed = app.post(&cancel, &json!({})).bearer(&ada.token).key("c1").await;
    assert_eq!(replayed.expect(200), cancelled);
    assert_eq!(replayed.header("idempotency-replayed"), Some("true"));
    app.rest().await;
    let refunded = app.post(&cancel, &json!({})).bearer(&ada.token).key("c2").await.expect(200);
    assert_eq!(refunded["status"], "refunded");

    let admin = app.admin().await;
    let seen = app.get(&format!("/v1/admin/bookings/{id}")).bearer(&admin.token).await.expect(200);
    let statuses: Vec<_> = seen["payments"].as_array().unwrap().iter().map(|p| &p["status"]).collect();
    assert_eq!(statuses, ["failed", "refunded"]);
    app.get("/v1/admin/bookings").bearer(&ada.token).await.expect_problem(403, "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_workers_a_confirm_is_accepted_and_ends_when_they_come() {
    let app = TestApp::start().await;
    let (event, ada) = (app.event(3).await, app.user("ada").await);
    let hold = hold(&app, &event, &ada, "k1", 1).await;
    let confirm = confirm_path(&event, &hold);
    let accepted = app.post(&confirm, &pay("tok_ok")).bearer(&ada.token).header("prefer", "wait=0").await;
    assert_eq!(accepted.expect(202)["status"], "confirming");
    let location = accepted.header("location").unwrap().to_owned();
    let under_way = app.get(&location).bearer(&ada.token).await.expect(200);
    assert_eq!(under_way["status"], "confirming");

    let _workers = app.work_on(&[Pool::Confirm]);
    let confirmed = app.post(&confirm, &pay("tok_ok")).bearer(&ada.token).await.expect(201);
    assert_eq!(confirmed["status"], "confirmed");
    assert_eq!(app.get(&location).bearer(&ada.token).await.expect(200), confirmed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_free_order_needs_no_payment() {
    let app = TestApp::start().await;
    let _workers = app.work_on(&[Pool::Confirm]);
    let free = app.event_with(5, |event| event.ticket_types = vec![ticket_type("Free", 5, 0)]).await;
    let ada = app.user("ada").await;
    let hold = hold(&app, &free, &ada, "k1", 2).await;
    let booking = app.post(&confirm_path(&free, &hold), &json!({})).bearer(&ada.token).await.expect(201);
    assert_eq!((&booking["status"], &booking["payment"]), (&json!("confirmed"), &Value::Null));
}
