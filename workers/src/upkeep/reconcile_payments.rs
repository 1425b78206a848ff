//! Holds the provider's books against ours, and says what is orphaned; what is set aside for nothing is voided.

use std::{collections::HashSet, time::Duration};

use chrono::TimeDelta;
use domain::payments::reconcile::{self, Difference, DifferenceKind};
use futures::FutureExt;

use crate::{
    context::Context,
    error::JobError,
    payments::{Found, Gateway, Outcome},
    runtime::{Periodic, Report},
};

/// How far back it looks. What differs for longer has been found before, many times.
const WINDOW: TimeDelta = TimeDelta::days(3);
/// Pages of a provider's books, and of ours: what is beyond them, the log says.
const MOST_PAGES: usize = 5_000;
const PAGE: i64 = 1_000;
/// Payments that the provider has not named and is asked for one by one.
const MOST_LOOK_UPS: usize = 500;

/// Every hour: what is under way is cared for by others, much sooner.
pub const PERIODIC: Periodic = Periodic {
    name: "reconcile_payments",
    every: Duration::from_hours(1),
    timeout: Duration::from_mins(30),
    exclusive: true,
    run: |ctx| async move { run(&ctx).await }.boxed(),
};

async fn run(ctx: &Context) -> Result<Report, JobError> {
    let mut report = Report::default();
    for (provider, gateway) in ctx.gateways.all() {
        let (found, fixed) = reconcile_with(provider, gateway, ctx).await?;
        report.found += found;
        report.fixed += fixed;
    }
    Ok(report)
}

/// Answers how many differences there were, and how many of them are mended.
async fn reconcile_with(
    provider: &'static str,
    gateway: &dyn Gateway,
    ctx: &Context,
) -> Result<(u64, u64), JobError> {
    let begun = reconcile::begin(&ctx.db).await?;
    let since = begun - WINDOW;
    let (mut named, mut kept, mut fixed) = (HashSet::new(), Vec::new(), 0);
    let mut after = None;
    for _ in 0..MOST_PAGES {
        let page = gateway.statement(since, after).await.map_err(JobError::retry)?;
        named.extend(page.lines.iter().map(|line| line.provider_key.clone()));
        for difference in reconcile::compare(&ctx.db, provider, &page.lines).await? {
            if mend(gateway, &difference).await { fixed += 1 } else { kept.push(difference) }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if after.is_none() {
        kept.extend(missing(provider, gateway, &named, begun - WINDOW + TimeDelta::hours(1), ctx).await?);
    } else {
        tracing::warn!(provider, "there are more payments than a reconciliation looks at");
    }
    for difference in &kept {
        let (kind, key) = (difference.kind.name(), &difference.provider_key);
        tracing::error!(provider, kind, key, detail = difference.detail, "a payment is orphaned");
    }
    reconcile::keep(&ctx.db, provider, &kept).await?;
    reconcile::forget_unseen(&ctx.db, provider, begun).await?;
    for kind in DifferenceKind::ALL {
        let count = kept.iter().filter(|difference| difference.kind == kind).count();
        #[expect(clippy::cast_precision_loss, reason = "a gauge need not be exact beyond 2^52")]
        metrics::gauge!("evently_payments_orphaned", "provider" => provider, "kind" => kind.name())
            .set(count as f64);
    }
    metrics::counter!("evently_payments_reconciled_total", "provider" => provider)
        .increment(named.len() as u64);
    Ok((kept.len() as u64 + fixed, fixed))
}

/// Lets go of what is set aside for nothing. Everything else is for people to look at.
async fn mend(gateway: &dyn Gateway, difference: &Difference) -> bool {
    let (DifferenceKind::AuthorisedInVain, Some(attempt)) = (difference.kind, &difference.attempt) else {
        return false;
    };
    let mut charge = attempt.charge.clone();
    charge.reference = charge.reference.or_else(|| difference.reference.clone());
    let voided = matches!(gateway.void(&charge).await, Outcome::Done(_));
    tracing::warn!(key = charge.provider_key, voided, "money was set aside for nothing");
    voided
}

/// Payments of ours that count as money and which the provider has not named; each is asked for, to be sure.
async fn missing(
    provider: &'static str,
    gateway: &dyn Gateway,
    named: &HashSet<String>,
    since: chrono::DateTime<chrono::Utc>,
    ctx: &Context,
) -> Result<Vec<Difference>, JobError> {
    let (mut missing, mut looked_up, mut after) = (Vec::new(), 0, None);
    for _ in 0..MOST_PAGES {
        let page = reconcile::ours_since(&ctx.db, provider, since, after, PAGE).await?;
        after = page.last().map(|attempt| attempt.payment_id);
        let full = i64::try_from(page.len()).is_ok_and(|count| count == PAGE);
        for attempt in page.into_iter().filter(|a| !named.contains(&a.charge.provider_key)) {
            looked_up += 1;
            if looked_up > MOST_LOOK_UPS {
                tracing::error!(provider, "the provider does not name {MOST_LOOK_UPS} payments and more");
                return Ok(missing);
            }
            let found = gateway.look_up(&attempt.charge).await;
            if matches!(found, Found::Nothing | Found::Voided | Found::Declined(_)) {
                missing.push(Difference {
                    kind: DifferenceKind::MissingCharge,
                    provider_key: attempt.charge.provider_key.clone(),
                    reference: attempt.reference.clone(),
                    detail: format!("nothing there, {} here", attempt.status.name()),
                    attempt: Some(attempt),
                });
            }
        }
        if !full {
            break;
        }
    }
    Ok(missing)
}
