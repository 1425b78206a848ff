//! Evently's worker pools: a directory a pool, a file a job.

pub mod analytics;
pub mod confirm;
pub mod context;
pub mod email;
pub mod error;
pub mod expiry;
pub mod payments;
pub mod pricing;
pub mod runtime;
pub mod upkeep;
pub mod waitlist;

use domain::jobs::Pool;

pub use context::Context;
pub use error::JobError;
pub use runtime::{RunError, run};

/// What a pool is made of.
pub fn spec(pool: Pool) -> &'static runtime::PoolSpec {
    match pool {
        Pool::Confirm => &confirm::SPEC,
        Pool::Expiry => &expiry::SPEC,
        Pool::Waitlist => &waitlist::SPEC,
        Pool::Email => &email::SPEC,
        Pool::Pricing => &pricing::SPEC,
        Pool::Analytics => &analytics::SPEC,
        Pool::Upkeep => &upkeep::SPEC,
    }
}

/// Every job that has a handler, with its pool.
pub fn registered() -> Vec<(Pool, &'static str)> {
    Pool::ALL.into_iter().flat_map(|pool| spec(pool).jobs.iter().map(move |job| (pool, job.name))).collect()
}
