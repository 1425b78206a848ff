//! The one place that asks this machine what time it is.
//!
//! Deadlines of seats are Redis's to judge and what is committed carries Postgres's time; this clock serves
//! tokens, logs and schedules, where an hour's error costs comfort and never a seat.

use chrono::{DateTime, SubsecRound, Utc};

/// Now, in microseconds: what Postgres keeps of a time, so that what is written reads back equal.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn now() -> DateTime<Utc> {
    let now = Utc::now().trunc_subsecs(6);
    #[cfg(feature = "test-clock")]
    let now = now + *OFFSET;
    now
}

/// How far the clock of this process is off: tests show that it costs no seat.
#[cfg(feature = "test-clock")]
static OFFSET: std::sync::LazyLock<chrono::TimeDelta> = std::sync::LazyLock::new(|| {
    let secs = std::env::var("EVENTLY_TEST_CLOCK_SECS").ok().and_then(|secs| secs.parse().ok());
    chrono::TimeDelta::seconds(secs.unwrap_or(0))
});
