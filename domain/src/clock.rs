//! The one place that asks this machine what time it is.
//!
//! Deadlines of seats are Redis's to judge and what is committed carries Postgres's time; this clock serves
//! tokens, logs and schedules, where an hour's error costs comfort and never a seat.

use chrono::{DateTime, SubsecRound, Utc};

/// Now, in microseconds: what Postgres keeps of a time, so that what is written reads back equal.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}
