//! An SMTP server that keeps what it is given and misbehaves on demand.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A mail as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub from: String,
    pub to: String,
    /// Headers and body, without the doubled dots.
    pub raw: String,
}

/// How the server treats one mail, instead of taking it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehave {
    /// Answers this to `MAIL`, `RCPT`, `DATA`, or to the mail itself (`.`).
    Refuse { at: &'static str, reply: &'static str },
    /// Takes the mail and hangs up without saying so.
    LoseAnswer,
    /// Takes the mail and says so, then hangs up as if it had waited too long.
    HangUpAfter,
    /// Takes the mail and answers after this.
    Slow(Duration),
}

#[derive(Default)]
struct State {
    received: Vec<Received>,
    connections: usize,
    next: VecDeque<Misbehave>,
}

/// A running server. Dropping it ends it and every conversation.
pub struct SmtpSink {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    serving: JoinHandle<()>,
}

impl SmtpSink {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let serving = tokio::spawn({
            let state = state.clone();
            async move {
                let mut talks = tokio::task::JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    state.lock().unwrap().connections += 1;
                    let state = state.clone();
                    // A client that goes away in the middle ends its own conversation only.
                    talks.spawn(async move { drop(talk(stream, state).await) });
                }
            }
        });
        Self { address, state, serving }
    }

    /// Its `SMTP_URL`.
    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// Treats the next mail like this; called again, the one after it.
    pub fn misbehave(&self, how: Misbehave) {
        self.state.lock().unwrap().next.push_back(how);
    }

    /// Treats every mail well from now on.
    pub fn behave(&self) {
        self.state.lock().unwrap().next.clear();
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What arrived, in order.
    pub fn received(&self) -> Vec<Received> {
        self.state.lock().unwrap().received.clone()
    }

    /// What arrived after so many mails, in order.
    pub fn received_after(&self, count: usize) -> Vec<Received> {
        self.state.lock().unwrap().received[count..].to_vec()
    }

    /// How many conversations were begun.
    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    /// Waits until so many mails have arrived.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        for _ in 0..3_000 {
            let received = self.received();
            if received.len() >= count {
                return received;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} of {count} mails arrived within 30 s", self.received().len());
    }
}

impl Drop for SmtpSink {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn talk(stream: TcpStream, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 sink.test ESMTP\r\n").await?;
    let (mut from, mut to, mut how) = (String::new(), String::new(), None);
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let verb = line.trim_end().split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        if verb == "MAIL" {
            how = state.lock().unwrap().next.pop_front();
        }
        let refusal = match how {
            Some(Misbehave::Refuse { at, reply }) if at == verb => Some(reply),
            _ => None,
        };
        let address = || line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        let answer = match (refusal, verb.as_str()) {
            (Some(reply), _) => reply,
            (None, "EHLO") => "250-sink.test\r\n250 8BITMIME",
            (None, "MAIL") => {
                from = address();
                "250 ok"
            }
            (None, "RCPT") => {
                to = address();
                "250 ok"
            }
            (None, "DATA") => {
                stream.write_all(b"354 go on\r\n").await?;
                let raw = body(&mut stream).await?;
                if let Some(Misbehave::Refuse { at: ".", reply }) = how {
                    reply
                } else {
                    let (from, to) = (from.clone(), to.clone());
                    state.lock().unwrap().received.push(Received { from, to, raw });
                    match how {
                        Some(Misbehave::LoseAnswer) => return Ok(()),
                        Some(Misbehave::HangUpAfter) => return stream.write_all(b"250 taken\r\n").await,
                        Some(Misbehave::Slow(pause)) => tokio::time::sleep(pause).await,
                        _ => {}
                    }
                    "250 taken"
                }
            }
            (None, "QUIT") => return stream.write_all(b"221 bye\r\n").await,
            _ => "250 ok",
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
}

/// A mail up to its final dot. One that is cut off before is none.
async fn body(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut raw = String::new();
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == ".\r\n" {
            return Ok(raw);
        }
        raw.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}
