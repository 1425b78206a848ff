//! The life of an event: created, changed, published, cancelled, completed.
//!
//! Every write runs in one transaction with its audit entry and the jobs that it causes. The event's row is
//! locked first, ticket types after it in the order of their ids. A write of what Redis knows too records a
//! `SyncInventory`; callers that want it at once sync after the commit as well.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};
use rand::Rng;
use serde_json::json;
use uuid::Uuid;

use super::{
    EventStatus, NewEvent, StoredEvent,
    fields::{EventFields, TicketTypeFields, check_ticket_types},
    read, ticket_types,
};
use crate::{
    audit::{self, AuditEntry},
    clock,
    db::{Conn, Db},
    fault::Fault,
    invalid::FieldError,
    inventory::SyncError,
    jobs::{CancelEventBookings, SyncInventory},
    outbox::{self, OutboxEntry},
    pricing,
    schema::{events, ticket_types as types_table, venues},
};

/// The currency of an event that has no ticket type yet: ISO 4217 for "none".
pub(super) const NO_CURRENCY: &str = "XXX";

/// Who writes: admins may write everything, organizers what is theirs.
#[derive(Clone, Copy, Debug)]
pub struct Editor {
    pub user_id: Uuid,
    pub is_admin: bool,
}

impl Editor {
    /// Whether what this user owns may be read before it is public, and changed.
    pub fn may_edit(self, owner: Option<Uuid>) -> bool {
        self.is_admin || owner == Some(self.user_id)
    }
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Unknown, or somebody else's.
    #[error("no such object")]
    NotFound,
    /// It has another version than the writer has seen.
    #[error("the object has changed")]
    Stale,
    /// Its state does not allow it; the sentence says why.
    #[error("{0}")]
    InvalidState(&'static str),
    #[error("{} fields are not valid", .0.len())]
    Invalid(Vec<FieldError>),
    /// More is sold, held or offered than the new capacity.
    #[error("the capacity is in use")]
    CapacityInUse,
    /// Redis must know first, and has no inventory of this event just now.
    #[error("the inventory is being rebuilt")]
    Rebuilding,
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl WriteError {
    pub(super) fn field(pointer: &str, detail: &str) -> Self {
        Self::Invalid(vec![FieldError::new(pointer, detail)])
    }
}

impl From<SyncError> for WriteError {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::Rebuilding | SyncError::UnknownEvent => Self::Rebuilding,
            SyncError::Fault(fault) => fault.into(),
        }
    }
}

impl From<serde_json::Error> for WriteError {
    fn from(error: serde_json::Error) -> Self {
        Self::Fault(error.into())
    }
}

impl From<diesel::result::Error> for WriteError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Fault(error.into())
    }
}

/// What a write looks at before it decides.
#[derive(Debug, Queryable)]
pub(crate) struct Locked {
    organizer_id: Uuid,
    status: String,
    pub(super) version: i64,
    pub(super) currency: String,
    ends_at: DateTime<Utc>,
    sales_start_at: DateTime<Utc>,
}

impl Locked {
    pub(super) fn status(&self) -> Result<EventStatus, Fault> {
        EventStatus::from_str(&self.status)
    }

    /// Refuses what only events that are not over yet allow.
    pub(crate) fn require_open(&self) -> Result<EventStatus, WriteError> {
        match self.status()? {
            open @ (EventStatus::Draft | EventStatus::Published) => Ok(open),
            EventStatus::Cancelled => Err(WriteError::InvalidState("The event is cancelled.")),
            EventStatus::Completed => Err(WriteError::InvalidState("The event is over.")),
        }
    }
}

/// Locks an event that this editor may write.
pub(crate) async fn lock(conn: &mut Conn, editor: Editor, id: Uuid) -> Result<Locked, WriteError> {
    let found: Option<Locked> = events::table
        .find(id)
        .select((
            events::organizer_id,
            events::status,
            events::version,
            events::currency,
            events::ends_at,
            events::sales_start_at,
        ))
        .for_no_key_update()
        .first(conn)
        .await
        .optional()?;
    found.filter(|event| editor.may_edit(Some(event.organizer_id))).ok_or(WriteError::NotFound)
}

/// Creates a draft in the caller's transaction, owned by `organizer_id`.
pub async fn create(conn: &mut Conn, organizer_id: Uuid, event: NewEvent) -> Result<StoredEvent, WriteError> {
    let (fields, types) = event.into_parts();
    let checked = fields.check(clock::now());
    let types_checked = check_ticket_types(&types);
    let event = match (checked, types_checked) {
        (Ok(event), Ok(())) => event,
        (event, types) => {
            let errors = event.err().into_iter().chain(types.err()).flatten().collect();
            return Err(WriteError::Invalid(errors));
        }
    };
    require_venue(conn, event.venue_id).await?;
    let id = Uuid::now_v7();
    let currency = types.as_slice().first().map_or(NO_CURRENCY, |first| first.base_price.currency.as_str());
    let title = event.title.clone();
    let slug = slug(&title);
    let values =
        (&event, events::id.eq(id), events::organizer_id.eq(organizer_id), events::currency.eq(currency));
    let mut candidate = slug.clone();
    loop {
        let inserted = diesel::insert_into(events::table)
            .values((values, events::slug.eq(&candidate)))
            .on_conflict(events::slug)
            .do_nothing()
            .execute(conn)
            .await?;
        if inserted == 1 {
            break;
        }
        candidate = format!("{slug}-{:06x}", rand::rng().random_range(0..0x100_0000));
    }
    insert_ticket_types(conn, id, &types).await?;
    let detail = json!({ "title": title, "ticket_types": types.len() });
    audit::append(conn, &[AuditEntry::new(Some(organizer_id), "event.created", ("event", id), detail)])
        .await?;
    whole(conn, id).await
}

async fn insert_ticket_types(conn: &mut Conn, id: Uuid, types: &[TicketTypeFields]) -> Result<(), Fault> {
    let rows: Vec<_> =
        types.iter().zip(0..).map(|(fields, position)| ticket_types::new_row(id, position, fields)).collect();
    diesel::insert_into(types_table::table).values(rows).execute(conn).await?;
    Ok(())
}

/// Replaces the event's own fields if its version is still `expected`.
pub async fn replace(
    db: &Db,
    editor: Editor,
    id: Uuid,
    expected: i64,
    fields: EventFields,
) -> Result<StoredEvent, WriteError> {
    let mut conn = db.conn().await?;
    (*conn)
        .transaction(async |conn: &mut Conn| {
            let present = lock(conn, editor, id).await?;
            let checked = fields.check(present.sales_start_at).map_err(WriteError::Invalid)?;
            if present.version != expected {
                return Err(WriteError::Stale);
            }
            let status = present.require_open()?;
            if status == EventStatus::Published && checked.ends_at <= clock::now() {
                return Err(WriteError::field("/ends_at", "must be in the future: the event is published"));
            }
            require_venue(conn, checked.venue_id).await?;
            diesel::update(events::table.find(id)).set(&checked).execute(conn).await?;
            changed(conn, id, Some(editor.user_id), "event.updated", json!({}), &[]).await?;
            whole(conn, id).await
        })
        .await
}

/// Deletes a draft for good, if its version is still `expected`.
pub async fn delete(db: &Db, editor: Editor, id: Uuid, expected: i64) -> Result<(), WriteError> {
    let mut conn = db.conn().await?;
    (*conn)
        .transaction(async |conn: &mut Conn| {
            let present = lock(conn, editor, id).await?;
            if present.version != expected {
                return Err(WriteError::Stale);
            }
            if present.status()? != EventStatus::Draft {
                return Err(WriteError::InvalidState(
                    "Only a draft can be deleted; cancel the event instead.",
                ));
            }
            diesel::delete(events::table.find(id)).execute(conn).await?;
            let entry = AuditEntry::new(Some(editor.user_id), "event.deleted", ("event", id), json!({}));
            Ok(audit::append(conn, &[entry]).await?)
        })
        .await
}

/// Puts a draft on the list, if its version is still `expected` where one is named.
pub async fn publish(
    db: &Db,
    editor: Editor,
    id: Uuid,
    expected: Option<i64>,
) -> Result<StoredEvent, WriteError> {
    let mut conn = db.conn().await?;
    (*conn)
        .transaction(async |conn: &mut Conn| {
            let present = lock(conn, editor, id).await?;
            if expected.is_some_and(|expected| expected != present.version) {
                return Err(WriteError::Stale);
            }
            if present.status()? != EventStatus::Draft {
                return Err(WriteError::InvalidState("Only a draft can be published."));
            }
            if present.ends_at <= clock::now() {
                return Err(WriteError::InvalidState("The event's end has passed."));
            }
            if ticket_types::count(conn, id).await? == 0 {
                return Err(WriteError::InvalidState("An event needs a ticket type before it is published."));
            }
            diesel::update(events::table.find(id))
                .set((
                    events::status.eq(EventStatus::Published.name()),
                    events::published_at.eq(diesel::dsl::now),
                ))
                .execute(conn)
                .await?;
            changed(conn, id, Some(editor.user_id), "event.published", json!({}), &[]).await?;
            whole(conn, id).await
        })
        .await
}

/// Cancels a published event, if its version is still `expected` where one is named: no more seats are held,
/// and `CancelEventBookings` ends, refunds and mails what there is. A cancelled one is answered as it is.
pub async fn cancel(
    db: &Db,
    editor: Editor,
    id: Uuid,
    expected: Option<i64>,
) -> Result<StoredEvent, WriteError> {
    let mut conn = db.conn().await?;
    (*conn)
        .transaction(async |conn: &mut Conn| {
            let present = lock(conn, editor, id).await?;
            match present.status()? {
                EventStatus::Cancelled => return whole(conn, id).await,
                EventStatus::Published => {}
                EventStatus::Draft => {
                    return Err(WriteError::InvalidState("A draft cannot be cancelled; delete it instead."));
                }
                EventStatus::Completed => return Err(WriteError::InvalidState("The event is over.")),
            }
            if expected.is_some_and(|expected| expected != present.version) {
                return Err(WriteError::Stale);
            }
            diesel::update(events::table.find(id))
                .set((
                    events::status.eq(EventStatus::Cancelled.name()),
                    events::cancelled_at.eq(diesel::dsl::now),
                ))
                .execute(conn)
                .await?;
            let job = OutboxEntry::new(&id.to_string(), &CancelEventBookings { event_id: id });
            changed(conn, id, Some(editor.user_id), "event.cancelled", json!({}), &[job]).await?;
            whole(conn, id).await
        })
        .await
}

/// Marks at most `limit` published events whose end has passed as completed; answers which. Safe to repeat,
/// and at once with others.
pub async fn complete_ended(db: &Db, limit: i64) -> Result<Vec<Uuid>, Fault> {
    let mut conn = db.conn().await?;
    (*conn)
        .transaction(async |conn: &mut Conn| {
            let ended: Vec<Uuid> = events::table
                .filter(
                    events::status
                        .eq(EventStatus::Published.name())
                        .and(events::ends_at.le(diesel::dsl::now)),
                )
                .order(events::id)
                .limit(limit)
                .select(events::id)
                .for_no_key_update()
                .skip_locked()
                .load(conn)
                .await?;
            diesel::update(events::table.filter(events::id.eq_any(&ended)))
                .set(events::status.eq(EventStatus::Completed.name()))
                .execute(conn)
                .await?;
            for id in &ended {
                changed(conn, *id, None, "event.completed", json!({}), &[]).await?;
            }
            Ok(ended)
        })
        .await
}

/// What every change of an event does besides: raises its version, writes the audit entry, records the sync
/// of its inventory and the jobs that this change causes, and sets when its prices are due.
pub(crate) async fn changed(
    conn: &mut Conn,
    id: Uuid,
    actor: Option<Uuid>,
    action: &'static str,
    mut detail: serde_json::Value,
    jobs: &[OutboxEntry],
) -> Result<(), Fault> {
    let (version, status): (i64, String) = diesel::update(events::table.find(id))
        .set((events::version.eq(events::version + 1), events::updated_at.eq(diesel::dsl::now)))
        .returning((events::version, events::status))
        .get_result(conn)
        .await?;
    detail["version"] = version.into();
    audit::append(conn, &[AuditEntry::new(actor, action, ("event", id), detail)]).await?;
    outbox::record(conn, jobs).await?;
    pricing::arm(conn, id).await?;
    // Redis learns of an event when it is published.
    if EventStatus::from_str(&status)? != EventStatus::Draft {
        let sync = OutboxEntry::new(&format!("{id}:{version}"), &SyncInventory { event_id: id });
        outbox::record(conn, &[sync]).await?;
    }
    Ok(())
}

/// The event as it now stands; it was locked in this transaction, so it is there.
pub(super) async fn whole(conn: &mut Conn, id: Uuid) -> Result<StoredEvent, WriteError> {
    read::find(conn, id).await?.ok_or(WriteError::NotFound)
}

async fn require_venue(conn: &mut Conn, id: Uuid) -> Result<(), WriteError> {
    let known = diesel::select(diesel::dsl::exists(venues::table.find(id))).get_result(conn).await?;
    if known { Ok(()) } else { Err(WriteError::field("/venue_id", "names no venue")) }
}

/// A title as the readable part of an address: lower-case ASCII letters and digits between single dashes.
fn slug(title: &str) -> String {
    let mut slug = String::new();
    for c in title.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
        if slug.len() >= 80 {
            break;
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "event".to_owned() } else { slug.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::slug;

    #[test]
    fn slugs() {
        assert_eq!(slug("  Harbour Night: 2030! "), "harbour-night-2030");
        assert_eq!(slug("音楽会"), "event");
        assert_eq!(slug(&"ab ".repeat(100)).len(), 80);
    }
}
