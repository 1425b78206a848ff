//! Joins calls that are made at the same time into one: whatever waits when the last batch is done goes together.
//!
//! Nothing waits for company: a call that is alone goes alone, at once.

use std::{panic::AssertUnwindSafe, time::Duration};

use domain::fault::Fault;
use futures::{FutureExt, future::BoxFuture};
use tokio::sync::{mpsc, oneshot};

use crate::error::JobError;

/// The most calls of one batch.
const MOST: usize = 200;
/// Calls that may wait for a batch; more wait in the queue.
const WAITING: usize = 1024;
/// After this a batch has failed, and with it every call in it.
const TIMEOUT: Duration = Duration::from_secs(12);

/// Why a call came to nothing; one batch fails its calls for one reason.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct BatchError {
    pub reason: String,
    /// Whether the same call may succeed later.
    pub transient: bool,
}

impl BatchError {
    fn transient(reason: &str) -> Self {
        Self { reason: reason.to_owned(), transient: true }
    }
}

impl From<Fault> for BatchError {
    fn from(fault: Fault) -> Self {
        Self { transient: fault.is_transient(), reason: fault.to_string() }
    }
}

impl From<BatchError> for JobError {
    fn from(error: BatchError) -> Self {
        if error.transient { Self::retry(error) } else { Self::discard_because("refused", error) }
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
    /// Starts the one task that does `work`, which answers as many things as it is asked, in their order. `name`
    /// labels the metric of batch sizes. Call it inside a runtime.
    pub fn start<W>(name: &'static str, work: W) -> Self
    where
        W: Fn(Vec<Q>) -> BoxFuture<'static, Result<Vec<A>, Fault>> + Send + Sync + 'static,
    {
        let (calls, mut waiting) = mpsc::channel::<Call<Q, A>>(WAITING);
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(MOST);
            while waiting.recv_many(&mut batch, MOST).await > 0 {
                #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
                metrics::histogram!("evently_confirm_batch_size", "stage" => name).record(batch.len() as f64);
                // Whoever has given up meanwhile wants no answer.
                batch.retain(|(_, answer)| !answer.is_closed());
                let (questions, askers): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
                flush(&work, questions, askers).await;
            }
        });
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

async fn flush<Q, A, W>(work: &W, questions: Vec<Q>, askers: Vec<oneshot::Sender<Result<A, BatchError>>>)
where
    Q: Clone,
    W: Fn(Vec<Q>) -> BoxFuture<'static, Result<Vec<A>, Fault>>,
{
    let answers = match run(work, questions.clone()).await {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        // One question that cannot be answered must not take the others with it.
        Err(error) if !error.transient && questions.len() > 1 => {
            tracing::warn!(%error, calls = questions.len(), "a batch failed and is done one by one");
            let mut answers = Vec::with_capacity(questions.len());
            for question in questions {
                let answer = run(work, vec![question]).await;
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

async fn run<Q, A, W>(work: &W, questions: Vec<Q>) -> Result<Vec<A>, BatchError>
where
    W: Fn(Vec<Q>) -> BoxFuture<'static, Result<Vec<A>, Fault>>,
{
    let asked = questions.len();
    if asked == 0 {
        return Ok(Vec::new());
    }
    let bounded = tokio::time::timeout(TIMEOUT, AssertUnwindSafe(work(questions)).catch_unwind());
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

    #[tokio::test]
    async fn calls_that_wait_go_together_and_get_their_own_answers() {
        let batches = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&batches);
        let doubling = Batcher::start("test", move |numbers: Vec<u32>| {
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
        let picky = Batcher::start("test", |numbers: Vec<u32>| {
            Box::pin(async move {
                if numbers.contains(&13) { Err(Fault::Corrupt("13".to_owned())) } else { Ok(numbers) }
            })
        });
        let answers = join_all((10..16).map(|n| picky.call(n))).await;
        let failed: Vec<_> = answers.iter().map(Result::is_err).collect();
        assert_eq!(failed, [false, false, false, true, false, false]);
    }
}
