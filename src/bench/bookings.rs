//! Bookings end to end: hold, confirm, committed in Postgres, 201 read. They are paid for, with the sandbox.

use super::{
    Bench,
    figure::Figure,
    limits::{self, WRITERS},
    stage::Sale,
};

const EVENTS: usize = 20;
const KINDS: usize = 5;

pub(super) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let one = [bench.stage.large_sale().await?];
    let limit = limits::confirm(&bench.stage, &one).await?;
    throughput(bench, "bookings, one ticket type", &one, limit).await?;

    let mut many = Vec::new();
    for _ in 0..EVENTS {
        many.push(bench.stage.sale(KINDS, 100_000).await?);
    }
    let limit = limits::confirm(&bench.stage, &many).await?;
    throughput(bench, "bookings, 100 ticket types", &many, limit).await?;

    let stage = &bench.stage;
    let crowd = stage.size.crowd();
    let sale = [stage.large_sale().await?];
    let make = || stage.buyers(crowd, &sale).into_iter().map(super::load::Buyer::booking).collect();
    let mut load = stage.load(make).await?.checked("bookings in flight")?;
    let [p50, p99] = [50.0, 99.0].map(|percent| load.tally.times.percentile_ms(percent));
    let note = format!("p50 {p50:.0} ms at {:.0}/s", load.per_second());
    bench.report(
        Figure::new(format!("201 p99, {crowd} in flight"), p99, "ms").at_most(500.0, 100.0).note(note),
    )
}

async fn throughput(bench: &mut Bench, name: &str, sales: &[Sale], limit: f64) -> anyhow::Result<()> {
    bench.stage.settle().await?;
    let stage = &bench.stage;
    let connections = stage.size.bookers();
    let make = || stage.buyers(connections, sales).into_iter().map(super::load::Buyer::booking).collect();
    let mut load = stage.load(make).await?.checked(name)?;
    let figure = Figure::new(name, load.per_second(), "/s")
        .against(format!("pgbench -c {WRITERS}, the same rows"), limit)
        .at_least(1.0, 2.0);
    let p99 = load.tally.times.percentile_ms(99.0);
    bench.report(figure.note(format!("{connections} connections, 201 p99 {p99:.0} ms")))?;
    bench.stage.settle().await
}
