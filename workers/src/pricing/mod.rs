//! The `pricing` pool: moves prices.

use std::time::Duration;

use domain::jobs::{Pool, RepriceEvent};

use crate::{job, runtime::PoolSpec};

mod find_due_prices;
mod reprice_event;

/// Few at once: nobody waits for a price to move.
pub static SPEC: PoolSpec = PoolSpec {
    pool: Pool::Pricing,
    concurrency: 4,
    poll: Duration::from_millis(50),
    jobs: &[job!(reprice_event, RepriceEvent)],
    periodics: &[find_due_prices::PERIODIC],
};
