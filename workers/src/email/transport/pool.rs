//! Conversations with the SMTP server that are kept open from one mail to the next.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::{
    SendError,
    smtp::{Connection, SmtpConfig},
};
use crate::email::render::RenderedMail;

/// After this a kept conversation is not used again: servers hang up on idle ones, most after minutes.
const KEPT_FOR: Duration = Duration::from_secs(30);
/// For one mail, from the wait for a conversation to the server's last answer. The send lease is longer.
const SEND_TIMEOUT: Duration = Duration::from_secs(40);

pub(super) struct Pool {
    config: SmtpConfig,
    slots: Semaphore,
    kept: Mutex<Vec<(Connection, Instant)>>,
}

impl Pool {
    pub(super) fn new(config: SmtpConfig) -> Self {
        Self { slots: Semaphore::new(config.connections), kept: Mutex::default(), config }
    }

    pub(super) async fn send(&self, mail: &RenderedMail) -> Result<(), SendError> {
        match timeout(SEND_TIMEOUT, self.send_on_a_connection(mail)).await {
            Ok(sent) => sent,
            Err(_) => Err(SendError::Temporary(format!("{:?} did not answer in time", self.config))),
        }
    }

    async fn send_on_a_connection(&self, mail: &RenderedMail) -> Result<(), SendError> {
        let closed = |_| SendError::Temporary("the transport is closed".to_owned());
        let _slot = self.slots.acquire().await.map_err(closed)?;
        loop {
            let (connection, was_kept) = match self.take() {
                Some(connection) => (connection, true),
                None => (Connection::open(&self.config).await?, false),
            };
            let (sent, connection) = connection.send(mail).await;
            if let Some(connection) = connection {
                self.keep(connection);
            }
            match sent {
                Ok(()) => return Ok(()),
                // The server hung up while nobody was looking.
                Err(failure) if failure.was_closed && was_kept => {}
                Err(failure) => return Err(failure.error),
            }
        }
    }

    fn take(&self) -> Option<Connection> {
        // A poisoned lock guards a list that is whole: pushes and pops do not panic half way.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Instant::now().checked_sub(KEPT_FOR);
        kept.retain(|(_, since)| fresh.is_none_or(|fresh| *since > fresh));
        kept.pop().map(|(connection, _)| connection)
    }

    fn keep(&self, connection: Connection) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push((connection, Instant::now()));
    }
}
