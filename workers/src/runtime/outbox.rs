//! Tells the outbox what became of its jobs, many at a time.

use std::time::Duration;

use domain::{db::Db, fault::Fault, kill_point::kill_point, outbox};
use tokio::{sync::mpsc, task::JoinHandle};
use uuid::Uuid;

/// How many rows one DELETE removes.
const BATCH: usize = 500;
/// How many may wait for Postgres. What does not fit is not lost: the relay enqueues its row again, and the
/// job finds its work done.
const WAITING: usize = 50_000;
/// How long a process that stops waits for Postgres.
const FAREWELL: Duration = Duration::from_secs(3);

enum Fate {
    Done(Uuid),
    Dead(Uuid, String),
}

/// The way to the outbox. Cheap to clone.
#[derive(Clone)]
pub(super) struct Fates(mpsc::Sender<Fate>);

impl Fates {
    pub(super) fn done(&self, id: Uuid) {
        self.send(Fate::Done(id));
    }

    pub(super) fn dead(&self, id: Uuid, error: &str) {
        self.send(Fate::Dead(id, error.to_owned()));
    }

    fn send(&self, fate: Fate) {
        if self.0.try_send(fate).is_err() {
            metrics::counter!("evently_outbox_fates_dropped_total").increment(1);
        }
    }
}

/// Starts the task that writes; it ends when the last [`Fates`] is gone.
pub(super) fn start(db: Db) -> (Fates, JoinHandle<()>) {
    let (sender, mut fates) = mpsc::channel(WAITING);
    let writer = tokio::spawn(async move {
        let mut batch = Vec::with_capacity(BATCH);
        while fates.recv_many(&mut batch, BATCH).await > 0 {
            let mut tries = 0;
            while let Err(error) = write(&db, &mut batch).await {
                tries += 1;
                // The last words of a process that stops are worth less than its stopping in time.
                if tries == 5 || fates.is_closed() {
                    tracing::warn!(%error, rows = batch.len(), "outbox rows stay until the relay repeats their jobs");
                    batch.clear();
                    break;
                }
                tokio::time::sleep(Duration::from_millis(200 << tries)).await;
            }
        }
    });
    (Fates(sender), writer)
}

/// Waits for the writer to write what it was told, within limits.
pub(super) async fn finish(writer: JoinHandle<()>) {
    if tokio::time::timeout(FAREWELL, writer).await.is_err() {
        tracing::warn!("Postgres does not answer; the relay repeats what was not written");
    }
}

/// Empties the batch as far as it gets.
async fn write(db: &Db, batch: &mut Vec<Fate>) -> Result<(), Fault> {
    let done: Vec<Uuid> =
        batch.iter().filter_map(|fate| if let Fate::Done(id) = fate { Some(*id) } else { None }).collect();
    let mut conn = db.conn().await?;
    if !done.is_empty() {
        outbox::finish(&mut conn, &done).await?;
        kill_point("outbox.finished");
    }
    batch.retain(|fate| matches!(fate, Fate::Dead(..)));
    while let Some(Fate::Dead(id, error)) = batch.last() {
        outbox::bury(&mut conn, *id, error).await?;
        batch.pop();
    }
    Ok(())
}
