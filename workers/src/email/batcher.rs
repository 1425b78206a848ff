//! Gathers what many jobs ask of Postgres at the same time into one statement: while one batch runs, the next
//! one gathers, so nobody waits for company.

use domain::fault::Fault;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

type Request<I, O> = (I, oneshot::Sender<Result<O, Fault>>);

/// The way into batches of one kind. Cheap to clone; its task ends with the last clone.
pub(super) struct Batcher<I, O>(mpsc::Sender<Request<I, O>>);

impl<I, O> Batcher<I, O>
where
    I: Clone + Send + 'static,
    O: Send + 'static,
{
    /// Starts the task that runs batches of up to `largest`; `run` answers once for each item, in their order.
    /// Call it inside a runtime.
    pub(super) fn start<F>(largest: usize, run: F) -> Self
    where
        F: Fn(Vec<I>) -> BoxFuture<'static, Result<Vec<O>, Fault>> + Send + 'static,
    {
        let (sender, mut requests) = mpsc::channel(largest);
        tokio::spawn(async move {
            let mut gathered: Vec<Request<I, O>> = Vec::with_capacity(largest);
            while requests.recv_many(&mut gathered, largest).await > 0 {
                let (items, waiting): (Vec<_>, Vec<_>) = gathered.drain(..).unzip();
                match run(items.clone()).await {
                    Ok(answers) => {
                        for (answer, waiting) in answers.into_iter().zip(waiting) {
                            // Nobody waits where the job was dropped meanwhile.
                            let _ = waiting.send(Ok(answer));
                        }
                    }
                    Err(fault) if fault.is_transient() => {
                        for waiting in waiting {
                            let _ = waiting.send(Err(Fault::Connection(fault.to_string())));
                        }
                    }
                    // One item may be to blame: each by itself.
                    Err(_) => {
                        for (item, waiting) in items.into_iter().zip(waiting) {
                            let answer = run(vec![item]).await.and_then(|mut answers| {
                                answers
                                    .pop()
                                    .ok_or_else(|| Fault::Corrupt("a batch without an answer".to_owned()))
                            });
                            let _ = waiting.send(answer);
                        }
                    }
                }
            }
        });
        Self(sender)
    }

    /// Puts an item into the next batch and waits for its answer.
    pub(super) async fn ask(&self, item: I) -> Result<O, Fault> {
        let gone = || Fault::Connection("the batch was lost".to_owned());
        let (answer, waiting) = oneshot::channel();
        self.0.send((item, answer)).await.map_err(|_| gone())?;
        waiting.await.map_err(|_| gone())?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use futures::{FutureExt, future::join_all};

    use super::*;

    fn doubler(batches: Arc<AtomicUsize>) -> Batcher<i64, i64> {
        Batcher::start(100, move |items: Vec<i64>| {
            batches.fetch_add(1, Ordering::Relaxed);
            async move {
                tokio::task::yield_now().await;
                if items.contains(&13) {
                    return Err(Fault::Corrupt("13".to_owned()));
                }
                Ok(items.into_iter().map(|item| item * 2).collect())
            }
            .boxed()
        })
    }

    #[tokio::test]
    async fn what_comes_together_runs_together() {
        let batches = Arc::new(AtomicUsize::new(0));
        let doubler = doubler(batches.clone());
        let answers = join_all((0..80).filter(|i| *i != 13).map(|i| doubler.ask(i))).await;
        let answers = answers.into_iter().map(|answer| answer.unwrap()).collect::<Vec<_>>();
        assert_eq!(answers, (0..80).filter(|i| *i != 13).map(|i| i * 2).collect::<Vec<_>>());
        assert!(batches.load(Ordering::Relaxed) <= 2);
    }

    #[tokio::test]
    async fn one_bad_item_fails_alone() {
        let doubler = doubler(Arc::default());
        let (good, bad) = tokio::join!(doubler.ask(12), doubler.ask(13));
        assert_eq!(good.unwrap(), 24);
        assert!(matches!(bad, Err(Fault::Corrupt(_))));
    }
}
