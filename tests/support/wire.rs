//! One HTTP/1.1 connection, byte by byte: cheap enough for thousands, and as badly behaved as a test wants it.

use std::{fmt::Write as _, io, net::SocketAddr};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A connection that is kept open from request to request.
pub struct Wire {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct WireAnswer {
    pub status: u16,
    /// In lower case, the status line included.
    pub head: String,
    pub body: Vec<u8>,
}

impl WireAnswer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.trim()))
    }

    /// The `code` of a problem.
    pub fn code(&self) -> Option<String> {
        let problem: Value = serde_json::from_slice(&self.body).ok()?;
        Some(problem["code"].as_str()?.to_owned())
    }

    /// Whether it is what a process says that has no room: 503 `unavailable` and when to come again.
    pub fn is_refusal(&self) -> bool {
        let comes_again = self.header("retry-after").and_then(|secs| secs.parse::<u32>().ok());
        self.status == 503
            && comes_again.is_some_and(|secs| secs > 0)
            && self.code().as_deref() == Some("unavailable")
    }
}

/// A request with a JSON body, or without one.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: x\r\n");
    for (name, value) in headers {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    match body {
        Some(body) => {
            let body = body.to_string();
            write!(text, "content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
                .unwrap();
        }
        None => text += "\r\n",
    }
    text.into_bytes()
}

impl Wire {
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, unread: Vec::new() })
    }

    /// Sends a request and reads its answer.
    pub async fn ask(&mut self, request: &[u8]) -> io::Result<WireAnswer> {
        self.stream.write_all(request).await?;
        self.answer().await
    }

    /// Reads the next answer.
    pub async fn answer(&mut self) -> io::Result<WireAnswer> {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            self.more().await?;
        };
        let head = String::from_utf8_lossy(&self.unread[..end]).to_ascii_lowercase();
        let status = head[9..12].parse().unwrap();
        let mut answer = WireAnswer { status, head, body: Vec::new() };
        let length: usize = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        while self.unread.len() < end + 4 + length {
            self.more().await?;
        }
        answer.body = self.unread[end + 4..end + 4 + length].to_vec();
        self.unread.drain(..end + 4 + length);
        Ok(answer)
    }

    async fn more(&mut self) -> io::Result<()> {
        if self.stream.read_buf(&mut self.unread).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}
