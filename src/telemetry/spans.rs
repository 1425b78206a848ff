//! Spans for a collector, by OTLP over HTTP: one trace from the request through its jobs to the mail.
//!
//! `domain::trace` carries positions between processes and knows nothing of this; while spans are exported, the
//! positions it hands out are theirs.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use domain::trace::{self, TraceContext};
use opentelemetry::{
    Context, KeyValue,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider},
};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{SdkTracerProvider, SpanData},
};
use tokio::runtime::Handle;
use tracing::{Level, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::filter_fn};

use super::ExtraLayer;

/// How long one batch may take to reach the collector, which also bounds how long it can delay the process's end.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// The running export. Dropping it sends what is left.
pub(super) struct Export(SdkTracerProvider);

impl Export {
    /// Starts to export to `endpoint`, the base URL of a collector (`http://127.0.0.1:4318`). TLS is the
    /// collector's neighbour's business: this speaks plain HTTP. Must run inside a runtime.
    pub(super) fn start(endpoint: &str) -> anyhow::Result<Self> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .context("OTEL_EXPORTER_OTLP_ENDPOINT")?;
        let resource = Resource::builder()
            .with_service_name("evently")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(InRuntime { exporter: Arc::new(exporter), runtime: Handle::current() })
            .with_resource(resource)
            .build();
        trace::set_exporter(position);
        Ok(Self(provider))
    }

    /// What turns this program's spans into exported ones: every span of note, and warnings inside them.
    pub(super) fn layer(&self) -> ExtraLayer {
        let of_note = filter_fn(|about| {
            if about.is_span() {
                *about.level() <= Level::INFO || about.target() == "evently::request"
            } else {
                *about.level() <= Level::WARN
            }
        });
        let tracer = self.0.tracer("evently");
        tracing_opentelemetry::layer().with_tracer(tracer).with_filter(of_note).boxed()
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// Makes `span` a child of `remote`, and answers the position under which it is exported.
fn position(span: &Span, remote: Option<TraceContext>) -> Option<TraceContext> {
    if let Some(remote) = remote {
        let flags = if remote.sampled { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
        let (trace_id, span_id) = (TraceId::from(remote.trace_id), SpanId::from(remote.span_id));
        let parent = SpanContext::new(trace_id, span_id, flags, true, TraceState::NONE);
        span.set_parent(Context::new().with_remote_span_context(parent)).ok()?;
    }
    let context = span.context();
    let exported = context.span().span_context().clone();
    exported.is_valid().then(|| TraceContext {
        trace_id: u128::from_be_bytes(exported.trace_id().to_bytes()),
        span_id: u64::from_be_bytes(exported.span_id().to_bytes()),
        sampled: exported.is_sampled(),
    })
}

/// Batches are collected on a thread of the SDK's own; the HTTP client needs the runtime's.
#[derive(Debug)]
struct InRuntime {
    exporter: Arc<SpanExporter>,
    runtime: Handle,
}

impl opentelemetry_sdk::trace::SpanExporter for InRuntime {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let exporter = Arc::clone(&self.exporter);
        let sent = self
            .runtime
            .spawn(async move { opentelemetry_sdk::trace::SpanExporter::export(&*exporter, batch).await });
        sent.await.unwrap_or_else(|error| Err(OTelSdkError::InternalFailure(error.to_string())))
    }

    fn set_resource(&mut self, resource: &Resource) {
        // Called once, before the first batch, when nothing else holds the exporter.
        if let Some(exporter) = Arc::get_mut(&mut self.exporter) {
            exporter.set_resource(resource);
        }
    }
}
