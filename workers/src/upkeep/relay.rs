//! The outbox relay: puts what commits caused into the queue.
//!
//! Every upkeep process runs it; they take different rows. Killed between the queue and the commit it enqueues
//! a row again, under the same id, which does nothing while the job is there and is harmless when it is done.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use domain::{
    jobs::Pool,
    kill_point::kill_point,
    outbox::{self, Handover, OutboxRow, Taken},
};
use futures::{FutureExt, future::BoxFuture};
use queue::{Enqueued, Envelope, Queue};
use uuid::Uuid;

use crate::{
    Context, JobError,
    runtime::{Periodic, Report},
};

/// So many rows are locked, and so many jobs wait for one script, at a time.
const BATCH: i64 = 500;

/// Half of the pause is what a job waits on average; an idle look costs Postgres one index probe.
pub const RELAY: Periodic = Periodic {
    name: "relay",
    every: Duration::from_millis(50),
    timeout: Duration::from_secs(15),
    exclusive: false,
    run: |ctx| async move { hand_over(&ctx, Handover::Due).await }.boxed(),
};

/// Enqueues again what was enqueued a minute ago and did not end: the queue may have lost it.
pub const REQUEUE_OUTBOX: Periodic = Periodic {
    name: "requeue_outbox",
    every: Duration::from_secs(5),
    timeout: Duration::from_secs(15),
    exclusive: false,
    run: |ctx| {
        async move {
            gauge(&ctx).await?;
            hand_over(&ctx, Handover::Overdue).await
        }
        .boxed()
    },
};

async fn hand_over(ctx: &Context, which: Handover) -> Result<Report, JobError> {
    let queue = ctx.queue.clone();
    let mut conn = ctx.db.conn().await?;
    let (found, enqueued) = outbox::hand_over(&mut conn, which, BATCH, |rows| enqueue(queue, rows)).await?;
    if enqueued > 0 {
        kill_point("relay.handed_over");
    }
    // Where Redis takes nothing there is no hurry to ask it again.
    let more = i64::try_from(enqueued).is_ok_and(|enqueued| enqueued == BATCH);
    Ok(Report { found: found as u64, fixed: enqueued as u64, more })
}

/// Whether the queue refused what it was given last.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Puts rows into the queue; answers what became of those that it took.
fn enqueue(queue: Queue, rows: Vec<OutboxRow>) -> BoxFuture<'static, Vec<(Uuid, Taken)>> {
    async move {
        // A row that makes no envelope was written by a newer version, whose relay takes it.
        let (ids, envelopes): (Vec<_>, Vec<_>) =
            rows.into_iter().filter_map(|row| Some((row.id, envelope(row)?))).unzip();
        let answers = queue.enqueue_many(&envelopes).await;
        let refusal = answers.iter().find_map(|answer| answer.as_ref().err());
        // Once an outage, not twenty times a second.
        let before = REFUSED.swap(refusal.is_some(), Ordering::Relaxed);
        match refusal {
            Some(error) if !before => {
                tracing::warn!(%error, "the queue takes no jobs; they wait in the outbox");
            }
            None if before => tracing::info!("the queue takes jobs again"),
            _ => {}
        }
        ids.into_iter().zip(answers).filter_map(|(id, answer)| Some((id, taken(answer.ok()?)))).collect()
    }
    .boxed()
}

fn taken(answer: Enqueued) -> Taken {
    match answer {
        Enqueued::New | Enqueued::Duplicate => Taken::Enqueued,
        Enqueued::Covered => Taken::Covered,
        Enqueued::Running => Taken::Later,
    }
}

fn envelope(row: OutboxRow) -> Option<Envelope> {
    let pool: Pool = row.pool.parse().ok()?;
    Envelope::from_outbox(row.id, pool, &row.job, &row.job_key, &row.payload, row.traceparent).ok()
}

/// Shows how far the relay is behind.
async fn gauge(ctx: &Context) -> Result<(), JobError> {
    let backlog = outbox::backlog(&mut *ctx.db.conn().await?).await?;
    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    metrics::gauge!("evently_outbox_pending").set(backlog.rows as f64);
    metrics::gauge!("evently_outbox_oldest_age_seconds").set(backlog.oldest_secs);
    Ok(())
}
