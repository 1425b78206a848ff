//! Input that no well-behaved client sends: each gets its own status and code, as a problem.

use std::time::Duration;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::app::TestApp;

/// What came back for bytes written to a socket: the status, the head, the body.
struct Raw {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Raw {
    #[track_caller]
    fn expect_problem(&self, status: u16, code: &str) {
        let body = String::from_utf8_lossy(&self.body).into_owned();
        assert_eq!(self.status, status, "{}\n{body}", self.head);
        assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["trace_id"].as_str().map(str::len), Some(32), "{problem}");
    }
}

/// Writes all of it, even when the server answers in between, then reads to the end.
async fn send(app: &TestApp, bytes: &[u8]) -> Raw {
    let mut stream = TcpStream::connect(app.url.strip_prefix("http://").unwrap()).await.unwrap();
    let _ = stream.write_all(bytes).await;
    answer(&mut stream).await
}

async fn answer(stream: &mut TcpStream) -> Raw {
    let mut all = Vec::new();
    // Reset after the answer is as good as its end.
    let _ = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut all)).await.unwrap();
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer");
    let head = String::from_utf8_lossy(&all[..end]).to_ascii_lowercase();
    let status = head[9..12].parse().unwrap();
    Raw { status, head, body: all.split_off(end + 4) }
}

fn get(path: &[u8]) -> Vec<u8> {
    [b"GET ", path, b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"].concat()
}

const REGISTER: &str = "/v1/auth/register";

#[tokio::test]
async fn bodies_that_are_no_json_or_of_the_wrong_shape() {
    let app = TestApp::start().await;
    let deep = format!("{{\"email\":{}{}}}", "[".repeat(20_000), "]".repeat(20_000));
    let cases: [(&[u8], u16, &str); 15] = [
        (b"", 400, "malformed-json"),
        (b"{", 400, "malformed-json"),
        (b"{\"email\":1", 400, "malformed-json"),
        (b"{} {}", 400, "malformed-json"),
        (b"{'email':'x'}", 400, "malformed-json"),
        (b"{\"email\":\"\xff\xfe\"}", 400, "malformed-json"),
        (b"{\"email\":\"a\0\"}", 400, "malformed-json"),
        (b"null", 422, "validation-failed"),
        (b"[\"a@b.example\",\"long enough 12\",\"Ada\"]", 422, "validation-failed"),
        (b"{\"email\":1,\"password\":true,\"name\":[]}", 422, "validation-failed"),
        (b"{\"email\":\"a@b.example\"}", 422, "validation-failed"),
        (
            br#"{"email":"a@b.example","password":"long enough 12","name":"A\u0000"}"#,
            422,
            "validation-failed",
        ),
        (
            br#"{"email":"a@b.example","email":"c@d.example","password":"long enough 12","name":"A"}"#,
            422,
            "validation-failed",
        ),
        (
            br#"{"email":"a@b.example","password":"long enough 12","name":"A","role":"admin"}"#,
            422,
            "validation-failed",
        ),
        (deep.as_bytes(), 422, "validation-failed"),
    ];
    for (body, status, code) in cases {
        let post = app.call(reqwest::Method::POST, REGISTER).header("content-type", "application/json");
        let problem = post.body(body.to_vec()).await.expect_problem(status, code);
        if status == 422 {
            assert!(problem["errors"][0]["pointer"].is_string(), "{problem}");
        }
    }
}

#[tokio::test]
async fn media_types_and_sizes() {
    let app = TestApp::start().await;
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "application/xml", "json", "é"] {
        let post = app.call(reqwest::Method::POST, REGISTER).header("content-type", media_type).body("{}");
        post.await.expect_problem(415, "unsupported-media-type");
    }
    app.call(reqwest::Method::POST, REGISTER).body("{}").await.expect_problem(415, "unsupported-media-type");
    let packed = app.post(REGISTER, &serde_json::json!({})).header("content-encoding", "gzip");
    packed.await.expect_problem(415, "unsupported-media-type");
    let post =
        app.call(reqwest::Method::POST, REGISTER).header("content-type", "Application/JSON; charset=utf-8");
    post.body("{}").await.expect_problem(422, "validation-failed");

    let head = "POST /v1/auth/register HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let huge = vec![b' '; 3_000_000];
    let announced = format!("{head}Content-Length: {}\r\n\r\n", huge.len());
    send(&app, &[announced.as_bytes(), &huge].concat()).await.expect_problem(413, "too-large");
    let mut chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for chunk in huge.chunks(50_000) {
        chunked.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunked.extend(chunk);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    send(&app, &chunked).await.expect_problem(413, "too-large");
    let broken = format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\nnot a chunk\r\n\r\n");
    send(&app, broken.as_bytes()).await.expect_problem(400, "malformed-json");
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_begins_to_send_only_after_it() {
    let app = TestApp::start().await;
    let mut stream = TcpStream::connect(app.url.strip_prefix("http://").unwrap()).await.unwrap();
    let head = "POST /v1/auth/register HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    stream.write_all(format!("{head}Content-Length: 90000\r\n\r\n").as_bytes()).await.unwrap();
    stream.readable().await.unwrap();
    // The answer is out. Had the server closed behind it, the first part would be reset and the second fail.
    for _ in 0..2 {
        stream.write_all(&vec![b' '; 45_000]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let refusal = answer(&mut stream).await;
    refusal.expect_problem(413, "too-large");
    assert!(refusal.head.contains("connection: close"), "{}", refusal.head);
}

#[tokio::test]
async fn a_short_body_that_nobody_wants_costs_no_connection() {
    let app = TestApp::start().await;
    let refused = "POST /v1/auth/register HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: 5\r\n\r\n1,2,3";
    let both = send(&app, &[refused.as_bytes(), &get(b"/livez")].concat()).await;
    assert_eq!(both.status, 415, "{}", both.head);
    assert!(!both.head.contains("connection: close"), "{}", both.head);
    assert!(String::from_utf8_lossy(&both.body).contains("HTTP/1.1 200"), "no second answer");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let app = TestApp::start().await;
    let mut stream = TcpStream::connect(app.url.strip_prefix("http://").unwrap()).await.unwrap();
    let head = "POST /v1/auth/register HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n";
    stream.write_all(format!("{head}\r\n{{").as_bytes()).await.unwrap();
    answer(&mut stream).await.expect_problem(408, "request-timeout");
}

#[tokio::test]
async fn what_is_no_http_is_refused_like_everything_else() {
    let app = TestApp::start().await;
    let long = |bytes: usize| [b"/".as_slice(), &vec![b'a'; bytes]].concat();
    let with = |lines: &str| {
        format!("GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n\r\n").into_bytes()
    };
    let cases: [(Vec<u8>, u16, &str); 20] = [
        (get(b"/%00"), 400, "invalid-parameter"),
        (get(b"/problems/sold%00out"), 400, "invalid-parameter"),
        (get(b"/%zz"), 400, "invalid-parameter"),
        (get(b"/%ff"), 400, "invalid-parameter"),
        (get(b"/\xff"), 400, "malformed-request"),
        (get(b"/\0"), 400, "malformed-request"),
        (get(&long(9_000)), 414, "uri-too-long"),
        (get(&long(70_000)), 414, "uri-too-long"),
        (get(&long(700_000)), 431, "headers-too-large"),
        (with(&format!("A: {}", "a".repeat(40_000))), 431, "headers-too-large"),
        (with(&format!("A: {}", "a".repeat(400_000))), 431, "headers-too-large"),
        (with(&"A: a\r\n".repeat(150)), 431, "headers-too-large"),
        (with("A b: c"), 400, "malformed-request"),
        (with("A: \x01"), 400, "malformed-request"),
        (with("Content-Length: -1"), 400, "malformed-request"),
        (with("Content-Length: 1\r\nContent-Length: 2"), 400, "malformed-request"),
        (with("Host: y"), 400, "malformed-request"),
        (b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n".to_vec(), 400, "malformed-request"),
        (b"GET /livez HTTP/3.7\r\nHost: x\r\n\r\n".to_vec(), 400, "malformed-request"),
        (b"\x16\x03\x01 garbage\r\n\r\n".to_vec(), 400, "malformed-request"),
    ];
    for (bytes, status, code) in cases {
        send(&app, &bytes).await.expect_problem(status, code);
    }
    // None of it has hurt the process.
    app.get("/livez").await.expect(200);
}
