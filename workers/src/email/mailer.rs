//! What every `send_mail` job shares: the way to the server, and batched leases.

use std::time::Duration;

use domain::{
    batch::{Batcher, Limits},
    db::Db,
    fault::Fault,
    mails::{self, Claim, Claimed, LeasedMail},
    trace::TraceContext,
};
use futures::FutureExt;
use uuid::Uuid;

use super::{
    config::MailConfig,
    render::{RenderError, RenderedMail, render},
    transport::{SendError, Transport},
};

/// Longer than the 40 s that a sending may take, so that nobody sends a mail that somebody else is sending.
const LEASE: Duration = Duration::from_mins(1);
/// Not more than the jobs of a process wait for each other.
const LIMITS: Limits = Limits { most: 256, lanes: 1, waiting: 256, timeout: Duration::from_secs(12) };

/// Leases, renders, sends and settles mails.
pub struct Mailer {
    db: Db,
    transport: Transport,
    claims: Batcher<Claim, Claimed>,
    sent: Batcher<Uuid, ()>,
}

impl Mailer {
    /// Opens no connection yet; call it inside a runtime.
    pub fn new(db: &Db, config: &MailConfig) -> Self {
        let (sender, base_url) = (config.sender.clone(), config.base_url.clone());
        let claims = {
            let db = db.clone();
            Batcher::start("mail_claim", LIMITS, move |claims: Vec<Claim>| {
                let (db, sender, base_url) = (db.clone(), sender.clone(), base_url.clone());
                async move { mails::claim(&mut *db.conn().await?, &claims, &sender, &base_url, LEASE).await }
                    .boxed()
            })
        };
        let sent = {
            let db = db.clone();
            Batcher::start("mail_sent", LIMITS, move |ids: Vec<Uuid>| {
                let db = db.clone();
                async move {
                    mails::mark_sent(&mut *db.conn().await?, &ids).await?;
                    Ok(vec![(); ids.len()])
                }
                .boxed()
            })
        };
        Self { db: db.clone(), transport: Transport::new(config), claims, sent }
    }

    /// Takes the lease on a mail; see [`mails::claim`].
    pub(super) async fn claim(&self, mail_id: Uuid) -> Result<Claimed, Fault> {
        let traceparent = TraceContext::current().map(|context| context.to_string());
        Ok(self.claims.call(Claim { mail_id, traceparent }).await?)
    }

    /// Renders off the async threads: a booking may have a thousand QR codes.
    pub(super) async fn render(&self, mail: LeasedMail) -> Result<RenderedMail, RenderError> {
        let rendering = tokio::task::spawn_blocking(move || render(&mail));
        rendering.await.unwrap_or_else(|error| Err(Fault::Corrupt(format!("rendering: {error}")).into()))
    }

    pub(super) async fn send(&self, mail: &RenderedMail) -> Result<(), SendError> {
        self.transport.send(mail).await
    }

    pub(super) async fn mark_sent(&self, mail_id: Uuid) -> Result<(), Fault> {
        Ok(self.sent.call(mail_id).await?)
    }

    pub(super) async fn mark_failed(&self, mail_id: Uuid, error: &str) -> Result<(), Fault> {
        mails::mark_failed(&mut *self.db.conn().await?, mail_id, error).await
    }

    /// Gives the lease of this attempt back.
    pub(super) async fn release(&self, mail_id: Uuid, attempt: i32, error: &str) -> Result<(), Fault> {
        mails::release(&mut *self.db.conn().await?, mail_id, attempt, error).await
    }
}
