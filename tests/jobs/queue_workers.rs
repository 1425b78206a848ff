//! Jobs under workers: their policies, their end, and what the pool leaves behind.

use std::time::Duration;

use domain::{clock, jobs::Pool};
use queue::{Enqueued, Envelope, JobStatus, Queue};
use redis::AsyncCommands;
use serde_json::json;
use uuid::Uuid;
use workers::runtime::Options;

use super::probe::{Act, Node, Probe, Short, Stranger, drained, eventually, queue, release, started, starts};
use crate::support::{database::TestDatabase, redis::TestRedis};

async fn enqueue(queue: &Queue, test: Uuid, number: u32, act: Act) -> String {
    let job = Probe { test, number, act };
    assert_eq!(queue.enqueue(&job).await.unwrap(), Enqueued::New);
    format!("probe:{test}:{number}")
}

/// The error with which a job ended in the dead set.
async fn dies(queue: &Queue, id: &str) -> (u32, String) {
    eventually("the job is dead", async || {
        queue.job(id).await.unwrap().is_some_and(|job| job.status == JobStatus::Dead)
    })
    .await;
    let job = queue.job(id).await.unwrap().unwrap();
    (job.attempts, job.error.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_due_jobs_run_once_each_and_leave_nothing() {
    let (redis, test) = (TestRedis::start(), Uuid::now_v7());
    let queue = queue(&redis);
    let soon = clock::now() + Duration::from_secs(2);
    for chunk in (0..20_000).collect::<Vec<u32>>().chunks(1_000) {
        let jobs: Vec<_> =
            chunk.iter().map(|number| Probe { test, number: *number, act: Act::Succeed }).collect();
        futures::future::try_join_all(jobs.iter().map(|job| queue.enqueue_at(job, soon))).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let node = Node::start(&redis);
    eventually("all ran", async || started(test).0 == 20_000).await;
    drained(&queue).await;
    assert_eq!(started(test), (20_000, 20_000));

    node.stop().await;
    let mut conn = redis.connect().await;
    for key in conn.keys::<_, Vec<String>>("*").await.unwrap() {
        // What counts how much ran goes by itself.
        assert!(key.contains(":tally:") && conn.ttl::<_, i64>(&key).await.unwrap() > 0, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_id_is_free_again() {
    let (redis, test) = (TestRedis::start(), Uuid::now_v7());
    let queue = queue(&redis);
    let _node = Node::start(&redis);
    for run in 1..=3 {
        enqueue(&queue, test, 1, Act::Succeed).await;
        eventually("it ran", async || starts(test, 1) == run).await;
        drained(&queue).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_id_is_not_enqueued_again() {
    let (redis, test) = (TestRedis::start(), Uuid::now_v7());
    let queue = queue(&redis);
    let _node = Node::start(&redis);
    let id = enqueue(&queue, test, 1, Act::Wait).await;
    eventually("it runs", async || starts(test, 1) == 1).await;
    let again = Probe { test, number: 1, act: Act::Wait };
    assert_eq!(queue.enqueue(&again).await.unwrap(), Enqueued::Duplicate);
    assert_eq!(queue.list(Pool::Upkeep, JobStatus::Running, 10).await.unwrap()[0].id, id);
    release(test);
    drained(&queue).await;
    assert_eq!(starts(test, 1), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_retried_as_the_policy_says_and_then_dead() {
    let (redis, test) = (TestRedis::start(), Uuid::now_v7());
    let queue = queue(&redis);
    let _node = Node::start(&redis);
    enqueue(&queue, test, 1, Act::FailUntil(3)).await;
    let failing = enqueue(&queue, test, 2, Act::FailUntil(99)).await;
    let panicking = enqueue(&queue, test, 3, Act::Panic).await;
    let useless = enqueue(&queue, test, 4, Act::Discard).await;
    queue.enqueue(&Short).await.unwrap();
    queue.enqueue(&Stranger).await.unwrap();

    assert_eq!(dies(&queue, &failing).await, (3, "start 3 fails (attempt 3, the last)".to_owned()));
    assert_eq!(
        dies(&queue, &panicking).await,
        (3, "panicked: start 3 panics (attempt 3, the last)".to_owned())
    );
    assert_eq!(dies(&queue, &useless).await, (1, "no use".to_owned()));
    assert_eq!(dies(&queue, "short:1").await, (3, "took longer than 50ms (attempt 3, the last)".to_owned()));
    assert_eq!(dies(&queue, "stranger:1").await, (1, "upkeep has no job of this name".to_owned()));
    drained(&queue).await;
    assert_eq!(starts(test, 1), 3);
    assert!(queue.job(&format!("probe:{test}:1")).await.unwrap().is_none());
    assert_eq!(queue.stats(Pool::Upkeep).await.unwrap().dead, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_are_retried_with_all_their_attempts() {
    let (redis, test) = (TestRedis::start(), Uuid::now_v7());
    let queue = queue(&redis);
    let _node = Node::start(&redis);
    let one = enqueue(&queue, test, 1, Act::FailUntil(6)).await;
    let other = enqueue(&queue, test, 2, Act::FailUntil(6)).await;
    queue.enqueue(&Stranger).await.unwrap();
    for id in [&one, &other, "stranger:1"] {
        dies(&queue, id).await;
    }
    assert_eq!(queue.retry_all(Pool::Upkeep, Some("probe")).await.unwrap().len(), 2);
    eventually("both succeed", async || starts(test, 1) == 6 && starts(test, 2) == 6).await;
    drained(&queue).await;
    let dead = queue.list(Pool::Upkeep, JobStatus::Dead, 10).await.unwrap();
    assert_eq!(dead.iter().map(|job| job.id.as_str()).collect::<Vec<_>>(), ["stranger:1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_id_stays_dead_unless_a_new_cause_asks_for_it() {
    let (redis, test) = (TestRedis::start(), Uuid::now_v7());
    let queue = queue(&redis);
    let _node = Node::start(&redis);
    let payload = json!({ "test": test, "number": 1, "act": "Discard" });
    let (key, first, second) = (format!("{test}:1"), Uuid::now_v7(), Uuid::now_v7());
    let caused_by = |row| Envelope::from_outbox(row, Pool::Upkeep, "probe", &key, &payload, None).unwrap();
    let put = async |envelope| queue.enqueue_many(&[envelope]).await.remove(0).unwrap();

    assert_eq!(put(caused_by(first)).await, Enqueued::New);
    dies(&queue, &format!("probe:{key}")).await;
    assert_eq!(put(caused_by(first)).await, Enqueued::Duplicate);
    let direct = Probe { test, number: 1, act: Act::Succeed };
    assert_eq!(queue.enqueue(&direct).await.unwrap(), Enqueued::Duplicate);
    assert_eq!(starts(test, 1), 1);
    assert_eq!(put(caused_by(second)).await, Enqueued::New);
    eventually("it ran again", async || starts(test, 1) == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_learns_what_became_of_its_jobs() {
    let (redis, database, test) = (TestRedis::start(), TestDatabase::create().await, Uuid::now_v7());
    let queue = queue(&redis);
    let node = Node::with(&redis, &database.url(), Options::default());
    let (done, dead) = (Uuid::now_v7(), Uuid::now_v7());
    for (row, number, act) in [(done, 1, "Succeed"), (dead, 2, "Discard")] {
        let payload = json!({ "test": test, "number": number, "act": act });
        let key = format!("{test}:{number}");
        database
            .execute(&format!(
                "INSERT INTO outbox (id, cause, pool, job, job_key, payload, enqueued_at) \
                 VALUES ('{row}', '{row}', 'upkeep', 'probe', '{key}', '{payload}', now())"
            ))
            .await;
        let envelope = Envelope::from_outbox(row, Pool::Upkeep, "probe", &key, &payload, None).unwrap();
        queue.enqueue_many(&[envelope]).await.remove(0).unwrap();
    }
    eventually("both ran", async || started(test).0 == 2).await;
    drained(&queue).await;
    node.stop().await;
    let rows = database.rows("SELECT id, error FROM outbox WHERE dead_at IS NOT NULL").await;
    assert_eq!(rows, [[Some(dead.to_string()), Some("no use".to_owned())]]);
    assert_eq!(database.value("SELECT count(*) FROM outbox").await.unwrap(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_pool_starts_nothing_until_it_is_resumed() {
    let (redis, test) = (TestRedis::start(), Uuid::now_v7());
    let queue = queue(&redis);
    let _node = Node::start(&redis);
    queue.pause(Pool::Upkeep).await.unwrap();
    enqueue(&queue, test, 1, Act::Succeed).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let stats = queue.stats(Pool::Upkeep).await.unwrap();
    assert_eq!((starts(test, 1), stats.paused, stats.depth), (0, true, 1));
    queue.resume(Pool::Upkeep).await.unwrap();
    eventually("it ran", async || starts(test, 1) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_worker_ends_what_it_can_and_hands_back_the_rest() {
    let (redis, test) = (TestRedis::start(), Uuid::now_v7());
    let queue = queue(&redis);
    let options = Options { concurrency: Some(4), grace: Duration::from_millis(500) };
    let node = Node::with(&redis, "postgres:///nowhere", options);
    enqueue(&queue, test, 1, Act::Last(200)).await;
    for number in 2..10 {
        enqueue(&queue, test, number, Act::Hang).await;
    }
    eventually("four run", async || started(test).0 == 4).await;
    node.stop().await;

    let stats = queue.stats(Pool::Upkeep).await.unwrap();
    assert_eq!((stats.depth, stats.in_flight, stats.workers.len()), (8, 0, 0));
    // Being handed back costs no attempt.
    let jobs = queue.list(Pool::Upkeep, JobStatus::Pending, 10).await.unwrap();
    assert!(jobs.iter().all(|job| job.attempts == 0), "{jobs:?}");
    assert!(queue.job(&format!("probe:{test}:1")).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrency_is_kept_and_workers_are_shown() {
    let (redis, test) = (TestRedis::start(), Uuid::now_v7());
    let queue = queue(&redis);
    let options = Options { concurrency: Some(3), ..Options::default() };
    let _node = Node::with(&redis, "postgres:///nowhere", options);
    for number in 0..30 {
        enqueue(&queue, test, number, Act::Last(100)).await;
    }
    eventually("three run", async || queue.stats(Pool::Upkeep).await.unwrap().in_flight == 3).await;
    let stats = queue.stats(Pool::Upkeep).await.unwrap();
    assert_eq!(stats.workers.len(), 1);
    assert_eq!(stats.workers[0].version, env!("CARGO_PKG_VERSION"));
    drained(&queue).await;
    assert_eq!((started(test), super::probe::most_at_once(test)), ((30, 30), 3));
}
