//! The `waitlist` pool: offers freed seats to those who wait.

use std::time::Duration;

use domain::jobs::Pool;

use crate::runtime::PoolSpec;

/// Few at once: offers of one event follow one another.
pub static SPEC: PoolSpec = PoolSpec {
    pool: Pool::Waitlist,
    concurrency: 4,
    poll: Duration::from_millis(20),
    jobs: &[],
    periodics: &[],
};
