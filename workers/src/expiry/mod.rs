//! The `expiry` pool: ends holds whose time is over.

use std::time::Duration;

use domain::jobs::{ExpireHolds, Pool};

use crate::{job, runtime::PoolSpec};

mod expire_holds;

/// Few at once: a sweep is one script on Redis, which runs one at a time anyway.
pub static SPEC: PoolSpec = PoolSpec {
    pool: Pool::Expiry,
    concurrency: 4,
    poll: Duration::from_millis(20),
    jobs: &[job!(expire_holds, ExpireHolds)],
    periodics: &[],
};
