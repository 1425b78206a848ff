//! Rate limits: how often somebody may do something, counted in Redis for all processes together.
//!
//! They fail closed: without Redis a limited operation is a [`Fault`], hence 503. What they guard is guessing, and
//! an attacker who could make Redis slow must not get unlimited guesses for it. Refreshing a session is not
//! limited, so that those who are logged in stay so. One script takes from several keys, so this is the queue's
//! Redis (one server), not the inventory's (perhaps a cluster).

use std::{sync::LazyLock, time::Duration};

use redis::{Script, aio::ConnectionManager};
use sha2::{Digest, Sha256};

use crate::fault::Fault;

static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("rate_limit.lua")));

/// So much at once, and so much again in every window, evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its name in Redis and in `RateLimit-Policy`.
    pub name: &'static str,
    pub burst: u32,
    pub window: Duration,
}

impl Limit {
    pub const fn new(name: &'static str, burst: u32, window: Duration) -> Self {
        Self { name, burst, window }
    }
}

/// A limit as it applies to somebody: an address, an account.
#[derive(Clone, Copy, Debug)]
pub struct Taking<'a> {
    pub limit: Limit,
    pub subject: &'a str,
}

/// What is left of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub limit: Limit,
    pub remaining: u32,
    /// Until all of the burst is back.
    pub reset: Duration,
}

/// Whether it may be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Counted against every limit.
    Allowed(Vec<Standing>),
    /// At least one limit is used up; counted against none.
    Denied { standings: Vec<Standing>, retry_after: Duration },
}

/// The limits of this deployment. Cheap to clone.
#[derive(Clone)]
pub struct RateLimiter {
    /// `None`: limits are off, for load tests.
    redis: Option<ConnectionManager>,
}

impl RateLimiter {
    pub fn new(redis: ConnectionManager) -> Self {
        Self { redis: Some(redis) }
    }

    /// Allows everything, and has nothing to say about it.
    pub fn off() -> Self {
        Self { redis: None }
    }

    /// Counts one operation against all of these limits, atomically: all of them or none.
    pub async fn take(&self, takings: &[Taking<'_>]) -> Result<Verdict, Fault> {
        self.run(takings, 1).await
    }

    /// Takes a count back: the operation turned out to be harmless.
    pub async fn give_back(&self, takings: &[Taking<'_>]) -> Result<(), Fault> {
        self.run(takings, -1).await.map(drop)
    }

    async fn run(&self, takings: &[Taking<'_>], cost: i64) -> Result<Verdict, Fault> {
        let Some(redis) = self.redis.as_ref().filter(|_| !takings.is_empty()) else {
            return Ok(Verdict::Allowed(Vec::new()));
        };
        let mut invocation = TAKE.prepare_invoke();
        for Taking { limit, subject } in takings {
            invocation
                .key(key(limit, subject))
                .arg(limit.burst)
                .arg(u64::try_from(limit.window.as_micros()).unwrap_or(u64::MAX))
                .arg(cost);
        }
        let answer: Vec<u64> = invocation.invoke_async(&mut redis.clone()).await?;
        verdict(takings, &answer).ok_or_else(|| Fault::Corrupt(format!("rate limit answered {answer:?}")))
    }
}

/// Subjects are hashed: Redis holds no addresses of people, and no subject escapes its key.
fn key(limit: &Limit, subject: &str) -> String {
    format!("rl:{}:{}", limit.name, hex::encode(&Sha256::digest(subject)[..16]))
}

fn verdict(takings: &[Taking<'_>], answer: &[u64]) -> Option<Verdict> {
    let (allowed, rows) = answer.split_first()?;
    if rows.len() != takings.len() * 3 {
        return None;
    }
    let rows = takings.iter().zip(rows.chunks_exact(3));
    let standings = rows
        .clone()
        .map(|(taking, row)| Standing {
            limit: taking.limit,
            remaining: u32::try_from(row[0]).unwrap_or(u32::MAX),
            reset: Duration::from_micros(row[1]),
        })
        .collect();
    let retry_after = rows.map(|(_, row)| row[2]).max().map_or(Duration::ZERO, Duration::from_micros);
    Some(if *allowed == 1 { Verdict::Allowed(standings) } else { Verdict::Denied { standings, retry_after } })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit::new("test", 10, Duration::from_mins(1));

    #[test]
    fn reads_what_the_script_answers() {
        let takings = [Taking { limit: LIMIT, subject: "a" }, Taking { limit: LIMIT, subject: "b" }];
        let denied = verdict(&takings, &[0, 3, 5_000_000, 0, 0, 60_000_000, 6_000_000]);
        let Some(Verdict::Denied { standings, retry_after }) = denied else { panic!("{denied:?}") };
        assert_eq!((standings[0].remaining, standings[1].remaining), (3, 0));
        assert_eq!(retry_after, Duration::from_secs(6));
        assert_eq!(verdict(&takings, &[1, 3]), None);
    }

    #[test]
    fn keys_tell_subjects_apart_and_do_not_show_them() {
        assert_ne!(key(&LIMIT, "ada@evently.test"), key(&LIMIT, "grace@evently.test"));
        assert!(!key(&LIMIT, "ada@evently.test").contains("ada"));
    }
}
