//! What of a request's body nobody read: a connection can be used again only once it is gone.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::{
    Request,
    body::{Frame, Incoming, SizeHint},
};

use crate::extract::MAX_BODY_BYTES;

/// How long an answer waits for the rest of a body that it did not need.
const REST_TIME: Duration = Duration::from_millis(50);

/// Where a body comes back to when it is dropped before its end.
#[derive(Clone, Default)]
pub(crate) struct Leftover(Arc<Mutex<Option<Incoming>>>);

impl Leftover {
    /// The request as a handler gets it.
    pub(crate) fn lend(&self, request: Request<Incoming>) -> Request<Body> {
        request.map(|incoming| {
            if incoming.is_end_stream() {
                return Body::empty();
            }
            Body::new(Lent { incoming: Some(incoming), back: self.clone() })
        })
    }

    /// Whether the body was read to its end.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Reads away what was left, if it is short and comes soon. Otherwise (`false`) the answer must say that the
    /// connection closes, or the client would send its next request into a connection that is about to end.
    pub(crate) async fn read_away(self) -> bool {
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut left) = left else { return true };
        let rest = async {
            let mut bytes = 0;
            while bytes <= MAX_BODY_BYTES {
                match std::future::poll_fn(|cx| Pin::new(&mut left).poll_frame(cx)).await {
                    Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, Bytes::len),
                    Some(Err(_)) => return false,
                    None => return true,
                }
            }
            false
        };
        tokio::time::timeout(REST_TIME, rest).await.unwrap_or(false)
    }
}

struct Lent {
    /// Until the end was read.
    incoming: Option<Incoming>,
    back: Leftover,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(incoming).poll_frame(cx));
        if frame.is_none() {
            self.incoming = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take().filter(|incoming| !incoming.is_end_stream()) {
            *self.back.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(incoming);
        }
    }
}
