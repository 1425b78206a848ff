//! The eighteen defects of the stock queue, and what shows that ours has none of them.
//!
//! | | defect | shown by |
//! |---|---|---|
//! | 1 | a plain push waits for its time | `queue::an_envelope_is_frozen`: straight to the waiting list, `no_wake_up_is_lost` |
//! | 2 | 8,000 due jobs jam the queue | `queue_workers::twenty_thousand_due_jobs_run_once_each_and_leave_nothing` |
//! | 3 | wake-ups are lost under load | `no_wake_up_is_lost` |
//! | 4 | a full worker does not beat, and prefetches | `a_worker_full_of_long_jobs_is_not_taken_for_dead`, `queue_workers::concurrency_is_kept_and_workers_are_shown` |
//! | 5 | a fetch costs more the more jobs wait | `what_waits_costs_nothing` |
//! | 6 | `max_attempts` is ignored | `queue_workers::failures_are_retried_as_the_policy_says_and_then_dead` |
//! | 7 | a job that kills its process does so for ever | `queue_faults::a_job_that_kills_its_process_ends_dead_and_takes_no_other_along`, with processes `flows::faults::a_confirm_that_kills_every_worker_is_given_up_and_the_next_ones_go_through` |
//! | 8 | an id is not unique | `queue::an_id_is_enqueued_once`, `queue_workers::a_finished_id_is_free_again`, `queue_workers::a_running_id_is_not_enqueued_again` |
//! | 9 | finished jobs stay, or take those that wait with them | `what_passes_through_leaves_nothing` |
//! | 10 | acknowledgements can be off | `queue_workers::twenty_thousand_due_jobs_run_once_each_and_leave_nothing` |
//! | 11 | `task-tracking` kills workers | `dependencies::what_breaks_the_queue_is_not_compiled_in` |
//! | 12 | an error of Redis ends a worker | `queue_faults::a_worker_survives_a_restart_of_redis`, `queue_faults::a_worker_survives_redis_losing_everything`, `flows::faults::workers_outlive_a_long_absence_of_redis` |
//! | 13 | a dead worker is noticed late, and by clients' clocks | `queue_faults::a_dead_workers_jobs_run_again`, `flows::faults::a_worker_stopped_past_its_heartbeat_has_done_nothing_twice_when_it_goes_on` |
//! | 14 | a scheduled job fires early | `a_scheduled_job_never_runs_early` |
//! | 15 | every process ticks | `queue_periodic::an_exclusive_periodic_runs_in_one_process_at_a_time` |
//! | 16 | a panic kills the worker | `queue_workers::failures_are_retried_as_the_policy_says_and_then_dead`, `queue_periodic::a_periodic_goes_on_whatever_happens_to_it` |
//! | 17 | the stock board takes jobs from strangers | `dependencies::what_breaks_the_queue_is_not_compiled_in` |
//! | 18 | a cluster carries no queue | `servers::tells_a_sound_redis_from_others`: the doctor says so |

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use chrono::{DateTime, Utc};
use domain::jobs::Pool;
use futures::future::join_all;
use queue::{Envelope, Queue, QueueConfig};
use redis::InfoDict;
use uuid::Uuid;
use workers::runtime::Options;

use super::probe::{Act, Node, Probe, SPEC, drained, eventually, queue, release, started, starts};
use crate::support::redis::TestRedis;

/// The table above names tests that there are, for every defect.
#[test]
fn every_defect_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let code = ["tests", "src"].map(|dir| code(&root.join(dir))).concat();
    let rows = include_str!("queue_defects.rs").lines().filter_map(|line| line.strip_prefix("//! | "));
    let rows = rows.filter_map(|row| Some((row.split(" | ").next()?.parse::<u32>().ok()?, row)));
    let mut numbers = Vec::new();
    for (number, row) in rows {
        numbers.push(number);
        let shown_by = row.split(" | ").nth(2).unwrap();
        let names: Vec<_> = shown_by.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{row}");
        for name in names {
            let test = format!("fn {}()", name.rsplit("::").next().unwrap());
            assert!(code.contains(&test), "{number}: there is no {name}");
        }
    }
    assert_eq!(numbers, (1..=18).collect::<Vec<_>>());
}

/// All Rust below a directory.
fn code(dir: &Path) -> String {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let texts = entries.map(|path| {
        if path.is_dir() {
            code(&path)
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            fs::read_to_string(path).unwrap()
        } else {
            String::new()
        }
    });
    texts.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_wake_up_is_lost() {
    let (redis, test) = (TestRedis::start(), Uuid::now_v7());
    let queue = &queue(&redis);
    let _nodes = (Node::start(&redis), Node::start(&redis));
    // Each waits for its own job before it brings the next: one that is forgotten is waited for in vain.
    let bring = |producer: u32| async move {
        for number in (0..100).map(|n| producer * 1_000 + n) {
            queue.enqueue(&Probe { test, number, act: Act::Succeed }).await.unwrap();
            eventually("it runs", async || starts(test, number) == 1).await;
        }
    };
    join_all((0..8).map(bring)).await;
    drained(queue).await;
    assert_eq!(started(test), (800, 800));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_full_of_long_jobs_is_not_taken_for_dead() {
    let (redis, test) = (TestRedis::start(), Uuid::now_v7());
    let config = QueueConfig {
        heartbeat: Duration::from_millis(250),
        orphaned_after: Duration::from_secs(10),
        ..QueueConfig::new(redis.url())
    };
    let queue = Queue::connect(&config).unwrap();
    let _full = Node::on(&SPEC, &redis, config.clone(), "postgres:///nowhere", Options::default());
    for number in 0..64 {
        queue.enqueue(&Probe { test, number, act: Act::Wait }).await.unwrap();
    }
    eventually("it is full", async || started(test).0 == 64).await;
    let _judge = Node::on(&SPEC, &redis, config, "postgres:///nowhere", Options::default());
    // Longer than it may be silent.
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(started(test), (64, 64));
    release(test);
    drained(&queue).await;
    assert_eq!(started(test), (64, 64));
}

/// Every command that Redis has run, scripts' own included.
async fn commands(redis: &TestRedis) -> BTreeSet<String> {
    let mut conn = redis.connect().await;
    let info: String = redis::cmd("INFO").arg("commandstats").query_async(&mut conn).await.unwrap();
    let names = info.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(':'));
    names.map(|(name, _)| name.to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_costs_nothing() {
    let (redis, test) = (TestRedis::start(), Uuid::now_v7());
    let queue = queue(&redis);
    let jobs: Vec<_> = (0..10_000).map(|number| Probe { test, number, act: Act::Succeed }).collect();
    let envelopes: Vec<_> = jobs.iter().map(|job| Envelope::new(job).unwrap()).collect();
    assert!(queue.enqueue_many(&envelopes).await.iter().all(Result::is_ok));
    let mut conn = redis.connect().await;
    redis::cmd("CONFIG").arg("RESETSTAT").exec_async(&mut conn).await.unwrap();
    let _node = Node::start(&redis);
    eventually("all ran", async || started(test).0 == 10_000).await;
    // What takes the longer the more there is. (`smembers` sees what one worker runs, `zrange…` a bounded stretch,
    // `hgetall` the counts of ten seconds.)
    let growing = ["hkeys", "hvals", "keys", "linsert", "lpos", "lrange", "lrem", "scan", "sort"];
    let used = commands(&redis).await;
    assert!(used.contains("lpop"), "{used:?}");
    let grown: Vec<_> = growing.into_iter().filter(|name| used.contains(*name)).collect();
    assert!(grown.is_empty(), "{grown:?} of {used:?}");
}

/// What Redis keeps, in bytes, without what its clients' buffers take; and how many keys there are that do not go by
/// themselves, as the counts of what ran do.
async fn memory(redis: &TestRedis) -> (u64, u64) {
    let mut conn = redis.connect().await;
    let info: InfoDict = redis::cmd("INFO").arg("memory").query_async(&mut conn).await.unwrap();
    let keys: String = redis::cmd("INFO").arg("keyspace").query_async(&mut conn).await.unwrap();
    let number = |name: &str| {
        let found = keys.split([':', ',']).find_map(|part| part.strip_prefix(name)?.parse::<u64>().ok());
        found.unwrap_or(0)
    };
    (info.get("used_memory_dataset").unwrap(), number("keys=") - number("expires="))
}

/// `EVENTLY_TEST_JOBS=200000` lets as many pass as the promise speaks of.
#[tokio::test(flavor = "multi_thread")]
async fn what_passes_through_leaves_nothing() {
    const ROUNDS: u32 = 10;
    let jobs: u32 = std::env::var("EVENTLY_TEST_JOBS").map_or(10_000, |jobs| jobs.parse().unwrap());
    let (redis, test) = (TestRedis::start(), Uuid::now_v7());
    let queue = queue(&redis);
    let _node = Node::start(&redis);
    let mut seen = Vec::new();
    for round in 0..ROUNDS {
        let numbers: Vec<u32> = (0..jobs / ROUNDS).map(|n| round * (jobs / ROUNDS) + n).collect();
        for chunk in numbers.chunks(2_000) {
            let probes = chunk.iter().map(|number| Probe { test, number: *number, act: Act::Succeed });
            let envelopes: Vec<_> = probes.map(|job| Envelope::new(&job).unwrap()).collect();
            assert!(queue.enqueue_many(&envelopes).await.iter().all(Result::is_ok));
            drained(&queue).await;
        }
        seen.push(memory(&redis).await);
    }
    eprintln!("{jobs} jobs passed; bytes and keys after each tenth: {seen:?}");
    assert_eq!(started(test), (jobs as usize, jobs as usize));
    // The worker's own two keys; and of nine tenths of the jobs not even 50 bytes each.
    assert!(seen.iter().all(|(_, keys)| *keys <= 2), "{seen:?}");
    let (first, last) = (seen[0].0, seen[seen.len() - 1].0);
    assert!(last < first + 45 * u64::from(jobs), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_job_never_runs_early() {
    let (redis, test) = (TestRedis::start(), Uuid::now_v7());
    let queue = queue(&redis);
    let _node = Node::start(&redis);
    let now = async || {
        let mut conn = redis.connect().await;
        let (secs, micros): (i64, u32) = redis::cmd("TIME").query_async(&mut conn).await.unwrap();
        DateTime::<Utc>::from_timestamp(secs, micros * 1_000).unwrap()
    };
    let begun = now().await;
    let due = |number: u32| begun + Duration::from_millis(700 + 130 * u64::from(number));
    for number in 0..10 {
        queue.enqueue_at(&Probe { test, number, act: Act::Succeed }, due(number)).await.unwrap();
    }
    let mut ran = BTreeSet::new();
    while ran.len() < 10 {
        assert!(now().await < begun + Duration::from_mins(1), "only {ran:?} ran");
        for number in 0..10 {
            if starts(test, number) > 0 && ran.insert(number) {
                // Looked at after it ran: early is early for certain.
                assert!(now().await.timestamp_millis() >= due(number).timestamp_millis(), "{number}");
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drained(&queue).await;
    assert_eq!(queue.stats(Pool::Upkeep).await.unwrap().scheduled, 0);
}
