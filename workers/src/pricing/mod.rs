//! The `pricing` pool: moves prices.

use std::time::Duration;

use domain::jobs::Pool;

use crate::runtime::PoolSpec;

/// Few at once: nobody waits for a price to move.
pub static SPEC: PoolSpec = PoolSpec {
    pool: Pool::Pricing,
    concurrency: 4,
    poll: Duration::from_millis(50),
    jobs: &[],
    periodics: &[],
};
