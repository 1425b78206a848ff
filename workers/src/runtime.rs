//! What every job gets: its trace, its timeout, its policy, one log line, its metrics, and a pool that stays up.

mod dispatch;
mod outbox;
mod periodic;
mod policy;
mod schedules;
mod supervise;

use std::time::Duration;

use domain::jobs::Pool;
use futures::future::BoxFuture;
use serde_json::value::RawValue;

use crate::{context::Context, error::JobError};

pub use periodic::{Periodic, Report};
pub use policy::{Backoff, Policy};
pub use supervise::{Options, RunError, run, run_specs};

/// What a pool is made of.
#[derive(Debug)]
pub struct PoolSpec {
    pub pool: Pool,
    /// How many of its jobs run at once in a process.
    pub concurrency: usize,
    /// How often a worker looks for more, and a fifth as often when it found nothing for 2 s; half of it is what a
    /// job waits on average.
    pub poll: Duration,
    pub jobs: &'static [Registration],
    /// What its processes do without being asked.
    pub periodics: &'static [Periodic],
}

/// A job, as its pool lists it: see [`job!`](crate::job).
#[derive(Clone, Copy, Debug)]
pub struct Registration {
    pub name: &'static str,
    pub policy: Policy,
    pub run: fn(&RawValue, Context) -> BoxFuture<'static, Result<(), JobError>>,
}

/// Lists a job in its pool: `job!(send_mail, SendMail)` is the file `send_mail.rs`, with its `POLICY` and its
/// `run(SendMail, &Context)`.
#[macro_export]
macro_rules! job {
    ($file:ident, $payload:ty) => {
        $crate::runtime::Registration {
            name: <$payload as ::domain::jobs::Job>::NAME,
            policy: $file::POLICY,
            run: |payload, ctx| {
                let job = ::serde_json::from_str::<$payload>(payload.get());
                Box::pin(async move {
                    let job = job.map_err(|error| $crate::JobError::discard_because("payload", error))?;
                    $file::run(job, &ctx).await
                })
            },
        }
    };
}
