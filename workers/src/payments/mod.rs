//! Payment providers, behind one trait: whoever holds a card's money answers for certain, or not at all.

mod sandbox;

use domain::{
    config::{ConfigError, Env},
    db::Db,
    payments::Charge,
};
use futures::future::BoxFuture;

use crate::error::JobError;

pub use sandbox::Sandbox;

/// What a provider made of a request.
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
}

/// A provider. Every request may be repeated: one key is one charge, or one refund.
pub trait Gateway: Send + Sync {
    /// Sets money aside.
    fn authorise<'a>(&'a self, charge: &'a Charge) -> BoxFuture<'a, Outcome>;
    /// Takes what is set aside, in full.
    fn capture<'a>(&'a self, charge: &'a Charge) -> BoxFuture<'a, Outcome>;
    /// Lets go of what is set aside; afterwards nothing can be taken under this key, even if nothing was known of
    /// it. Declined: it is taken already.
    fn void<'a>(&'a self, charge: &'a Charge) -> BoxFuture<'a, Outcome>;
    /// Gives back money that was taken.
    fn refund<'a>(&'a self, refund: &'a RefundOrder) -> BoxFuture<'a, Outcome>;
    /// What has become of a charge.
    fn look_up<'a>(&'a self, charge: &'a Charge) -> BoxFuture<'a, Found>;
}

/// The providers that are configured. Cheap to clone.
#[derive(Clone)]
pub struct Gateways {
    sandbox: Option<Sandbox>,
}

impl Gateways {
    /// Reads `EVENTLY_PAYMENTS`. Call it inside a runtime.
    pub fn from_env(env: &Env, db: &Db) -> Result<Self, ConfigError> {
        match env.get("EVENTLY_PAYMENTS").unwrap_or("sandbox") {
            "sandbox" => Ok(Self { sandbox: Some(Sandbox::new(db)) }),
            other => Err(ConfigError {
                name: "EVENTLY_PAYMENTS",
                reason: format!("{other:?} is not available; sandbox is"),
            }),
        }
    }

    /// The provider of this name, if it is configured.
    pub fn get(&self, provider: &str) -> Option<&dyn Gateway> {
        match provider {
            "sandbox" => self.sandbox.as_ref().map(|sandbox| sandbox as &dyn Gateway),
            _ => None,
        }
    }
}

/// The provider of a payment that is under way; a job whose provider is switched off waits for it.
pub fn of<'g>(gateways: &'g Gateways, provider: &str) -> Result<&'g dyn Gateway, JobError> {
    gateways.get(provider).ok_or_else(|| JobError::retry(format!("{provider} is not configured")))
}

/// Sets money aside and, when the answer is lost, finds out once what became of it.
pub async fn authorise(gateway: &dyn Gateway, charge: &Charge) -> Outcome {
    let outcome = gateway.authorise(charge).await;
    let Outcome::Unknown(reason) = outcome else { return outcome };
    match gateway.look_up(charge).await {
        Found::Authorised(reference) => Outcome::Done(reference),
        Found::Declined(reason) => Outcome::Declined(reason),
        Found::Voided => Outcome::Declined("voided".to_owned()),
        // Its request may be on its way yet: the next attempt asks with the same key.
        Found::Nothing => Outcome::Unknown(reason),
        Found::Unknown(reason) => Outcome::Unknown(reason),
    }
}
