//! What people look at before they buy, against a server that does nothing.

use super::{Bench, figure::Figure, http::get};

pub(super) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let stage = &bench.stage;
    let bare = bench.limits.bare(stage).await?;
    let sale = stage.sale(3, 1_000).await?;
    for (name, path) in
        [("event detail", format!("/v1/events/{}", sale.event)), ("event list", "/v1/events".to_owned())]
    {
        let mut load = bench.stage.repeat(bench.stage.http(), &[get(&path, None)]).await?;
        let p99 = load.tally.times.percentile_ms(99.0);
        let figure = Figure::new(name, load.per_second(), "/s").against("bare axum", bare).at_least(0.4, 0.5);
        bench.report(figure.note(format!("p99 {p99:.2} ms")))?;
    }
    Ok(())
}
