//! What pools do over and over: again after every failure, and where it matters in one process at a time.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use domain::{
    config::Env,
    db::{Db, DbConfig},
    jobs::Pool,
    leader::only_one,
};
use futures::FutureExt;
use workers::{
    JobError,
    runtime::{Options, Periodic, PoolSpec, Report},
};

use super::probe::{Node, eventually};
use crate::support::{database::TestDatabase, redis::TestRedis};

static RUNS: AtomicUsize = AtomicUsize::new(0);
static FULL_BATCHES: AtomicUsize = AtomicUsize::new(0);
static EXCLUSIVE_RUNS: AtomicUsize = AtomicUsize::new(0);
static HOURLY_RUNS: AtomicUsize = AtomicUsize::new(0);
static OVERLAPS: AtomicUsize = AtomicUsize::new(0);
/// Whether an exclusive run is under way anywhere.
static ALONE: LazyLock<tokio::sync::Mutex<()>> = LazyLock::new(Default::default);

static UNLUCKY: PoolSpec = PoolSpec {
    pool: Pool::Upkeep,
    concurrency: 1,
    poll: Duration::from_millis(20),
    jobs: &[],
    periodics: &[
        Periodic {
            name: "unlucky",
            every: Duration::from_millis(10),
            timeout: Duration::from_millis(50),
            exclusive: false,
            run: |_| {
                async {
                    match RUNS.fetch_add(1, Ordering::SeqCst) % 4 {
                        0 => panic!("as it must"),
                        1 => Err(JobError::retry("as it must")),
                        2 => std::future::pending().await,
                        _ => Ok(Report { found: 1, fixed: 1, more: false }),
                    }
                }
                .boxed()
            },
        },
        Periodic {
            name: "full",
            every: Duration::from_hours(1),
            timeout: Duration::from_secs(1),
            exclusive: false,
            run: |_| {
                async {
                    let runs = FULL_BATCHES.fetch_add(1, Ordering::SeqCst);
                    Ok(Report { found: 10, fixed: 10, more: runs < 4 })
                }
                .boxed()
            },
        },
    ],
};

static EXCLUSIVE: PoolSpec = PoolSpec {
    pool: Pool::Upkeep,
    concurrency: 1,
    poll: Duration::from_millis(20),
    jobs: &[],
    periodics: &[Periodic {
        name: "exclusive",
        every: Duration::from_millis(5),
        timeout: Duration::from_mins(1),
        exclusive: true,
        run: |_| {
            async {
                let alone = ALONE.try_lock();
                OVERLAPS.fetch_add(usize::from(alone.is_err()), Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(20)).await;
                EXCLUSIVE_RUNS.fetch_add(1, Ordering::SeqCst);
                Ok(Report::default())
            }
            .boxed()
        },
    }],
};

#[tokio::test(flavor = "multi_thread")]
async fn a_periodic_goes_on_whatever_happens_to_it() {
    let redis = TestRedis::start();
    let node = Node::running(&UNLUCKY, &redis, "postgres:///nowhere", Options::default());
    eventually("it ran on", async || RUNS.load(Ordering::SeqCst) > 8).await;
    node.stop().await;
    let runs = RUNS.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(RUNS.load(Ordering::SeqCst), runs);
    // A full batch is followed by the next at once, one that is not full by the pause.
    assert_eq!(FULL_BATCHES.load(Ordering::SeqCst), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exclusive_periodic_runs_in_one_process_at_a_time() {
    let (redis, database) = (TestRedis::start(), TestDatabase::create().await);
    let nodes: Vec<_> =
        (0..3).map(|_| Node::running(&EXCLUSIVE, &redis, &database.url(), Options::default())).collect();
    eventually("it ran", async || EXCLUSIVE_RUNS.load(Ordering::SeqCst) > 10).await;
    let runs = EXCLUSIVE_RUNS.load(Ordering::SeqCst);
    // A leader that is killed is followed by another.
    for node in nodes.into_iter().take(2) {
        node.kill();
    }
    let last = Node::running(&EXCLUSIVE, &redis, &database.url(), Options::default());
    eventually("it runs on", async || EXCLUSIVE_RUNS.load(Ordering::SeqCst) > runs + 3).await;
    last.stop().await;
    assert_eq!(OVERLAPS.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_stopped_is_followed_when_its_time_is_over() {
    let database = TestDatabase::create().await;
    let env: Env = [("DATABASE_URL", database.url())].into_iter().collect();
    let db = Db::new(&DbConfig::from_env(&env).unwrap());
    let lead = async |db: &Db| only_one(db, "sweep", Duration::from_mins(1), async {}).await.unwrap();
    let (takes, in_office) = tokio::sync::oneshot::channel();
    let stopped = tokio::spawn({
        let db = db.clone();
        let stops = async move {
            takes.send(()).unwrap();
            std::future::pending::<()>().await;
        };
        async move { only_one(&db, "sweep", Duration::from_secs(1), stops).await }
    });
    in_office.await.unwrap();
    eventually("another leads", async || lead(&db).await.is_some()).await;
    stopped.abort();
}

/// Each keeps a connection for its lock and needs another for its work: more leaders than connections must not keep all.
#[tokio::test(flavor = "multi_thread")]
async fn leaders_of_many_things_leave_each_other_connections_to_work_with() {
    let database = TestDatabase::create().await;
    let env: Env = [("DATABASE_URL", database.url())].into_iter().collect();
    let config = DbConfig { max_connections: 4, ..DbConfig::from_env(&env).unwrap() };
    let db = Db::new(&config);
    let led = futures::future::join_all((0..20).map(|n| {
        let db = db.clone();
        let work = {
            let db = db.clone();
            async move {
                // Until the others have their connections, too, if they can.
                tokio::time::sleep(Duration::from_millis(20)).await;
                db.conn().await.map(drop)
            }
        };
        async move { only_one(&db, &format!("work {n}"), Duration::from_mins(1), work).await }
    }))
    .await;
    assert!(led.iter().all(|one| matches!(one, Ok(Some(Ok(()))))), "{led:?}");
}

/// Hangs at its first run, so that whoever leads then can be killed at it.
static HOURLY: PoolSpec = PoolSpec {
    pool: Pool::Upkeep,
    concurrency: 1,
    poll: Duration::from_millis(20),
    jobs: &[],
    periodics: &[Periodic {
        name: "hourly",
        every: Duration::from_hours(1),
        timeout: Duration::from_mins(2),
        exclusive: true,
        run: |_| {
            async {
                match HOURLY_RUNS.fetch_add(1, Ordering::SeqCst) {
                    0 => std::future::pending().await,
                    _ => Ok(Report { found: 2, fixed: 1, more: false }),
                }
            }
            .boxed()
        },
    }],
};

#[tokio::test(flavor = "multi_thread")]
async fn processes_keep_to_one_rhythm_and_a_dead_leaders_run_moves() {
    let (redis, database) = (TestRedis::start(), TestDatabase::create().await);
    let node = || Node::running(&HOURLY, &redis, &database.url(), Options::default());
    let hourly = async || {
        let sql = "SELECT concat_ws(' ', outcome, found, fixed, wanted_at IS NULL) FROM schedules \
                   WHERE name = 'hourly' AND last_started_at IS NOT NULL";
        database.value(sql).await
    };
    let first = node();
    eventually("it runs", async || HOURLY_RUNS.load(Ordering::SeqCst) == 1).await;
    let second = node();
    eventually("it is known", async || {
        database.value("SELECT count(*) FROM schedules").await.as_deref() == Some("1")
    })
    .await;
    assert_eq!(hourly().await, None, "what has not ended is not noted");
    first.kill();
    eventually("another runs it", async || hourly().await.as_deref() == Some("done 2 1 t")).await;
    assert_eq!(HOURLY_RUNS.load(Ordering::SeqCst), 2);

    // A third finds that it is not due; wanted at once it is run, by one of them.
    let third = node();
    database.execute("UPDATE schedules SET wanted_at = now() WHERE name = 'hourly'").await;
    eventually("it ran at once", async || HOURLY_RUNS.load(Ordering::SeqCst) == 3).await;
    eventually("it is noted", async || hourly().await.as_deref() == Some("done 2 1 t")).await;
    second.stop().await;
    third.stop().await;
    assert_eq!(HOURLY_RUNS.load(Ordering::SeqCst), 3);
}
