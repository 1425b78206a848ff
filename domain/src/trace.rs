//! The W3C trace context that a request brings and that its jobs and mails carry on.

use std::{fmt, future::Future, str::FromStr, sync::OnceLock};

use tracing::Span;

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// One position in a trace: which trace, and which span caused what happens now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: u128,
    pub span_id: u64,
    pub sampled: bool,
}

impl TraceContext {
    /// The start of a new, sampled trace.
    pub fn root() -> Self {
        Self { trace_id: nonzero(rand::random()), span_id: nonzero(rand::random()), sampled: true }
    }

    /// The same trace, under a new span.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span_id: nonzero(rand::random()), ..self }
    }

    /// The context in which the current task runs, when it runs inside [`TraceContext::scope`].
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|context| *context).ok()
    }

    /// Runs a future in this context.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    /// The trace id as errors and logs show it: 32 hexadecimal digits.
    pub fn trace_id_hex(self) -> String {
        format!("{:032x}", self.trace_id)
    }
}

/// Makes `span` a child of `remote` for whatever exports spans, and answers the span's own position.
pub type Exporter = fn(&Span, Option<TraceContext>) -> Option<TraceContext>;

static EXPORTER: OnceLock<Exporter> = OnceLock::new();

/// Names what exports spans. Once a process, at its start; without it positions are made here.
pub fn set_exporter(exporter: Exporter) {
    // A second call would be a second start of telemetry, which itself refuses that.
    let _ = EXPORTER.set(exporter);
}

/// The position of a unit of work that `remote` caused: the one its `span` is exported under, or a fresh one.
pub fn enter(span: &Span, remote: Option<TraceContext>) -> TraceContext {
    let exported = EXPORTER.get().filter(|_| !span.is_disabled()).and_then(|export| export(span, remote));
    exported.unwrap_or_else(|| remote.map_or_else(TraceContext::root, TraceContext::child))
}

fn nonzero<T: PartialEq + Default + From<u8>>(value: T) -> T {
    if value == T::default() { T::from(1) } else { value }
}

/// Writes a `traceparent` header, version 00.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// The text is no `traceparent` header.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent")]
pub struct InvalidTraceparent;

/// Reads a `traceparent` header; later versions are read as far as version 00 goes, as the standard asks.
impl FromStr for TraceContext {
    type Err = InvalidTraceparent;

    fn from_str(text: &str) -> Result<Self, InvalidTraceparent> {
        let hex = |part: &str, len: usize| {
            (part.len() == len && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
                .then_some(())
                .ok_or(InvalidTraceparent)
        };
        let mut parts = text.split('-');
        let mut next = || parts.next().ok_or(InvalidTraceparent);
        let (version, trace, span, flags) = (next()?, next()?, next()?, next()?);
        for (part, len) in [(version, 2), (trace, 32), (span, 16), (flags, 2)] {
            hex(part, len)?;
        }
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return Err(InvalidTraceparent);
        }
        let trace_id = u128::from_str_radix(trace, 16).map_err(|_| InvalidTraceparent)?;
        let span_id = u64::from_str_radix(span, 16).map_err(|_| InvalidTraceparent)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| InvalidTraceparent)?;
        if trace_id == 0 || span_id == 0 {
            return Err(InvalidTraceparent);
        }
        Ok(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(text.parse::<TraceContext>().map(|c| c.to_string()), Ok(text.to_owned()));
    }

    #[test]
    fn refuses_what_the_standard_refuses() {
        for text in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert_eq!(text.parse::<TraceContext>(), Err(InvalidTraceparent), "{text}");
        }
    }
}
