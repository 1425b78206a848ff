//! A connection's way through bad weather: a proxy between two processes that cuts, resets, delays, swallows, and
//! loses answers.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// Where a proxy leads.
#[derive(Clone, Debug)]
pub enum Upstream {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What happens to the bytes between the two ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weather {
    #[default]
    Fair,
    /// Every piece takes so much longer, each way.
    Delay(Duration),
    /// Nothing gets through, and nobody is told; what was sent arrives once it is over.
    Blackhole,
    /// Requests get through; the first byte of an answer ends the connection instead.
    LoseAnswers,
    /// New connections end at once.
    Refuse,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sky {
    weather: Weather,
    /// Raised to end every connection there is.
    cuts: u64,
    /// Whether they end with a reset.
    reset: bool,
}

/// A running proxy. Dropping it ends it and every connection through it.
pub struct Proxy {
    pub address: SocketAddr,
    sky: watch::Sender<Sky>,
    upstream: Arc<Mutex<Upstream>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(upstream: Upstream) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sky, seen) = watch::channel(Sky::default());
        let upstream = Arc::new(Mutex::new(upstream));
        let accepting = tokio::spawn({
            let upstream = Arc::clone(&upstream);
            async move {
                let mut connections = JoinSet::new();
                loop {
                    tokio::select! {
                        Ok((stream, _)) = listener.accept() => {
                            let to = upstream.lock().unwrap().clone();
                            connections.spawn(connection(stream, to, seen.clone()));
                        }
                        Some(_) = connections.join_next(), if !connections.is_empty() => {}
                    }
                }
            }
        });
        Self { address, sky, upstream, accepting }
    }

    /// Leads new connections elsewhere: the process behind it has another address now.
    pub fn lead_to(&self, upstream: Upstream) {
        *self.upstream.lock().unwrap() = upstream;
    }

    pub fn set(&self, weather: Weather) {
        self.sky.send_modify(|sky| sky.weather = weather);
    }

    /// Ends every connection, in good order.
    pub fn cut(&self) {
        self.sky.send_modify(|sky| (sky.cuts, sky.reset) = (sky.cuts + 1, false));
    }

    /// Ends every connection with a reset.
    pub fn reset(&self) {
        self.sky.send_modify(|sky| (sky.cuts, sky.reset) = (sky.cuts + 1, true));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connection(mut client: TcpStream, to: Upstream, mut sky: watch::Receiver<Sky>) {
    let begun = *sky.borrow_and_update();
    if begun.weather == Weather::Refuse || client.set_nodelay(true).is_err() {
        return;
    }
    let (reading, writing) = client.split();
    let both = async {
        match to {
            Upstream::Tcp(address) => {
                let mut server = TcpStream::connect(address).await?;
                server.set_nodelay(true)?;
                let (from, to) = server.split();
                ways(reading, writing, from, to, &sky).await
            }
            Upstream::Unix(path) => {
                let mut server = UnixStream::connect(path).await?;
                let (from, to) = server.split();
                ways(reading, writing, from, to, &sky).await
            }
        }
    };
    let mut watching = sky.clone();
    tokio::select! {
        // Whoever hangs up ends both ways.
        _ = both => {}
        Ok(reset) = async { Ok::<_, watch::error::RecvError>(watching.wait_for(|sky| sky.cuts != begun.cuts).await?.reset) } => {
            if reset {
                // A connection that cannot be reset is closed.
                let _ = client.set_zero_linger();
            }
        }
    }
}

async fn ways(
    reading: impl AsyncRead + Unpin,
    writing: impl AsyncWrite + Unpin,
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
    sky: &watch::Receiver<Sky>,
) -> std::io::Result<()> {
    tokio::select! {
        ended = way(reading, to, false, sky.clone()) => ended,
        ended = way(from, writing, true, sky.clone()) => ended,
    }
}

async fn way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    is_answer: bool,
    mut sky: watch::Receiver<Sky>,
) -> std::io::Result<()> {
    let mut piece = vec![0; 16 * 1024];
    loop {
        let size = from.read(&mut piece).await?;
        if size == 0 {
            return Ok(());
        }
        let weather = sky.borrow_and_update().weather;
        match weather {
            Weather::Blackhole => {
                let lifted = sky.wait_for(|sky| sky.weather != Weather::Blackhole).await;
                lifted.map_err(|_| std::io::ErrorKind::BrokenPipe)?;
            }
            Weather::Delay(pause) => tokio::time::sleep(pause).await,
            Weather::LoseAnswers if is_answer => return Ok(()),
            Weather::Fair | Weather::LoseAnswers | Weather::Refuse => {}
        }
        to.write_all(&piece[..size]).await?;
    }
}
