//! What stands between Evently and localstripe: honours `Idempotency-Key` as Stripe does, and lets things go wrong.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It is not done: 500.
    Fails,
    /// It is done, and the connection breaks off.
    LosesAnswer,
    /// It does not arrive.
    NeverArrives,
    /// It is done and answered, late.
    IsSlow(Duration),
}

/// Status and body of an answer.
type Given = (u16, Vec<u8>);

#[derive(Default)]
struct State {
    /// Path and body of the first request with a key, and its answer once there is one.
    answers: HashMap<String, (String, Option<Given>)>,
    faults: Vec<(&'static str, Wrong, u32)>,
    requests: Vec<String>,
}

/// Listens until it is dropped.
pub struct StripeProxy {
    url: String,
    state: Arc<Mutex<State>>,
    serving: JoinHandle<()>,
}

impl StripeProxy {
    pub async fn before(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (state, upstream, client) =
            (Arc::<Mutex<State>>::default(), upstream.to_owned(), reqwest::Client::new());
        let shared = Arc::clone(&state);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, upstream, client) = (Arc::clone(&shared), upstream.clone(), client.clone());
                // A client that goes away is no concern of the test.
                tokio::spawn(async move { serve(stream, &state, &upstream, &client).await });
            }
        });
        Self { url, state, serving }
    }

    /// `STRIPE_API_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The next `times` requests whose `METHOD /path` ends so go wrong.
    pub fn goes_wrong(&self, request: &'static str, wrong: Wrong, times: u32) {
        self.state.lock().unwrap().faults.push((request, wrong, times));
    }

    /// Every request that arrived, as `METHOD /path key`.
    pub fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }
}

impl Drop for StripeProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Request {
    method: String,
    path: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ').map(str::to_owned);
    let headers: HashMap<_, _> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Request { method: words.next()?, path: words.next()?, headers, body })
}

async fn serve(mut stream: TcpStream, state: &Mutex<State>, upstream: &str, client: &reqwest::Client) {
    while let Some(request) = read(&mut stream).await {
        let key = request.headers.get("idempotency-key").cloned();
        let wrong = note(state, &request, key.as_deref());
        let answer = match wrong {
            Some(Wrong::NeverArrives) => return,
            Some(Wrong::Fails) => (500, br#"{"error": {"type": "api_error"}}"#.to_vec()),
            Some(Wrong::IsSlow(time)) => {
                let answer = once(state, &request, key, upstream, client).await;
                tokio::time::sleep(time).await;
                answer
            }
            Some(Wrong::LosesAnswer) => {
                once(state, &request, key, upstream, client).await;
                return;
            }
            None => once(state, &request, key, upstream, client).await,
        };
        let head = format!(
            "HTTP/1.1 {} .\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.0,
            answer.1.len()
        );
        if stream.write_all(&[head.as_bytes(), &answer.1].concat()).await.is_err() {
            return;
        }
    }
}

/// Keeps the request, and finds out what is to go wrong with it.
fn note(state: &Mutex<State>, request: &Request, key: Option<&str>) -> Option<Wrong> {
    let mut state = state.lock().unwrap();
    let line = format!("{} {}", request.method, request.path);
    state.requests.push(format!("{line} {}", key.unwrap_or_default()));
    let fault = state.faults.iter_mut().find(|(end, _, times)| line.ends_with(end) && *times > 0)?;
    fault.2 -= 1;
    Some(fault.1)
}

/// The answer to a request: the first one again, if its key was used before.
async fn once(
    state: &Mutex<State>,
    request: &Request,
    key: Option<String>,
    upstream: &str,
    client: &reqwest::Client,
) -> Given {
    let said = format!("{} {}", request.path, String::from_utf8_lossy(&request.body));
    if let Some(key) = &key {
        let mut state = state.lock().unwrap();
        match state.answers.get(key) {
            Some((first, _)) if *first != said => {
                return (400, br#"{"error": {"type": "idempotency_error"}}"#.to_vec());
            }
            Some((_, None)) => return (409, br#"{"error": {"type": "idempotency_error"}}"#.to_vec()),
            Some((_, Some(answer))) => return answer.clone(),
            None => state.answers.insert(key.clone(), (said.clone(), None)),
        };
    }
    let method = request.method.parse().unwrap();
    let mut call = client.request(method, format!("{upstream}{}", request.path)).body(request.body.clone());
    for name in ["authorization", "content-type"] {
        if let Some(value) = request.headers.get(name) {
            call = call.header(name, value);
        }
    }
    let answer = call.send().await.unwrap();
    let answer = (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec());
    if let Some(key) = key {
        state.lock().unwrap().answers.insert(key, (said, Some(answer.clone())));
    }
    answer
}
