//! `ExpireHolds`: ends the overdue holds of one event, then plans the sweep for those that are due next.
//!
//! Enqueued by the API when a hold's deadline is earlier than any sweep that is planned, and by itself. A second run
//! finds nothing overdue. Without any worker, place and availability give back what is overdue when they meet it.

use std::time::Duration;

use domain::{
    holds::expire_holds,
    jobs::{ExpireHolds, Job},
    kill_point::kill_point,
};

use crate::{
    context::Context,
    error::JobError,
    runtime::{Backoff, Policy},
};

/// Redis comes back within seconds or its operators are awake; `sweep_holds` catches what was given up.
pub const POLICY: Policy = Policy {
    attempts: 20,
    timeout: Duration::from_secs(10),
    backoff: Backoff::exponential(Duration::from_millis(200), Duration::from_secs(5)),
};

/// Holds a script: about 2 ms of Redis's time.
const HOLDS_A_SCRIPT: u32 = 500;
/// Scripts a run: 10,000 holds; then the job makes room for other events.
const SCRIPTS_A_RUN: u32 = 20;

pub async fn run(job: ExpireHolds, ctx: &Context) -> Result<(), JobError> {
    let mut ended = 0;
    for _ in 0..SCRIPTS_A_RUN {
        let swept = expire_holds(&ctx.inventory, job.event_id, HOLDS_A_SCRIPT).await?;
        ended += swept.ended;
        kill_point("expiry.expired");
        if swept.more {
            continue;
        }
        if let Some(at) = swept.next_at {
            let next = ExpireHolds { event_id: job.event_id, due_second: at.timestamp() };
            if next.key() != job.key() {
                ctx.queue.enqueue_at(&next, at).await?;
                kill_point("expiry.planned");
            }
        }
        tracing::debug!(event_id = %job.event_id, ended, "expired holds");
        return Ok(());
    }
    Err(JobError::retry(format!("{ended} holds expired, more are due")))
}
