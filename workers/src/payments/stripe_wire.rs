//! Stripe's API as far as it is needed, by its client crate: what is asked, and of the answers the few fields that count.
//!
//! The answers' types are our own rather than the crate's generated ones: those insist on every field of one version of
//! the API, and a field that nobody reads here is no reason to not know what became of a charge.

use std::{collections::BTreeMap, time::Duration};

use domain::{config::ConfigError, payments::StripeConfig};
use miniserde::{Deserialize, json::Value};
use secrecy::ExposeSecret;
use stripe::{Client, ClientBuilder, IdempotencyKey, RequestStrategy, StripeError};
use stripe_client_core::{RequestBuilder, StripeMethod};
use url::form_urlencoded::Serializer;

/// How long one request may take. A charge that takes longer is looked up, while its job waits.
const TIMEOUT: Duration = Duration::from_secs(6);

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

#[derive(Debug, Deserialize)]
pub(super) struct Intent {
    pub id: String,
    pub status: String,
    pub amount: i64,
    pub client_secret: Option<String>,
    pub last_payment_error: Option<PaymentError>,
    pub metadata: Option<BTreeMap<String, String>>,
    /// Seconds since 1970.
    pub created: i64,
    /// Whole where it was asked for, else its id.
    pub latest_charge: Option<Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct PaymentError {
    pub code: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Refund {
    pub id: String,
    pub status: Option<String>,
    pub metadata: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Page<T> {
    pub data: Vec<T>,
    pub has_more: Option<bool>,
}

/// The connection. Cheap to clone.
#[derive(Clone)]
pub(super) struct Wire {
    client: Client,
}

impl Wire {
    /// Opens no connection.
    pub(super) fn new(config: &StripeConfig) -> Result<Self, ConfigError> {
        let client = ClientBuilder::new(config.secret_key.expose_secret())
            .url(format!("{}/", config.api_url))
            .timeout(TIMEOUT)
            .app_info("evently", Some(env!("CARGO_PKG_VERSION").to_owned()), None)
            .build()
            .map_err(|error| ConfigError { name: "STRIPE_API_URL", reason: error.to_string() })?;
        Ok(Self { client })
    }

    /// Reads something.
    pub(super) async fn get<T: Deserialize>(&self, path: &str, query: Fields<'_>) -> Result<T, WireError> {
        let mut request = RequestBuilder::new(StripeMethod::Get, path);
        request.query = (!query.is_empty()).then(|| form(query));
        Ok(request.customize().send(&self.client).await?)
    }

    /// Does something, once under its key, and asks once: whoever asks again knows first what became of it.
    pub(super) async fn post<T: Deserialize>(
        &self,
        path: &str,
        key: &str,
        fields: Fields<'_>,
    ) -> Result<T, WireError> {
        let key = IdempotencyKey::new(key).map_err(|error| WireError::Unknown(error.to_string()))?;
        let mut request = RequestBuilder::new(StripeMethod::Post, path);
        request.body = Some(form(fields));
        let request = request.customize().request_strategy(RequestStrategy::Idempotent(key));
        Ok(request.send(&self.client).await?)
    }
}

impl From<StripeError> for WireError {
    fn from(error: StripeError) -> Self {
        match error {
            // A key of ours that is not good, somebody who does the same at this moment, too many, or a defect there:
            // none of them is the customer's, and none lasts.
            StripeError::Stripe(_, status @ (401 | 403 | 409 | 424 | 429 | 500..)) => {
                Self::Unknown(format!("it answered {status}"))
            }
            StripeError::Stripe(error, status) => {
                let kind = error.type_.as_str();
                let declined = status == 402 || kind == "card_error";
                let code = error.code.as_ref().map_or(kind, |code| code.as_str()).to_owned();
                Self::Refused { status, code, declined }
            }
            other => Self::Unknown(other.to_string()),
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
    use miniserde::json;

    use super::*;

    fn answered(status: u16, kind: &str, code: &str) -> WireError {
        let body = format!(r#"{{"type": "{kind}", "code": "{code}", "surprise": 1}}"#);
        StripeError::Stripe(Box::new(json::from_str(&body).unwrap()), status).into()
    }

    #[test]
    fn an_answer_is_a_refusal_only_where_repeating_is_no_use() {
        let refused =
            |status, code: &str, declined| WireError::Refused { status, code: code.to_owned(), declined };
        assert_eq!(answered(402, "card_error", "card_declined"), refused(402, "card_declined", true));
        assert_eq!(
            answered(404, "invalid_request_error", "resource_missing"),
            refused(404, "resource_missing", false)
        );
        assert_eq!(answered(400, "invalid_request_error", "brand_new"), refused(400, "brand_new", false));
        for status in [401, 409, 429, 500, 503] {
            assert!(matches!(answered(status, "api_error", "x"), WireError::Unknown(_)), "{status}");
        }
        assert!(matches!(StripeError::Timeout.into(), WireError::Unknown(_)));
    }

    #[test]
    fn brackets_of_a_form_are_escaped() {
        assert_eq!(form(&[("metadata[a]", "x y"), ("b", "ä")]), "metadata%5Ba%5D=x+y&b=%C3%A4");
    }
}
