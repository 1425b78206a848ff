//! An axum that does nothing: the most that HTTP alone allows on a machine, for `evently bench`.

use std::io::{self, Write};

use axum::Router;
use tokio::net::TcpListener;

/// Answers every request with a word, for ever, on a port of loopback that it prints first.
pub async fn serve() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut stdout = io::stdout();
    writeln!(stdout, "{}", listener.local_addr()?)?;
    stdout.flush()?;
    axum::serve(listener, Router::new().fallback(async || "Hello")).await
}
