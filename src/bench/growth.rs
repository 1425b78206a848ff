//! That nothing becomes slower by what is there already: the same few things with little and with much in place.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use domain::{
    holds::{self, HoldRequest, Placer, RequestedItem},
    jobs::{ConfirmBooking, Pool},
};
use futures::{StreamExt, stream};
use uuid::Uuid;

use super::{
    Bench,
    figure::{Figure, number},
    http::get,
    load::{Buyer, Repeat, run},
    stage::{CONNECTIONS, Sale, Stage},
};

/// The most that may be lost.
///
/// Just at a million, Redis is moving its tables of keys and of deadlines to ones of twice the size (2^20, 2^21), bit by
/// bit, and looks into both meanwhile: ending holds, which touches the most keys, is then slower than with more in place.
const WITHIN: f64 = 0.8;
/// How many holds are ended at once, as the expiry pool does.
const SWEEP: u32 = 500;
/// The upkeep pool ends overdue holds every ten seconds: so often it will not get there first.
const TRIES: u32 = 20;
/// How many calls are on their way at once while things are put in place.
const AT_ONCE: usize = 256;
/// The shortest life of a hold.
const SHORT: Duration = Duration::from_secs(2);

/// What is done so many times a second.
struct Rates {
    hold: f64,
    fetch: f64,
    expire: f64,
    confirm: f64,
}

pub(super) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let stage = &bench.stage;
    let [little, much] = stage.size.in_place();
    // Rewriting the log of a million new keys would be measured in place of them.
    stage.tools.redis(&["CONFIG", "SET", "auto-aof-rewrite-percentage", "0"]).await?;
    let sale = stage.large_sale().await?;
    let roomy = format!("UPDATE ticket_types SET capacity = 1000000000 WHERE event_id = '{}'", sale.event);
    stage.tools.psql(&roomy).await?;
    bump(stage, &sale, 3600).await?;

    fill(stage, &sale, little, 0).await?;
    let before = rates(stage, &sale).await?;
    fill(stage, &sale, much - little, little).await?;
    let after = rates(stage, &sale).await?;
    for (name, before, after) in [
        ("hold", before.hold, after.hold),
        ("fetch a hold", before.fetch, after.fetch),
        ("expire a hold", before.expire, after.expire),
        ("confirm", before.confirm, after.confirm),
    ] {
        let figure = Figure::new(format!("{name}, {} in place", number(much as f64)), after, "/s");
        bench.report(
            figure
                .against(format!("with {} in place", number(little as f64)), before)
                .at_least(WITHIN, WITHIN),
        )?;
    }
    Ok(())
}

/// Puts so many more holds, jobs and bookings there.
async fn fill(stage: &Stage, sale: &Sale, count: u64, already: u64) -> anyhow::Result<()> {
    hold(stage, sale, count).await?;
    let later = domain::clock::now() + Duration::from_hours(24);
    let jobs =
        (0..count).map(|_| ConfirmBooking { event_id: sale.event, hold_id: Uuid::now_v7(), attempt: 1 });
    let mut enqueued = stream::iter(jobs)
        .map(|job| async move { stage.queue.enqueue_at(&job, later).await })
        .buffer_unordered(AT_ONCE);
    while let Some(result) = enqueued.next().await {
        result?;
    }
    book(stage, sale, count).await?;
    let stats = stage.queue.stats(Pool::Confirm).await?;
    ensure!(stats.scheduled >= count + already, "only {} jobs are in place", stats.scheduled);
    Ok(())
}

/// Writes so many bookings as if people had made them, each of one ticket.
pub(super) async fn book(stage: &Stage, sale: &Sale, count: u64) -> anyhow::Result<()> {
    let (event, kind) = (sale.event, sale.kinds[0]);
    let items =
        format!(r#"[{{"ticket_type_id": "{kind}", "quantity": 1, "seats": [], "unit_price": 4500}}]"#);
    let sql = format!(
        "WITH people AS MATERIALIZED ( \
             SELECT id, row_number() OVER () AS n, count(*) OVER () AS total FROM users WHERE email LIKE 'load-%'), \
         booked AS ( \
             INSERT INTO bookings (id, reference, event_id, user_id, status, items, quantity, total, currency, \
                                   attempt, confirmed_at) \
             SELECT gen_random_uuid(), gen_random_uuid(), '{event}', people.id, 'confirmed', '{items}', 1, 4500, \
                    'EUR', 1, now() \
             FROM generate_series(1, {count}) AS s (n) JOIN people ON people.n = s.n % people.total + 1 \
             RETURNING id) \
         INSERT INTO tickets (id, booking_id, event_id, ticket_type_id, code) \
         SELECT gen_random_uuid(), id, '{event}', '{kind}', left(replace(gen_random_uuid()::text, '-', ''), 26) \
         FROM booked",
    );
    // Foreign keys are right by construction; checking a million of them is not what is measured.
    stage.tools.psql(&format!("SET session_replication_role = replica; {sql}")).await?;
    stage.tools.psql("VACUUM ANALYZE bookings, tickets").await?;
    Ok(())
}

/// Changes how long holds of an event last.
async fn bump(stage: &Stage, sale: &Sale, ttl_secs: u64) -> anyhow::Result<()> {
    for change in [
        format!(
            "UPDATE events SET hold_ttl_secs = {ttl_secs}, version = version + 1 WHERE id = '{}'",
            sale.event
        ),
        format!(
            "UPDATE ticket_types SET inventory_version = inventory_version + 1 WHERE event_id = '{}'",
            sale.event
        ),
    ] {
        stage.tools.psql(&change).await?;
    }
    stage.level(sale.event).await
}

async fn rates(stage: &Stage, sale: &Sale) -> anyhow::Result<Rates> {
    let sales = std::slice::from_ref(sale);
    let make = || stage.buyers(CONNECTIONS, sales).into_iter().map(|buyer| buyer.keeping(4)).collect();
    let held = stage.load(make).await?.checked("holds")?;
    let reads: Vec<_> = held
        .clients
        .iter()
        .flat_map(|buyer| &buyer.placed)
        .map(|(event, hold, token)| get(&format!("/v1/events/{event}/holds/{hold}"), Some(token)))
        .collect();
    let fetched = run(stage.http(), Repeat::many(CONNECTIONS, reads, 200), stage.time).await?;
    let fetched = fetched.checked("fetching holds")?;
    let make = || stage.buyers(stage.size.bookers(), sales).into_iter().map(Buyer::booking).collect();
    let confirmed = stage.load(make).await?.checked("bookings")?;
    stage.settle().await?;
    let expire = expire(stage, sale).await?;
    Ok(Rates {
        hold: held.per_second(),
        fetch: fetched.per_second(),
        expire,
        confirm: confirmed.per_second(),
    })
}

/// Holds a ticket for each of so many people whom nobody knows.
async fn hold(stage: &Stage, sale: &Sale, count: u64) -> anyhow::Result<()> {
    let request = |_| HoldRequest {
        event_id: sale.event,
        user_id: Uuid::now_v7(),
        items: vec![RequestedItem { ticket_type_id: sale.kinds[0], quantity: 1 }],
        idempotency_key: "bench".to_owned(),
    };
    let desk = Placer::start(&stage.inventory, &stage.db);
    let mut placed =
        stream::iter((0..count).map(request)).map(|request| desk.place(request)).buffer_unordered(AT_ONCE);
    while let Some(result) = placed.next().await {
        result?;
    }
    Ok(())
}

/// Lets holds run out while nobody ends them, then ends them; answers how many that is a second.
async fn expire(stage: &Stage, sale: &Sale) -> anyhow::Result<f64> {
    let count = stage.size.overdue();
    stage.queue.pause(Pool::Expiry).await?;
    bump(stage, sale, SHORT.as_secs()).await?;
    for _ in 0..TRIES {
        hold(stage, sale, count).await?;
        tokio::time::sleep(SHORT + Duration::from_millis(100)).await;
        let (began, mut ended) = (Instant::now(), 0);
        loop {
            let swept = holds::expire_holds(&stage.inventory, sale.event, SWEEP).await?;
            ended += u64::from(swept.ended);
            if !swept.more {
                break;
            }
        }
        let took = began.elapsed();
        if ended == count {
            bump(stage, sale, 3600).await?;
            stage.queue.resume(Pool::Expiry).await?;
            return Ok(ended as f64 / took.as_secs_f64());
        }
    }
    bail!("holds were ended by somebody else, {TRIES} times")
}
