//! Where a process's logs, metrics and traces go, decided by the environment at its start.

mod lines;
mod spans;

use std::{
    io::IsTerminal,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
};

use anyhow::Context;
use domain::config::Env;
use metrics_exporter_prometheus::PrometheusBuilder;
use tracing_subscriber::{Layer, Registry, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// A layer that a caller adds to what `init` sets up: a capture in a test.
pub type ExtraLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// What is to be dropped at the process's end, inside its runtime, so that the last spans are sent.
#[must_use = "spans are exported until this is dropped"]
pub struct Telemetry {
    _spans: Option<spans::Export>,
}

/// Sends logs to standard error: filtered by `EVENTLY_LOG` (a level, or `target=level` with commas between; default `info`), written as `EVENTLY_LOG_FORMAT`
/// says (`pretty` on a terminal, else `json`). Where `OTEL_EXPORTER_OTLP_ENDPOINT` is set, spans go there. Call it
/// once, in the runtime.
pub fn init(env: &Env, mut extra: Vec<ExtraLayer>) -> anyhow::Result<Telemetry> {
    let filter: Targets = env.get("EVENTLY_LOG").unwrap_or("info").parse().context("EVENTLY_LOG")?;
    let terminal = std::io::stderr().is_terminal();
    let pretty = match env.get("EVENTLY_LOG_FORMAT").unwrap_or(if terminal { "pretty" } else { "json" }) {
        "json" => false,
        "pretty" => true,
        other => anyhow::bail!("EVENTLY_LOG_FORMAT: {other:?} is neither pretty nor json"),
    };
    let written = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let written = if pretty {
        written.with_ansi(terminal).event_format(lines::Pretty).boxed()
    } else {
        written.json().event_format(lines::Json::default()).boxed()
    };
    let export = env.get("OTEL_EXPORTER_OTLP_ENDPOINT").map(spans::Export::start).transpose()?;
    extra.extend(export.as_ref().map(spans::Export::layer));
    // An empty list of layers would switch off the others with it.
    let extra = (!extra.is_empty()).then_some(extra);
    tracing_subscriber::registry().with(extra).with(written.with_filter(filter)).try_init()?;
    Ok(Telemetry { _spans: export })
}

/// Where a process serves its metrics unless `EVENTLY_METRICS_ADDR` says otherwise.
pub const METRICS_ADDR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

/// Serves this process's metrics at `address`, in Prometheus's text format, for as long as the runtime runs. Port 0
/// picks one, and the log says which.
pub fn serve_metrics(address: SocketAddr) -> anyhow::Result<()> {
    let address = match address.port() {
        0 => TcpListener::bind(address)?.local_addr()?,
        _ => address,
    };
    PrometheusBuilder::new()
        .with_http_listener(address)
        .set_buckets(&[
            0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
        ])?
        .install()
        .with_context(|| format!("EVENTLY_METRICS_ADDR: cannot serve metrics at {address}"))?;
    tracing::info!(%address, "metrics");
    Ok(())
}
