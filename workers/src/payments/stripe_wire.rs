//! Stripe's API as far as it is needed, over the HTTP client that telemetry uses: requests as forms, answers as the few
//! fields that count.
//!
//! The client crates for Stripe bring its whole generated model, minutes of compile time, for five calls.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use domain::payments::StripeConfig;
use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use url::form_urlencoded::Serializer;

/// The version whose fields are read here.
const VERSION: &str = "2024-06-20";
/// How long one request may take. A charge that takes longer is looked up, while its job waits.
const TIMEOUT: Duration = Duration::from_secs(6);
/// An answer has at most this many bytes: a page of a hundred payments.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Parts of a form, or of a query.
pub(super) type Fields<'a> = &'a [(&'a str, &'a str)];

/// What did not come of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WireError {
    /// Stripe understood, and says no. `declined`: the card's issuer does.
    Refused { status: u16, code: String, declined: bool },
    /// It may have been done or not.
    Unknown(String),
}

impl WireError {
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Refused { status, code, .. } => format!("{status} {code}"),
            Self::Unknown(reason) => reason.clone(),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Intent {
    pub id: String,
    pub status: String,
    pub amount: i64,
    #[serde(default)]
    pub client_secret: Option<String>,
    #[serde(default)]
    pub last_payment_error: Option<PaymentError>,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    #[serde(default)]
    pub created: i64,
    /// Whole where it was asked for, else its id.
    #[serde(default)]
    pub latest_charge: Value,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct PaymentError {
    #[serde(default)]
    pub code: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Refund {
    pub id: String,
    pub status: Option<String>,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Page<T> {
    pub data: Vec<T>,
    #[serde(default)]
    pub has_more: bool,
}

#[derive(Deserialize)]
struct Failure {
    error: FailureBody,
}

#[derive(Default, Deserialize)]
struct FailureBody {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    code: Option<String>,
}

/// The connection. Cheap to clone.
#[derive(Clone)]
pub(super) struct Wire {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    secret: SecretString,
}

impl Wire {
    pub(super) fn new(config: &StripeConfig) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(Duration::from_secs(3)));
        let connector = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(32)
            // A request that may have arrived is never sent again behind our back.
            .retry_canceled_requests(false)
            .build(connector);
        Self { client, base: format!("{}/v1/", config.api_url), secret: config.secret_key.clone() }
    }

    /// Reads something.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: Fields<'_>,
    ) -> Result<T, WireError> {
        let query = form(query);
        let mark = if query.is_empty() { "" } else { "?" };
        self.send(Method::GET, &format!("{path}{mark}{query}"), None, String::new()).await
    }

    /// Does something, once under its key.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
        fields: Fields<'_>,
    ) -> Result<T, WireError> {
        self.send(Method::POST, path, Some(key), form(fields)).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: String,
    ) -> Result<T, WireError> {
        let unknown = |error: &dyn std::fmt::Display| WireError::Unknown(error.to_string());
        // Both were checked when they were read, and a form is ASCII.
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", self.secret.expose_secret()))
            .map_err(|error| unknown(&error))?;
        bearer.set_sensitive(true);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::AUTHORIZATION, bearer)
            .header(header::USER_AGENT, concat!("evently/", env!("CARGO_PKG_VERSION")))
            .header("stripe-version", VERSION);
        if let Some(key) = key {
            request = request
                .header("idempotency-key", key)
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        let request = request.body(Full::from(body)).map_err(|error| unknown(&error))?;
        let exchange = async {
            let answer = self.client.request(request).await.map_err(|error| unknown(&error))?;
            let status = answer.status().as_u16();
            let bytes = Limited::new(answer.into_body(), MOST_BYTES).collect().await;
            Ok::<_, WireError>((status, bytes.map_err(|error| unknown(&error))?.to_bytes()))
        };
        let (status, bytes) = tokio::time::timeout(TIMEOUT, exchange)
            .await
            .map_err(|_| WireError::Unknown("no answer in time".to_owned()))??;
        read(status, &bytes)
    }
}

fn read<T: DeserializeOwned>(status: u16, bytes: &[u8]) -> Result<T, WireError> {
    match status {
        200..=299 => serde_json::from_slice(bytes).map_err(|error| WireError::Unknown(error.to_string())),
        // A key of ours that is not good, somebody who does the same at this moment, too many, or a defect there:
        // none of them is the customer's, and none lasts.
        401 | 403 | 409 | 424 | 429 | 500.. => Err(WireError::Unknown(format!("it answered {status}"))),
        _ => {
            let error =
                serde_json::from_slice::<Failure>(bytes).map(|failure| failure.error).unwrap_or_default();
            let declined = status == 402 || error.kind.as_deref() == Some("card_error");
            let code = error.code.or(error.kind).unwrap_or_else(|| "refused".to_owned());
            Err(WireError::Refused { status, code, declined })
        }
    }
}

fn form(fields: Fields<'_>) -> String {
    let mut form = Serializer::new(String::new());
    form.extend_pairs(fields);
    form.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_refusal_only_where_repeating_is_no_use() {
        let declined = br#"{"error": {"type": "card_error", "code": "card_declined"}}"#;
        let refused = WireError::Refused { status: 402, code: "card_declined".to_owned(), declined: true };
        assert_eq!(read::<Intent>(402, declined).err(), Some(refused));
        for status in [401, 409, 429, 500, 503] {
            assert!(matches!(read::<Intent>(status, b"{}"), Err(WireError::Unknown(_))), "{status}");
        }
        assert!(matches!(read::<Intent>(404, b"no JSON"), Err(WireError::Refused { status: 404, .. })));
        assert!(matches!(read::<Intent>(200, b"{"), Err(WireError::Unknown(_))));
    }

    #[test]
    fn brackets_of_a_form_are_escaped() {
        assert_eq!(form(&[("metadata[a]", "x y"), ("b", "ä")]), "metadata%5Ba%5D=x+y&b=%C3%A4");
    }
}
