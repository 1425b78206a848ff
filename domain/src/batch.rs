//! Joins calls that are made at the same time into one: whatever waits when a batch is done goes together.
//!
//! Nothing waits for company: a call that is alone goes alone, at once.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::fault::Fault;

/// What bounds the batches of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most calls of one batch.
    pub most: usize,
    /// How many batches may be under way at once.
    pub lanes: usize,
    /// Calls that may wait for a batch; who comes then waits to get in.
    pub waiting: usize,
    /// After this a batch has failed, and with it every call in it.
    pub timeout: Duration,
}

/// Why a call came to nothing; one batch fails its calls for one reason.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct BatchError {
    pub reason: String,
    /// Whether the same call may succeed later.
    pub transient: bool,
}

impl BatchError {
    pub(crate) fn transient(reason: &str) -> Self {
        Self { reason: reason.to_owned(), transient: true }
    }
}

impl From<Fault> for BatchError {
    fn from(fault: Fault) -> Self {
        Self { transient: fault.is_transient(), reason: fault.to_string() }
    }
}

impl From<BatchError> for Fault {
    fn from(error: BatchError) -> Self {
        if error.transient { Self::Connection(error.reason) } else { Self::Corrupt(error.reason) }
    }
}

type Call<Q, A> = (Q, oneshot::Sender<Result<A, BatchError>>);

/// The calling side. Cheap to clone; the batches end when the last clone is gone.
pub struct Batcher<Q, A> {
    calls: mpsc::Sender<Call<Q, A>>,
}

impl<Q, A> Clone for Batcher<Q, A> {
    fn clone(&self) -> Self {
        Self { calls: self.calls.clone() }
    }
}

impl<Q: Clone + Send + 'static, A: Send + 'static> Batcher<Q, A> {
    /// Starts the tasks that do `work`, one a lane, which answers as many things as it is asked, in their order. `name`
    /// labels the metric of batch sizes. Call it inside a runtime.
    pub fn start<W>(name: &'static str, limits: Limits, work: W) -> Self
    where
        W: Fn(Vec<Q>) -> BoxFuture<'static, Result<Vec<A>, Fault>> + Send + Sync + 'static,
    {
        let (calls, waiting) = mpsc::channel::<Call<Q, A>>(limits.waiting);
        let (waiting, work) = (Arc::new(Mutex::new(waiting)), Arc::new(work));
        for _ in 0..limits.lanes {
            let (waiting, work) = (Arc::clone(&waiting), Arc::clone(&work));
            tokio::spawn(async move {
                let mut batch = Vec::with_capacity(limits.most);
                // The lane that holds the lock gathers; those that are done wait for it in turn.
                while waiting.lock().await.recv_many(&mut batch, limits.most).await > 0 {
                    #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
                    metrics::histogram!("evently_batch_size", "stage" => name).record(batch.len() as f64);
                    // Whoever has given up meanwhile wants no answer.
                    batch.retain(|(_, answer)| !answer.is_closed());
                    let (questions, askers): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
                    flush(&*work, limits.timeout, questions, askers).await;
                }
            });
        }
        Self { calls }
    }

    /// The answer to one question, together with whatever else is asked just now.
    pub async fn call(&self, question: Q) -> Result<A, BatchError> {
        let (sender, answer) = oneshot::channel();
        let gone = || BatchError::transient("the batches have ended");
        self.calls.send((question, sender)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

async fn flush<Q, A, W>(
    work: &W,
    timeout: Duration,
    questions: Vec<Q>,
    askers: Vec<oneshot::Sender<Result<A, BatchError>>>,
) where
    Q: Clone,
    W: Fn(Vec<Q>) -> BoxFuture<'static, Result<Vec<A>, Fault>>,
{
    let answers = match run(work, timeout, questions.clone()).await {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        // One question that cannot be answered must not take the others with it.
        Err(error) if !error.transient && questions.len() > 1 => {
            tracing::warn!(%error, calls = questions.len(), "a batch failed and is done one by one");
            let mut answers = Vec::with_capacity(questions.len());
            for question in questions {
                let answer = run(work, timeout, vec![question]).await;
                answers.push(answer.and_then(|mut one| one.pop().ok_or_else(too_few)));
            }
            answers
        }
        Err(error) => askers.iter().map(|_| Err(error.clone())).collect::<Vec<_>>(),
    };
    for (asker, answer) in askers.into_iter().zip(answers) {
        let _ = asker.send(answer);
    }
}

async fn run<Q, A, W>(work: &W, timeout: Duration, questions: Vec<Q>) -> Result<Vec<A>, BatchError>
where
    W: Fn(Vec<Q>) -> BoxFuture<'static, Result<Vec<A>, Fault>>,
{
    let asked = questions.len();
    if asked == 0 {
        return Ok(Vec::new());
    }
    let bounded = tokio::time::timeout(timeout, AssertUnwindSafe(work(questions)).catch_unwind());
    match bounded.await {
        Ok(Ok(Ok(answers))) if answers.len() == asked => Ok(answers),
        Ok(Ok(Ok(_))) => Err(too_few()),
        Ok(Ok(Err(fault))) => Err(fault.into()),
        Ok(Err(_)) => Err(BatchError { reason: "a batch panicked".to_owned(), transient: false }),
        Err(_) => Err(BatchError::transient("a batch took too long")),
    }
}

fn too_few() -> BatchError {
    BatchError { reason: "a batch answered less than it was asked".to_owned(), transient: false }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use futures::future::join_all;

    use super::*;

    const LIMITS: Limits = Limits { most: 200, lanes: 1, waiting: 200, timeout: Duration::from_secs(5) };

    #[tokio::test]
    async fn calls_that_wait_go_together_and_get_their_own_answers() {
        let batches = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&batches);
        let doubling = Batcher::start("test", LIMITS, move |numbers: Vec<u32>| {
            counted.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                Ok(numbers.iter().map(|n| n * 2).collect())
            })
        });
        let answers = join_all((0..100).map(|n| doubling.call(n))).await;
        assert!(answers.into_iter().map(Result::unwrap).eq((0..100).map(|n| n * 2)));
        assert!(batches.load(Ordering::Relaxed) < 10);
    }

    #[tokio::test]
    async fn one_that_cannot_be_answered_fails_alone() {
        let picky = Batcher::start("test", LIMITS, |numbers: Vec<u32>| {
            Box::pin(async move {
                if numbers.contains(&13) { Err(Fault::Corrupt("13".to_owned())) } else { Ok(numbers) }
            })
        });
        let answers = join_all((10..16).map(|n| picky.call(n))).await;
        let failed: Vec<_> = answers.iter().map(Result::is_err).collect();
        assert_eq!(failed, [false, false, false, true, false, false]);
    }
}
