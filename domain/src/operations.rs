//! What operators do to queues and schedules, as the audit log keeps it.
//!
//! The log is written before the queue is touched: killed in between, it says what was asked for and not done, never the
//! other way round.

use diesel_async::AsyncConnection;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    audit::{self, AuditEntry},
    db::Db,
    fault::Fault,
    outbox, schedules,
};

/// Who does it, and why.
#[derive(Clone, Debug, Default)]
pub struct Operator {
    /// The account; none for whoever has the command line.
    pub id: Option<Uuid>,
    /// What else is known of who it is: the user on the command line.
    pub by: Option<String>,
    pub reason: Option<String>,
}

/// What it is done to.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// A job by its id. In the log it stands under the first id in its own, that of the mail or hold it is about.
    Job(&'a str),
    /// A pool by its name.
    Pool(&'a str),
    /// A schedule by its name.
    Schedule(&'a str),
}

impl Subject<'_> {
    fn object(&self) -> (&'static str, Uuid) {
        match self {
            Self::Job(id) => {
                ("job", id.split(':').find_map(|part| part.parse().ok()).unwrap_or_else(Uuid::nil))
            }
            Self::Pool(_) => ("pool", Uuid::nil()),
            Self::Schedule(_) => ("schedule", Uuid::nil()),
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Job(name) | Self::Pool(name) | Self::Schedule(name) => name,
        }
    }
}

fn entry(operator: &Operator, action: &'static str, subject: Subject<'_>, detail: &Value) -> AuditEntry {
    let mut all = json!({"name": subject.name(), "reason": operator.reason});
    if let Some(by) = &operator.by {
        all["by"] = json!(by);
    }
    for (name, value) in detail.as_object().into_iter().flatten() {
        all[name] = value.clone();
    }
    AuditEntry::new(operator.id, action, subject.object(), all)
}

/// Notes what an operator is about to do.
pub async fn note(
    db: &Db,
    operator: &Operator,
    action: &'static str,
    subject: Subject<'_>,
    detail: &Value,
) -> Result<(), Fault> {
    audit::append(&mut *db.conn().await?, &[entry(operator, action, subject, detail)]).await
}

/// Notes that a job is about to be discarded, and buries its outbox row, or the relay would bring it back.
pub async fn note_discard(
    db: &Db,
    operator: &Operator,
    job_id: &str,
    outbox_id: Option<Uuid>,
) -> Result<(), Fault> {
    let entry = entry(operator, "job.discarded", Subject::Job(job_id), &json!({}));
    let mut conn = db.conn().await?;
    conn.transaction(async |conn| {
        audit::append(conn, &[entry]).await?;
        if let Some(row) = outbox_id {
            outbox::bury(conn, row, "discarded by an operator").await?;
        }
        Ok(())
    })
    .await
}

/// Makes the outbox rows of retried jobs the relay's to care for again. Safe to repeat.
pub async fn revive(db: &Db, outbox_ids: &[Uuid]) -> Result<(), Fault> {
    if outbox_ids.is_empty() {
        return Ok(());
    }
    let mut conn = db.conn().await?;
    for row in outbox_ids {
        outbox::revive(&mut conn, *row).await?;
    }
    Ok(())
}

/// Asks for a schedule to run at once, and notes it; answers whether there is such a schedule. Safe to repeat.
pub async fn run_now(db: &Db, operator: &Operator, name: &str) -> Result<bool, Fault> {
    let entry = entry(operator, "schedule.requested", Subject::Schedule(name), &json!({}));
    let mut conn = db.conn().await?;
    conn.transaction(async |conn| {
        let known = schedules::want(conn, name).await?;
        if known {
            audit::append(conn, &[entry]).await?;
        }
        Ok(known)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_found_under_what_it_is_about() {
        let hold = Uuid::now_v7();
        assert_eq!(Subject::Job(&format!("confirm_booking:{hold}:2")).object(), ("job", hold));
        assert_eq!(Subject::Job("tick:7").object(), ("job", Uuid::nil()));
        assert_eq!(Subject::Pool("email").object(), ("pool", Uuid::nil()));
    }
}
