//! A connection whose last words are problem+json too.
//!
//! What is not HTTP at all never reaches a route: hyper refuses it with a bare status line of its own and closes.
//! This wrapper recognises that one write and gives the refusal the body that every other error has.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::http::StatusCode;
use domain::trace::TraceContext;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};

use crate::error::{ApiError, Code};

/// What is read away at most after the last answer, and for how long.
const LINGER_BYTES: usize = 16 * 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);

/// The socket, and what is still to be written in place of a bare refusal.
pub(crate) struct Wire {
    stream: TcpStream,
    refusal: Vec<u8>,
    written: usize,
    linger: Option<Linger>,
    /// How long the client may leave unread what is there for it.
    write_timeout: Duration,
    /// When that is over, while it does.
    stalled: Option<Pin<Box<Sleep>>>,
}

/// How much longer a closed connection is read.
struct Linger {
    bytes_left: usize,
    until: Pin<Box<Sleep>>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, write_timeout: Duration) -> Self {
        Self { stream, refusal: Vec::new(), written: 0, linger: None, write_timeout, stalled: None }
    }

    /// Passes on what came of a write, unless the client has taken nothing for too long.
    fn in_time(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Reads until the client has closed its side too, within limits: a connection closed while its client still
    /// sends, or is about to, is reset, which takes the answer (413, say) out of the client's hands unread.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let linger = self.linger.get_or_insert_with(|| Linger {
            bytes_left: LINGER_BYTES,
            until: Box::pin(tokio::time::sleep(LINGER_TIME)),
        });
        let mut space = [0; 16 * 1024];
        while linger.bytes_left > 0 {
            let mut buf = ReadBuf::new(&mut space);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    linger.bytes_left = linger.bytes_left.saturating_sub(buf.filled().len());
                }
                Poll::Ready(_) => break,
                Poll::Pending => return linger.until.as_mut().poll(cx).map(Ok),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes the rest of the refusal, if there is one.
    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.refusal.len() {
            let rest = &self.refusal[self.written..];
            let written = Pin::new(&mut self.stream).poll_write(cx, rest);
            match ready!(self.in_time(cx, written))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                bytes => self.written += bytes,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The code for which hyper's own refusal stands; `None` for everything that routes answer, which has a body.
fn bare_refusal(head: &[u8]) -> Option<Code> {
    let code = match head.strip_prefix(b"HTTP/1.1 4")?.get(..2)? {
        b"00" => Code::MalformedRequest,
        b"14" => Code::UriTooLong,
        b"31" => Code::HeadersTooLarge,
        _ => return None,
    };
    head.windows(19).any(|line| line == b"content-length: 0\r\n").then_some(code)
}

/// The whole answer, as bytes.
fn refusal(code: Code) -> Vec<u8> {
    let status = code.status();
    let route = "malformed";
    metrics::counter!("evently_http_requests_total",
        "method" => "OTHER", "route" => route, "status" => status.to_string())
    .increment(1);
    let body = ApiError::from(code).problem(TraceContext::root());
    // A problem is strings and a number: it always serialises.
    let body = serde_json::to_string(&body).expect("a problem is JSON");
    // Every code's status is valid: a test of `error` checks it.
    let reason = StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("");
    format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.refusal.is_empty()
            && let Some(code) = bare_refusal(buf)
        {
            self.refusal = refusal(code);
        }
        if !self.refusal.is_empty() {
            // Nothing follows a refusal, and hyper does not wait for a client that has broken the protocol.
            ready!(self.as_mut().poll_shutdown(cx))?;
            return Poll::Ready(Ok(buf.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.in_time(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = bufs {
            return self.poll_write(cx, only);
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.in_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(cx))?;
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        self.poll_linger(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_a_bare_refusal_from_an_answer() {
        let bare =
            b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(bare_refusal(bare), Some(Code::HeadersTooLarge));
        let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 210\r\n\r\n{}";
        assert_eq!(bare_refusal(answer), None);
        assert_eq!(bare_refusal(b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n"), None);
    }
}
