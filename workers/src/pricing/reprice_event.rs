//! Evaluates the prices of one event at a time at which they are due, and tells Redis and the caches of new ones.
//!
//! Enqueued by `find_due_prices`. A second run finds the evaluation done and only tells again: whoever did it may not
//! have lived to.

use std::time::Duration;

use domain::{
    inventory::{SyncError, sync_event},
    jobs::RepriceEvent,
    kill_point::kill_point,
    pricing::{self, Evaluated, Moved},
};

use crate::{
    context::Context,
    error::JobError,
    runtime::{Backoff, Policy},
};

/// For about as long as it stays due: after an hour it is due anew.
pub const POLICY: Policy = Policy {
    attempts: 120,
    timeout: Duration::from_secs(15),
    backoff: Backoff::exponential(Duration::from_millis(500), Duration::from_secs(30)),
};

pub async fn run(job: RepriceEvent, ctx: &Context) -> Result<(), JobError> {
    let event_id = job.event_id;
    let evaluated = match pricing::evaluate(&ctx.db, &ctx.inventory, event_id, job.due_second).await {
        Ok(evaluated) => evaluated,
        // A draft that was deleted: its rules went with it.
        Err(SyncError::UnknownEvent) => Evaluated::NotDue,
        Err(error) => return Err(retry(error)),
    };
    count(&evaluated);
    let Some(version) = evaluated.to_tell() else { return Ok(()) };
    if matches!(evaluated, Evaluated::Done { .. }) {
        tracing::info!(%event_id, version, "moved prices");
    }
    sync_event(&ctx.inventory, &ctx.db, event_id, false).await.map_err(retry)?;
    kill_point("reprice.synced");
    ctx.announcements.changed(&[(event_id, version)]).await?;
    kill_point("reprice.announced");
    Ok(())
}

fn retry(error: SyncError) -> JobError {
    match error {
        SyncError::Fault(fault) => fault.into(),
        other => JobError::retry(other),
    }
}

fn count(evaluated: &Evaluated) {
    let (outcome, kinds): (_, &[Moved]) = match evaluated {
        Evaluated::Done { kinds, .. } if evaluated.to_tell().is_some() => ("changed", kinds),
        Evaluated::Done { kinds, .. } => ("unchanged", kinds),
        Evaluated::Repeated { .. } => ("repeated", &[]),
        Evaluated::NotOnSale => ("not_on_sale", &[]),
        Evaluated::NotDue => ("not_due", &[]),
    };
    metrics::counter!("evently_price_evaluations_total", "outcome" => outcome).increment(1);
    for kind in kinds {
        if kind.from != kind.to {
            let direction = if kind.to > kind.from { "up" } else { "down" };
            metrics::counter!("evently_price_changes_total", "direction" => direction).increment(1);
        }
        for limit in &kind.limited_by {
            metrics::counter!("evently_price_limits_total", "limit" => limit.name()).increment(1);
        }
    }
}
