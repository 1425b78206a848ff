//! Bookings that are paid for: authorised, committed and captured, as the sandbox's own books say.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::{
    Bench,
    figure::Figure,
    limits::{self, WRITERS},
    load::{Buyer, run},
};

/// How long captures may take after the last answer.
const PATIENCE: Duration = Duration::from_mins(1);

pub(super) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let stage = &bench.stage;
    let (warm, sale) = ([stage.large_sale().await?], [stage.large_sale().await?]);
    let limit = limits::paid(stage, &warm).await?;
    stage.settle().await?;
    let connections = stage.size.bookers();
    let buyers = |sales| stage.buyers(connections, sales).into_iter().map(Buyer::booking).collect();
    run(stage.http(), buyers(&warm), stage.time / 5).await?;
    let began = Instant::now();
    let load = run(stage.http(), buyers(&sale), stage.time).await?.checked("paid bookings")?;
    let answered = began.elapsed();
    // Each booking has one charge, all of it taken.
    let books = format!(
        "SELECT count(*), count(*) FILTER (WHERE paid.charges = 1 AND paid.captured = b.total) \
         FROM bookings b CROSS JOIN LATERAL (SELECT count(*) AS charges, sum(captured) AS captured \
             FROM sandbox_charges c WHERE c.booking_id = b.id AND c.status = 'captured') paid \
         WHERE b.event_id = '{}' AND b.status = 'confirmed'",
        sale[0].event
    );
    stage.tools.psql("CREATE INDEX IF NOT EXISTS bench_charges ON sandbox_charges (booking_id)").await?;
    // The index is ours, and so is the time that it takes.
    let waiting = Instant::now();
    let booked = loop {
        let counted = stage.tools.psql(&books).await?;
        let [booked, paid] = [counted[0].parse::<u64>()?, counted[1].parse()?];
        if booked == paid {
            break booked;
        }
        ensure!(waiting.elapsed() < PATIENCE, "{paid} of {booked} bookings are paid for");
    };
    let tail = waiting.elapsed();
    ensure!(booked >= load.tally.done, "{} answers of 201, and {booked} bookings", load.tally.done);
    let rate = booked as f64 / (answered + tail).as_secs_f64();
    let figure = Figure::new("paid bookings", rate, "/s")
        .against(format!("pgbench -c {WRITERS}, the same rows"), limit)
        .at_least(1.0, 2.0)
        .note(format!(
            "captured in the sandbox's books, the last of them {:.2} s after the load",
            tail.as_secs_f64()
        ));
    bench.report(figure)
}
