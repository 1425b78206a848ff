//! The sockets: accepts connections, bounds them, and closes them in order at the end.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::ConnectInfo,
    http::{HeaderValue, header},
};
use futures::future::BoxFuture;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;

use crate::{App, leftover::Leftover, router, wire::Wire};

/// What hyper may buffer of one connection: the head's limits in `middleware` lie below it.
const BUFFER_BYTES: usize = 128 * 1024;

/// Serves until `shutdown` is cancelled. Then `/readyz` turns false, requests are taken for the configured drain
/// time more, and running ones get their time to finish before what is left is cut off.
///
/// Boxed so that it is compiled here, with this crate's optimisation, rather than where it is awaited.
pub fn serve(
    app: Arc<App>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> BoxFuture<'static, io::Result<()>> {
    Box::pin(run(app, listener, shutdown))
}

async fn run(app: Arc<App>, listener: TcpListener, shutdown: CancellationToken) -> io::Result<()> {
    let limits = app.config.http.clone();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout).max_buf_size(BUFFER_BYTES);
    let server = Server {
        http,
        router: router::service(Arc::clone(&app)),
        permits: Arc::new(Semaphore::new(limits.max_connections)),
        connections: TaskTracker::new(),
        closing: CancellationToken::new(),
    };
    let follower = tokio::spawn({
        let app = Arc::clone(&app);
        async move { app.follow().await }
    });
    let draining = async {
        shutdown.cancelled().await;
        app.health.drain();
        sleep(limits.drain).await;
    };
    tokio::select! {
        () = server.accept(&listener) => {}
        () = draining => {}
    }
    follower.abort();
    drop(listener);
    app.health.closing.cancel();
    server.closing.cancel();
    server.connections.close();
    if tokio::time::timeout(limits.finish, server.connections.wait()).await.is_err() {
        tracing::warn!(connections = server.connections.len(), "cut off what did not finish in time");
    }
    Ok(())
}

struct Server {
    http: http1::Builder,
    router: Router,
    permits: Arc<Semaphore>,
    connections: TaskTracker,
    /// Cancelled when connections shall end after the request they are in.
    closing: CancellationToken,
}

impl Server {
    /// Accepts for ever; with all permits out, the next connection waits in the kernel.
    async fn accept(&self, listener: &TcpListener) {
        loop {
            // The semaphore is never closed.
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => self.spawn(stream, peer, permit),
                Err(error) if is_of_the_peer(&error) => {}
                Err(error) => {
                    // Out of file descriptors or memory: connections that end will free some.
                    tracing::error!(%error, "cannot accept");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn spawn(&self, stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let router = self.router.clone();
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let leftover = Leftover::default();
            let expects = request.headers().contains_key(header::EXPECT);
            let mut request = leftover.lend(request);
            request.extensions_mut().insert(ConnectInfo(peer));
            let mut router = router.clone();
            async move {
                let mut answer = router.call(request).await.unwrap_or_else(|never| match never {});
                // Whoever waits to be told to send a body is not asked for one that nobody wants.
                let reusable = if expects { leftover.is_empty() } else { leftover.read_away().await };
                if !reusable {
                    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = self.http.serve_connection(TokioIo::new(Wire::new(stream)), service);
        let closing = self.closing.clone();
        self.connections.spawn(async move {
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                biased;
                ended = connection.as_mut() => ended,
                () = closing.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::trace!(%error, "a connection ended early");
            }
            drop(permit);
        });
    }
}

/// Whether the connection failed before it was taken, which concerns nobody else.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}
