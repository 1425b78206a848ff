//! A mail server that takes everything and keeps nothing but the count.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

/// Listens for as long as the runtime runs.
#[derive(Clone, Debug)]
pub(super) struct Sink {
    address: SocketAddr,
    taken: Arc<AtomicU64>,
}

/// The most bytes of one mail; a client that sends more is cut off.
const MAIL_LIMIT: usize = 16 << 20;

impl Sink {
    pub(super) async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let sink = Self { address: listener.local_addr()?, taken: Arc::default() };
        let taken = Arc::clone(&sink.taken);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let taken = Arc::clone(&taken);
                // A client that goes away in the middle ends its own conversation only.
                tokio::spawn(async move { talk(stream, &taken).await });
            }
        });
        Ok(sink)
    }

    pub(super) fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// How many mails it has taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Waits until it has taken so many, or as long as it may.
    pub(super) async fn wait(&self, count: u64, limit: Duration) {
        let began = Instant::now();
        while self.taken() < count && began.elapsed() < limit {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn talk(stream: TcpStream, taken: &AtomicU64) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::with_capacity(64 * 1024, stream);
    stream.write_all(b"220 sink ESMTP\r\n").await?;
    let mut line = Vec::new();
    loop {
        line.clear();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let answer: &[u8] = match verb.as_slice() {
            b"EHLO" => b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
            b"DATA" => {
                stream.write_all(b"354 go on\r\n").await?;
                let mut bytes = 0;
                while line != b".\r\n" {
                    line.clear();
                    let read = stream.read_until(b'\n', &mut line).await?;
                    bytes += read;
                    if read == 0 || bytes > MAIL_LIMIT {
                        return Ok(());
                    }
                }
                taken.fetch_add(1, Ordering::Relaxed);
                b"250 taken\r\n"
            }
            b"QUIT" => return stream.write_all(b"221 bye\r\n").await,
            _ => b"250 ok\r\n",
        };
        stream.write_all(answer).await?;
    }
}
