//! Workers that die at any moment while the provider's answers are lost: one charge a booking, or none and voided.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use domain::{clock, jobs::Pool};
use evently::launch::command::dependent;
use futures::future::join_all;
use queue::{Queue, QueueConfig};
use tokio::{runtime::Runtime, time::sleep};
use tokio_util::sync::CancellationToken;
use workers::Context;

use super::{confirm_path, pay, place};
use crate::support::{app::TestApp, children};

/// Workers that are killed when this is dropped.
enum Victim {
    /// In a runtime of their own: whatever they do ends where it just is.
    Runtime(Option<Runtime>),
    /// Processes, for `kill -9`.
    Process(Child),
}

impl Victim {
    fn start(app: &TestApp, as_process: bool) -> Self {
        if as_process {
            let mut command: Command = dependent(env!("CARGO_BIN_EXE_evently").as_ref(), "KILL");
            command.args(["worker", "--all"]).env("EVENTLY_METRICS_ADDR", "127.0.0.1:0");
            for name in ["DATABASE_URL", "REDIS_URL", "EVENTLY_DATA_DIR", "EVENTLY_SIGNING_KEY_FILE"] {
                command.env(name, app.env.get(name).unwrap());
            }
            command.stdout(Stdio::null()).stderr(Stdio::null());
            return Self::Process(children::spawn(command));
        }
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let env = app.env.clone();
        runtime.spawn(async move {
            let ctx = Context::from_env(&env).unwrap();
            // Their jobs are given to others sooner than in production.
            let short = QueueConfig {
                heartbeat: Duration::from_millis(500),
                orphaned_after: Duration::from_secs(3),
                ..QueueConfig::from_env(&env).unwrap()
            };
            let ctx = Context { queue: Queue::connect(&short).unwrap(), ..ctx };
            let _ = workers::run(&Pool::ALL, ctx, None, CancellationToken::new()).await;
        });
        Self::Runtime(Some(runtime))
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        match self {
            Self::Runtime(runtime) => runtime.take().unwrap().shutdown_background(),
            Self::Process(process) => {
                process.kill().unwrap();
                process.wait().unwrap();
            }
        }
    }
}

/// `EVENTLY_TEST_TIMEOUTS` makes it more bookings, and `kill -9` of processes.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_lost_charge_once_while_workers_are_killed() {
    let many = std::env::var("EVENTLY_TEST_TIMEOUTS").ok().map(|count| count.parse::<usize>().unwrap());
    let (bookings, kills) = many.map_or((24, 2), |count| (count, 12));
    let app = TestApp::builder().with_durable_redis().start().await;
    let event = app.event_with(i64::try_from(bookings).unwrap(), |event| event.hold_ttl_secs = 3600).await;
    let crowd = app.crowd(bookings).await;
    let mut victim = Victim::start(&app, many.is_some());
    for (group, buyers) in crowd.chunks(bookings.div_ceil(kills)).enumerate() {
        join_all(buyers.iter().enumerate().map(async |(n, token)| {
            let held = place(&app, &event, token, "k", &[1]).await.expect(201);
            let payment = if n % 5 == 4 { "tok_capture_lose" } else { "tok_timeout" };
            let call = app.post(&confirm_path(&event, &held), &pay(payment)).bearer(token);
            let status = call.header("prefer", "wait=0").await.status;
            assert!(matches!(status, 201 | 202), "{status}");
        }))
        .await;
        // Somewhere on the way: the answers are lost for a second.
        let moment = 300 + rand_below(1_500, group);
        sleep(Duration::from_millis(moment)).await;
        drop(victim);
        victim = Victim::start(&app, many.is_some());
    }
    let open = "SELECT (SELECT count(*) FROM bookings)
                     - (SELECT count(*) FROM payments WHERE status IN ('authorised', 'unknown'))";
    for _ in 0..1_500 {
        if app.database.value(open).await.unwrap() == bookings.to_string() {
            break;
        }
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(app.database.value(open).await.unwrap(), bookings.to_string(), "everything ends");
    drop(victim);
    let confirmed = "SELECT count(*) FROM bookings WHERE status = 'confirmed'";
    assert_eq!(app.database.value(confirmed).await.unwrap(), bookings.to_string());
    let charges = "SELECT count(*) || ' ' || sum(captured) FROM sandbox_charges";
    assert_eq!(app.database.value(charges).await.unwrap(), format!("{bookings} {}", bookings * 4500));
    app.database.assert_ledger_is_bookings().await;
}

/// Some number, another one each time.
fn rand_below(limit: u64, seed: usize) -> u64 {
    (u64::from(clock::now().timestamp_subsec_micros()) + seed as u64 * 7_919) % limit
}
