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

use crate::{App, leftover::Leftover, middleware::Edge, router, wire::Wire};

/// What hyper may buffer of one connection: the head's limits in `middleware` lie below it.
const BUFFER_BYTES: usize = 128 * 1024;
/// Connections beyond the limit, each for one request: health is answered, anything else is `unavailable`.
const SPARE_CONNECTIONS: usize = 256;

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
    let mut hurried = http.clone();
    hurried.header_read_timeout(limits.hurried_header_timeout);
    let mut once = hurried.clone();
    once.keep_alive(false);
    let edge = Edge::new(&limits);
    let server = Server {
        http,
        hurried,
        once,
        router: router::service(Arc::clone(&app), edge.clone()),
        edge,
        permits: Arc::new(Semaphore::new(limits.max_connections)),
        spare: Arc::new(Semaphore::new(SPARE_CONNECTIONS)),
        many: limits.max_connections / 4,
        write_timeout: limits.write_timeout,
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
    /// With less patience, for when connections become scarce.
    hurried: http1::Builder,
    /// For a connection beyond the limit.
    once: http1::Builder,
    router: Router,
    edge: Edge,
    permits: Arc<Semaphore>,
    spare: Arc<Semaphore>,
    /// With fewer permits left than this, connections are scarce.
    many: usize,
    write_timeout: Duration,
    connections: TaskTracker,
    /// Cancelled when connections shall end after the request they are in.
    closing: CancellationToken,
}

impl Server {
    /// Accepts for ever; with all permits and spare ones out, the next connection waits in the kernel.
    async fn accept(&self, listener: &TcpListener) {
        loop {
            // The semaphores are never closed.
            let Ok(spare) = Arc::clone(&self.spare).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => self.spawn(stream, peer, spare),
                Err(error) if is_of_the_peer(&error) => {}
                Err(error) => {
                    // Out of file descriptors or memory: connections that end will free some.
                    tracing::error!(%error, "cannot accept");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn spawn(&self, stream: TcpStream, peer: SocketAddr, spare: OwnedSemaphorePermit) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let (http, permit, is_spare) = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) if self.permits.available_permits() >= self.many => (&self.http, permit, false),
            Ok(permit) => (&self.hurried, permit, false),
            Err(_) => (&self.once, spare, true),
        };
        let (router, edge) = (self.router.clone(), self.edge.clone());
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let leftover = Leftover::default();
            let expects = request.headers().contains_key(header::EXPECT);
            // Before anything is spent on it.
            let refusal = edge.refuse(&request, is_spare);
            let mut request = leftover.lend(request);
            let outcome = if let Some(refusal) = refusal {
                drop(request);
                Err(refusal)
            } else {
                request.extensions_mut().insert(ConnectInfo(peer));
                Ok(router.clone().call(request))
            };
            async move {
                let mut answer = match outcome {
                    Ok(answer) => answer.await.unwrap_or_else(|never| match never {}),
                    Err(refusal) => refusal,
                };
                // Whoever waits to be told to send a body is not asked for one that nobody wants.
                let reusable = if expects { leftover.is_empty() } else { leftover.read_away().await };
                if !reusable {
                    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = http.serve_connection(TokioIo::new(Wire::new(stream, self.write_timeout)), service);
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
