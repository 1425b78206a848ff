//! The sandbox provider: moves no money, keeps real books, and misbehaves when its token asks for it.
//!
//! `tok_ok` is charged; `tok_declined` is not; of `tok_timeout` the charge is entered and the answer lost;
//! `tok_slow` takes its time; what else can go wrong, tokens say as in `misbehaviour.rs`. Any other token is no card,
//! which is declined as well.

use chrono::{DateTime, Utc};
use domain::{
    batch::Batcher,
    db::Db,
    payments::{
        Charge,
        sandbox_ledger::{self as ledger, Entry},
    },
};
use futures::future::BoxFuture;

use super::{
    Authorisation, Found, Gateway, Outcome, RefundOrder, Statement,
    misbehaviour::{self, Effect, LOST_AFTER, SLOW},
};
use crate::confirm::line::LIMITS;

/// Lines of a page of its books.
const PAGE: i64 = 1_000;

/// Its books are in Postgres; requests that come together are entered together. Cheap to clone.
#[derive(Clone)]
pub struct Sandbox {
    db: Db,
    enter: Batcher<(Charge, bool), Option<Entry>>,
    capture: Batcher<String, Option<Entry>>,
}

impl Sandbox {
    /// Call it inside a runtime.
    pub fn new(db: &Db) -> Self {
        let (entering, capturing) = (db.clone(), db.clone());
        Self {
            db: db.clone(),
            enter: Batcher::start("sandbox_authorise", LIMITS, move |charges| {
                let db = entering.clone();
                Box::pin(async move { ledger::enter(&db, &charges).await })
            }),
            capture: Batcher::start("sandbox_capture", LIMITS, move |keys| {
                let db = capturing.clone();
                Box::pin(async move { ledger::capture(&db, &keys).await })
            }),
        }
    }

    async fn enter(&self, charge: &Charge) -> Outcome {
        let token = charge.token.as_str();
        let accepted =
            matches!(token, "tok_ok" | "tok_timeout" | "tok_slow") || misbehaviour::is_charged(token);
        let entry = match self.enter.call((charge.clone(), accepted)).await {
            Ok(Some(entry)) => entry,
            Ok(None) => return Outcome::Unknown("the entry was not found".to_owned()),
            Err(error) => return Outcome::Unknown(error.reason),
        };
        match charge.token.as_str() {
            "tok_timeout" if entry.fresh => {
                tokio::time::sleep(LOST_AFTER).await;
                return Outcome::Unknown("no answer in time".to_owned());
            }
            "tok_slow" if entry.fresh => tokio::time::sleep(SLOW).await,
            _ => {}
        }
        match entry.status.as_str() {
            "authorised" | "captured" => Outcome::Done(entry.reference),
            "voided" => Outcome::Declined("voided".to_owned()),
            _ => Outcome::Declined("card-declined".to_owned()),
        }
    }

    /// Does something for a charge, or what its token asks for in its place.
    async fn misbehaving(
        &self,
        charge: &Charge,
        operation: &str,
        act: impl Future<Output = Outcome> + Send,
    ) -> Outcome {
        let Some((effect, times)) = misbehaviour::asked(&charge.token, operation) else { return act.await };
        match ledger::misbehaves(&self.db, &charge.provider_key, operation, times).await {
            Ok(false) => return act.await,
            Ok(true) => {}
            Err(fault) => return Outcome::Unknown(fault.to_string()),
        }
        match effect {
            Effect::Fail => Outcome::Unknown("it fails, as it was asked to".to_owned()),
            Effect::Refuse => Outcome::Declined("it refuses, as it was asked to".to_owned()),
            Effect::Slow => {
                let outcome = act.await;
                tokio::time::sleep(SLOW).await;
                outcome
            }
            Effect::Lose => {
                act.await;
                tokio::time::sleep(LOST_AFTER).await;
                Outcome::Unknown("no answer in time".to_owned())
            }
        }
    }

    async fn take(&self, charge: &Charge) -> Outcome {
        match self.capture.call(charge.provider_key.clone()).await {
            Ok(Some(entry)) if entry.status == "captured" => Outcome::Done(entry.reference),
            Ok(Some(entry)) => Outcome::Declined(entry.status),
            Ok(None) => Outcome::Declined("no such charge".to_owned()),
            Err(error) => Outcome::Unknown(error.reason),
        }
    }

    async fn let_go(&self, charge: &Charge) -> Outcome {
        match ledger::void(&self.db, charge).await {
            Ok(entry) if entry.status == "captured" => Outcome::Declined(entry.status),
            Ok(entry) => Outcome::Done(entry.reference),
            Err(fault) => Outcome::Unknown(fault.to_string()),
        }
    }

    async fn give_back(&self, refund: &RefundOrder) -> Outcome {
        match ledger::refund(&self.db, &refund.refund_key, &refund.reference, refund.amount).await {
            Ok(true) => Outcome::Done(refund.reference.clone()),
            Ok(false) => Outcome::Declined("not captured, or less is left".to_owned()),
            Err(fault) => Outcome::Unknown(fault.to_string()),
        }
    }
}

impl Gateway for Sandbox {
    fn authorise<'a>(&'a self, charge: &'a Charge) -> BoxFuture<'a, Authorisation> {
        Box::pin(async {
            match self.misbehaving(charge, "authorise", self.enter(charge)).await {
                Outcome::Done(reference) => Authorisation::Done(reference),
                Outcome::Declined(reason) => Authorisation::Declined(reason),
                Outcome::Unknown(reason) => Authorisation::Unknown(reason),
            }
        })
    }

    fn capture<'a>(&'a self, charge: &'a Charge) -> BoxFuture<'a, Outcome> {
        Box::pin(self.misbehaving(charge, "capture", self.take(charge)))
    }

    fn void<'a>(&'a self, charge: &'a Charge) -> BoxFuture<'a, Outcome> {
        Box::pin(self.misbehaving(charge, "void", self.let_go(charge)))
    }

    fn refund<'a>(&'a self, refund: &'a RefundOrder) -> BoxFuture<'a, Outcome> {
        Box::pin(self.misbehaving(&refund.charge, "refund", self.give_back(refund)))
    }

    fn look_up<'a>(&'a self, charge: &'a Charge) -> BoxFuture<'a, Found> {
        Box::pin(async {
            match ledger::find(&self.db, &charge.provider_key).await {
                Ok(None) => Found::Nothing,
                Ok(Some(entry)) => match entry.status.as_str() {
                    "authorised" | "captured" => Found::Authorised(entry.reference),
                    "voided" => Found::Voided,
                    _ => Found::Declined("card-declined".to_owned()),
                },
                Err(fault) => Found::Unknown(fault.to_string()),
            }
        })
    }

    fn statement(
        &self,
        since: DateTime<Utc>,
        after: Option<String>,
    ) -> BoxFuture<'_, Result<Statement, String>> {
        Box::pin(async move {
            let lines = ledger::statement(&self.db, since, after.as_deref(), PAGE)
                .await
                .map_err(|fault| fault.to_string())?;
            let full = i64::try_from(lines.len()).is_ok_and(|count| count == PAGE);
            let next = lines.last().filter(|_| full).map(|line| line.reference.clone());
            Ok(Statement { lines, next })
        })
    }
}
