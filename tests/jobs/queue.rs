//! The queue by itself: what an enqueue leaves in Redis, and what operators may do.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{
    clock,
    jobs::{Pool, SendMail},
    trace::TraceContext,
};
use queue::{Discarded, Enqueued, Envelope, JobStatus, Retried};
use redis::AsyncCommands;
use serde_json::json;
use uuid::Uuid;

use super::probe::{Act, Probe, queue};
use crate::support::redis::TestRedis;

fn probe(test: Uuid, number: u32) -> Probe {
    Probe { test, number, act: Act::Succeed }
}

fn in_an_hour() -> DateTime<Utc> {
    clock::now() + Duration::from_hours(1)
}

/// Versions of Evently that run side by side read each other's envelopes: this may grow, never change.
#[tokio::test]
async fn an_envelope_is_frozen() {
    let redis = TestRedis::start();
    let mail_id: Uuid = "0199c1a0-0000-7000-8000-000000000001".parse().unwrap();
    let trace: TraceContext = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
    trace.scope(queue(&redis).enqueue(&SendMail { mail_id })).await.unwrap();

    let id = format!("send_mail:{mail_id}");
    let mut conn = redis.connect().await;
    let stored: String = conn.hget("evently:email:data", &id).await.unwrap();
    let expected = concat!(
        r#"{"v":1,"job":"send_mail","payload":{"mail_id":"0199c1a0-0000-7000-8000-000000000001"},"#,
        r#""traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}"#
    );
    assert_eq!(stored, expected);
    assert_eq!(conn.lrange::<_, Vec<String>>("evently:email:active", 0, -1).await.unwrap(), [id]);
}

#[tokio::test]
async fn an_id_is_enqueued_once() {
    let (redis, test) = (TestRedis::start(), Uuid::now_v7());
    let queue = queue(&redis);
    assert_eq!(queue.enqueue(&probe(test, 1)).await.unwrap(), Enqueued::New);
    assert_eq!(queue.enqueue(&probe(test, 1)).await.unwrap(), Enqueued::Duplicate);
    assert_eq!(queue.enqueue_at(&probe(test, 1), in_an_hour()).await.unwrap(), Enqueued::Duplicate);
    assert_eq!(queue.enqueue_at(&probe(test, 2), in_an_hour()).await.unwrap(), Enqueued::New);
    assert_eq!(queue.enqueue(&probe(test, 2)).await.unwrap(), Enqueued::Duplicate);

    let stats = queue.stats(Pool::Upkeep).await.unwrap();
    assert_eq!((stats.depth, stats.scheduled), (1, 1));
}

#[tokio::test]
async fn many_are_enqueued_at_once_each_with_its_answer() {
    let (redis, test) = (TestRedis::start(), Uuid::now_v7());
    let queue = queue(&redis);
    queue.enqueue(&probe(test, 700)).await.unwrap();
    let mail = Envelope::new(&SendMail { mail_id: test }).unwrap();
    let mut envelopes: Vec<_> =
        (0..1_200).map(|number| Envelope::new(&probe(test, number)).unwrap()).collect();
    envelopes.insert(3, mail);

    let answers = queue.enqueue_many(&envelopes).await;
    let duplicates: Vec<_> = answers
        .iter()
        .enumerate()
        .filter(|(_, answer)| matches!(answer, Ok(Enqueued::Duplicate)))
        .map(|(index, _)| index)
        .collect();
    assert_eq!((answers.len(), duplicates), (1_201, vec![701]));
    assert_eq!(queue.stats(Pool::Upkeep).await.unwrap().depth, 1_200);
    assert_eq!(queue.stats(Pool::Email).await.unwrap().depth, 1);
}

#[tokio::test]
async fn enqueueing_fails_cleanly_without_redis() {
    let mut redis = TestRedis::start();
    let (queue, test) = (queue(&redis), Uuid::now_v7());
    queue.ping().await.unwrap();
    redis.kill();
    assert!(queue.enqueue(&probe(test, 1)).await.is_err());
    assert!(queue.enqueue_many(&[Envelope::new(&probe(test, 2)).unwrap()]).await[0].is_err());
    redis.restart();
    assert_eq!(queue.enqueue(&probe(test, 1)).await.unwrap(), Enqueued::New);
}

#[tokio::test]
async fn jobs_are_listed_shown_and_discarded() {
    let (redis, test) = (TestRedis::start(), Uuid::now_v7());
    let queue = queue(&redis);
    for number in 0..5 {
        queue.enqueue(&probe(test, number)).await.unwrap();
    }
    queue.enqueue_at(&probe(test, 9), in_an_hour()).await.unwrap();

    let pending = queue.list(Pool::Upkeep, JobStatus::Pending, 3).await.unwrap();
    let numbers: Vec<_> = pending.iter().map(|job| job.payload["number"].clone()).collect();
    assert_eq!(numbers, [json!(0), json!(1), json!(2)]);
    let scheduled = queue.list(Pool::Upkeep, JobStatus::Scheduled, 3).await.unwrap();
    assert_eq!((scheduled.len(), scheduled[0].status), (1, JobStatus::Scheduled));

    let id = format!("probe:{test}:9");
    assert_eq!(queue.job(&id).await.unwrap().unwrap().job, "probe");
    assert_eq!(queue.retry(&id).await.unwrap(), Retried::Waiting { outbox_id: None });
    assert_eq!(queue.retry(&id).await.unwrap(), Retried::AlreadyDue);
    assert_eq!(queue.discard(&id).await.unwrap(), Discarded::Gone { outbox_id: None });
    assert_eq!(queue.discard(&id).await.unwrap(), Discarded::Unknown);
    assert_eq!(queue.retry(&id).await.unwrap(), Retried::Unknown);
    assert!(queue.job(&id).await.unwrap().is_none());
    assert_eq!(queue.stats(Pool::Upkeep).await.unwrap().depth, 5);
}

#[tokio::test]
async fn the_oldest_waiting_job_has_an_age() {
    let (redis, test) = (TestRedis::start(), Uuid::now_v7());
    let queue = queue(&redis);
    assert_eq!(queue.stats(Pool::Upkeep).await.unwrap().oldest_age_ms, 0);
    queue.enqueue(&probe(test, 1)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    queue.enqueue(&probe(test, 2)).await.unwrap();
    let age = queue.stats(Pool::Upkeep).await.unwrap().oldest_age_ms;
    assert!((50..5_000).contains(&age), "{age}");
}
