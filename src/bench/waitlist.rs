//! The waitlist: a crowd joins one line in bursts, and freed seats are offered to a short line and to a long one.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use domain::{jobs::Pool, waitlist};

use super::{
    Bench,
    figure::Figure,
    http::post,
    limits::WRITERS,
    line_limits::{self, LineLimits},
    load::{Repeat, run},
    stage::{Sale, Stage},
    times::Times,
};

/// In how many bursts a crowd joins.
const BURSTS: usize = 10;
/// How often seats come free.
const ROUNDS: usize = 10;
/// A burst waits for all its answers.
const PATIENCE: Duration = Duration::from_mins(1);
/// What may be lost of a promotion's pace where the line is long.
const WITHIN: f64 = 0.8;

pub(super) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let [little, much] = bench.stage.size.lines();
    let crowd = bench.stage.more_people(much).await?;
    let LineLimits { join, offer } = line_limits::measure(&bench.stage).await?;
    let (short, long) = (bench.stage.sold_out().await?, bench.stage.sold_out().await?);
    // What joins the short line warms up for the long one.
    burst(&bench.stage, &short, &crowd[..little]).await?;
    let (mut took, mut times) = (Duration::ZERO, Times::default());
    for people in crowd.chunks(much.div_ceil(BURSTS)) {
        let (burst_took, burst_times) = burst(&bench.stage, &long, people).await?;
        took += burst_took;
        times.append(&burst_times);
    }
    let line = "SELECT waiting_entries, last_place, (SELECT count(DISTINCT place) FROM waitlist_entries w
                WHERE w.ticket_type_id = t.id AND w.status = 'waiting') FROM ticket_types t WHERE t.event_id =";
    let line = bench.stage.tools.psql(&format!("{line} '{}'", long.event)).await?;
    ensure!(line == [much, much, much].map(|n| n.to_string()), "{much} joined, and the line is {line:?}");
    let rate = much as f64 / took.as_secs_f64();
    let [p50, p99] = [50.0, 99.0].map(|percent| times.percentile_ms(percent));
    let note = format!("{much} people in {BURSTS} bursts, p50 {p50:.0} ms, p99 {p99:.0} ms");
    bench.report(Figure::new("waitlist joins", rate, "/s").at_least(2_000.0, 5_000.0).note(note))?;
    let limit = format!("pgbench -c {WRITERS}, the same rows");
    bench.report(Figure::new("waitlist joins", rate, "/s").against(&limit, join).at_least(1.0, 2.0))?;

    let [of_short, of_long] = promotions(&bench.stage, &short, &long, &crowd[little..]).await?;
    let name = |waiting: usize| format!("promotions, {waiting} waiting");
    bench.report(Figure::new(name(little), of_short, "/s").against(limit, offer).at_least(1.0, 2.0))?;
    let figure = Figure::new(name(much), of_long, "/s").against(format!("with {little} waiting"), of_short);
    bench.report(figure.at_least(WITHIN, WITHIN))
}

/// Lets these people join at once; answers how long all and each of them took.
async fn burst(stage: &Stage, sale: &Sale, people: &[String]) -> anyhow::Result<(Duration, Times)> {
    let path = format!("/v1/events/{}/waitlist", sale.event);
    let body = format!(r#"{{"ticket_type_id":"{}","quantity":1}}"#, sale.kinds[0]);
    let requests: Vec<_> = people.iter().map(|token| post(&path, token, "", &body)).collect();
    let load = run(stage.http(), Repeat::shared(stage.size.bookers(), requests, 201), PATIENCE).await?;
    ensure!(
        load.tally.done == people.len() as u64,
        "{} of {} joined; others: {}",
        load.tally.done,
        people.len(),
        load.others()
    );
    Ok((load.took, load.tally.times))
}

/// How many offers a second are made to a short line, which `others` keep as long as it is, and to a long one.
async fn promotions(stage: &Stage, short: &Sale, long: &Sale, others: &[String]) -> anyhow::Result<[f64; 2]> {
    // Here alone offers are made, and what they cause waits.
    for pool in [Pool::Waitlist, Pool::Email] {
        stage.queue.pause(pool).await?;
    }
    let seats = stage.size.lines()[0] / 2;
    let mut took = [Duration::ZERO; 2];
    let mut others = others.chunks(seats);
    for _ in 0..ROUNDS {
        for (took, sale) in took.iter_mut().zip([short, long]) {
            *took += promote(stage, sale, seats).await?;
        }
        burst(stage, short, others.next().context("too few people")?).await?;
    }
    for pool in [Pool::Waitlist, Pool::Email] {
        stage.queue.resume(pool).await?;
    }
    Ok(took.map(|took| (ROUNDS * seats) as f64 / took.as_secs_f64().max(1e-9)))
}

/// Adds so many seats and offers them; answers how long that took.
async fn promote(stage: &Stage, sale: &Sale, seats: usize) -> anyhow::Result<Duration> {
    let more = format!(
        "UPDATE ticket_types SET capacity = capacity + {seats}, inventory_version = inventory_version + 1 \
         WHERE event_id = '{}'",
        sale.event
    );
    stage.tools.psql(&more).await?;
    stage.level(sale.event).await?;
    let (began, mut offers) = (Instant::now(), 0);
    while offers < seats {
        let promoted = waitlist::promote(&stage.db, &stage.inventory, sale.event).await?;
        ensure!(promoted.offers > 0, "{offers} of {seats} seats were offered");
        offers += promoted.offers;
    }
    ensure!(offers == seats, "{offers} offers of {seats} seats");
    Ok(began.elapsed())
}
