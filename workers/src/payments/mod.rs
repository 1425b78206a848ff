//! Payment providers, behind one trait: whoever holds a card's money answers for certain, or not at all.

mod misbehaviour;
mod sandbox;
mod stripe;
mod stripe_wire;

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{
    config::{ConfigError, Env},
    db::Db,
    payments::{Charge, PaymentsConfig, Provider, reconcile::StatementLine},
};
use futures::future::BoxFuture;

use crate::error::JobError;

pub use sandbox::Sandbox;
pub use stripe::Stripe;

/// What a provider made of a wish to set money aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorisation {
    /// Done, now or by an earlier request with the same key; with the provider's reference.
    Done(String),
    /// The customer has to approve it first; with what the customer's browser needs for that.
    ActionNeeded(String),
    /// Refused for good, and why.
    Declined(String),
    /// It may have been done or not: only the same key again, or a look-up, tells.
    Unknown(String),
}

/// What a provider made of any other request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done, now or by an earlier request with the same key; with the provider's reference.
    Done(String),
    /// Refused for good, and why.
    Declined(String),
    /// It may have been done or not: only the same key again, or a look-up, tells.
    Unknown(String),
}

/// What a provider knows under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The money is set aside, or taken; with the reference.
    Authorised(String),
    /// The customer has to approve it; with what the customer's browser needs for that.
    ActionNeeded(String),
    Declined(String),
    Voided,
    Nothing,
    /// It did not say.
    Unknown(String),
}

/// Money to be given back, under a key of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefundOrder {
    pub refund_key: String,
    /// The provider's reference of the charge.
    pub reference: String,
    pub amount: i64,
    pub charge: Charge,
}

/// A page of a provider's books, and where the next one begins, if there is one.
#[derive(Clone, Debug, Default)]
pub struct Statement {
    pub lines: Vec<StatementLine>,
    pub next: Option<String>,
}

/// A provider. Every request may be repeated: one key is one charge, or one refund.
pub trait Gateway: Send + Sync {
    /// Sets money aside.
    fn authorise<'a>(&'a self, charge: &'a Charge) -> BoxFuture<'a, Authorisation>;
    /// Takes what is set aside, in full.
    fn capture<'a>(&'a self, charge: &'a Charge) -> BoxFuture<'a, Outcome>;
    /// Lets go of what is set aside; afterwards nothing can be taken under this key, even if nothing was known of
    /// it. Declined: it is taken already.
    fn void<'a>(&'a self, charge: &'a Charge) -> BoxFuture<'a, Outcome>;
    /// Gives back money that was taken.
    fn refund<'a>(&'a self, refund: &'a RefundOrder) -> BoxFuture<'a, Outcome>;
    /// What has become of a charge.
    fn look_up<'a>(&'a self, charge: &'a Charge) -> BoxFuture<'a, Found>;
    /// What its books say of our charges since then, a page at a time. An error: it did not say.
    fn statement(
        &self,
        since: DateTime<Utc>,
        after: Option<String>,
    ) -> BoxFuture<'_, Result<Statement, String>>;
}

/// The provider that is configured. Cheap to clone.
#[derive(Clone)]
pub struct Gateways {
    sandbox: Option<Sandbox>,
    stripe: Option<Stripe>,
    /// How long seats wait for a customer who has to approve the payment.
    pub action_patience: Duration,
}

impl Gateways {
    /// Reads `EVENTLY_PAYMENTS` and what its provider needs. Call it inside a runtime.
    pub fn from_env(env: &Env, db: &Db) -> Result<Self, ConfigError> {
        let config = PaymentsConfig::from_env(env)?;
        Ok(Self {
            sandbox: (config.provider == Provider::Sandbox).then(|| Sandbox::new(db)),
            stripe: config.stripe.as_ref().map(|stripe| Stripe::new(db, stripe)).transpose()?,
            action_patience: config.action_patience,
        })
    }

    /// The provider of this name, if it is configured.
    pub fn get(&self, provider: &str) -> Option<&dyn Gateway> {
        match provider {
            "sandbox" => self.sandbox.as_ref().map(|sandbox| sandbox as &dyn Gateway),
            "stripe" => self.stripe.as_ref().map(|stripe| stripe as &dyn Gateway),
            _ => None,
        }
    }

    /// Those that are configured, by name.
    pub fn all(&self) -> Vec<(&'static str, &dyn Gateway)> {
        ["sandbox", "stripe"].into_iter().filter_map(|name| Some((name, self.get(name)?))).collect()
    }
}

/// The provider of a payment that is under way; a job whose provider is switched off waits for it.
pub fn of<'g>(gateways: &'g Gateways, provider: &str) -> Result<&'g dyn Gateway, JobError> {
    gateways.get(provider).ok_or_else(|| JobError::retry(format!("{provider} is not configured")))
}

/// Sets money aside and, when the answer is lost, finds out once what became of it.
pub async fn authorise(gateway: &dyn Gateway, charge: &Charge) -> Authorisation {
    let outcome = gateway.authorise(charge).await;
    let Authorisation::Unknown(reason) = outcome else { return outcome };
    match gateway.look_up(charge).await {
        Found::Authorised(reference) => Authorisation::Done(reference),
        Found::ActionNeeded(secret) => Authorisation::ActionNeeded(secret),
        Found::Declined(reason) => Authorisation::Declined(reason),
        Found::Voided => Authorisation::Declined("voided".to_owned()),
        // Its request may be on its way yet: the next attempt asks with the same key.
        Found::Nothing => Authorisation::Unknown(reason),
        Found::Unknown(reason) => Authorisation::Unknown(reason),
    }
}
