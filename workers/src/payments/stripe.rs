//! Stripe: a payment intent an attempt, made before anything is charged and confirmed only once its id is kept.
//!
//! An intent is charged at most once, whatever happens: confirming, capturing and cancelling are transitions of its
//! state, so an answer that was lost is looked up and no request makes a second charge. Keys begin with the attempt's
//! key, which begins with the booking's id. Stripe keeps answers by key, failures too; those of transitions therefore
//! change every minute, so that a failure of Stripe's own does not come back for a day.

use chrono::{DateTime, Utc};
use domain::{
    clock,
    config::ConfigError,
    db::Db,
    payments::{
        Charge, StripeConfig, progress,
        reconcile::{Standing, StatementLine},
    },
};
use futures::future::BoxFuture;
use miniserde::json::{Number, Value};

use super::{
    Authorisation, Found, Gateway, Outcome, RefundOrder, Statement,
    stripe_wire::{Fields, Intent, Page, Refund, Wire, WireError},
};

/// Refunds of one charge that are looked through: there is one, unless somebody gave back by hand.
const MOST_REFUNDS: &str = "100";

/// Cheap to clone.
#[derive(Clone)]
pub struct Stripe {
    wire: Wire,
    db: Db,
}

impl Stripe {
    /// Opens no connection.
    pub fn new(db: &Db, config: &StripeConfig) -> Result<Self, ConfigError> {
        Ok(Self { wire: Wire::new(config)?, db: db.clone() })
    }

    async fn intent(&self, reference: &str) -> Result<Intent, WireError> {
        self.wire.get(&format!("/payment_intents/{reference}"), &[]).await
    }

    /// Moves an intent on. A second time changes nothing.
    async fn transition(&self, charge: &Charge, reference: &str, verb: &str) -> Result<Intent, WireError> {
        let minute = clock::now().timestamp() / 60;
        let key = format!("{}:{verb}:{minute}", charge.provider_key);
        self.wire.post(&format!("/payment_intents/{reference}/{verb}"), &key, &[]).await
    }

    /// The intent of an attempt, made if there is none yet: nothing is charged by that. Its id is kept before this
    /// answers.
    async fn made(&self, charge: &Charge) -> Result<String, WireError> {
        if let Some(reference) = &charge.reference {
            return Ok(reference.clone());
        }
        let (amount, booking_id) = (charge.amount.to_string(), charge.booking_id.to_string());
        let currency = charge.currency.to_ascii_lowercase();
        let fields: Fields<'_> = &[
            ("amount", &amount),
            ("currency", &currency),
            ("payment_method", &charge.token),
            ("payment_method_types[]", "card"),
            ("capture_method", "manual"),
            ("metadata[booking_id]", &booking_id),
            ("metadata[payment_key]", &charge.provider_key),
        ];
        let intent: Intent = self.wire.post("/payment_intents", &charge.provider_key, fields).await?;
        progress::note_reference(&self.db, &charge.provider_key, &intent.id)
            .await
            .map_err(|fault| WireError::Unknown(fault.to_string()))
    }

    async fn authorised(&self, charge: &Charge) -> Authorisation {
        let reference = match self.made(charge).await {
            Ok(reference) => reference,
            Err(WireError::Refused { code, .. }) => return Authorisation::Declined(code),
            Err(WireError::Unknown(reason)) => return Authorisation::Unknown(reason),
        };
        // What was made earlier may have gone further than we know.
        if charge.reference.is_some() {
            match self.intent(&reference).await {
                Ok(intent) if intent.status == "requires_confirmation" => {}
                Ok(intent) => return self.verdict(charge, intent).await,
                Err(error) => return Authorisation::Unknown(error.reason()),
            }
        }
        match self.transition(charge, &reference, "confirm").await {
            Ok(intent) => self.verdict(charge, intent).await,
            Err(WireError::Refused { code, declined: true, .. }) => {
                self.close(charge, &reference).await;
                Authorisation::Declined(code)
            }
            Err(error) => match self.intent(&reference).await {
                Ok(intent) if intent.status == "requires_confirmation" => match error {
                    WireError::Refused { code, .. } => {
                        self.close(charge, &reference).await;
                        Authorisation::Declined(code)
                    }
                    WireError::Unknown(reason) => Authorisation::Unknown(reason),
                },
                Ok(intent) => self.verdict(charge, intent).await,
                Err(_) => Authorisation::Unknown(error.reason()),
            },
        }
    }

    async fn verdict(&self, charge: &Charge, intent: Intent) -> Authorisation {
        let reference = intent.id.clone();
        match found(intent) {
            Found::Authorised(reference) => Authorisation::Done(reference),
            Found::ActionNeeded(secret) => Authorisation::ActionNeeded(secret),
            Found::Declined(code) => {
                self.close(charge, &reference).await;
                Authorisation::Declined(code)
            }
            Found::Voided => Authorisation::Declined("voided".to_owned()),
            Found::Nothing => Authorisation::Unknown("there is no such payment intent".to_owned()),
            Found::Unknown(reason) => Authorisation::Unknown(reason),
        }
    }

    /// A declined intent could be paid with another card by who has its secret: it is closed. Where that fails, the
    /// reconciliation finds what comes of it.
    async fn close(&self, charge: &Charge, reference: &str) {
        if let Err(error) = self.transition(charge, reference, "cancel").await {
            tracing::warn!(reference, error = error.reason(), "a declined payment intent stays open");
        }
    }

    async fn captured(&self, charge: &Charge) -> Outcome {
        let Some(reference) = &charge.reference else {
            return Outcome::Declined("no payment intent was made".to_owned());
        };
        let failed = match self.transition(charge, reference, "capture").await {
            Ok(intent) if intent.status == "succeeded" => return Outcome::Done(intent.id),
            Ok(intent) => format!("it is {}", intent.status),
            Err(error) => error.reason(),
        };
        match self.intent(reference).await {
            Ok(intent) => match intent.status.as_str() {
                "succeeded" => Outcome::Done(intent.id),
                "canceled" => Outcome::Declined("voided".to_owned()),
                _ => Outcome::Unknown(failed),
            },
            Err(_) => Outcome::Unknown(failed),
        }
    }

    async fn voided(&self, charge: &Charge) -> Outcome {
        // Whether there is one, only making it tells: what was made for this key comes back, or something that is
        // closed at once, before it can be charged.
        let reference = match self.made(charge).await {
            Ok(reference) => reference,
            // It does not exist and, for the same reason, never will.
            Err(WireError::Refused { .. }) => return Outcome::Done(charge.provider_key.clone()),
            Err(WireError::Unknown(reason)) => return Outcome::Unknown(reason),
        };
        let failed = match self.transition(charge, &reference, "cancel").await {
            Ok(intent) if intent.status == "canceled" => return Outcome::Done(intent.id),
            Ok(intent) => format!("it is {}", intent.status),
            Err(error) => error.reason(),
        };
        match self.intent(&reference).await {
            Ok(intent) => match intent.status.as_str() {
                "canceled" => Outcome::Done(intent.id),
                "succeeded" => Outcome::Declined("captured".to_owned()),
                _ => Outcome::Unknown(failed),
            },
            Err(_) => Outcome::Unknown(failed),
        }
    }

    /// The refund of this key, if there is one: keys are forgotten by Stripe after a day, what it did is not.
    async fn refund_of(&self, order: &RefundOrder) -> Result<Option<Refund>, WireError> {
        let query: Fields<'_> = &[("payment_intent", &order.reference), ("limit", MOST_REFUNDS)];
        let page: Page<Refund> = self.wire.get("/refunds", query).await?;
        let key = |refund: &Refund| refund.metadata.as_ref()?.get("refund_key").cloned();
        let ours = |refund: &Refund| key(refund).as_ref() == Some(&order.refund_key);
        Ok(page.data.into_iter().find(ours))
    }

    async fn refunded(&self, order: &RefundOrder) -> Outcome {
        match self.refund_of(order).await {
            Ok(Some(refund)) => return settled(refund),
            Ok(None) => {}
            Err(error) => return Outcome::Unknown(error.reason()),
        }
        let (amount, booking_id) = (order.amount.to_string(), order.charge.booking_id.to_string());
        let fields: Fields<'_> = &[
            ("payment_intent", &order.reference),
            ("amount", &amount),
            ("metadata[booking_id]", &booking_id),
            ("metadata[refund_key]", &order.refund_key),
        ];
        let key = format!("{booking_id}:refund:{}", order.refund_key);
        let error = match self.wire.post::<Refund>("/refunds", &key, fields).await {
            Ok(refund) => return settled(refund),
            Err(error) => error,
        };
        match (self.refund_of(order).await, error) {
            (Ok(Some(refund)), _) => settled(refund),
            (Ok(None), WireError::Refused { code, .. }) => Outcome::Declined(code),
            (_, error) => Outcome::Unknown(error.reason()),
        }
    }

    async fn page(&self, since: DateTime<Utc>, after: Option<String>) -> Result<Statement, WireError> {
        let mut query = vec![("limit", "100"), ("expand[]", "data.latest_charge")];
        query.extend(after.as_deref().map(|after| ("starting_after", after)));
        let page: Page<Intent> = self.wire.get("/payment_intents", &query).await?;
        // Newest first: behind one that is too old there is nothing more of interest.
        let old = |intent: &Intent| intent.created < since.timestamp();
        let more = page.has_more == Some(true) && !page.data.iter().any(old);
        let next = page.data.last().filter(|_| more).map(|intent| intent.id.clone());
        Ok(Statement { lines: page.data.into_iter().filter(|i| !old(i)).filter_map(line).collect(), next })
    }
}

/// What an intent's state says of its charge.
fn found(intent: Intent) -> Found {
    match intent.status.as_str() {
        "requires_capture" | "succeeded" => Found::Authorised(intent.id),
        "requires_action" => match intent.client_secret {
            Some(secret) => Found::ActionNeeded(secret),
            None => Found::Unknown("an action is needed, and its secret is missing".to_owned()),
        },
        "requires_payment_method" => {
            let code = intent.last_payment_error.and_then(|error| error.code);
            Found::Declined(code.unwrap_or_else(|| "card-declined".to_owned()))
        }
        "canceled" => Found::Voided,
        other => Found::Unknown(format!("it is {other}")),
    }
}

fn settled(refund: Refund) -> Outcome {
    match refund.status.as_deref() {
        Some("succeeded") | None => Outcome::Done(refund.id),
        Some(status @ ("failed" | "canceled")) => Outcome::Declined(status.to_owned()),
        Some(status) => Outcome::Unknown(format!("the refund is {status}")),
    }
}

/// A line of the books, if the intent is one of ours.
fn line(intent: Intent) -> Option<StatementLine> {
    let standing = match intent.status.as_str() {
        "requires_capture" => Standing::Authorised,
        "succeeded" => Standing::Captured,
        "canceled" => Standing::Voided,
        "requires_payment_method" => Standing::Declined,
        _ => Standing::Open,
    };
    Some(StatementLine {
        provider_key: intent.metadata.as_ref()?.get("payment_key")?.clone(),
        reference: intent.id,
        standing,
        amount: intent.amount,
        refunded: intent.latest_charge.as_ref().map_or(0, given_back),
        created_at: DateTime::from_timestamp(intent.created, 0)?,
    })
}

/// How much of a charge was given back; 0 where the books do not tell.
fn given_back(charge: &Value) -> i64 {
    let Value::Object(charge) = charge else { return 0 };
    match charge.get("amount_refunded") {
        Some(Value::Number(Number::I64(amount))) => *amount,
        Some(Value::Number(Number::U64(amount))) => i64::try_from(*amount).unwrap_or(i64::MAX),
        _ => 0,
    }
}

impl Gateway for Stripe {
    fn authorise<'a>(&'a self, charge: &'a Charge) -> BoxFuture<'a, Authorisation> {
        Box::pin(self.authorised(charge))
    }

    fn capture<'a>(&'a self, charge: &'a Charge) -> BoxFuture<'a, Outcome> {
        Box::pin(self.captured(charge))
    }

    fn void<'a>(&'a self, charge: &'a Charge) -> BoxFuture<'a, Outcome> {
        Box::pin(self.voided(charge))
    }

    fn refund<'a>(&'a self, refund: &'a RefundOrder) -> BoxFuture<'a, Outcome> {
        Box::pin(self.refunded(refund))
    }

    fn look_up<'a>(&'a self, charge: &'a Charge) -> BoxFuture<'a, Found> {
        Box::pin(async {
            let Some(reference) = &charge.reference else { return Found::Nothing };
            match self.intent(reference).await {
                Ok(intent) => found(intent),
                Err(error) => Found::Unknown(error.reason()),
            }
        })
    }

    fn statement(
        &self,
        since: DateTime<Utc>,
        after: Option<String>,
    ) -> BoxFuture<'_, Result<Statement, String>> {
        Box::pin(async move { self.page(since, after).await.map_err(|error| error.reason()) })
    }
}
