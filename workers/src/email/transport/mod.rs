//! How a rendered mail leaves: to an SMTP server, or into a file.

mod files;
mod pool;
mod smtp;

use super::{
    config::{Delivery, MailConfig},
    render::RenderedMail,
};

pub use smtp::SmtpConfig;

/// Whether the server takes mail from here: connects as for a mail, logs in, and leaves again.
pub async fn check(config: &SmtpConfig) -> Result<(), SendError> {
    smtp::Connection::open(config).await?.close().await;
    Ok(())
}

/// Why a mail did not leave.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Later it may: the server is away, slow or busy, or did not answer. It may even have taken the mail.
    #[error("{0}")]
    Temporary(String),
    /// The server refuses this mail or its reader for good.
    #[error("{0}")]
    Permanent(String),
}

/// Where this process's mail goes.
pub struct Transport(Kind);

enum Kind {
    Smtp(pool::Pool),
    Files(files::Files),
}

impl Transport {
    pub fn new(config: &MailConfig) -> Self {
        Self(match &config.delivery {
            Delivery::Smtp(smtp) => Kind::Smtp(pool::Pool::new(smtp.clone())),
            Delivery::Files(directory) => Kind::Files(files::Files::new(directory.clone())),
        })
    }

    /// Sends a mail, within 40 s. Sending it again sends the same bytes again, or replaces the same file.
    pub async fn send(&self, mail: &RenderedMail) -> Result<(), SendError> {
        match &self.0 {
            Kind::Smtp(pool) => pool.send(mail).await,
            Kind::Files(files) => files.send(mail).await,
        }
    }
}
