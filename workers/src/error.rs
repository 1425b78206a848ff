//! The two ways in which a job fails: it may be tried again, or there is no use.

use domain::{batch::BatchError, fault::Fault};
use queue::QueueError;

type Source = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// May succeed later: runs again as the job's policy says, and is dead when the policy has run out.
    #[error("{0}")]
    Retry(#[source] Source),
    /// Will not succeed however often it runs: dead at once, for this reason.
    #[error("{}", describe(.0, .1.as_ref()))]
    Discard(String, #[source] Option<Source>),
}

impl JobError {
    pub fn retry(source: impl Into<Source>) -> Self {
        Self::Retry(source.into())
    }

    pub fn discard(reason: impl Into<String>) -> Self {
        Self::Discard(reason.into(), None)
    }

    pub fn discard_because(reason: impl Into<String>, source: impl Into<Source>) -> Self {
        Self::Discard(reason.into(), Some(source.into()))
    }
}

fn describe(reason: &str, source: Option<&Source>) -> String {
    source.map_or_else(|| reason.to_owned(), |source| format!("{reason}: {source}"))
}

/// Whatever Postgres or Redis did may be different next time; what is corrupt stays so.
impl From<Fault> for JobError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Corrupt(_) => Self::discard_because("corrupt", fault),
            fault => Self::retry(fault),
        }
    }
}

impl From<BatchError> for JobError {
    fn from(error: BatchError) -> Self {
        if error.transient { Self::retry(error) } else { Self::discard_because("refused", error) }
    }
}

impl From<QueueError> for JobError {
    fn from(error: QueueError) -> Self {
        Self::retry(error)
    }
}
