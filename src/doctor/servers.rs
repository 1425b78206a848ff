//! The servers: whether they answer, and whether they keep what they are given.

use std::path::Path;

use domain::{
    config::Env,
    diagnosis::{self, PostgresState, RedisState},
};
use workers::email::{
    config::{Delivery, MailConfig},
    transport,
};

use super::Finding;
use crate::launch;

/// 14: the oldest that is supported by its makers, and that Evently is built for.
const OLDEST_POSTGRES: i32 = 140_000;
const OLDEST_REDIS: u32 = 7;

pub(super) async fn postgres(env: &Env) -> Vec<Finding> {
    let Some(url) = env.get("DATABASE_URL") else {
        return vec![not_running("Postgres", "DATABASE_URL", launch::postgres::programs(None).as_deref())];
    };
    match diagnosis::postgres(url).await {
        Ok(state) => postgres_findings(&state),
        Err(error) => vec![Finding::problem(
            "Postgres",
            format!("cannot be asked ({error})"),
            "see that it runs and that DATABASE_URL is right",
        )],
    }
}

fn postgres_findings(state: &PostgresState) -> Vec<Finding> {
    let version = format!("{}.{}", state.version / 10_000, state.version % 10_000);
    let mut findings = vec![if state.version < OLDEST_POSTGRES {
        Finding::problem("Postgres", format!("version {version}"), "Evently needs 14 or later")
    } else if state.in_recovery {
        Finding::problem("Postgres", "is a replica and takes no writes", "let DATABASE_URL name the primary")
    } else {
        Finding::ok("Postgres", format!("version {version}"))
    }];
    findings.push(if state.pending.is_empty() && state.unknown.is_empty() {
        Finding::ok("schema", "up to date")
    } else if state.pending.is_empty() {
        Finding::warning(
            "schema",
            format!("newer than this binary, which does not know {}", state.unknown.join(", ")),
            "update the binary",
        )
    } else {
        Finding::problem("schema", format!("lacks {}", state.pending.join(", ")), "run `evently migrate`")
    });
    let careless: Vec<_> = [("fsync", &state.fsync), ("full_page_writes", &state.full_page_writes)]
        .into_iter()
        .filter(|(_, value)| *value != "on")
        .map(|(name, _)| format!("{name} is off"))
        .collect();
    findings.push(if !careless.is_empty() {
        let says = format!("{}: a crash of the machine may destroy everything", careless.join(", "));
        Finding::problem("commits", says, "switch it on in postgresql.conf")
    } else if state.synchronous_commit == "off" {
        let says = "synchronous_commit is off: a crash may lose bookings that were acknowledged";
        Finding::problem("commits", says, "set it to on in postgresql.conf")
    } else {
        Finding::ok("commits", format!("durable (synchronous_commit is {})", state.synchronous_commit))
    });
    findings
}

/// Both roles of Redis; of one server, both at once.
pub(super) async fn redis(env: &Env) -> Vec<Finding> {
    let Some(url) = env.get("REDIS_URL") else {
        return vec![not_running("Redis", "REDIS_URL", launch::redis::program().as_deref())];
    };
    let mut findings = one_redis("Redis", "REDIS_URL", url).await;
    if let Some(inventory) = env.get("INVENTORY_REDIS_URL").filter(|inventory| *inventory != url) {
        findings.extend(one_redis("Redis (seats)", "INVENTORY_REDIS_URL", inventory).await);
    }
    findings
}

async fn one_redis(about: &'static str, variable: &str, url: &str) -> Vec<Finding> {
    match diagnosis::redis(url).await {
        Ok(state) => redis_findings(about, &state),
        Err(error) => vec![Finding::problem(
            about,
            format!("cannot be asked ({error})"),
            format!("see that it runs and that {variable} is right"),
        )],
    }
}

fn redis_findings(about: &'static str, state: &RedisState) -> Vec<Finding> {
    let major = state.version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    let mut findings = vec![if major < OLDEST_REDIS {
        Finding::problem(about, format!("version {}", state.version), "Evently needs 7 or later")
    } else if state.mode != "standalone" {
        Finding::problem(about, format!("is a {}", state.mode), "name a single server")
    } else if state.role != "master" {
        Finding::problem(about, "is a replica and takes no writes", "name the primary")
    } else {
        Finding::ok(about, format!("version {}", state.version))
    }];
    findings.push(if !state.append_only {
        let says = "appendonly is no: a restart forgets every hold and every queue";
        Finding::problem(about, says, "set `appendonly yes`")
    } else if state.last_write_ok {
        Finding::ok(about, "appendonly is yes")
    } else {
        Finding::problem(about, "could not write its append-only file", "see its log, and its disk")
    });
    findings.push(if state.maxmemory_policy == "noeviction" {
        Finding::ok(about, "maxmemory-policy is noeviction")
    } else {
        let says = format!("maxmemory-policy is {}: it may drop seats and jobs", state.maxmemory_policy);
        Finding::problem(about, says, "set `maxmemory-policy noeviction`")
    });
    findings
}

/// A server that is not configured: `up` starts its own where the programs are there.
fn not_running(about: &'static str, variable: &str, programs: Option<&Path>) -> Finding {
    let says = format!("{variable} is not set and no `evently up` runs on this data directory");
    match programs {
        Some(_) => Finding::warning(about, says, "`evently up` starts one of its own"),
        None => Finding::problem(
            about,
            format!("{says}, nor is {about} installed"),
            format!("set {variable}; `evently up` run as root installs {about}"),
        ),
    }
}

pub(super) async fn smtp(env: &Env) -> Vec<Finding> {
    let config = match MailConfig::from_env(env) {
        Ok(config) => config,
        Err(error) => return vec![Finding::problem("mail", error.to_string(), "correct it")],
    };
    vec![match &config.delivery {
        Delivery::Files(directory) => Finding::warning(
            "mail",
            format!("is kept in {} and reaches nobody", directory.display()),
            "set SMTP_URL in production",
        ),
        Delivery::Smtp(smtp) => match transport::check(smtp).await {
            Ok(()) => Finding::ok("mail", "the SMTP server is there"),
            Err(error) => {
                Finding::problem("mail", error.to_string(), "see that it runs and that SMTP_URL is right")
            }
        },
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict::{self, Ok, Problem, Warning};

    fn verdicts(findings: &[Finding]) -> Vec<Verdict> {
        findings.iter().map(|finding| finding.verdict).collect()
    }

    #[test]
    fn tells_a_sound_postgres_from_others() {
        let sound = PostgresState {
            version: 150_004,
            in_recovery: false,
            fsync: "on".to_owned(),
            full_page_writes: "on".to_owned(),
            synchronous_commit: "remote_apply".to_owned(),
            pending: vec![],
            unknown: vec![],
        };
        assert_eq!(verdicts(&postgres_findings(&sound)), [Ok, Ok, Ok]);
        let old = PostgresState { version: 130_012, pending: vec!["1_spine".to_owned()], ..sound.clone() };
        assert_eq!(verdicts(&postgres_findings(&old)), [Problem, Problem, Ok]);
        let off = PostgresState {
            in_recovery: true,
            unknown: vec!["2".to_owned()],
            synchronous_commit: "off".to_owned(),
            ..sound
        };
        assert_eq!(verdicts(&postgres_findings(&off)), [Problem, Warning, Problem]);
    }

    #[test]
    fn tells_a_sound_redis_from_others() {
        let sound = RedisState {
            version: "7.0.15".to_owned(),
            mode: "standalone".to_owned(),
            role: "master".to_owned(),
            append_only: true,
            last_write_ok: true,
            maxmemory_policy: "noeviction".to_owned(),
        };
        assert_eq!(verdicts(&redis_findings("Redis", &sound)), [Ok, Ok, Ok]);
        let full = RedisState { role: "slave".to_owned(), last_write_ok: false, ..sound.clone() };
        assert_eq!(verdicts(&redis_findings("Redis", &full)), [Problem, Problem, Ok]);
        let cluster = RedisState { mode: "cluster".to_owned(), ..sound.clone() };
        assert_eq!(verdicts(&redis_findings("Redis", &cluster)), [Problem, Ok, Ok]);
        let cache = RedisState {
            version: "6.2.1".to_owned(),
            append_only: false,
            maxmemory_policy: "allkeys-lru".to_owned(),
            ..sound
        };
        assert_eq!(verdicts(&redis_findings("Redis", &cache)), [Problem, Problem, Problem]);
    }
}
