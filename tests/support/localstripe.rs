//! A Stripe to test against: localstripe from `PyPI`, installed when it is first needed, one process a test.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    time::Duration,
};

use evently::launch::command::dependent;
use serde_json::Value;

use super::{children, localstripe_install};

/// Listens where a port is free and says which one; keeps nothing on the disk.
const SERVE: &str = r"
import socket, sys
from aiohttp import web
from localstripe import resources, server
resources.Store.dump_to_disk = lambda self: None
listener = socket.socket()
listener.bind(('127.0.0.1', 0))
print(listener.getsockname()[1], flush=True)
web.run_app(server.app, sock=listener, access_log=None, print=None)
";

/// The secret key that tests use.
pub const SECRET_KEY: &str = "sk_test_evently";

/// A running server, empty at first.
pub struct Localstripe {
    url: String,
    client: reqwest::Client,
    process: Child,
}

impl Localstripe {
    pub async fn start() -> Self {
        let python = tokio::task::spawn_blocking(localstripe_install::python).await.unwrap();
        let python = python.unwrap_or_else(|why| panic!("{why}"));
        let mut command = dependent(python, "KILL");
        command.args(["-c", SERVE]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = children::spawn(command);
        let stdout = process.stdout.take().unwrap();
        let port = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).unwrap();
            line.trim().parse::<u16>().expect("localstripe says its port")
        });
        let url = format!("http://127.0.0.1:{}", port.await.unwrap());
        let localstripe = Self { url, client: reqwest::Client::new(), process };
        for _ in 0..600 {
            if localstripe.client.get(format!("{}/v1/refunds", localstripe.url)).send().await.is_ok() {
                return localstripe;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("localstripe does not answer");
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// What is at this path.
    pub async fn get(&self, path: &str) -> Value {
        let call = self.client.get(format!("{}/v1/{path}", self.url)).bearer_auth(SECRET_KEY);
        call.send().await.unwrap().json().await.unwrap()
    }

    /// Does something with this form.
    pub async fn post(&self, path: &str, form: &'static str) -> Value {
        self.post_form(path, form.to_owned()).await
    }

    pub async fn post_form(&self, path: &str, form: String) -> Value {
        let call = self
            .client
            .post(format!("{}/v1/{path}", self.url))
            .bearer_auth(SECRET_KEY)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        let answer = call.send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    }

    /// A card with this number, as its customer's browser would have made it.
    pub async fn card(&self, number: &str) -> String {
        let form =
            format!("type=card&card[number]={number}&card[exp_month]=12&card[exp_year]=2040&card[cvc]=123");
        self.post_form("payment_methods", form).await["id"].as_str().unwrap().to_owned()
    }

    /// Every payment intent there is.
    pub async fn intents(&self) -> Vec<Value> {
        self.get("payment_intents?limit=1000").await["data"].as_array().unwrap().clone()
    }

    /// The customer approves a payment, or does not.
    pub async fn authenticate(&self, intent: &str, client_secret: &str, success: bool) -> Value {
        let form = format!("client_secret={client_secret}&success={success}");
        self.post_form(&format!("payment_intents/{intent}/_authenticate"), form).await
    }
}

impl Drop for Localstripe {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
