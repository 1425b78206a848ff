//! The sandbox provider: moves no money, keeps real books, and misbehaves when its token asks for it.
//!
//! `tok_ok` is charged; `tok_declined` is not; of `tok_timeout` the charge is entered and the answer lost;
//! `tok_slow` takes its time. Any other token is no card, which is declined as well.

use std::time::Duration;

use domain::{
    db::Db,
    payments::{
        Charge,
        sandbox_ledger::{self as ledger, Entry},
    },
};
use futures::future::BoxFuture;

use super::{Found, Gateway, Outcome, RefundOrder};
use crate::confirm::batcher::Batcher;

/// How long a caller waits for an answer that was lost.
const LOST_AFTER: Duration = Duration::from_secs(1);
/// How long the slow one takes.
const SLOW: Duration = Duration::from_secs(3);

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
            enter: Batcher::start("sandbox_authorise", move |charges| {
                let db = entering.clone();
                Box::pin(async move { ledger::enter(&db, &charges).await })
            }),
            capture: Batcher::start("sandbox_capture", move |keys| {
                let db = capturing.clone();
                Box::pin(async move { ledger::capture(&db, &keys).await })
            }),
        }
    }

    async fn enter(&self, charge: &Charge) -> Outcome {
        let accepted = matches!(charge.token.as_str(), "tok_ok" | "tok_timeout" | "tok_slow");
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
}

impl Gateway for Sandbox {
    fn authorise<'a>(&'a self, charge: &'a Charge) -> BoxFuture<'a, Outcome> {
        Box::pin(self.enter(charge))
    }

    fn capture<'a>(&'a self, charge: &'a Charge) -> BoxFuture<'a, Outcome> {
        Box::pin(async {
            match self.capture.call(charge.provider_key.clone()).await {
                Ok(Some(entry)) if entry.status == "captured" => Outcome::Done(entry.reference),
                Ok(Some(entry)) => Outcome::Declined(entry.status),
                Ok(None) => Outcome::Declined("no such charge".to_owned()),
                Err(error) => Outcome::Unknown(error.reason),
            }
        })
    }

    fn void<'a>(&'a self, charge: &'a Charge) -> BoxFuture<'a, Outcome> {
        Box::pin(async {
            match ledger::void(&self.db, charge).await {
                Ok(entry) if entry.status == "captured" => Outcome::Declined(entry.status),
                Ok(entry) => Outcome::Done(entry.reference),
                Err(fault) => Outcome::Unknown(fault.to_string()),
            }
        })
    }

    fn refund<'a>(&'a self, refund: &'a RefundOrder) -> BoxFuture<'a, Outcome> {
        Box::pin(async {
            match ledger::refund(&self.db, &refund.refund_key, &refund.reference, refund.amount).await {
                Ok(true) => Outcome::Done(refund.reference.clone()),
                Ok(false) => Outcome::Declined("not captured, or less is left".to_owned()),
                Err(fault) => Outcome::Unknown(fault.to_string()),
            }
        })
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
}
