//! Evently's job queue: enqueue, consume, inspect. The only crate that knows a queue's keys in Redis.
//!
//! # Whose storage
//!
//! apalis stays the worker runtime, over a [`Source`] of our own: an apalis `Backend` with our scripts on the
//! key layout of apalis-redis, whose `Config` still names the keys. The stock storage was not kept because what
//! would have to surround it is larger than what it does: it jams on 8,000 due jobs, ends a worker at any Redis
//! error, and a fetch whose reply is lost leaves jobs in flight for as long as the worker lives. Nor does it
//! count the starts of jobs that kill their process, and nothing of it ever removes a finished job.
//!
//! # What a job goes through
//!
//! ```text
//! enqueue ─► Pending ─► Running ─► gone (done: the id is free again)
//!    └─► Scheduled ─┘     │ ├─► Scheduled (retry) · Pending (handed back, or its worker died)
//!                         │ └─► Dead ─► Pending (retried by an operator) · gone (discarded)
//! ```
//!
//! At least once: a job may run twice, and twice at once when its worker was taken for dead. Every change is
//! one script, so Redis may go away between any two of them. The lease is the worker's: it beats every 5 s, and
//! 20 s after its last beat whatever it held runs again. Settling a job that was taken again since does nothing:
//! the number of the start fences it.
//!
//! Two differences from the stock layout: `{q}:due` (milliseconds) instead of `{q}:scheduled`, and `{q}:dead` is
//! sorted by the time of death. `{q}:done` does not exist.

mod client;
mod config;
mod driver;
mod envelope;
mod error;
mod inspect;
mod keys;
mod operate;
mod source;
mod tally;

pub use client::{Enqueued, Queue};
pub use config::QueueConfig;
pub use envelope::{Envelope, job_id};
pub use error::QueueError;
pub use inspect::{Discarded, Failure, JobDetail, JobStatus, PoolStats, Retried, WorkerInfo};
pub use operate::{OperateError, Operations};
pub use source::{Delivery, Outcome, Source, SourceConfig};
pub use tally::Percentiles;
