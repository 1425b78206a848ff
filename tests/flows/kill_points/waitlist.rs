//! Processes that die while somebody joins a waitlist, is offered seats, claims them, or lets them go.

use domain::inventory::{Drift, reconcile_event};
use serde_json::{Value, json};

use super::{Scene, at_each};
use crate::{
    flows::{confirm_path, hold_path, pay},
    support::people::Person,
};

pub(super) const JOIN: &[&str] = &["join.begun", "join.committed", "join.told"];
pub(super) const PROMOTE: &[&str] = &["promote.taken", "promote.offered", "promote.told"];
pub(super) const CLAIM: &[&str] = &["claim.decided", "claim.made"];
pub(super) const END: &[&str] = &["waitlist.released", "waitlist.ended", "waitlist.told"];
pub(super) const RUN_OUT: &[&str] = &["offers.expired", "offers.lapsed"];

impl Scene {
    /// Sends a POST, or a DELETE, to an API process that dies of it.
    async fn api_dies_of(&self, point: &str, path: &str, body: Option<&Value>, by: &Person) {
        let api = self.app.process(&["api"], Some(point));
        let url = format!("{}{path}", api.url().await);
        let call = match body {
            Some(body) => self.app.client.post(url).json(body),
            None => self.app.client.delete(url),
        };
        call.bearer_auth(&by.token).send().await.expect_err("it died with the answer in its hand");
        api.dies().await;
    }

    /// Entries of this story's event by status, in their order.
    async fn line(&self) -> String {
        let sql = format!(
            "SELECT string_agg(status, ',' ORDER BY place) FROM waitlist_entries WHERE event_id = '{}'",
            self.event.id
        );
        self.app.database.value(&sql).await.unwrap_or_default()
    }

    /// Waits until the entries of this story's event stand so.
    async fn line_is(&self, wanted: &str) {
        for _ in 0..600 {
            if self.line().await == wanted {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("the line is {} and not {wanted}", self.line().await);
    }

    /// Offers of this story's event by status, oldest first.
    async fn offers(&self) -> String {
        let sql = format!(
            "SELECT string_agg(status, ',' ORDER BY id) FROM waitlist_offers WHERE event_id = '{}'",
            self.event.id
        );
        self.app.database.value(&sql).await.unwrap_or_default()
    }

    /// All seats held by Ada, and ben and cleo in line for four each.
    async fn sold_out(&self, point: &str) -> (Value, Person, Person) {
        let hold = self.hold("all", 10).await;
        let name = |who: &str| format!("{who}-{}", point.replace('.', "-"));
        let (ben, cleo) = (self.app.user(&name("ben")).await, self.app.user(&name("cleo")).await);
        for person in [&ben, &cleo] {
            self.app.join(&self.event, &person.token, 4).await.expect(201);
        }
        (hold, ben, cleo)
    }

    async fn release(&self, hold: &Value) {
        self.app.delete(&hold_path(&self.event, hold)).bearer(&self.ada.token).await.expect(204);
    }

    /// The token of the offer to somebody, out of his mail.
    async fn token_of(&self, person: &Person) -> String {
        for _ in 0..600 {
            let mails = self.app.smtp().received();
            let raw = mails.iter().filter(|mail| mail.to == person.email).map(|m| m.raw.replace("=\r\n", ""));
            let mut found = raw.filter_map(|raw| {
                let from = raw.find("/v1/offers/")? + "/v1/offers/".len();
                Some(raw[from..].chars().take_while(|c| c.is_alphanumeric() || "-_".contains(*c)).collect())
            });
            if let Some(token) = found.next_back() {
                return token;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("no offer to {}", person.email);
    }

    async fn buys(&self, hold: &Value, person: &Person) {
        let confirm = self.app.post(&confirm_path(&self.event, hold), &pay("tok_ok")).bearer(&person.token);
        confirm.header("prefer", "wait=30").await.expect(201);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_died_is_a_place_or_none_and_keeps_nothing_from_the_public_for_ever() {
    at_each(JOIN, async |scene, point| {
        scene.opens().await;
        let hold = scene.hold("all", 10).await;
        let ben = scene.app.user(&format!("ben-{}", point.replace('.', "-"))).await;
        let body = json!({"ticket_type_id": scene.event.ticket_types[0], "quantity": 4});
        let path = format!("/v1/events/{}/waitlist", scene.event.id);
        scene.api_dies_of(point, &path, Some(&body), &ben).await;
        let known = scene.line().await == "waiting";
        assert_eq!(known, point != "join.begun");
        // Whoever asks again has one place, and it is the first.
        let again = scene.app.join(&scene.event, &ben.token, 4).await;
        assert_eq!(again.expect(if known { 200 } else { 201 })["position"], 1);
        assert_eq!(scene.line().await, "waiting");
        scene.works();
        scene.release(&hold).await;
        scene.line_is("offered").await;
        let me = format!("{path}/me");
        scene.app.delete(&me).bearer(&ben.token).await.expect(204);

        // As if a minute had passed: what the dead join kept back is the public's.
        let inventory = format!("ev:{{{}}}:joining", scene.event.id);
        let mut redis = scene.app.redis.connect().await;
        let joining: Vec<String> =
            redis::cmd("ZRANGE").arg(&inventory).arg(0).arg(-1).query_async(&mut redis).await.unwrap();
        assert_eq!(joining.len(), usize::from(point != "join.told"));
        for join in joining {
            let age = redis::cmd("ZADD").arg(&inventory).arg("XX").arg(1).arg(join).clone();
            age.exec_async(&mut redis).await.unwrap();
        }
        let app = &scene.app;
        let drift = reconcile_event(&app.app.inventory, &app.db, scene.event.id).await.unwrap();
        assert_eq!(drift, Drift::default());
        app.seats(&scene.event, |seen| seen["available"] == 10 && seen["waitlisted"] == 0).await;
        scene.ends(0, 0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_promotion_had_taken_is_offered_once_and_in_order() {
    at_each(PROMOTE, async |scene, point| {
        scene.opens().await;
        let (hold, ben, cleo) = scene.sold_out(point).await;
        scene.worker_armed(point);
        scene.release(&hold).await;
        scene.worker_dies().await;
        let made = if point == "promote.taken" { "waiting,waiting" } else { "offered,offered" };
        assert_eq!(scene.line().await, made);
        // Nobody else gets at what it had in its hands.
        let stranger = super::super::place(&scene.app, &scene.event, &scene.ada.token, "now", &[3]).await;
        stranger.expect_problem(409, "sold-out");
        scene.restart().await;
        scene.line_is("offered,offered").await;
        for person in [&ben, &cleo] {
            let claim = format!("/v1/offers/{}/claim", scene.token_of(person).await);
            let claimed = scene.app.post(&claim, &json!({})).await.expect(201);
            scene.buys(&claimed, person).await;
        }
        assert_eq!(scene.offers().await, "sold,sold");
        scene.app.seats(&scene.event, |seen| seen["available"] == 2 && seen["offered"] == 0).await;
        scene.ends(8, 0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_died_is_the_same_hold_when_it_is_sent_again() {
    at_each(CLAIM, async |scene, point| {
        scene.opens().await;
        let (hold, ben, cleo) = scene.sold_out(point).await;
        scene.works();
        scene.release(&hold).await;
        let claim = format!("/v1/offers/{}/claim", scene.token_of(&ben).await);
        scene.api_dies_of(point, &claim, Some(&json!({})), &ben).await;
        assert_eq!(scene.line().await, "claimed,offered");
        let claimed = scene.app.post(&claim, &json!({})).await.expect(200);
        assert_eq!(scene.app.post(&claim, &json!({})).await.expect(200)["id"], claimed["id"]);
        scene.buys(&claimed, &ben).await;
        let decline = format!("/v1/offers/{}/decline", scene.token_of(&cleo).await);
        scene.app.post(&decline, &json!({})).await.expect(204);
        assert_eq!(scene.offers().await, "sold,declined");
        scene.app.seats(&scene.event, |seen| seen["available"] == 6 && seen["offered"] == 0).await;
        scene.ends(4, 0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seats_that_were_given_up_go_to_the_next_once_though_nobody_was_told() {
    at_each(END, async |scene, point| {
        scene.opens().await;
        scene.works();
        let (hold, ben, cleo) = scene.sold_out(point).await;
        // Six of the ten seats are somebody else's: what ben gives up is all that comes free for cleo.
        scene.release(&hold).await;
        scene.line_is("offered,offered").await;
        let token = scene.token_of(&ben).await;
        if point == "waitlist.released" {
            let claimed = scene.app.post(&format!("/v1/offers/{token}/claim"), &json!({})).await.expect(201);
            let path = hold_path(&scene.event, &claimed);
            scene.api_dies_of(point, &path, None, &ben).await;
            assert_eq!(scene.offers().await, "claimed,open");
            scene.app.delete(&path).bearer(&ben.token).await.expect(204);
        } else {
            let decline = format!("/v1/offers/{token}/decline");
            scene.api_dies_of(point, &decline, Some(&json!({})), &ben).await;
            scene.app.post(&decline, &json!({})).await.expect_problem(410, "offer-expired");
        }
        // Nobody waits any more: it is the public's, once.
        scene.app.seats(&scene.event, |seen| seen["available"] == 6 && seen["offered"] == 4).await;
        let claim = format!("/v1/offers/{}/claim", scene.token_of(&cleo).await);
        let claimed = scene.app.post(&claim, &json!({})).await.expect(201);
        scene.buys(&claimed, &cleo).await;
        let ended = if point == "waitlist.released" { "lapsed,sold" } else { "declined,sold" };
        assert_eq!(scene.offers().await, ended);
        scene.ends(4, 0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_that_ran_out_go_to_the_next_once_though_their_worker_died() {
    at_each(RUN_OUT, async |scene, point| {
        scene
            .opens_with(|event| {
                event.offer_ttl_secs = 4;
                event.ticket_types[0].capacity = 4;
            })
            .await;
        scene.works();
        let hold = scene.hold("all", 4).await;
        let name = |who: &str| format!("{who}-{}", point.replace('.', "-"));
        let (ben, cleo) = (scene.app.user(&name("ben")).await, scene.app.user(&name("cleo")).await);
        for person in [&ben, &cleo] {
            scene.app.join(&scene.event, &person.token, 4).await.expect(201);
        }
        scene.release(&hold).await;
        let token = scene.token_of(&ben).await;
        if point == "offers.lapsed" {
            // A claim goes by what Postgres says.
            scene.app.database.execute("UPDATE events SET hold_ttl_secs = 2").await;
            scene.app.post(&format!("/v1/offers/{token}/claim"), &json!({})).await.expect(201);
        }
        scene.worker_armed(point);
        scene.worker_dies().await;
        let first = if point == "offers.lapsed" { "lapsed" } else { "expired" };
        assert_eq!(scene.offers().await, first);
        scene.restart().await;
        // The next one has them, lets them run out too, and then they are the public's.
        scene.token_of(&cleo).await;
        scene.app.seats(&scene.event, |seen| seen["available"] == 4 && seen["offered"] == 0).await;
        assert_eq!(scene.offers().await, format!("{first},expired"));
        scene.ends(0, 0).await;
    })
    .await;
}
