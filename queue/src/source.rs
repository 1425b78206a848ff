//! What an apalis worker runs on: deliveries of one pool, and the way their outcomes go back.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use apalis_core::{
    backend::{Backend, BackendConfig, finalize::Ephemeral},
    task::{Task, builder::TaskBuilder, task_id::TaskId},
    worker::context::WorkerContext,
};
use domain::jobs::Pool;
use futures::FutureExt;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::layer::util::Identity;

use crate::{client::Queue, driver::Driver, envelope::Envelope, error::QueueError};

#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// Unique among all workers there ever were: a name that is taken up again would hide the death of its
    /// first owner.
    pub worker: String,
    /// The version of the program, as operators see it.
    pub version: String,
    /// The most jobs that run at once. No job is fetched before it can start.
    pub concurrency: usize,
    /// How often to ask for more while jobs come; a fifth as often when none came for 2 s.
    pub poll: Duration,
}

/// What becomes of a job that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done: it goes, and its id is free again.
    Done,
    /// It runs again after this delay.
    Retry { after: Duration, error: String },
    /// It gives up, until an operator retries or discards it.
    Dead { error: String },
    /// It was not run, or not to the end, through no fault of its own: it waits again, first in line.
    Release,
}

/// A job to run. Dropped without [`Delivery::settle`] it is handed back.
#[derive(Debug)]
pub struct Delivery {
    pub envelope: Envelope,
    /// Which start this is, from 1, not counting those that were handed back.
    pub attempt: u32,
    /// How many workers in a row have died while they ran it. From the third on it was alone in its worker.
    pub crashes: u32,
    /// How long it waited since it was enqueued or due, by Redis's clock.
    pub waited: Duration,
    lease: Lease,
}

impl Delivery {
    /// Reports the outcome. It counts unless the job was given to another worker since.
    pub fn settle(mut self, outcome: Outcome) {
        self.lease.report(outcome);
    }

    pub(crate) fn new(
        envelope: Envelope,
        start: u64,
        attempt: u32,
        crashes: u32,
        waited: Duration,
        settle: mpsc::UnboundedSender<Settled>,
    ) -> Self {
        let lease = Lease { id: envelope.id.clone(), start, settle: Some(settle) };
        Self { envelope, attempt, crashes, waited, lease }
    }
}

#[derive(Debug)]
struct Lease {
    id: String,
    start: u64,
    settle: Option<mpsc::UnboundedSender<Settled>>,
}

impl Lease {
    fn report(&mut self, outcome: Outcome) {
        if let Some(settle) = self.settle.take() {
            // Fails only when the driver is gone; then the worker is found dead and the job runs again.
            let _ =
                settle.send(Settled { id: std::mem::take(&mut self.id), start: Some(self.start), outcome });
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.report(Outcome::Release);
    }
}

/// An outcome on its way to Redis. Without a start it concerns whichever start there is.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    pub id: String,
    pub start: Option<u64>,
    pub outcome: Outcome,
}

/// Deliveries of one pool, for one worker.
#[derive(Debug)]
pub struct Source {
    deliveries: mpsc::UnboundedReceiver<Delivery>,
    driver: Option<JoinHandle<()>>,
    stop: CancellationToken,
    config: SourceConfig,
    _guard: DropGuard,
}

impl Source {
    pub(crate) fn start(queue: Queue, pool: Pool, config: SourceConfig) -> Result<Self, QueueError> {
        // Holds no more than `concurrency` deliveries: the driver fetches none beyond that.
        let (deliver, deliveries) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let driver = Driver::new(queue, pool, config.clone(), deliver)?;
        let driver = tokio::spawn(driver.run(stop.clone()));
        let guard = stop.clone().drop_guard();
        Ok(Self { deliveries, driver: Some(driver), stop, config, _guard: guard })
    }
}

/// A source itself never fails: its driver outlives every error of Redis.
impl Backend for Source {
    type Task = Task<Delivery>;
    type Error = std::convert::Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Self::Task, Self::Error>>> {
        let delivery = ready!(self.deliveries.poll_recv(cx));
        Poll::Ready(delivery.map(|delivery| {
            let id = TaskId::from_string(delivery.envelope.id.clone());
            Ok(TaskBuilder::new(delivery).task_id(id).build())
        }))
    }

    /// Hands back what was not started, waits until every outcome has reached Redis, and leaves.
    fn poll_close(&mut self, cx: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Self::Error>> {
        self.deliveries.close();
        while self.deliveries.try_recv().is_ok() {}
        self.stop.cancel();
        if let Some(driver) = &mut self.driver {
            if let Err(error) = ready!(driver.poll_unpin(cx)) {
                tracing::error!(%error, "the queue's driver failed");
            }
            self.driver = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for Source {
    type Args = Delivery;
    type Id = String;
    type Kind = Ephemeral;
    type Config = SourceConfig;
    type Layer = Identity;

    fn config(&self) -> &SourceConfig {
        &self.config
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}
