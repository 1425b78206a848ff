//! Real money, over the wire: Stripe's stand-in, behind a proxy that lets things go wrong.

use std::time::Duration;

use domain::{clock, jobs::Pool};
use ring::hmac;
use serde_json::{Value, json};
use uuid::Uuid;
use workers::Context;

use super::{booking_path, confirm_path, confirmed, hold, hold_path, until};
use crate::support::{
    app::TestApp,
    events::TestEvent,
    http::Answer,
    localstripe::{Localstripe, SECRET_KEY},
    people::Person,
    stripe_proxy::{StripeProxy, Wrong},
};

const WEBHOOK_SECRET: &str = "whsec_evently";
/// Needs to be approved by its customer.
const CARD_3DS: &str = "4000002500003155";

struct Till {
    app: TestApp,
    stripe: Localstripe,
    proxy: StripeProxy,
}

impl Till {
    async fn open() -> Self {
        let stripe = Localstripe::start().await;
        let proxy = StripeProxy::before(stripe.url()).await;
        let app = TestApp::builder()
            .with_env("EVENTLY_PAYMENTS", "stripe")
            .with_env("STRIPE_SECRET_KEY", SECRET_KEY)
            .with_env("STRIPE_WEBHOOK_SECRET", WEBHOOK_SECRET)
            .with_env("STRIPE_API_URL", proxy.url());
        Self { app: app.start().await, stripe, proxy }
    }

    /// Confirms with a card of this name, and waits for the answer.
    async fn pay(&self, event: &TestEvent, hold: &Value, buyer: &Person, token: &str) -> Answer {
        let body = json!({"payment": {"provider": "stripe", "token": token}});
        let call = self.app.post(&confirm_path(event, hold), &body).bearer(&buyer.token);
        call.header("prefer", "wait=30").await
    }

    /// A confirm that waits for its customer: the intent and its secret.
    async fn pay_with_approval(&self, event: &TestEvent, hold: &Value, buyer: &Person) -> (String, String) {
        let card = self.stripe.card(CARD_3DS).await;
        let booking = self.pay(event, hold, buyer, &card).await.expect(202);
        assert_eq!(booking["status"], "confirming");
        assert_eq!(booking["payment"]["status"], "unknown");
        let action = &booking["payment"]["action"];
        assert_eq!(action["type"], "stripe_sdk");
        let secret = action["client_secret"].as_str().unwrap().to_owned();
        let read = || self.app.get(&booking_path(hold)).bearer(&buyer.token);
        until(read, |answer| answer.status == 200 && answer.json()["payment"] == booking["payment"]).await;
        (secret.split("_secret_").next().unwrap().to_owned(), secret)
    }

    /// Tells the application of an intent as Stripe would.
    async fn tell(&self, event_id: &str, intent: &str) -> Answer {
        let intent = self.stripe.get(&format!("payment_intents/{intent}")).await;
        let body = event_body(event_id, &intent);
        self.tell_signed(&body, &signature(&body, clock::now().timestamp())).await
    }

    async fn tell_signed(&self, body: &str, signature: &str) -> Answer {
        let call = self.app.post("/v1/webhooks/stripe", &Value::Null);
        call.body(body.to_owned()).header("stripe-signature", signature).await
    }

    /// Lets the time until a confirm that waits for its customer is looked at be over.
    async fn look_now(&self, event: &TestEvent, hold: &Value) {
        let mut redis = self.app.redis.connect().await;
        let key = format!("ev:{{{}}}:confirming", event.id);
        let over = redis::cmd("ZADD").arg(key).arg("XX").arg(1).arg(hold["id"].as_str().unwrap()).clone();
        over.exec_async(&mut redis).await.unwrap();
    }

    async fn value(&self, sql: &str) -> String {
        self.app.database.value(sql).await.unwrap_or_default()
    }

    /// Waits until `sql` answers `wanted`.
    async fn until_value(&self, sql: &str, wanted: &str) {
        for _ in 0..400 {
            if self.value(sql).await == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{sql}: {} and not {wanted}", self.value(sql).await);
    }

    /// Statuses of all intents, sorted.
    async fn statuses(&self) -> Vec<String> {
        let intents = self.stripe.intents().await;
        let mut statuses: Vec<_> =
            intents.iter().map(|intent| intent["status"].as_str().unwrap().to_owned()).collect();
        statuses.sort();
        statuses
    }
}

fn event_body(event_id: &str, intent: &Value) -> String {
    let kind = "payment_intent.amount_capturable_updated";
    json!({"id": event_id, "object": "event", "type": kind, "data": {"object": intent}}).to_string()
}

fn signature(body: &str, at: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, WEBHOOK_SECRET.as_bytes());
    let tag = hmac::sign(&key, format!("{at}.{body}").as_bytes());
    let hex = tag.as_ref().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    format!("t={at},v1={hex}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_is_declined_then_another_one_charged_and_refunded() {
    let till = Till::open().await;
    let app = &till.app;
    let webhook = format!("url={}/v1/webhooks/stripe&secret={WEBHOOK_SECRET}", app.url);
    reqwest::Client::new()
        .post(format!("{}/_config/webhooks/evently", till.stripe.url()))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(webhook)
        .send()
        .await
        .unwrap()
        .error_for_status()
        .unwrap();
    let _workers = app.work();
    let (event, ada) = (app.event(4).await, app.user("ada").await);
    let held = hold(app, &event, &ada, "k", 2).await;
    let sandbox = json!({"payment": {"provider": "sandbox", "token": "tok_ok"}});
    let path = confirm_path(&event, &held);
    let refused = app.post(&path, &sandbox).bearer(&ada.token).await.expect_problem(422, "validation-failed");
    assert_eq!(refused["errors"][0]["pointer"], "/payment/provider");

    for card in ["pm_card_chargeCustomerFail", "pm_of_nobody"] {
        till.pay(&event, &held, &ada, card).await.expect_problem(402, "payment-declined");
    }
    // The price may change; what was quoted counts.
    app.database.execute("UPDATE ticket_types SET price = 99").await;
    let booking = till.pay(&event, &held, &ada, "pm_card_visa").await.expect(201);
    assert_eq!(booking["payment"]["provider"], "stripe");
    // A confirm does not wait for ever for its capture.
    till.until_value("SELECT status FROM payments WHERE status <> 'failed'", "captured").await;
    assert_eq!(booking["total"], json!({"amount": 9000, "currency": "EUR"}));
    assert_eq!(till.statuses().await, ["canceled", "succeeded"], "a declined intent is closed");
    let intents = till.stripe.intents().await;
    let paid = intents.iter().find(|intent| intent["status"] == "succeeded").unwrap();
    assert_eq!((&paid["amount"], &paid["currency"]), (&json!(9000), &json!("eur")));
    assert_eq!(paid["metadata"]["booking_id"], held["id"]);
    assert_eq!(paid["capture_method"], "manual");
    let id = held["id"].as_str().unwrap();
    for request in till.proxy.requests().iter().filter(|request| request.starts_with("POST")) {
        assert!(request.split(' ').nth(2).unwrap().starts_with(id), "{request}");
    }

    let cancel = format!("{}/cancel", booking_path(&held));
    app.post(&cancel, &json!({})).bearer(&ada.token).key(&Uuid::now_v7().to_string()).await.expect(200);
    let read = || app.get(&booking_path(&held)).bearer(&ada.token);
    until(read, |answer| answer.json()["status"] == "refunded").await;
    let refunds = till.stripe.get("refunds").await;
    assert_eq!((refunds["data"].as_array().unwrap().len(), &refunds["data"][0]["amount"]), (1, &json!(9000)));
    // What Stripe itself signs is understood.
    till.until_value("SELECT count(*) > 0 FROM provider_events WHERE kind = 'payment_intent.succeeded'", "t")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_on_the_wire_a_booking_is_charged_once_and_refunded_once() {
    let till = Till::open().await;
    let app = &till.app;
    for request in ["POST /v1/payment_intents", "/confirm", "/capture", "POST /v1/refunds"] {
        for wrong in [Wrong::LosesAnswer, Wrong::Fails, Wrong::NeverArrives] {
            till.proxy.goes_wrong(request, wrong, 1);
        }
        till.proxy.goes_wrong(request, Wrong::IsSlow(Duration::from_millis(300)), 2);
    }
    let _workers = app.work();
    let (event, ada) = (app.event(9).await, app.user("ada").await);
    let mut holds = Vec::new();
    for key in ["a", "b", "c", "d", "e"] {
        holds.push(hold(app, &event, &ada, key, 1).await);
    }
    let pays = holds.iter().map(|held| till.pay(&event, held, &ada, "pm_card_visa"));
    futures::future::join_all(pays).await;
    for held in &holds {
        confirmed(app, held, &ada).await;
    }
    let captured = "SELECT count(*) FROM payments WHERE status = 'captured'";
    till.until_value(captured, "5").await;
    let charged =
        |statuses: Vec<String>| statuses.into_iter().filter(|s| s != "requires_confirmation").count();
    assert_eq!(charged(till.statuses().await), 5, "nothing is set aside but what is taken");
    assert_eq!(till.value("SELECT count(DISTINCT reference) FROM payments").await, "5");

    for held in &holds {
        let cancel = format!("{}/cancel", booking_path(held));
        app.post(&cancel, &json!({})).bearer(&ada.token).key(&Uuid::now_v7().to_string()).await.expect(200);
    }
    till.until_value("SELECT count(*) FROM bookings WHERE status = 'refunded'", "5").await;
    let refunds = till.stripe.get("refunds?limit=100").await;
    let mut refunded: Vec<_> =
        refunds["data"].as_array().unwrap().iter().map(|r| r["payment_intent"].to_string()).collect();
    refunded.sort();
    refunded.dedup();
    assert_eq!((refunds["total_count"].as_i64().unwrap(), refunded.len()), (5, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_its_customer_approves_is_confirmed_once_stripe_says_so() {
    let till = Till::open().await;
    let app = &till.app;
    let _workers = app.work();
    let (event, ada) = (app.event(4).await, app.user("ada").await);
    let held = hold(app, &event, &ada, "k", 1).await;
    let (intent, secret) = till.pay_with_approval(&event, &held, &ada).await;

    // Whoever says something, it is Stripe that is asked.
    till.tell("evt_early", &intent).await.expect(200);
    let body = event_body("evt_forged", &json!({"id": intent, "status": "requires_capture", "metadata": {}}));
    let now = clock::now().timestamp();
    till.tell_signed(&body, &signature("{}", now)).await.expect_problem(400, "signature-invalid");
    till.tell_signed(&body, &signature(&body, now - 400)).await.expect_problem(400, "signature-invalid");
    till.tell_signed(&body, "").await.expect_problem(400, "signature-invalid");
    let again = till.pay(&event, &held, &ada, "pm_card_visa").await.expect(202);
    assert_eq!(again["payment"]["action"]["client_secret"], secret.as_str(), "the one under way is joined");
    let hold_now = app.get(&hold_path(&event, &held)).bearer(&ada.token).await.expect(200);
    assert_eq!(hold_now["status"], "confirming");

    till.stripe.authenticate(&intent, &secret, true).await;
    for _ in 0..3 {
        till.tell("evt_done", &intent).await.expect(200);
    }
    let booking = confirmed(app, &held, &ada).await;
    assert_eq!(booking["payment"]["action"], Value::Null);
    till.until_value("SELECT status FROM payments", "captured").await;
    assert_eq!(
        till.value("SELECT string_agg(event_id, ',' ORDER BY event_id) FROM provider_events").await,
        "evt_done,evt_early"
    );
    assert_eq!(till.statuses().await, ["succeeded"]);

    // No word comes at all: then it is asked for, here as if half a minute had passed.
    let other = hold(app, &event, &ada, "k2", 1).await;
    let (intent, secret) = till.pay_with_approval(&event, &other, &ada).await;
    till.stripe.authenticate(&intent, &secret, true).await;
    till.look_now(&event, &other).await;
    confirmed(app, &other, &ada).await;

    // Approval is refused: the hold is free for another card.
    let third = hold(app, &event, &ada, "k3", 1).await;
    let (intent, secret) = till.pay_with_approval(&event, &third, &ada).await;
    till.stripe.authenticate(&intent, &secret, false).await;
    till.tell("evt_refused", &intent).await.expect(200);
    let read = || app.get(&booking_path(&third)).bearer(&ada.token);
    let failed = until(read, |answer| answer.json()["status"] == "failed").await.json();
    assert_eq!(failed["failure"]["code"], "payment-declined");
    until(|| app.get(&hold_path(&event, &third)).bearer(&ada.token), |a| a.json()["status"] == "held").await;
    till.pay(&event, &third, &ada, "pm_card_visa").await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_who_never_comes_back_loses_the_seats_and_is_told() {
    let till = Till::open().await;
    let app = &till.app;
    let _workers = app.work();
    let (event, ada) = (app.event(1).await, app.user("ada").await);
    let held = hold(app, &event, &ada, "k", 1).await;
    let (intent, _) = till.pay_with_approval(&event, &held, &ada).await;
    app.database.execute("UPDATE payments SET action_until = now()").await;
    till.look_now(&event, &held).await;
    let read = || app.get(&booking_path(&held)).bearer(&ada.token);
    let failed = until(read, |answer| answer.json()["status"] == "failed").await.json();
    assert_eq!(failed["failure"]["code"], "hold-expired");
    till.until_value("SELECT status FROM payments", "voided").await;
    assert_eq!(till.stripe.get(&format!("payment_intents/{intent}")).await["status"], "canceled");
    till.until_value("SELECT string_agg(kind || status, ',') FROM mails", "payment_voidedsent").await;
    // The seat is anybody's again.
    until(|| super::place(app, &event, &ada.token, &Uuid::now_v7().to_string(), &[1]), |a| a.status == 201)
        .await;
    assert_eq!(till.value("SELECT count(*) FROM payments").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_comes_after_its_hold_was_lost_finds_its_seats_or_goes_back() {
    let till = Till::open().await;
    let app = &till.app;
    let _workers = app.work();
    let (event, ada, eve) = (app.event(2).await, app.user("ada").await, app.user("eve").await);
    let (lucky, unlucky) = (hold(app, &event, &ada, "a", 1).await, hold(app, &event, &ada, "b", 1).await);
    let (first, first_secret) = till.pay_with_approval(&event, &lucky, &ada).await;
    let (second, second_secret) = till.pay_with_approval(&event, &unlucky, &ada).await;
    let mut redis = app.redis.connect().await;
    redis::cmd("FLUSHALL").exec_async(&mut redis).await.unwrap();

    till.stripe.authenticate(&first, &first_secret, true).await;
    till.tell("evt_1", &first).await.expect(200);
    confirmed(app, &lucky, &ada).await;
    // Somebody else takes the last seat meanwhile.
    until(|| super::place(app, &event, &eve.token, "e", &[1]), |answer| answer.status == 201).await;
    till.stripe.authenticate(&second, &second_secret, true).await;
    till.tell("evt_2", &second).await.expect(200);
    till.until_value("SELECT count(*) FROM payments WHERE status = 'voided'", "1").await;
    assert_eq!(till.stripe.get(&format!("payment_intents/{second}")).await["status"], "canceled");
    till.until_value("SELECT count(*) FROM mails WHERE kind = 'payment_voided' AND status = 'sent'", "1")
        .await;
    till.until_value("SELECT count(*) FROM payments WHERE status = 'captured'", "1").await;
    assert_eq!(till.value("SELECT sold FROM ticket_types").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_comes_late_takes_nothing_from_those_who_wait() {
    let till = Till::open().await;
    let app = &till.app;
    let _workers = app.work_on(&[Pool::Confirm, Pool::Expiry, Pool::Upkeep]);
    let (event, ada, ben) = (app.event(2).await, app.user("ada").await, app.user("ben").await);
    let held = hold(app, &event, &ada, "a", 1).await;
    let (intent, secret) = till.pay_with_approval(&event, &held, &ada).await;
    app.join(&event, &ben.token, 2).await.expect(201);
    let mut redis = app.redis.connect().await;
    redis::cmd("FLUSHALL").exec_async(&mut redis).await.unwrap();

    // Both seats are free again, and kept for him who waits: there are none for money that comes now.
    app.seats(&event, |seen| seen["offered"] == 2 && seen["available"] == 0).await;
    till.stripe.authenticate(&intent, &secret, true).await;
    till.tell("evt_late", &intent).await.expect(200);
    till.until_value("SELECT status || ':' || failure FROM payments", "voided:sold-out").await;
    assert_eq!(till.stripe.get(&format!("payment_intents/{intent}")).await["status"], "canceled");
    assert_eq!(till.value("SELECT string_agg(kind, ',') FROM mails").await, "payment_voided");

    let _waitlist = app.work_on(&[Pool::Waitlist]);
    let claim = format!("/v1/offers/{}/claim", app.offer_token(ben.id).await);
    let offered = app.post(&claim, &json!({})).await.expect(201);
    till.pay(&event, &offered, &ben, "pm_card_visa").await.expect(201);
    till.until_value("SELECT count(*) FROM payments WHERE status = 'captured'", "1").await;
    assert_eq!(till.value("SELECT sold || ':' || reserved FROM ticket_types").await, "2:0");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hourly_reconciliation_finds_what_stripe_has_and_we_have_not() {
    let till = Till::open().await;
    let app = &till.app;
    let (event, ada) = (app.event(9).await, app.user("ada").await);
    {
        let _workers = app.work();
        for key in ["a", "b", "c"] {
            let held = hold(app, &event, &ada, key, 1).await;
            till.pay(&event, &held, &ada, "pm_card_visa").await.expect(201);
        }
        till.until_value("SELECT count(*) FROM payments WHERE status = 'captured'", "3").await;
    }
    let ctx = Context::from_env(&app.env).unwrap();
    let reconcile = async || {
        app.database.execute("UPDATE payments SET updated_at = now() - interval '2 minutes'").await;
        let periodics = workers::spec(Pool::Upkeep).periodics;
        let periodic = periodics.iter().find(|periodic| periodic.name == "reconcile_payments").unwrap();
        (periodic.run)(ctx.clone()).await.unwrap()
    };
    assert_eq!(reconcile().await.found, 0);
    // One of ours that Stripe has taken money for, and we say that it was voided; one that we do not know; one that was
    // given back there by hand.
    let ids = "SELECT string_agg(reference, ',' ORDER BY id) FROM payments";
    let references = till.value(ids).await;
    let references: Vec<&str> = references.split(',').collect();
    app.database
        .execute(&format!(
            "UPDATE payments SET status = 'voided', failure = 'internal' WHERE reference = '{}'",
            references[0]
        ))
        .await;
    till.stripe.post_form("refunds", format!("payment_intent={}&amount=500", references[1])).await;
    let foreign =
        "amount=700&currency=eur&payment_method=pm_card_visa&confirm=true&metadata[payment_key]=unknown:1";
    till.stripe.post("payment_intents", foreign).await;
    // Not ours at all.
    till.stripe
        .post("payment_intents", "amount=700&currency=eur&payment_method=pm_card_visa&confirm=true")
        .await;
    assert_eq!(reconcile().await.found, 3);
    let kinds = "SELECT string_agg(kind, ',' ORDER BY kind) FROM payment_differences";
    assert_eq!(till.value(kinds).await, "charge_without_booking,refund,unknown_charge");
    app.database.execute("UPDATE payments SET status = 'captured', failure = NULL").await;
    assert_eq!(reconcile().await.found, 2);
    assert_eq!(till.value(kinds).await, "refund,unknown_charge");
}
