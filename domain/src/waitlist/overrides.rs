//! What organizers do to the line by hand: offer now, move, remove. Each is audited with its actor and reason.

use diesel::{
    OptionalExtension, QueryableByName, sql_query,
    sql_types::{BigInt, Integer, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use serde_json::json;
use uuid::Uuid;

use super::{
    Waited, ends, line,
    promote::{self, Pick},
};
use crate::{
    audit::{self, AuditEntry},
    bookings::Changes,
    db::{Conn, Db},
    events::Editor,
    fault::Fault,
    inventory::{Inventory, SyncError},
    statement::prepared,
};

#[derive(Debug, thiserror::Error)]
pub enum OverrideError {
    /// Unknown, of another event, or of somebody else's event.
    #[error("there is no such entry")]
    NotFound,
    /// It does not wait any more.
    #[error("the entry does not wait")]
    NotWaiting,
    /// There are not so many seats.
    #[error("there are not enough free seats")]
    NoSeats,
    /// The event is not on sale any more, or has begun.
    #[error("the event is not on sale")]
    SaleClosed,
    #[error("the inventory is being rebuilt")]
    Rebuilding,
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<SyncError> for OverrideError {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::UnknownEvent => Self::NotFound,
            SyncError::Rebuilding => Self::Rebuilding,
            SyncError::Fault(fault) => Self::Fault(fault),
        }
    }
}

impl From<diesel::result::Error> for OverrideError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Fault(error.into())
    }
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    organizer_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    ticket_type_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
    #[diesel(sql_type = Integer)]
    quantity: i32,
    #[diesel(sql_type = Text)]
    status: String,
}

/// The entry, if this editor may touch it.
async fn find(conn: &mut Conn, editor: Editor, event_id: Uuid, id: Uuid) -> Result<Row, OverrideError> {
    let row: Option<Row> = prepared(
        sql_query(
            "SELECT e.organizer_id, w.ticket_type_id, w.user_id, w.quantity, w.status
             FROM waitlist_entries w JOIN events e ON e.id = w.event_id WHERE w.id = $1 AND w.event_id = $2",
        )
        .bind::<SqlUuid, _>(id)
        .bind::<SqlUuid, _>(event_id),
    )
    .get_result(conn)
    .await
    .optional()?;
    row.filter(|row| editor.may_edit(Some(row.organizer_id))).ok_or(OverrideError::NotFound)
}

fn audited(
    editor: Editor,
    action: &'static str,
    id: Uuid,
    row: &Row,
    reason: Option<&str>,
    position: Option<i64>,
) -> AuditEntry {
    let detail = json!({
        "ticket_type_id": row.ticket_type_id,
        "user_id": row.user_id,
        "quantity": row.quantity,
        "reason": reason,
        "position": position,
    });
    AuditEntry::new(Some(editor.user_id), action, ("waitlist_entry", id), detail)
}

/// Offers this entry its seats now, whoever stands before it: out of what is free for the waitlist, or for the public.
pub async fn offer_now(
    db: &Db,
    inventory: &Inventory,
    editor: Editor,
    event_id: Uuid,
    id: Uuid,
    reason: Option<&str>,
) -> Result<(), OverrideError> {
    let row = find(&mut *db.conn().await?, editor, event_id, id).await?;
    if row.status != "waiting" {
        return Err(OverrideError::NotWaiting);
    }
    let waited = Waited {
        event_id,
        ticket_type_id: row.ticket_type_id,
        smallest: row.quantity,
        largest: row.quantity,
    };
    let on_sale = promote::waited_for(db, Some(event_id), 1000).await?;
    if !on_sale.iter().any(|other| other.ticket_type_id == row.ticket_type_id) {
        return Err(OverrideError::SaleClosed);
    }
    let seats = i64::from(row.quantity);
    let taken = promote::take(db, inventory, &waited, seats, seats, true).await?;
    let taken = taken.ok_or(OverrideError::NoSeats)?;
    let pick = Pick::One { entry_id: id, seats: taken.seats };
    let entry = audited(editor, "waitlist_entry.offered", id, &row, reason, None);
    let offered = promote::offer(db, &waited, pick, Some(entry)).await;
    taken.end(inventory, offered).await?.map(|_| ()).ok_or(OverrideError::NotWaiting)
}

/// Puts a waiting entry at this place in line, from 1; beyond the end is the end.
pub async fn move_to(
    db: &Db,
    editor: Editor,
    event_id: Uuid,
    id: Uuid,
    position: i64,
    reason: Option<&str>,
) -> Result<(), OverrideError> {
    let mut conn = db.conn().await?;
    (*conn)
        .transaction(async |conn: &mut Conn| {
            let row = find(conn, editor, event_id, id).await?;
            line::lock(conn, vec![row.ticket_type_id]).await?;
            let moved = prepared(
                sql_query(include_str!("sql/move.sql"))
                    .bind::<SqlUuid, _>(id)
                    .bind::<SqlUuid, _>(row.ticket_type_id)
                    .bind::<BigInt, _>(position),
            )
            .execute(conn)
            .await?;
            if moved == 0 {
                return Err(OverrideError::NotWaiting);
            }
            let entry = audited(editor, "waitlist_entry.moved", id, &row, reason, Some(position));
            Ok(audit::append(conn, &[entry]).await?)
        })
        .await
}

/// Takes an entry off the list; an open offer of it is withdrawn. Answers what Redis is to be told.
pub async fn remove(
    db: &Db,
    editor: Editor,
    event_id: Uuid,
    id: Uuid,
    reason: Option<&str>,
) -> Result<Changes, OverrideError> {
    let mut conn = db.conn().await?;
    (*conn)
        .transaction(async |conn: &mut Conn| {
            let row = find(conn, editor, event_id, id).await?;
            let ended = ends::leave_one(conn, id, row.ticket_type_id).await?;
            if ended.count > 0 {
                let entry = audited(editor, "waitlist_entry.removed", id, &row, reason, None);
                audit::append(conn, &[entry]).await?;
            }
            Ok(ended.changes)
        })
        .await
}
