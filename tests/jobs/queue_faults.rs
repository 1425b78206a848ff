//! What workers and Redis may suffer without a job being lost or stuck.

use std::time::Duration;

use domain::jobs::Pool;
use queue::{JobStatus, Queue};
use redis::AsyncCommands;
use uuid::Uuid;

use super::probe::{Act, Node, Probe, drained, eventually, queue, release, started, starts};
use crate::support::redis::TestRedis;

async fn enqueue(queue: &Queue, test: Uuid, number: u32, act: Act) -> String {
    queue.enqueue(&Probe { test, number, act }).await.unwrap();
    format!("probe:{test}:{number}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_workers_jobs_run_again() {
    let (redis, test) = (TestRedis::start(), Uuid::now_v7());
    let queue = queue(&redis);
    let node = Node::start(&redis);
    for number in 0..20 {
        enqueue(&queue, test, number, Act::Wait).await;
    }
    eventually("all run", async || started(test).0 == 20).await;
    node.kill();
    let _other = Node::start(&redis);
    eventually("all run again", async || started(test).1 == 40).await;
    release(test);
    drained(&queue).await;
    let stats = queue.stats(Pool::Upkeep).await.unwrap();
    assert_eq!((started(test), stats.dead, stats.workers.len()), ((20, 40), 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_kills_its_process_ends_dead_and_takes_no_other_along() {
    let (redis, test) = (TestRedis::start(), Uuid::now_v7());
    let queue = queue(&redis);
    // In flight with it whenever it strikes, unless they are kept apart.
    for number in 1..=20 {
        enqueue(&queue, test, number, Act::Last(150)).await;
    }
    let killer = enqueue(&queue, test, 0, Act::Hang).await;
    for strike in 1..=3 {
        let node = Node::start(&redis);
        eventually("the killer runs", async || starts(test, 0) == strike).await;
        node.kill();
    }
    let _node = Node::start(&redis);
    eventually("it is dead", async || {
        queue.job(&killer).await.unwrap().is_some_and(|job| job.status == JobStatus::Dead)
    })
    .await;
    let job = queue.job(&killer).await.unwrap().unwrap();
    assert_eq!(job.error.unwrap(), "started 3 times, and the last took its worker with it");
    assert_eq!((starts(test, 0), job.crashes), (3, 3));
    drained(&queue).await;
    assert_eq!(queue.stats(Pool::Upkeep).await.unwrap().dead, 1);
    assert_eq!(started(test).0, 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_survives_a_restart_of_redis() {
    let (mut redis, test) = (TestRedis::durable(), Uuid::now_v7());
    let queue = queue(&redis);
    let _node = Node::start(&redis);
    for number in 0..500 {
        enqueue(&queue, test, number, Act::Last(20)).await;
    }
    eventually("it is at work", async || started(test).0 > 100).await;
    redis.kill();
    tokio::time::sleep(Duration::from_millis(700)).await;
    redis.restart();
    eventually("all ran", async || started(test).0 == 500).await;
    drained(&queue).await;
    // Only what was in flight when Redis went may have run twice.
    assert!(started(test).1 <= 500 + 2 * 64, "{:?}", started(test));
    enqueue(&queue, test, 1_000, Act::Succeed).await;
    eventually("it goes on", async || starts(test, 1_000) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_survives_redis_losing_everything() {
    let (redis, test) = (TestRedis::start(), Uuid::now_v7());
    let queue = queue(&redis);
    let _node = Node::start(&redis);
    enqueue(&queue, test, 1, Act::Wait).await;
    eventually("it runs", async || starts(test, 1) == 1).await;
    let _: () = redis::cmd("FLUSHALL").query_async(&mut redis.connect().await).await.unwrap();
    release(test);
    enqueue(&queue, test, 2, Act::Succeed).await;
    eventually("it goes on", async || starts(test, 2) == 1).await;
    drained(&queue).await;
}

/// As after SIGSTOP and SIGCONT, or a long partition: the first worker was taken for dead, and is not.
#[tokio::test(flavor = "multi_thread")]
async fn the_outcome_of_a_worker_taken_for_dead_changes_nothing() {
    let (redis, test) = (TestRedis::start(), Uuid::now_v7());
    let queue = queue(&redis);
    let slow = Node::start(&redis);
    let id = enqueue(&queue, test, 1, Act::Wait).await;
    eventually("it runs", async || starts(test, 1) == 1).await;
    let mut conn = redis.connect().await;
    let workers: Vec<String> = conn.zrange("evently:upkeep:workers", 0, -1).await.unwrap();
    let other = Node::start(&redis);
    // Its beats are undone until the other has judged it.
    eventually("it runs a second time", async || {
        let _: () = conn.zadd("evently:upkeep:workers", &workers[0], 1).await.unwrap();
        starts(test, 1) >= 2
    })
    .await;
    release(test);
    drained(&queue).await;
    assert!(queue.job(&id).await.unwrap().is_none());
    let next = enqueue(&queue, test, 2, Act::Succeed).await;
    drained(&queue).await;
    assert!(queue.job(&next).await.unwrap().is_none());
    assert_eq!(starts(test, 2), 1);
    slow.stop().await;
    other.stop().await;
    assert!(!conn.exists::<_, bool>("evently:upkeep:data").await.unwrap());
}

/// As when the reply to a fetch is lost: in flight for a worker that knows nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_lost_on_its_way_to_a_worker_runs() {
    let (redis, test) = (TestRedis::start(), Uuid::now_v7());
    let queue = queue(&redis);
    queue.pause(Pool::Upkeep).await.unwrap();
    let id = enqueue(&queue, test, 1, Act::Succeed).await;
    let _node = Node::start(&redis);
    let mut conn = redis.connect().await;
    eventually("it beats", async || conn.zcard::<_, usize>("evently:upkeep:workers").await.unwrap() == 1)
        .await;
    let workers: Vec<String> = conn.zrange("evently:upkeep:workers", 0, -1).await.unwrap();
    redis::pipe()
        .atomic()
        .lrem("evently:upkeep:active", 0, &id)
        .hset(format!("evently:upkeep:meta:{id}"), "status", "Running")
        .sadd(format!("evently:upkeep:inflight:{}", workers[0]), &id)
        .exec_async(&mut conn)
        .await
        .unwrap();
    queue.resume(Pool::Upkeep).await.unwrap();
    eventually("it ran", async || starts(test, 1) == 1).await;
    drained(&queue).await;
}
