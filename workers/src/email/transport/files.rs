//! Mail as files, for development: `<time>-<mail id>.eml`, which `/dev/mail` shows.

use std::{io, path::PathBuf};

use uuid::Uuid;

use super::SendError;
use crate::email::render::RenderedMail;

pub(super) struct Files {
    directory: PathBuf,
}

impl Files {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Writes the mail whole or not at all. A mail has one name, so writing it again changes nothing.
    pub(super) async fn send(&self, mail: &RenderedMail) -> Result<(), SendError> {
        self.write(mail).await.map_err(|error| {
            SendError::Temporary(format!("cannot write into {}: {error}", self.directory.display()))
        })
    }

    async fn write(&self, mail: &RenderedMail) -> io::Result<()> {
        let name = format!("{}-{}", mail.due_at.format("%Y%m%dT%H%M%S%3fZ"), mail.id);
        let part = self.directory.join(format!(".{name}.{}", Uuid::now_v7().simple()));
        tokio::fs::create_dir_all(&self.directory).await?;
        tokio::fs::write(&part, &mail.raw).await?;
        tokio::fs::rename(&part, self.directory.join(format!("{name}.eml"))).await
    }
}
