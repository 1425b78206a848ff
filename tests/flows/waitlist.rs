//! Bookings cancelled under load while many wait and strangers try: offers in order, and each seat ends once.

use futures::future::join_all;
use serde_json::json;

use super::{assert_at_rest, confirm_path, pay, place};
use crate::support::app::TestApp;

const SEATS: usize = 24;
const WAITING: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn freed_seats_go_to_those_who_wait_in_order_and_to_no_stranger() {
    let app = TestApp::builder().with_smtp().start().await;
    let workers = app.work();
    let event = app.event(i64::try_from(SEATS).unwrap()).await;
    let crowd = app.crowd(SEATS + WAITING + 20).await;
    let (buyers, rest) = crowd.split_at(SEATS);
    let (waiting, strangers) = rest.split_at(WAITING);
    let buy = async |token: &String| {
        let hold = place(&app, &event, token, "k", &[1]).await.expect(201);
        let call = app.post(&confirm_path(&event, &hold), &pay("tok_ok")).bearer(token);
        call.header("prefer", "wait=30").await.expect(201)["id"].as_str().unwrap().to_owned()
    };
    let bookings = join_all(buyers.iter().map(buy)).await;
    let joined = join_all(waiting.iter().map(|token| app.join(&event, token, 1).into_future())).await;
    let mut positions: Vec<_> =
        joined.iter().map(|joined| joined.expect(201)["position"].as_u64().unwrap()).collect();
    positions.sort_unstable();
    assert_eq!(positions, (1..=WAITING as u64).collect::<Vec<_>>());

    // Two thirds of the bookings are cancelled, all at once, and workers die meanwhile.
    let cancelled = &bookings[..16];
    let cancel = async |(n, id): (usize, &String)| {
        let path = format!("/v1/bookings/{id}/cancel");
        app.post(&path, &json!({})).bearer(&buyers[n]).key("c").await.expect(200);
    };
    let snatch = async {
        let mut taken = 0;
        for round in 0..15 {
            let key = format!("s{round}");
            let tries = strangers.iter().map(|token| place(&app, &event, token, &key, &[1]).into_future());
            taken += join_all(tries).await.iter().filter(|answer| answer.status == 201).count();
        }
        taken
    };
    let (_, taken) = tokio::join!(join_all(cancelled.iter().enumerate().map(cancel)), async {
        drop(workers);
        let killed = app.work();
        let taken = snatch.await;
        drop(killed);
        taken
    });
    assert_eq!(taken, 0, "no stranger gets a freed seat");
    let workers = app.work();
    app.eventually("SELECT count(*) FROM waitlist_offers", |n| n.as_deref() == Some("16")).await;
    let skipped = "SELECT count(*) FROM waitlist_entries o JOIN waitlist_entries w ON w.place < o.place
                   WHERE o.status <> 'waiting' AND w.status = 'waiting'";
    assert_eq!(app.database.value(skipped).await.as_deref(), Some("0"), "strictly in order");
    let offers = || async {
        app.eventually("SELECT count(*) FROM mails WHERE status = 'pending'", |n| n.as_deref() == Some("0"))
            .await;
        let mails = app.smtp().received();
        let link = |raw: &str| {
            let raw = raw.replace("=\r\n", "");
            let at = raw.find("/v1/offers/")?;
            Some(
                raw[at + 11..]
                    .chars()
                    .take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c))
                    .collect(),
            )
        };
        let mut tokens: Vec<String> = mails.iter().filter_map(|mail| link(&mail.raw)).collect();
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    };
    let tokens = offers().await;
    assert_eq!(tokens.len(), 16, "a mail for each offer");

    // Half claim, of whom some pay; the others decline. The rest of the line leaves in the end.
    let (claimers, decliners) = tokens.split_at(8);
    join_all(
        decliners
            .iter()
            .map(|token| app.post(&format!("/v1/offers/{token}/decline"), &json!({})).into_future()),
    )
    .await
    .iter()
    .for_each(|answer| assert_eq!(answer.status, 204));
    let claims = join_all(claimers.iter().flat_map(|token| {
        (0..2).map(|_| app.post(&format!("/v1/offers/{}/claim", token.clone()), &json!({})).into_future())
    }))
    .await;
    for pair in claims.chunks(2) {
        assert_eq!(pair[0].json()["id"], pair[1].json()["id"]);
        assert_eq!(pair.iter().map(|answer| answer.status).sum::<u16>(), 401, "one is first");
    }
    let me = format!("/v1/events/{}/waitlist/me", event.id);
    join_all(waiting.iter().map(|token| app.delete(&me).bearer(token).into_future())).await;
    app.eventually("SELECT count(*) FROM waitlist_offers WHERE status = 'open'", |n| {
        n.as_deref() == Some("0")
    })
    .await;

    // Eight stay sold, eight are in the hands of those who claimed, and eight are everybody's.
    app.seats(&event, |seen| seen["available"] == 8 && seen["held"] == 8 && seen["offered"] == 0).await;
    let calls = strangers.iter().map(|token| place(&app, &event, token, "late", &[1]).into_future());
    let late = join_all(calls).await;
    assert_eq!(late.iter().filter(|answer| answer.status == 201).count(), 8);
    for (answer, token) in late.iter().zip(strangers).filter(|(answer, _)| answer.status == 201) {
        let path = format!("/v1/events/{}/holds/{}", event.id, answer.json()["id"].as_str().unwrap());
        app.delete(&path).bearer(token).await.expect(204);
    }
    app.rest().await;
    assert_at_rest(&app, &event, 8, 8).await;
    workers.stop().await;
}
