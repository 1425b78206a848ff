//! What went wrong beneath an operation: the one infrastructure variant of every domain error.

/// Postgres or Redis did not do what was asked, or held something that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No connection to Postgres came free in time, or none could be made.
    #[error("no database connection: {0}")]
    Connection(String),
    /// Postgres refused or lost a statement.
    #[error("database: {0}")]
    Database(#[from] diesel::result::Error),
    /// Redis refused or lost a command.
    #[error("redis: {0}")]
    Redis(#[from] redis::RedisError),
    /// Something stored cannot be read back: a bug or foreign hands.
    #[error("corrupt: {0}")]
    Corrupt(String),
}

impl Fault {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        use diesel::result::{DatabaseErrorKind, Error};
        match self {
            Self::Connection(_)
            | Self::Redis(_)
            | Self::Database(Error::BrokenTransactionManager | Error::RollbackErrorOnCommit { .. }) => true,
            Self::Database(Error::DatabaseError(kind, info)) => match kind {
                DatabaseErrorKind::SerializationFailure
                | DatabaseErrorKind::ClosedConnection
                | DatabaseErrorKind::UnableToSendCommand
                | DatabaseErrorKind::ReadOnlyTransaction => true,
                _ => {
                    let message = info.message();
                    [
                        "deadlock",
                        "terminating connection",
                        "shutting down",
                        "starting up",
                        "timeout",
                        "closed",
                        // It recovers from a crash, or its disk or memory is full: nothing about the request is wrong.
                        "recovery mode",
                        "No space left",
                        "out of memory",
                    ]
                    .iter()
                    .any(|sign| message.contains(sign))
                }
            },
            Self::Database(_) | Self::Corrupt(_) => false,
        }
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::Corrupt(error.to_string())
    }
}
