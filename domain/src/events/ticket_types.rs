//! The ticket types of an event: added, changed and removed, also while they are sold.
//!
//! A capacity is raised here first and in Redis after the commit. It is cut in Redis first, which refuses to go
//! below what is sold, held or offered, and set right again should the cut then fail here.

use std::sync::atomic::{AtomicBool, Ordering};

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};
use serde_json::json;
use uuid::Uuid;

use super::{
    Event, EventStatus, Seating, StoredEvent, TicketType,
    fields::{MAX_TICKET_TYPES, TicketTypeFields, narrow},
    write::{Editor, NO_CURRENCY, WriteError, changed, lock, whole},
};
use crate::{
    db::{Conn, Db},
    fault::Fault,
    inventory::{self, Inventory, LowerCapacity, SeatSnapshot},
    pricing::{self, ManualChange},
    schema::{events, ticket_types},
};

#[derive(Insertable)]
#[diesel(table_name = ticket_types)]
pub(super) struct NewRow<'a> {
    id: Uuid,
    event_id: Uuid,
    name: &'a str,
    description: &'a str,
    seating: &'static str,
    position: i32,
    capacity: i32,
    base_price: i64,
    price: i64,
}

/// The row of a new ticket type whose fields were checked.
pub(super) fn new_row(event_id: Uuid, position: i32, fields: &TicketTypeFields) -> NewRow<'_> {
    NewRow {
        id: Uuid::now_v7(),
        event_id,
        name: &fields.name,
        description: &fields.description,
        seating: match fields.seating {
            Seating::General => "general",
            Seating::Reserved => "reserved",
        },
        position,
        capacity: narrow(fields.capacity),
        base_price: fields.base_price.amount,
        price: fields.base_price.amount,
    }
}

/// How many ticket types an event has.
pub(super) async fn count(conn: &mut Conn, event_id: Uuid) -> Result<i64, Fault> {
    Ok(ticket_types::table
        .filter(ticket_types::event_id.eq(event_id).and(ticket_types::deleted_at.is_null()))
        .count()
        .get_result(conn)
        .await?)
}

/// Adds a ticket type; raises the event's version.
pub async fn add_ticket_type(
    db: &Db,
    editor: Editor,
    event_id: Uuid,
    fields: &TicketTypeFields,
) -> Result<WrittenTicketType, WriteError> {
    let mut conn = db.conn().await?;
    (*conn)
        .transaction(async |conn: &mut Conn| {
            let event = lock(conn, editor, event_id).await?;
            let count = count(conn, event_id).await?;
            // The first ticket type decides the currency, until something may have been sold in it.
            let fresh =
                count == 0 && (event.status()? == EventStatus::Draft || event.currency == NO_CURRENCY);
            fields.check((!fresh).then_some(&event.currency)).map_err(WriteError::Invalid)?;
            event.require_open()?;
            if count >= i64::try_from(MAX_TICKET_TYPES).unwrap_or(i64::MAX) {
                return Err(WriteError::field("", "the event has as many ticket types as an event may have"));
            }
            if fresh {
                diesel::update(events::table.find(event_id))
                    .set(events::currency.eq(&fields.base_price.currency))
                    .execute(conn)
                    .await?;
            }
            let last: Option<i32> = ticket_types::table
                .filter(ticket_types::event_id.eq(event_id))
                .select(diesel::dsl::max(ticket_types::position))
                .first(conn)
                .await?;
            let row = new_row(event_id, last.map_or(0, |last| last + 1), fields);
            let id = row.id;
            diesel::insert_into(ticket_types::table).values(row).execute(conn).await?;
            let detail = json!({ "ticket_type_id": id, "capacity": fields.capacity });
            changed(conn, event_id, Some(editor.user_id), "ticket_type.created", detail, &[]).await?;
            written(whole(conn, event_id).await?.event, id)
        })
        .await
}

/// What a ticket type is before it is changed.
#[derive(Debug, Queryable)]
struct Present {
    version: i64,
    capacity: i32,
    sold: i32,
    reserved: i32,
    base_price: i64,
    price: i64,
    inventory_version: i64,
    waiting_tickets: i32,
}

async fn lock_type(conn: &mut Conn, event_id: Uuid, id: Uuid, expected: i64) -> Result<Present, WriteError> {
    let present: Option<Present> = ticket_types::table
        .filter(ticket_types::id.eq(id).and(ticket_types::event_id.eq(event_id)))
        .filter(ticket_types::deleted_at.is_null())
        .select((
            ticket_types::version,
            ticket_types::capacity,
            ticket_types::sold,
            ticket_types::reserved,
            ticket_types::base_price,
            ticket_types::price,
            ticket_types::inventory_version,
            ticket_types::waiting_tickets,
        ))
        .for_no_key_update()
        .first(conn)
        .await
        .optional()?;
    let present = present.ok_or(WriteError::NotFound)?;
    if present.version == expected { Ok(present) } else { Err(WriteError::Stale) }
}

/// Replaces a ticket type's fields if its version is still `expected`; raises the event's version too. A new
/// base price is the price from now on. A cut of the capacity needs Redis, which alone knows what is held.
pub async fn replace_ticket_type(
    db: &Db,
    inventory: &Inventory,
    target: Target,
    fields: &TicketTypeFields,
) -> Result<WrittenTicketType, WriteError> {
    let event = write(db, inventory, target, Change::Replace(fields)).await?.event;
    written(event, target.id)
}

/// Removes a ticket type of which nothing is sold, held or offered, if its version is still `expected`; raises the
/// event's version. The row stays, without capacity, for what was sold and cancelled.
pub async fn delete_ticket_type(
    db: &Db,
    inventory: &Inventory,
    target: Target,
) -> Result<StoredEvent, WriteError> {
    write(db, inventory, target, Change::Delete).await
}

/// Who changes which ticket type, and what version of it they have seen.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub editor: Editor,
    pub event_id: Uuid,
    pub id: Uuid,
    pub expected: i64,
}

#[derive(Clone, Copy)]
enum Change<'a> {
    Replace(&'a TicketTypeFields),
    Delete,
}

async fn replace_row(
    conn: &mut Conn,
    cut: &Cut<'_>,
    Target { editor, event_id, id, expected }: Target,
    fields: &TicketTypeFields,
) -> Result<(), WriteError> {
    let event = lock(conn, editor, event_id).await?;
    let present = lock_type(conn, event_id, id, expected).await?;
    fields.check(Some(&event.currency)).map_err(WriteError::Invalid)?;
    let status = event.require_open()?;
    let capacity = narrow(fields.capacity);
    let base_price = fields.base_price.amount;
    let price = if base_price == present.base_price { present.price } else { base_price };
    if capacity < present.capacity && status == EventStatus::Published {
        cut.lower(event_id, &present.lowered(id, capacity, price)).await?;
    }
    let written = diesel::update(ticket_types::table.find(id))
        .filter((ticket_types::sold + ticket_types::reserved).le(capacity))
        .set((
            ticket_types::name.eq(&fields.name),
            ticket_types::description.eq(&fields.description),
            ticket_types::capacity.eq(capacity),
            ticket_types::base_price.eq(base_price),
            ticket_types::price.eq(price),
            ticket_types::version.eq(ticket_types::version + 1),
            ticket_types::inventory_version.eq(ticket_types::inventory_version + 1),
            ticket_types::updated_at.eq(diesel::dsl::now),
        ))
        .execute(conn)
        .await?;
    if written == 0 {
        return Err(WriteError::CapacityInUse);
    }
    let change = ManualChange {
        event_id,
        ticket_type_id: id,
        actor_id: editor.user_id,
        price: (present.price, price),
        base_price: (present.base_price, base_price),
        currency: &event.currency,
    };
    pricing::record_manual(conn, change).await?;
    let detail = json!({
        "ticket_type_id": id,
        "capacity": { "from": present.capacity, "to": capacity },
        "base_price": { "from": present.base_price, "to": base_price },
    });
    Ok(changed(conn, event_id, Some(editor.user_id), "ticket_type.updated", detail, &[]).await?)
}

async fn delete_row(
    conn: &mut Conn,
    cut: &Cut<'_>,
    Target { editor, event_id, id, expected }: Target,
) -> Result<(), WriteError> {
    let event = lock(conn, editor, event_id).await?;
    let present = lock_type(conn, event_id, id, expected).await?;
    if event.require_open()? == EventStatus::Published {
        if count(conn, event_id).await? == 1 {
            return Err(WriteError::InvalidState("A published event needs a ticket type: this is its last."));
        }
        cut.lower(event_id, &SeatSnapshot { waiting: 0, ..present.lowered(id, 0, present.price) }).await?;
    }
    let written = diesel::update(ticket_types::table.find(id))
        .filter((ticket_types::sold + ticket_types::reserved).eq(0))
        .set((
            ticket_types::capacity.eq(0),
            ticket_types::waiting_entries.eq(0),
            ticket_types::waiting_tickets.eq(0),
            ticket_types::deleted_at.eq(diesel::dsl::now),
            ticket_types::version.eq(ticket_types::version + 1),
            ticket_types::inventory_version.eq(ticket_types::inventory_version + 1),
            ticket_types::updated_at.eq(diesel::dsl::now),
        ))
        .execute(conn)
        .await?;
    if written == 0 {
        return Err(WriteError::CapacityInUse);
    }
    diesel::sql_query(
        "UPDATE waitlist_entries SET status = 'expired', changed_at = now()
         WHERE ticket_type_id = $1 AND status = 'waiting'",
    )
    .bind::<diesel::sql_types::Uuid, _>(id)
    .execute(conn)
    .await?;
    let detail = json!({ "ticket_type_id": id });
    Ok(changed(conn, event_id, Some(editor.user_id), "ticket_type.deleted", detail, &[]).await?)
}

impl Present {
    /// The row that a cut will leave, as Redis takes it.
    fn lowered(&self, id: Uuid, capacity: i32, price: i64) -> SeatSnapshot {
        SeatSnapshot {
            ticket_type_id: id,
            capacity,
            sold: self.sold,
            reserved: self.reserved,
            price,
            version: self.inventory_version + 1,
            waiting: self.waiting_tickets,
        }
    }
}

/// Lowers capacities in Redis before the surrounding transaction does, and remembers that it did.
struct Cut<'a> {
    inventory: &'a Inventory,
    lowered: AtomicBool,
}

impl Cut<'_> {
    async fn lower(&self, event_id: Uuid, row: &SeatSnapshot) -> Result<(), WriteError> {
        // Set before it is known: an answer that is lost may have been done.
        self.lowered.store(true, Ordering::Relaxed);
        match self.inventory.lower_capacity(event_id, row).await? {
            LowerCapacity::Lowered => Ok(()),
            refused => {
                self.lowered.store(false, Ordering::Relaxed);
                Err(match refused {
                    LowerCapacity::InUse(_) => WriteError::CapacityInUse,
                    _ => WriteError::Rebuilding,
                })
            }
        }
    }
}

/// Runs a write that may cut a capacity. Should it fail after Redis was told, Redis is told otherwise; should there
/// have been no inventory, it is rebuilt and the write tried once more.
async fn write(
    db: &Db,
    inventory: &Inventory,
    target: Target,
    change: Change<'_>,
) -> Result<StoredEvent, WriteError> {
    let event_id = target.event_id;
    let mut again = true;
    loop {
        let cut = Cut { inventory, lowered: AtomicBool::new(false) };
        let mut conn = db.conn().await?;
        let result = (*conn)
            .transaction(async |conn: &mut Conn| {
                match change {
                    Change::Replace(fields) => replace_row(conn, &cut, target, fields).await?,
                    Change::Delete => delete_row(conn, &cut, target).await?,
                }
                whole(conn, event_id).await
            })
            .await;
        drop(conn);
        match result {
            Err(WriteError::Rebuilding) if again => {
                again = false;
                inventory::ensure_ready(inventory, db, event_id).await?;
            }
            Err(error) => {
                if cut.lowered.into_inner()
                    && let Err(error) = inventory::sync_event(inventory, db, event_id, true).await
                {
                    tracing::warn!(%event_id, %error, "a capacity is lower in Redis until the reconciler sees it");
                }
                return Err(error);
            }
            written => return written,
        }
    }
}

/// A ticket type, and the event that it changed.
#[derive(Debug)]
pub struct WrittenTicketType {
    pub ticket_type: TicketType,
    pub event: Event,
}

fn written(event: Event, id: Uuid) -> Result<WrittenTicketType, WriteError> {
    let ticket_type = event.ticket_types.iter().find(|kind| kind.id == id).cloned();
    Ok(WrittenTicketType { ticket_type: ticket_type.ok_or(WriteError::NotFound)?, event })
}
