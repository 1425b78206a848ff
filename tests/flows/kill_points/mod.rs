//! Processes that die between two writes: at each point of `domain::kill_point`, the system heals to what was promised.
//!
//! A story provokes an operation, sees the process die at the point, and goes on as its supervisor and its client would.
//! Every point of the list is in one story's table, and a story fails when the process does not die there.

mod begin;
mod cancel;
mod confirm;
mod expiry;
mod figures;
mod money;
mod pricing;
mod rebuild;
mod waitlist;

use std::{collections::BTreeSet, panic::AssertUnwindSafe, time::Duration};

use domain::{events::NewEvent, kill_point};
use futures::{FutureExt, StreamExt, stream};
use serde_json::{Value, json};

use super::{assert_at_rest, booking_path, confirm_path, pay, until};
use crate::support::{app::TestApp, events::TestEvent, people::Person, processes::Process};

#[test]
fn every_point_has_its_story() {
    let tables = [
        begin::PLACE,
        begin::CONFIRM,
        confirm::POINTS,
        money::CAPTURE,
        money::VOID,
        money::REFUND,
        money::REFUND_FIRST_CAPTURE,
        cancel::BOOKING,
        cancel::EVENT,
        expiry::POINTS,
        figures::POINTS,
        rebuild::POINTS,
        waitlist::JOIN,
        waitlist::PROMOTE,
        waitlist::CLAIM,
        waitlist::END,
        waitlist::RUN_OUT,
        pricing::POINTS,
    ];
    let told: Vec<&str> = tables.concat();
    let all: BTreeSet<&str> = kill_point::ALL.iter().copied().collect();
    assert_eq!(all.len(), kill_point::ALL.len(), "each point is listed once");
    assert_eq!(told.len(), all.len(), "each has one story");
    assert_eq!(told.into_iter().collect::<BTreeSet<_>>(), all);
}

/// Tells a story at each of these points, and says at which it went wrong. Some are told one after another over the same
/// servers, others at once: they mostly wait. Those run on threads of their own: starting and ending servers blocks.
async fn at_each(
    points: &[&'static str],
    story: impl AsyncFn(&mut Scene, &'static str) + Copy + Send + 'static,
) {
    let at_once = points.len().div_ceil(3).max(2);
    let told = stream::iter(0..at_once).map(|first| {
        let points: Vec<_> = points.iter().copied().skip(first).step_by(at_once).collect();
        tokio::task::spawn_blocking(move || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(one_after_another(&points, story))
        })
    });
    let wrong: Vec<_> =
        told.buffer_unordered(at_once).filter_map(async |wrong| wrong.unwrap()).collect().await;
    assert!(wrong.is_empty(), "it went wrong at {wrong:?}: see above");
}

/// Answers at which point a story went wrong.
async fn one_after_another(
    points: &[&'static str],
    story: impl AsyncFn(&mut Scene, &'static str),
) -> Option<&'static str> {
    let mut scene = Scene::set().await;
    for point in points {
        if AssertUnwindSafe(story(&mut scene, *point)).catch_unwind().await.is_err() {
            return Some(*point);
        }
    }
    scene.worker_stops().await;
    None
}

/// An application, an event with ten seats, and somebody who wants some.
struct Scene {
    app: TestApp,
    event: TestEvent,
    ada: Person,
    /// Runs every pool.
    worker: Option<Process>,
}

impl Scene {
    async fn set() -> Self {
        let app = TestApp::builder().with_smtp().start().await;
        let (event, ada) = (app.event(10).await, app.user("ada").await);
        Self { app, event, ada, worker: None }
    }

    /// Begins a story: with an event of its own, and nothing left to do.
    async fn opens(&mut self) {
        self.opens_with_ttl(300).await;
    }

    async fn opens_with_ttl(&mut self, hold_ttl_secs: i64) {
        self.opens_with(|event| event.hold_ttl_secs = hold_ttl_secs).await;
    }

    async fn opens_with(&mut self, change: impl FnOnce(&mut NewEvent)) {
        self.event = self.app.event_with(10, change).await;
        // What publishing asked for is done already; whatever comes to the relay later is the story's own.
        if self.worker.is_some() {
            self.app.rest().await;
        } else {
            self.app.database.execute("DELETE FROM outbox").await;
        }
    }

    async fn hold(&self, key: &str, quantity: u32) -> Value {
        super::hold(&self.app, &self.event, &self.ada, key, quantity).await
    }

    /// Begins a confirm and does not wait for it.
    async fn begin(&self, hold: &Value) {
        let call = self.app.post(&confirm_path(&self.event, hold), &pay("tok_ok")).bearer(&self.ada.token);
        let begun = call.header("prefer", "wait=0").await;
        // It may be decided already.
        assert!(matches!(begun.status, 201 | 202), "{begun:?}");
    }

    /// A confirmed booking of so many seats, and nothing left to do.
    async fn booked(&mut self, key: &str, quantity: u32) -> Value {
        self.works();
        let hold = self.hold(key, quantity).await;
        let call = self.app.post(&confirm_path(&self.event, &hold), &pay("tok_ok")).bearer(&self.ada.token);
        call.header("prefer", "wait=30").await.expect(201);
        self.app.rest().await;
        hold
    }

    /// Cancels the event.
    async fn cancel_event(&self) {
        let admin = self.app.admin().await;
        let path = format!("/v1/admin/events/{}/cancel", self.event.id);
        self.app.post(&path, &json!({})).bearer(&admin.token).await.expect(200);
    }

    /// Sees to it that a worker runs.
    fn works(&mut self) {
        self.worker.get_or_insert_with(|| self.app.worker());
    }

    /// Lets the worker die when it next gets to this point.
    fn worker_armed(&mut self, point: &str) {
        match &self.worker {
            Some(worker) => worker.arm(point),
            None => self.worker = Some(self.app.process(&["worker", "--all"], Some(point))),
        }
    }

    /// Waits until the worker has died where it was to.
    async fn worker_dies(&mut self) {
        self.worker.take().unwrap().dies().await;
    }

    /// A worker starts where another has died, some time later.
    async fn restart(&mut self) {
        self.time_passes().await;
        self.works();
    }

    /// Ends the worker, if one runs, in good order.
    async fn worker_stops(&mut self) {
        if let Some(worker) = self.worker.take() {
            worker.stops().await;
        }
    }

    /// Lets a minute have passed since the worker died.
    async fn time_passes(&self) {
        self.app.silence_workers().await;
        for sql in [
            "UPDATE payments SET updated_at = updated_at - interval '1 minute'",
            "UPDATE refunds SET created_at = created_at - interval '1 minute'",
            "UPDATE mails SET lease_until = lease_until - interval '1 minute'",
            "UPDATE outbox SET enqueued_at = enqueued_at - interval '1 minute'",
        ] {
            self.app.database.execute(sql).await;
        }
    }

    /// Waits until the booking has this status.
    async fn until_status(&self, hold: &Value, status: &str) {
        let read = || self.app.get(&booking_path(hold)).bearer(&self.ada.token);
        until(read, |answer| answer.status == 200 && answer.json()["status"] == status).await;
    }

    /// What the provider has in its books of a booking.
    async fn money(&self, hold: &Value) -> String {
        let charges =
            format!("SELECT * FROM sandbox_charges WHERE booking_id = '{}'", hold["id"].as_str().unwrap());
        let sql = format!(
            "SELECT (SELECT string_agg(status || ' ' || captured, ', ') FROM ({charges}) AS charge) || ', ' || \
             (SELECT coalesce(sum(r.amount), 0) || ' back in ' || count(*) \
              FROM sandbox_refunds r JOIN ({charges}) AS charge USING (reference))"
        );
        self.app.database.value(&sql).await.unwrap()
    }

    /// What is promised whatever died: what [`assert_at_rest`] says, one charge a booking and none without, each mail
    /// sent under one Message-ID, each thing that happened to a booking logged once.
    async fn ends(&self, sold: i64, held: i64) {
        let app = &self.app;
        self.comes_to_rest().await;
        app.rest().await;
        assert_at_rest(app, &self.event, sold, held).await;
        for (what, sql) in [
            (
                "one captured charge per confirmed booking",
                "SELECT count(*) FROM bookings b WHERE b.status = 'confirmed' AND (SELECT count(*) FROM \
                 sandbox_charges c WHERE c.booking_id = b.id AND c.status = 'captured' AND c.refunded = 0) <> 1",
            ),
            (
                "no second charge of a booking",
                "SELECT count(*) FROM (SELECT FROM sandbox_charges WHERE captured > 0 GROUP BY booking_id \
                 HAVING count(*) > 1) AS twice",
            ),
            ("every confirm has ended", "SELECT count(*) FROM bookings WHERE status = 'confirming'"),
            (
                "each happening logged once",
                "SELECT count(*) FROM (SELECT FROM booking_log GROUP BY booking_id, kind HAVING count(*) > 1) \
                 AS twice",
            ),
            ("every mail sent", "SELECT count(*) FROM mails WHERE status <> 'sent'"),
        ] {
            assert_eq!(app.database.value(sql).await.unwrap(), "0", "{what}");
        }
        let owed = app.database.value("SELECT count(*) FROM mails").await.unwrap();
        let ids: BTreeSet<String> = app.smtp().received().iter().map(|mail| message_id(&mail.raw)).collect();
        assert_eq!(ids.len().to_string(), owed, "one Message-ID a mail: {ids:?}");
    }

    /// Waits until no money, no mail and no confirm is under way. What the dead one had asked of Postgres may be done
    /// after its death: then a mail is leased for a minute more.
    async fn comes_to_rest(&self) {
        let open = "SELECT (SELECT count(*) FROM payments WHERE status IN ('authorised', 'unknown'))
                         + (SELECT count(*) FROM refunds WHERE status = 'pending')
                         + (SELECT count(*) FROM mails WHERE status = 'pending')";
        for _ in 0..1_200 {
            if self.app.database.value(open).await.unwrap() == "0" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let payments = self.app.database.rows("SELECT status, failure FROM payments").await;
        let mails = self.app.database.rows("SELECT kind, status, lease_until, error FROM mails").await;
        panic!("it does not come to rest within two minutes: {payments:?} {mails:?}");
    }
}

fn message_id(raw: &str) -> String {
    let line = raw.lines().find(|line| line.to_ascii_lowercase().starts_with("message-id:"));
    line.unwrap_or_else(|| panic!("no Message-ID: {raw}")).to_owned()
}
