//! How a line of the log looks. Every line inside a request or a job names its trace, whether spans are made or not.

use std::fmt;

use domain::trace::TraceContext;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::{self, Format, Writer},
        time::{FormatTime, SystemTime},
    },
    registry::{LookupSpan, Scope},
};

/// One JSON object a line, with `trace_id` at its end.
pub(super) struct Json(Format<format::Json>);

impl Default for Json {
    fn default() -> Self {
        Self(Format::default().json().flatten_event(true).with_span_list(false))
    }
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(context) = TraceContext::current() else { return self.0.format_event(ctx, out, event) };
        let mut line = String::with_capacity(256);
        self.0.format_event(ctx, Writer::new(&mut line), event)?;
        let object = line.trim_end().strip_suffix('}').unwrap_or(&line);
        writeln!(out, "{object},\"trace_id\":\"{:032x}\"}}", context.trace_id)
    }
}

/// For people: time, level, where in the program, what, and the trace at the end.
pub(super) struct Pretty;

impl<S, N> FormatEvent<S, N> for Pretty
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (dim, plain) = if out.has_ansi_escapes() { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        let level = *event.metadata().level();
        write!(out, "{dim}")?;
        SystemTime.format_time(&mut out)?;
        write!(out, "{plain} {}{level:>5}{plain} ", if dim.is_empty() { "" } else { colour(level) })?;
        for span in ctx.event_scope().into_iter().flat_map(Scope::from_root) {
            write!(out, "{dim}{}", span.name())?;
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>().filter(|f| !f.is_empty()) {
                write!(out, "{{{fields}}}")?;
            }
            write!(out, ":{plain} ")?;
        }
        write!(out, "{dim}{}:{plain} ", event.metadata().target())?;
        ctx.format_fields(out.by_ref(), event)?;
        if let Some(context) = TraceContext::current() {
            write!(out, " {dim}trace_id={:032x}{plain}", context.trace_id)?;
        }
        writeln!(out)
    }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[34m",
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(is_pretty: bool) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).with_ansi(false);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let say = async {
            let _inside = tracing::info_span!("job", id = 7).entered();
            tracing::info!(seats = 3, "held");
        };
        let say = || runtime.block_on(TraceContext { trace_id: 0xabc, span_id: 1, sampled: true }.scope(say));
        if is_pretty {
            let registry = tracing_subscriber::registry().with(layer.event_format(Pretty));
            tracing::subscriber::with_default(registry, say);
        } else {
            let registry = tracing_subscriber::registry().with(layer.json().event_format(Json::default()));
            tracing::subscriber::with_default(registry, say);
        }
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_json_line_is_one_object_with_the_trace() {
        let line: serde_json::Value = serde_json::from_str(&written(false)).unwrap();
        assert_eq!(line["trace_id"], "00000000000000000000000000000abc");
        assert_eq!(
            (&line["message"], &line["seats"], &line["span"]["id"]),
            (&"held".into(), &3.into(), &7.into())
        );
    }

    #[test]
    fn a_pretty_line_says_the_same() {
        let line = written(true);
        assert!(line.ends_with("held seats=3 trace_id=00000000000000000000000000000abc\n"), "{line}");
        assert!(line.contains("  INFO job{id=7}: evently::telemetry::lines::tests: "), "{line}");
    }
}
