//! The waitlist over HTTP: join, look, leave, and offers by their token.

use domain::jobs::Pool;
use serde_json::json;
use uuid::Uuid;

use crate::support::{
    app::TestApp,
    events::{TestEvent, ticket_type},
    people::Person,
    workers::Workers,
};

/// Takes every seat of the first ticket type; answers the hold's path.
async fn sell_out(app: &TestApp, event: &TestEvent, buyer: &Person, quantity: u32) -> String {
    let items = json!({"items": [{"ticket_type_id": event.ticket_types[0], "quantity": quantity}]});
    let path = format!("/v1/events/{}/holds", event.id);
    let hold = app.post(&path, &items).bearer(&buyer.token).key("all").await.expect(201);
    format!("{path}/{}", hold["id"].as_str().unwrap())
}

/// The pools that offers need; mails stay where their tokens can be read.
fn work(app: &TestApp) -> Workers {
    app.work_on(&[Pool::Waitlist, Pool::Upkeep, Pool::Confirm])
}

#[tokio::test(flavor = "multi_thread")]
async fn one_waits_for_what_is_sold_out_and_has_one_place() {
    let app = TestApp::start().await;
    let event = app.event(4).await;
    let (ada, ben, cleo) = (app.user("ada").await, app.user("ben").await, app.user("cleo").await);
    app.join(&event, &ben.token, 2).await.expect_problem(409, "seats-available");
    sell_out(&app, &event, &ada, 3).await;
    app.join(&event, &ben.token, 1).await.expect_problem(409, "seats-available");

    // One seat is left, and two are wanted: that is worth waiting, and takes the one from nobody.
    let first = app.join(&event, &ben.token, 2).await;
    assert_eq!(first.header("location"), Some(&*format!("/v1/events/{}/waitlist/me", event.id)));
    let first = first.expect(201);
    assert_eq!((&first["position"], &first["status"]), (&json!(1), &json!("waiting")));
    assert_eq!((&first["quantity"], &first["offer"]), (&json!(2), &json!(null)));
    let again = app.join(&event, &ben.token, 5).await.expect(200);
    assert_eq!((&again["id"], &again["quantity"]), (&first["id"], &json!(2)));
    assert_eq!(app.join(&event, &cleo.token, 3).await.expect(201)["position"], 2);
    let seen = app.seats(&event, |seen| seen["waitlisted"] == 5).await;
    assert_eq!((&seen["available"], &seen["offered"]), (&json!(1), &json!(0)));

    let me = format!("/v1/events/{}/waitlist/me", event.id);
    let tag = app.get(&me).bearer(&cleo.token).await.etag().to_owned();
    app.get(&me).bearer(&cleo.token).header("if-none-match", &tag).await.expect(304);
    app.delete(&me).bearer(&ben.token).await.expect(204);
    app.delete(&me).bearer(&ben.token).await.expect(204);
    assert_eq!(app.waits(&event, &ben.token).await["status"], "left");
    let moved_up = app.get(&me).bearer(&cleo.token).header("if-none-match", &tag).await;
    assert_eq!(moved_up.expect(200)["data"][0]["position"], 1);
    let rejoined = app.join(&event, &ben.token, 2).await.expect(201);
    assert_eq!(rejoined["position"], 2);
    assert_ne!(rejoined["id"], first["id"]);
    let query = format!("{me}?ticket_type_id={}", Uuid::now_v7());
    app.delete(&query).bearer(&ben.token).await.expect(204);
    assert_eq!(app.waits(&event, &ben.token).await["status"], "waiting");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_waited_for_is_refused() {
    let app = TestApp::start().await;
    let event = app.event_with(4, |event| event.max_tickets_per_user = 4).await;
    let (ada, ben) = (app.user("ada").await, app.user("ben").await);
    sell_out(&app, &event, &ada, 4).await;
    app.join(&event, &ben.token, 5).await.expect_problem(422, "validation-failed");
    let roomy = app.event_with(6, |event| event.max_tickets_per_user = 4).await;
    sell_out(&app, &roomy, &ada, 4).await;
    app.join(&roomy, &ben.token, 5).await.expect_problem(422, "limit-exceeded");
    app.join(&event, &ada.token, 1).await.expect_problem(422, "limit-exceeded");
    app.join(&event, &ben.token, 0).await.expect_problem(422, "validation-failed");
    let stray = TestEvent { ticket_types: vec![Uuid::now_v7()], ..event.clone() };
    app.join(&stray, &ben.token, 1).await.expect_problem(422, "validation-failed");
    let unknown = TestEvent { id: Uuid::now_v7(), ..event.clone() };
    app.join(&unknown, &ben.token, 1).await.expect_problem(404, "not-found");
    let me = format!("/v1/events/{}/waitlist/me", unknown.id);
    app.get(&me).bearer(&ben.token).await.expect_problem(404, "not-found");
    app.delete(&me).bearer(&ben.token).await.expect_problem(404, "not-found");
    let over = app.event_with(1, |event| event.title = "Over".to_owned()).await;
    sell_out(&app, &over, &ada, 1).await;
    let end =
        format!("UPDATE events SET sales_end_at = now(), version = version + 1 WHERE id = '{}'", over.id);
    app.database.execute(&end).await;
    domain::inventory::sync_event(&app.app.inventory, &app.db, over.id, false).await.unwrap();
    app.join(&over, &ben.token, 1).await.expect_problem(409, "sale-closed");

    for path in ["no-token", &"A".repeat(43)] {
        let path = format!("/v1/offers/{path}");
        app.get(&path).await.expect_problem(404, "not-found");
        app.post(&format!("{path}/claim"), &json!({})).await.expect_problem(404, "not-found");
        app.post(&format!("{path}/decline"), &json!({})).await.expect_problem(404, "not-found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_is_looked_at_claimed_and_paid() {
    let app = TestApp::start().await;
    let _workers = work(&app);
    let event = app.event(2).await;
    let (ada, ben, eve) = (app.user("ada").await, app.user("ben").await, app.user("eve").await);
    let bought_out = sell_out(&app, &event, &ada, 2).await;
    app.join(&event, &ben.token, 2).await.expect(201);
    app.delete(&bought_out).bearer(&ada.token).await.expect(204);

    let token = app.offer_token(ben.id).await;
    let seen = app.seats(&event, |seen| seen["offered"] == 2 && seen["held"] == 0).await;
    assert_eq!((&seen["available"], &seen["waitlisted"]), (&json!(0), &json!(0)));
    let entry = app.waits(&event, &ben.token).await;
    assert_eq!((&entry["status"], &entry["position"]), (&json!("offered"), &json!(null)));
    assert_eq!(entry["offer"]["total"], json!({"amount": 9000, "currency": "EUR"}));

    let path = format!("/v1/offers/{token}");
    let claim = format!("{path}/claim");
    for _ in 0..10 {
        assert_eq!(app.get(&path).await.expect(200)["status"], "open");
        app.call(reqwest::Method::HEAD, &path).await.expect(200);
    }
    app.get(&claim).await.expect_problem(405, "method-not-allowed");
    app.get(&path).bearer(&eve.token).await.expect_problem(404, "not-found");
    app.post(&claim, &json!({})).bearer(&eve.token).await.expect_problem(404, "not-found");

    let hold = app.call(reqwest::Method::POST, &claim).await.expect(201);
    assert_eq!(app.post(&claim, &json!({})).bearer(&ben.token).await.expect(200)["id"], hold["id"]);
    app.seats(&event, |seen| seen["held"] == 2 && seen["offered"] == 0).await;
    assert_eq!(app.waits(&event, &ben.token).await["status"], "claimed");
    let confirm = format!("/v1/events/{}/holds/{}/confirm", event.id, hold["id"].as_str().unwrap());
    let pay = json!({"payment": {"provider": "sandbox", "token": "tok_ok"}});
    let paid = app.post(&confirm, &pay).bearer(&ben.token).header("prefer", "wait=30").await.expect(201);
    assert_eq!(paid["status"], "confirmed");
    assert_eq!(app.post(&claim, &json!({})).await.expect(200)["status"], "confirmed");
    app.post(&format!("{path}/decline"), &json!({})).await.expect_problem(410, "offer-expired");
    app.seats(&event, |seen| seen["sold"] == 2 && seen["held"] == 0 && seen["offered"] == 0).await;
    let kept = "SELECT sold || ':' || reserved FROM ticket_types";
    assert_eq!(app.database.value(kept).await.as_deref(), Some("2:0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_declined_or_released_goes_to_the_next_and_at_last_to_the_public() {
    let app = TestApp::start().await;
    let _workers = work(&app);
    let event = app.event(1).await;
    let (ada, ben, cleo) = (app.user("ada").await, app.user("ben").await, app.user("cleo").await);
    let bought_out = sell_out(&app, &event, &ada, 1).await;
    app.join(&event, &ben.token, 1).await.expect(201);
    app.join(&event, &cleo.token, 1).await.expect(201);
    app.delete(&bought_out).bearer(&ada.token).await.expect(204);

    let decline = format!("/v1/offers/{}/decline", app.offer_token(ben.id).await);
    // As mail clients do it.
    let one_click = app.call(reqwest::Method::POST, &decline);
    let form = "application/x-www-form-urlencoded";
    one_click.header("content-type", form).body("List-Unsubscribe=One-Click").await.expect(204);
    app.post(&decline, &json!({})).await.expect_problem(410, "offer-expired");
    assert_eq!(app.waits(&event, &ben.token).await["status"], "declined");

    let offer = format!("/v1/offers/{}", app.offer_token(cleo.id).await);
    let hold = app.post(&format!("{offer}/claim"), &json!({})).await.expect(201);
    let hold = format!("/v1/events/{}/holds/{}", event.id, hold["id"].as_str().unwrap());
    app.delete(&hold).bearer(&cleo.token).await.expect(204);
    app.delete(&hold).bearer(&cleo.token).await.expect(204);
    app.post(&format!("{offer}/claim"), &json!({})).await.expect_problem(410, "offer-expired");
    app.get(&offer).await.expect_problem(410, "offer-expired");
    // Nobody waits any more: it is everybody's, once.
    let seen = app.seats(&event, |seen| seen["available"] == 1).await;
    assert_eq!((&seen["offered"], &seen["held"]), (&json!(0), &json!(0)));
    sell_out(&app, &event, &ada, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn organizers_see_why_and_override() {
    let app = TestApp::start().await;
    let _workers = work(&app);
    let event = app.event(4).await;
    let (ada, admin) = (app.user("ada").await, app.admin().await);
    let people = [app.user("ben").await, app.user("cleo").await, app.user("dora").await];
    sell_out(&app, &event, &ada, 4).await;
    for (person, quantity) in people.iter().zip([4, 3, 2]) {
        app.join(&event, &person.token, quantity).await.expect(201);
    }
    let path = format!("/v1/admin/events/{}/waitlist", event.id);
    app.get(&path).bearer(&ada.token).await.expect_problem(403, "forbidden");
    let list = async || app.get(&path).bearer(&admin.token).await.expect(200)["data"].clone();
    let seen = list().await;
    assert_eq!(seen[0]["not_offered"]["code"], "no_seats");
    assert_eq!(seen[0]["email"], "ben@evently.test");
    let page = app.get(&format!("{path}?limit=2")).bearer(&admin.token).await.expect(200);
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = app.get(&format!("{path}?limit=2&cursor={cursor}")).bearer(&admin.token).await.expect(200);
    assert_eq!(
        (rest["data"][0]["id"].clone(), rest["next_cursor"].clone()),
        (seen[2]["id"].clone(), json!(null))
    );

    let entry = |n: usize| format!("{path}/{}", seen[n]["id"].as_str().unwrap());
    let act = |path: String, body: serde_json::Value| app.post(&path, &body).bearer(&admin.token);
    act(format!("{}/offer", entry(2)), json!({})).await.expect_problem(409, "sold-out");
    act(format!("{}/move", entry(2)), json!({"position": 1, "reason": "guest"})).await.expect(204);
    act(format!("{}/move", entry(0)), json!({"position": 9})).await.expect(204);
    let order: Vec<_> = list().await.as_array().unwrap().iter().map(|e| e["email"].clone()).collect();
    assert_eq!(order, ["dora@evently.test", "cleo@evently.test", "ben@evently.test"]);
    act(format!("{}/move", entry(0)), json!({"position": 2})).await.expect(204);
    assert_eq!(app.waits(&event, &people[0].token).await["position"], 2);

    // One seat more than none: nobody wants so few, and it stays with those who wait.
    let fields = serde_json::to_value(ticket_type("Standing", 5, 4500)).unwrap();
    let raise = format!("/v1/admin/events/{}/ticket_types/{}", event.id, event.ticket_types[0]);
    app.put(&raise, &fields).bearer(&admin.token).if_match("\"v1\"").await.expect(200);
    let kept = app.seats(&event, |seen| seen["offered"] == 1).await;
    assert_eq!(kept["available"], 0);
    assert_eq!(list().await[0]["not_offered"]["code"], "party_too_large");
    let remove = format!("{}?reason=gone", entry(2));
    app.delete(&remove).bearer(&admin.token).await.expect(204);
    app.delete(&remove).bearer(&admin.token).await.expect(204);
    let fields = serde_json::to_value(ticket_type("Standing", 7, 4500)).unwrap();
    app.put(&raise, &fields).bearer(&admin.token).if_match("\"v2\"").await.expect(200);
    // Ben, who wants four, stands first; Cleo, who wants three, is served.
    app.offer_token(people[1].id).await;
    assert_eq!(app.waits(&event, &people[0].token).await["position"], 1);
    act(format!("{}/offer", entry(1)), json!({})).await.expect_problem(409, "invalid-state");
    let audit = "SELECT string_agg(action || ':' || coalesce(detail ->> 'reason', '-'), ',' ORDER BY id)
                 FROM audit_log WHERE object_type = 'waitlist_entry'";
    let log = app.database.value(audit).await.unwrap();
    let moved = "waitlist_entry.moved";
    assert_eq!(log, format!("{moved}:guest,{moved}:-,{moved}:-,waitlist_entry.removed:gone"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fits_nobody_who_waits_is_kept_for_them_and_the_organizer_is_told() {
    let app = TestApp::start().await;
    let _workers = work(&app);
    let event = app.event(4).await;
    let (ada, eve, admin) = (app.user("ada").await, app.user("eve").await, app.admin().await);
    let (ben, cleo) = (app.user("ben").await, app.user("cleo").await);
    let first = sell_out(&app, &event, &ada, 2).await;
    let second = sell_out(&app, &event, &eve, 2).await;
    app.join(&event, &ben.token, 4).await.expect(201);
    app.delete(&first).bearer(&ada.token).await.expect(204);
    let kept = app.seats(&event, |seen| seen["offered"] == 2 && seen["held"] == 2).await;
    assert_eq!((&kept["available"], &kept["waitlisted"]), (&json!(0), &json!(4)));

    let path = format!("/v1/admin/events/{}/waitlist", event.id);
    let why = async |n: usize| {
        let list = app.get(&path).bearer(&admin.token).await.expect(200);
        list["data"][n]["not_offered"].clone()
    };
    let told = why(0).await;
    assert_eq!(told["code"], "party_too_large");
    let detail = told["detail"].as_str().unwrap();
    assert!(detail.starts_with("Wants 4, and 2 are free. It keeps its place."), "{detail}");
    let items = json!({"items": [{"ticket_type_id": event.ticket_types[0], "quantity": 1}]});
    let holds = format!("/v1/events/{}/holds", event.id);
    app.post(&holds, &items).bearer(&ada.token).key("mine").await.expect_problem(409, "sold-out");
    app.join(&event, &ada.token, 3).await.expect(201);
    app.delete(&format!("/v1/events/{}/waitlist/me", event.id)).bearer(&ada.token).await.expect(204);

    // A smaller party is served, although it came later; what it declines is kept again.
    app.join(&event, &cleo.token, 2).await.expect(201);
    let decline = format!("/v1/offers/{}/decline", app.offer_token(cleo.id).await);
    assert_eq!(why(0).await["code"], "no_seats");
    assert_eq!(app.waits(&event, &ben.token).await["position"], 1);
    app.post(&decline, &json!({})).await.expect(204);
    app.eventually("SELECT reserved FROM ticket_types", |n| n.as_deref() == Some("0")).await;
    assert_eq!(why(0).await["code"], "party_too_large");
    app.post(&holds, &items).bearer(&ada.token).key("mine?").await.expect_problem(409, "sold-out");

    // More comes free, and the party of four is served; when nobody waits any more all of it is the public's.
    app.delete(&second).bearer(&eve.token).await.expect(204);
    let decline = format!("/v1/offers/{}/decline", app.offer_token(ben.id).await);
    assert_eq!(why(0).await, json!(null));
    app.post(&decline, &json!({})).await.expect(204);
    let open = app.seats(&event, |seen| seen["available"] == 4).await;
    assert_eq!((&open["offered"], &open["held"], &open["waitlisted"]), (&json!(0), &json!(0), &json!(0)));
    let all = json!({"items": [{"ticket_type_id": event.ticket_types[0], "quantity": 4}]});
    app.post(&holds, &all).bearer(&ada.token).key("now").await.expect(201);
    app.post(&holds, &items).bearer(&eve.token).key("late").await.expect_problem(409, "sold-out");
}
