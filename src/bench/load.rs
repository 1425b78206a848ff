//! The generator: many connections in a closed loop, on a thread and in a runtime of its own.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Barrier,
    task::JoinSet,
};

use super::{
    http::{Answer, Keyed},
    times::Times,
};

/// How long connecting, or one answer, may take: then something is broken.
const PATIENCE: Duration = Duration::from_mins(1);

/// What one connection asks, one request after the other.
pub(super) trait Client: Send + 'static {
    /// Writes the next request; `false` when there is none.
    fn ask(&mut self, out: &mut Vec<u8>) -> bool;
    /// Takes its answer.
    fn take(&mut self, answer: &Answer<'_>, took: Duration);
    /// What it counted.
    fn tally(&self) -> &Tally;
}

/// What clients count.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Whatever was to be done, done.
    pub(super) done: u64,
    /// How long each took.
    pub(super) times: Times,
    /// Answers of other statuses than the wanted one.
    pub(super) others: BTreeMap<u16, u64>,
}

impl Tally {
    fn counted(&self) -> u64 {
        self.done + self.others.values().sum::<u64>()
    }

    pub(super) fn count(&mut self, status: u16, wanted: u16, took: Duration) -> bool {
        if status == wanted {
            self.done += 1;
            self.times.add(took);
        } else {
            *self.others.entry(status).or_default() += 1;
        }
        status == wanted
    }
}

/// What came of a load.
pub(super) struct Load<C> {
    pub(super) clients: Vec<C>,
    /// From the first request to the last answer that counts.
    pub(super) took: Duration,
    pub(super) tally: Tally,
}

impl<C> Load<C> {
    pub(super) fn per_second(&self) -> f64 {
        self.tally.done as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// The statuses that were not wanted, for a note; empty when there were none.
    pub(super) fn others(&self) -> String {
        self.tally
            .others
            .iter()
            .map(|(status, count)| format!("{count} × {status}"))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Fails when nothing of what was to be done was done; says so when something else came besides.
    pub(super) fn checked(self, what: &str) -> anyhow::Result<Self> {
        if self.tally.done == 0 {
            bail!("{what}: none as wanted, others: {}", self.others());
        }
        if !self.tally.others.is_empty() {
            eprintln!("evently: {what}: {} as wanted, but also {}", self.tally.done, self.others());
        }
        Ok(self)
    }
}

/// Runs each client on a connection of its own until none has anything to ask or the time is over. All connect
/// first and begin together. Answers that come later than that count only where a client had none before.
pub(super) async fn run<C: Client>(
    address: SocketAddr,
    clients: Vec<C>,
    time: Duration,
) -> anyhow::Result<Load<C>> {
    let (sender, done) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("generator".to_owned()).spawn(move || {
        let load = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(all(address, clients, time))
        };
        // Nobody waits when the bench was interrupted.
        let _ = sender.send(load());
    })?;
    done.await.context("the generator panicked")?
}

async fn all<C: Client>(address: SocketAddr, clients: Vec<C>, time: Duration) -> anyhow::Result<Load<C>> {
    let barrier = Arc::new(Barrier::new(clients.len()));
    let mut connections = JoinSet::new();
    for client in clients {
        // One after the other: a burst of thousands would overflow the listener's backlog.
        let stream = tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        connections.spawn(one(stream, client, time, Arc::clone(&barrier)));
    }
    let (mut clients, mut tally) = (Vec::new(), Tally::default());
    let mut span: Option<(Instant, Instant)> = None;
    while let Some(ended) = connections.join_next().await {
        let (client, began, last) = ended.context("a connection panicked")??;
        span = Some(span.map_or((began, last), |(first, end)| (first.min(began), end.max(last))));
        let counted = client.tally();
        tally.done += counted.done;
        tally.times.append(&counted.times);
        counted.others.iter().for_each(|(status, n)| *tally.others.entry(*status).or_default() += n);
        clients.push(client);
    }
    let took = span.map_or(Duration::ZERO, |(first, end)| end - first);
    Ok(Load { clients, took, tally })
}

/// Answers when it began and when the last answer that counts was there.
async fn one<C: Client>(
    mut stream: TcpStream,
    mut client: C,
    time: Duration,
    barrier: Arc<Barrier>,
) -> anyhow::Result<(C, Instant, Instant)> {
    let (mut out, mut buffer) = (Vec::with_capacity(2048), Vec::with_capacity(16 * 1024));
    barrier.wait().await;
    let began = Instant::now();
    let mut last = began;
    while client.ask(&mut out) {
        let asked = Instant::now();
        if client.tally().counted() > 0 && asked - began >= time {
            break;
        }
        let length = tokio::time::timeout(PATIENCE, exchange(&mut stream, &out, &mut buffer))
            .await
            .context("no answer within a minute")??;
        out.clear();
        let now = Instant::now();
        if client.tally().counted() > 0 && now - began > time {
            break;
        }
        last = now;
        if let Ok(Some(answer)) = Answer::parse(&buffer) {
            client.take(&answer, now - asked);
        }
        buffer.drain(..length);
    }
    Ok((client, began, last))
}

/// Sends what is to be sent and reads until there is an answer; answers its length.
async fn exchange(stream: &mut TcpStream, out: &[u8], buffer: &mut Vec<u8>) -> anyhow::Result<usize> {
    stream.write_all(out).await?;
    loop {
        if stream.read_buf(buffer).await? == 0 {
            bail!("the server closed the connection");
        }
        if let Some(answer) = Answer::parse(buffer)? {
            return Ok(answer.length);
        }
    }
}

/// Asks the same few things over and over.
pub(super) struct Repeat {
    requests: Arc<[Vec<u8>]>,
    next: usize,
    step: usize,
    left: u64,
    wanted: u16,
    tally: Tally,
}

impl Repeat {
    /// So many connections over these requests, each beginning elsewhere.
    pub(super) fn many(connections: usize, requests: Vec<Vec<u8>>, wanted: u16) -> Vec<Self> {
        let requests: Arc<[Vec<u8>]> = requests.into();
        let client = |next| Self {
            requests: Arc::clone(&requests),
            next,
            step: 1,
            left: u64::MAX,
            wanted,
            tally: Tally::default(),
        };
        (0..connections).map(client).collect()
    }

    /// One connection a request, which asks it once.
    pub(super) fn once_each(requests: Vec<Vec<u8>>, wanted: u16) -> Vec<Self> {
        Self::shared(requests.len(), requests, wanted)
    }

    /// So many connections that share these requests, each of which is asked once.
    pub(super) fn shared(connections: usize, requests: Vec<Vec<u8>>, wanted: u16) -> Vec<Self> {
        let count = requests.len();
        let mut clients = Self::many(connections, requests, wanted);
        for client in &mut clients {
            client.step = connections;
            client.left = count.saturating_sub(client.next).div_ceil(connections) as u64;
        }
        clients
    }
}

impl Client for Repeat {
    fn ask(&mut self, out: &mut Vec<u8>) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        out.extend_from_slice(&self.requests[self.next % self.requests.len()]);
        self.next += self.step;
        true
    }

    fn take(&mut self, answer: &Answer<'_>, took: Duration) {
        self.tally.count(answer.status, self.wanted, took);
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }
}

/// Places holds, and books them if it is told to.
pub(super) struct Buyer {
    /// One for each user and event that this connection buys for, with the token and the event.
    baskets: Vec<(Keyed, String, String)>,
    next: usize,
    key: u64,
    books: bool,
    /// The hold that is to be confirmed next.
    held: Option<String>,
    /// The holds that it placed and did not book: event, hold and token, as many as are asked for.
    pub(super) placed: Vec<(String, String, String)>,
    keep: usize,
    tally: Tally,
}

impl Buyer {
    /// A buyer of these baskets, given as (event, ticket type, token). `number` is unlike every other's, in all runs.
    pub(super) fn new(baskets: impl IntoIterator<Item = (String, String, String)>, number: u64) -> Self {
        let basket = |(event, kind, token): (String, String, String)| {
            let body = format!(r#"{{"items":[{{"ticket_type_id":"{kind}","quantity":1}}]}}"#);
            (Keyed::post(&format!("/v1/events/{event}/holds"), &token, &body), token, event)
        };
        Self {
            baskets: baskets.into_iter().map(basket).collect(),
            next: 0,
            key: number << 32,
            books: false,
            held: None,
            placed: Vec::new(),
            keep: 0,
            tally: Tally::default(),
        }
    }

    /// Confirms what it holds; then only bookings count, and how long their confirms took.
    pub(super) fn booking(mut self) -> Self {
        self.books = true;
        self
    }

    /// Remembers so many of its holds.
    pub(super) fn keeping(mut self, holds: usize) -> Self {
        self.keep = holds;
        self
    }
}

impl Client for Buyer {
    fn ask(&mut self, out: &mut Vec<u8>) -> bool {
        let (basket, token, event) = &self.baskets[self.next % self.baskets.len()];
        if let Some(hold) = &self.held {
            let path = format!("/v1/events/{event}/holds/{hold}/confirm");
            let body = r#"{"payment":{"provider":"sandbox","token":"tok_ok"}}"#;
            out.extend_from_slice(&super::http::post(&path, token, "", body));
        } else {
            self.key += 1;
            basket.write(self.key, out);
        }
        true
    }

    fn take(&mut self, answer: &Answer<'_>, took: Duration) {
        if self.held.take().is_some() {
            self.tally.count(answer.status, 201, took);
            self.next += 1;
            return;
        }
        if self.books && answer.status == 201 {
            self.held = answer.text("id").map(str::to_owned);
            return;
        }
        if self.tally.count(answer.status, 201, took)
            && self.placed.len() < self.keep
            && let Some(hold) = answer.text("id")
        {
            let (_, token, event) = &self.baskets[self.next % self.baskets.len()];
            self.placed.push((event.clone(), hold.to_owned(), token.clone()));
        }
        self.next += 1;
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &'static str) -> Answer<'static> {
        Answer { status, body: body.as_bytes(), length: 0 }
    }

    #[test]
    fn what_is_shared_is_asked_once_each() {
        let requests: Vec<Vec<u8>> = (0..7).map(|n| vec![n]).collect();
        for connections in [1, 3, 7, 9] {
            let mut asked = Vec::new();
            for mut client in Repeat::shared(connections, requests.clone(), 201) {
                while client.ask(&mut asked) {}
            }
            asked.sort_unstable();
            assert_eq!(asked, [0, 1, 2, 3, 4, 5, 6], "{connections}");
        }
    }

    #[test]
    fn a_buyer_confirms_what_it_holds_and_counts_bookings_only() {
        let basket = ("E".to_owned(), "T".to_owned(), "tok".to_owned());
        let mut buyer = Buyer::new([basket], 1).booking();
        let asked = |buyer: &mut Buyer| {
            let mut out = Vec::new();
            assert!(buyer.ask(&mut out));
            String::from_utf8(out).unwrap()
        };
        assert!(asked(&mut buyer).starts_with("POST /v1/events/E/holds HTTP"));
        buyer.take(&answer(201, r#"{"id":"H"}"#), Duration::ZERO);
        assert!(asked(&mut buyer).starts_with("POST /v1/events/E/holds/H/confirm HTTP"));
        assert_eq!(buyer.tally().done, 0);
        buyer.take(&answer(201, "{}"), Duration::ZERO);
        assert_eq!(buyer.tally().done, 1);
        asked(&mut buyer);
        buyer.take(&answer(409, "{}"), Duration::ZERO);
        assert_eq!((buyer.tally().done, buyer.tally().others[&409]), (1, 1));
        assert!(asked(&mut buyer).starts_with("POST /v1/events/E/holds HTTP"));
    }
}
