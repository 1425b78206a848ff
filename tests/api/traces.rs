//! Spans reach a collector, under the trace that the client named.

use std::{process::Command, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};

use crate::support::children;

/// Answers every export with an empty success, and hands its body on.
async fn collect(listener: TcpListener, bodies: mpsc::UnboundedSender<Vec<u8>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(receive(stream, bodies.clone()));
    }
}

async fn receive(mut stream: TcpStream, bodies: mpsc::UnboundedSender<Vec<u8>>) {
    let mut all = Vec::new();
    while stream.read_buf(&mut all).await.is_ok_and(|read| read > 0) {
        let Some(end) = all.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&all[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if all.len() < end + 4 + length.parse::<usize>().unwrap() {
            continue;
        }
        assert!(head.starts_with("post /v1/traces"), "{head}");
        let _ = bodies.send(all.split_off(end + 4));
        all.clear();
        let empty = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(empty).await.unwrap();
    }
}

fn holds(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn a_request_is_exported_under_its_callers_trace() {
    let collector = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let (sender, mut bodies) = mpsc::unbounded_channel();
    let collecting = tokio::spawn(collect(collector, sender));

    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_evently"));
    command
        .arg("api")
        .env_clear()
        .env("EVENTLY_HTTP_ADDR", address.to_string())
        .env("EVENTLY_METRICS_ADDR", "127.0.0.1:0")
        .env("EVENTLY_DATA_DIR", children::root().join("traces"))
        .env("EVENTLY_DRAIN_SECS", "0")
        // Neither is there: the API starts all the same.
        .env("DATABASE_URL", "postgres://127.0.0.1:1/none")
        .env("REDIS_URL", "redis://127.0.0.1:1")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_BSP_SCHEDULE_DELAY", "100");
    let mut process = children::spawn(command);

    let client = reqwest::Client::new();
    let ask = || {
        let request = client.get(format!("http://{address}/livez"));
        request.header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").send()
    };
    let mut tries = 0;
    while ask().await.is_err() {
        tries += 1;
        assert!(tries < 300, "the API does not answer");
        sleep(Duration::from_millis(100)).await;
    }

    let trace: [u8; 16] = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes();
    let parent: [u8; 8] = 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes();
    let exported = async {
        loop {
            let body = bodies.recv().await.unwrap();
            if holds(&body, &trace) && holds(&body, &parent) && holds(&body, b"GET /livez") {
                return;
            }
        }
    };
    timeout(Duration::from_secs(30), exported).await.expect("no span under the caller's trace");
    process.kill().unwrap();
    process.wait().unwrap();
    collecting.abort();
}
