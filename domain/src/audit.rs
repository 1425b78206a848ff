//! The audit log: who did what to which object, append-only, in the transaction that did it.

use diesel_async::RunQueryDsl;
use serde_json::Value;
use uuid::Uuid;

use crate::{db::Conn, fault::Fault, schema::audit_log, trace::TraceContext};

/// One line of the log.
#[derive(Debug, diesel::Insertable)]
#[diesel(table_name = audit_log)]
pub struct AuditEntry {
    /// Nobody: Evently itself.
    actor_id: Option<Uuid>,
    action: &'static str,
    object_type: &'static str,
    object_id: Uuid,
    detail: Value,
    trace_id: Option<String>,
}

impl AuditEntry {
    /// `action` is `<noun>.<past participle>`, for example `event.published`.
    pub fn new(
        actor: Option<Uuid>,
        action: &'static str,
        object: (&'static str, Uuid),
        detail: Value,
    ) -> Self {
        Self {
            actor_id: actor,
            action,
            object_type: object.0,
            object_id: object.1,
            detail,
            trace_id: TraceContext::current().map(TraceContext::trace_id_hex),
        }
    }
}

/// Appends entries; call it inside the transaction that they describe.
pub async fn append(conn: &mut Conn, entries: &[AuditEntry]) -> Result<(), Fault> {
    if !entries.is_empty() {
        diesel::insert_into(audit_log::table).values(entries).execute(conn).await?;
    }
    Ok(())
}
