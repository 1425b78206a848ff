//! The figures of the `analytics` pool: how far behind bookings they are, how fast a log is rolled up, and how long it
//! takes to read what came of it.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use chrono::TimeDelta;
use domain::{
    accounts::{Role, provision::seed_user},
    analytics, clock,
};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Bench,
    figure::Figure,
    http::get,
    load::{Buyer, Repeat, run},
    stage::Stage,
};
use crate::migrate::DEFAULT_PASSWORD;

/// Events that the log is about.
const EVENTS: i32 = 1_000;
/// The log is of two years.
const DAYS: i64 = 730;
const PATIENCE: Duration = Duration::from_mins(15);
/// How often to look how far the figures are.
const LOOK: Duration = Duration::from_millis(50);

pub(super) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    behind(bench).await?;
    let email = "organizer@evently.test".parse()?;
    let password = SecretString::from(DEFAULT_PASSWORD);
    let organizer = seed_user(&bench.stage.db, &email, "Organizer", password, Role::Organizer).await?.id;
    roll_up(bench, organizer).await?;
    read(bench, organizer).await
}

/// How long a booking is not in the figures, while there are as many bookings as the machine can do.
async fn behind(bench: &mut Bench) -> anyhow::Result<()> {
    let stage = &bench.stage;
    let sale = [stage.large_sale().await?];
    let make = || stage.buyers(stage.size.bookers(), &sale).into_iter().map(Buyer::booking).collect();
    let over = CancellationToken::new();
    let load = async {
        let load = stage.load(make).await;
        over.cancel();
        load?.checked("bookings")
    };
    let watch = async {
        let mut worst: f64 = 0.0;
        while !over.is_cancelled() {
            let lag = stage
                .tools
                .psql(
                    "SELECT coalesce(extract(epoch FROM clock_timestamp() - \
                     (SELECT at FROM booking_log WHERE id > log_id ORDER BY id LIMIT 1)) * 1000, 0) \
                     FROM analytics_offset",
                )
                .await?;
            worst = worst.max(lag.concat().parse()?);
            tokio::time::sleep(LOOK).await;
        }
        anyhow::Ok(worst)
    };
    let (load, worst) = tokio::join!(load, watch);
    let note = format!("at {:.0} bookings a second", load?.per_second());
    bench.report(Figure::new("figures behind, at most", worst?, "ms").at_most(5_000.0, 2_000.0).note(note))
}

/// How fast the workers count a log that is there all at once.
async fn roll_up(bench: &mut Bench, organizer: Uuid) -> anyhow::Result<()> {
    let stage = &bench.stage;
    let rows = stage.size.log_rows();
    analytics::generate_events(&stage.db, organizer, stage.venue(), EVENTS).await?;
    // One transaction: whoever rolls up waits for it to end, however long that takes.
    analytics::generate_log(&stage.db, EVENTS, 1, rows, rows).await?;
    let began = Instant::now();
    let counted = "SELECT log_id >= (SELECT max(id) FROM booking_log) FROM analytics_offset";
    while stage.tools.psql(counted).await?.concat() != "t" {
        ensure!(began.elapsed() < PATIENCE, "the log is not counted after {PATIENCE:?}");
        tokio::time::sleep(LOOK).await;
    }
    let figure = Figure::new("log rows rolled up", rows as f64 / began.elapsed().as_secs_f64(), "/s");
    bench.report(figure.at_least(20_000.0, 50_000.0).note(format!("{rows} rows")))
}

/// How long reading takes, one at a time.
async fn read(bench: &mut Bench, organizer: Uuid) -> anyhow::Result<()> {
    // As autovacuum leaves them sooner or later.
    let tables = "booking_log, analytics_events, analytics_days, analytics_months, analytics_totals";
    bench.stage.tools.psql(&format!("VACUUM ANALYZE {tables}")).await?;
    let event = event(&bench.stage).await?;
    let today = clock::now().date_naive();
    let two_years = format!("from={}&to={today}", today - TimeDelta::days(DAYS - 10));
    let (all, one, seats) =
        ("/v1/admin/analytics", format!("/v1/admin/analytics/events/{event}"), "/v1/admin/events");
    let admin = bench.stage.admin_token();
    let organizer = bench.stage.token(organizer, Role::Organizer);
    for (name, path, token) in [
        ("overview", all.to_owned(), &admin),
        ("overview, two years", format!("{all}?{two_years}"), &admin),
        ("overview, an organizer's two years", format!("{all}?{two_years}"), &organizer),
        ("days of two years", format!("{all}/daily?{two_years}"), &organizer),
        ("one event's two years", format!("{one}?{two_years}"), &organizer),
        ("one event's days", format!("{one}/daily?{two_years}"), &organizer),
        (
            "how full 100 events are",
            format!("{seats}/capacity_utilization?status=completed&limit=100"),
            &organizer,
        ),
    ] {
        let stage = &bench.stage;
        let make = || Repeat::many(1, vec![get(&path, Some(token))], 200);
        run(stage.http(), make(), stage.time / 5).await?;
        let mut load = run(stage.http(), make(), stage.time).await?.checked(name)?;
        let [p50, p99] = [50.0, 99.0].map(|percent| load.tally.times.percentile_ms(percent));
        let figure = Figure::new(format!("{name}, p99"), p99, "ms").at_most(50.0, 25.0);
        bench.report(figure.note(format!("p50 {p50:.1} ms")))?;
    }
    Ok(())
}

/// One that sold in the middle of the log.
async fn event(stage: &Stage) -> anyhow::Result<Uuid> {
    let slug = format!("generated-{}", EVENTS / 2);
    let id = stage.tools.psql(&format!("SELECT id FROM events WHERE slug = '{slug}'")).await?;
    id.concat().parse().context("no event was generated")
}
