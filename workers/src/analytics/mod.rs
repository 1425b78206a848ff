//! The `analytics` pool: rolls the booking log up into figures.

mod check_figures;
mod count_holds;
mod follow_zones;
mod roll_up;

use std::time::Duration;

use domain::jobs::Pool;

use crate::runtime::PoolSpec;

/// Few at once: each reads much and nobody waits.
pub static SPEC: PoolSpec = PoolSpec {
    pool: Pool::Analytics,
    concurrency: 4,
    poll: Duration::from_millis(50),
    jobs: &[],
    periodics: &[roll_up::PERIODIC, count_holds::PERIODIC, follow_zones::PERIODIC, check_figures::PERIODIC],
};
