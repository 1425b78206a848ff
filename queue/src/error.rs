//! What can go wrong between a caller and the queue.

use domain::fault::Fault;

#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Redis refused, lost or did not answer a command. Whether it acted is unknown; enqueueing again is safe.
    #[error("queue: {0}")]
    Redis(#[from] redis::RedisError),
    /// What is to be enqueued, or was found, is no envelope.
    #[error("envelope: {0}")]
    Envelope(#[from] serde_json::Error),
}

impl From<QueueError> for Fault {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Redis(error) => Self::Redis(error),
            QueueError::Envelope(error) => error.into(),
        }
    }
}

impl QueueError {
    /// The same error for the next of several jobs that failed together.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Redis(error) => Self::Redis(error.clone()),
            Self::Envelope(error) => Self::Envelope(serde::ser::Error::custom(error)),
        }
    }
}
