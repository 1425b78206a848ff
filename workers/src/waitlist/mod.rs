//! The `waitlist` pool: offers freed seats to those who wait.

use std::time::Duration;

use domain::jobs::{Pool, PromoteWaitlist};

use crate::{job, runtime::PoolSpec};

mod promote_waitlist;
mod sweep_waitlist;

/// Few at once: offers of one event follow one another.
pub static SPEC: PoolSpec = PoolSpec {
    pool: Pool::Waitlist,
    concurrency: 4,
    poll: Duration::from_millis(20),
    jobs: &[job!(promote_waitlist, PromoteWaitlist)],
    periodics: &[sweep_waitlist::PERIODIC],
};
