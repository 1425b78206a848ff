//! `evently api`: serves HTTP until it is told to stop.

use std::{io, net::SocketAddr, sync::Arc};

use anyhow::Context;
use api::App;
use domain::config::Env;
use tokio::net::{TcpListener, TcpSocket};

use crate::{shutdown, telemetry};

/// Serves until SIGTERM or SIGINT.
pub async fn run(env: Env) -> anyhow::Result<()> {
    let shutdown = shutdown::on_signal()?;
    telemetry::serve_metrics(env.parse("EVENTLY_METRICS_ADDR", telemetry::METRICS_ADDR)?)?;
    let (app, listener) = bind(&env)?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    api::serve(app, listener, shutdown).await?;
    tracing::info!("stopped");
    Ok(())
}

/// The application as the environment says, and the socket on which it is to be served. Port 0 picks one, which the
/// application's links then name. Opens no connection yet: the API may start before Postgres and Redis do.
pub fn bind(env: &Env) -> anyhow::Result<(Arc<App>, TcpListener)> {
    let mut app = App::from_env(env).map_err(anyhow::Error::from_boxed)?;
    let config = &mut app.config;
    let listener = listen(config.http_addr)
        .with_context(|| format!("EVENTLY_HTTP_ADDR: cannot listen on {}", config.http_addr))?;
    let picked = listener.local_addr()?;
    if config.http_addr != picked {
        config.http_addr = picked;
        if env.get("EVENTLY_PUBLIC_URL").is_none() {
            config.public_url = format!("http://{picked}");
        }
    }
    Ok((Arc::new(app), listener))
}

/// Connections that the kernel may keep until they are accepted, if it may (`net.core.somaxconn`): a rush brings
/// thousands at once, and one that finds no place there comes again a second later.
const BACKLOG: u32 = 4096;

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
