//! Sends one mail.
//!
//! Enqueued by the relay, out of the outbox row that is written with the mail. A second run finds the mail sent,
//! or leased by the first, and sends nothing. A run that does not learn whether the server took the mail leaves
//! it to be sent again: the same bytes under the same Message-ID.

use std::time::{Duration, Instant};

use domain::{
    jobs::SendMail,
    kill_point::kill_point,
    mails::{Claimed, LeasedMail},
};

use super::transport::SendError;
use crate::{
    Context, JobError,
    runtime::{Backoff, Policy},
};

pub const POLICY: Policy = Policy {
    // With these pauses, a server may be away for more than an hour.
    attempts: 16,
    // More than a sending may take, waits for Postgres included. Two at once are harmless: the lease decides.
    timeout: Duration::from_secs(55),
    // Greylisting servers want a minute or more, a busy one a moment.
    backoff: Backoff::exponential(Duration::from_secs(2), Duration::from_mins(10)),
};

pub async fn run(job: SendMail, ctx: &Context) -> Result<(), JobError> {
    kill_point("mail.begun");
    let mailer = &ctx.mailer;
    match mailer.claim(job.mail_id).await? {
        Claimed::Leased(mail) if mail.too_late => give_up(ctx, &mail, "too late", "too_late").await,
        Claimed::Leased(mail) => send(ctx, *mail).await,
        Claimed::Busy(rest) => Err(JobError::retry(format!("being sent elsewhere, for {rest:?} at most"))),
        Claimed::Ended => Ok(()),
        Claimed::Unknown => Err(JobError::discard("there is no such mail")),
        Claimed::Unreadable(error) => {
            mailer.mark_failed(job.mail_id, &error).await?;
            Err(JobError::discard(error))
        }
    }
}

async fn send(ctx: &Context, mail: LeasedMail) -> Result<(), JobError> {
    kill_point("mail.leased");
    let began = Instant::now();
    let kind = mail.content.kind();
    let rendered = match ctx.mailer.render(mail.clone()).await {
        Ok(rendered) => rendered,
        Err(error) => return give_up(ctx, &mail, &error.to_string(), "failed").await,
    };
    match ctx.mailer.send(&rendered).await {
        Ok(()) => {
            kill_point("mail.taken");
            ctx.mailer.mark_sent(mail.id).await?;
            kill_point("mail.recorded");
            count(kind, "sent");
            metrics::histogram!("evently_mail_send_seconds", "kind" => kind).record(began.elapsed());
            tracing::info!(mail_id = %mail.id, kind, attempt = mail.attempt, "mail sent");
            Ok(())
        }
        Err(SendError::Permanent(error)) => give_up(ctx, &mail, &error, "failed").await,
        Err(SendError::Temporary(error)) => {
            count(kind, "retry");
            ctx.mailer.release(mail.id, mail.attempt, &error).await?;
            Err(JobError::retry(error))
        }
    }
}

/// The job is done: what there is to know about the mail stands in its row.
async fn give_up(ctx: &Context, mail: &LeasedMail, why: &str, outcome: &'static str) -> Result<(), JobError> {
    ctx.mailer.mark_failed(mail.id, why).await?;
    count(mail.content.kind(), outcome);
    tracing::warn!(mail_id = %mail.id, kind = mail.content.kind(), attempt = mail.attempt, why, "mail given up");
    Ok(())
}

fn count(kind: &'static str, outcome: &'static str) {
    metrics::counter!("evently_mails_total", "kind" => kind, "outcome" => outcome).increment(1);
}
