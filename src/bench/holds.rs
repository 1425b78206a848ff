//! Holds over HTTP, against the script that places them and against a server that does nothing.

use std::time::Duration;

use anyhow::ensure;

use super::{
    Bench,
    figure::Figure,
    http::post,
    load::{Repeat, run},
    stage::CONNECTIONS,
    times::Times,
};

/// How often a crowd comes: the median of so many is quoted.
const CROWDS: usize = 5;
/// A crowd waits for all its answers.
const PATIENCE: Duration = Duration::from_mins(1);

pub(super) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let (stage, limits) = (&bench.stage, &mut bench.limits);
    let (bare, script) = (limits.bare(stage).await?, limits.script(stage).await?);
    let sale = [stage.large_sale().await?];
    let mut load = stage.load(|| stage.buyers(CONNECTIONS, &sale)).await?.checked("holds")?;
    let rate = load.per_second();
    let [p50, p99] = [50.0, 99.0].map(|percent| load.tally.times.percentile_ms(percent));
    bench.report(
        Figure::new("holds", rate, "/s").against("EVALSHA of the script, -c 50", script).at_least(0.6, 0.8),
    )?;
    bench.report(Figure::new("holds", rate, "/s").against("bare axum", bare).at_least(0.25, 0.33))?;
    bench.report(
        Figure::new("hold p99, 64 connections", p99, "ms")
            .at_most(10.0, 5.0)
            .note(format!("p50 {p50:.2} ms")),
    )
}

/// A crowd at once for a few seats, until the last has its answer.
pub(super) async fn rush(bench: &mut Bench) -> anyhow::Result<()> {
    let stage = &bench.stage;
    let (crowd, seats) = (stage.size.crowd(), stage.size.seats());
    let (mut ours, mut bare) = (Times::default(), Times::default());
    for _ in 0..CROWDS {
        let sale = stage.sale(1, seats).await?;
        let path = format!("/v1/events/{}/holds", sale.event);
        let body = format!(r#"{{"items":[{{"ticket_type_id":"{}","quantity":1}}]}}"#, sale.kinds[0]);
        let people = stage.tokens().iter().cycle().take(crowd).enumerate();
        let requests: Vec<_> = people
            .map(|(n, token)| post(&path, token, &format!("Idempotency-Key: {n}\r\n"), &body))
            .collect();
        let idle = run(stage.bare(), Repeat::once_each(requests.clone(), 200), PATIENCE).await?;
        bare.add(idle.checked("a crowd at the bare server")?.took);
        let rush = run(stage.http(), Repeat::once_each(requests, 201), PATIENCE).await?;
        let refused = rush.tally.others.get(&409).copied().unwrap_or(0);
        ensure!(
            rush.tally.done == seats.unsigned_abs() && rush.tally.done + refused == crowd as u64,
            "{} of {seats} seats were held; others: {}",
            rush.tally.done,
            rush.others()
        );
        ours.add(rush.took);
    }
    let [ours, bare] = [ours, bare].map(|mut times| times.percentile_ms(50.0));
    let name = format!("{seats} seats, {crowd} at once");
    bench.report(Figure::new(name, ours, "ms").against("bare axum", bare).at_most(10.0, 4.0))
}
