//! Promotion: what is free for the waitlist is offered to those who wait, in their order.
//!
//! The rule: first come, first served, by the quantity that fits. An entry that wants more than is free is passed over
//! and keeps its place; what nobody who waits can use yet stays with the waitlist until more comes free, and is the
//! public's as soon as nobody waits. Who has bought meanwhile, so that so many tickets would be more than one may have,
//! is passed over too, and taken off the list when all that is free waits for nobody else.
//!
//! One promotion takes the free seats into a hold of nobody's, which nobody else can take any more; commits the
//! offers; and ends the hold in the script that brings Redis the commit. Killed before the commit, the hold runs out
//! and the seats are free for the waitlist again; killed after it, they are reserved, and Redis hears of that from the
//! outbox. Two promotions at once take different seats and meet at the ticket type's lock.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, QueryableByName, sql_query,
    sql_types::{BigInt, Bool, Integer, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use uuid::Uuid;

use super::{
    ends,
    line::{self, Delta, Deltas},
    offers::{self, Candidate, Terms},
};
use crate::{
    audit::{self, AuditEntry},
    bookings::{Changes, SeatCount},
    db::{Conn, Db},
    fault::Fault,
    holds::{self, ReleaseError, Settled, Settlement},
    inventory::{Call, Inventory, Keys, Reply, Script, SyncError, ensure_ready},
    jobs::SyncInventory,
    kill_point::kill_point,
    outbox::{self, OutboxEntry},
    statement::prepared,
};

/// Whose hold the seats of a promotion are in.
const NOBODY: Uuid = Uuid::nil();
/// How long that hold lives: more than a promotion may take. One that takes longer meets the guard of the ticket type.
const HOLD_MS: i64 = 20_000;
/// The most seats of one transaction, unless somebody wants more at once. So many heads of line are looked at, and a
/// little more, however long it is.
const SEATS_AT_ONCE: i64 = 100;
/// The most transactions of one call and ticket type.
const ROUNDS: usize = 50;

/// A ticket type that somebody waits for and that may be offered now.
#[derive(Clone, Copy, Debug, QueryableByName)]
pub struct Waited {
    #[diesel(sql_type = SqlUuid)]
    pub event_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub ticket_type_id: Uuid,
    /// The smallest party in line.
    #[diesel(sql_type = Integer)]
    pub smallest: i32,
    /// The largest.
    #[diesel(sql_type = Integer)]
    pub largest: i32,
}

/// What a promotion did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promoted {
    pub offers: usize,
    /// Whether it stopped before everything was offered.
    pub more: bool,
}

/// Up to `limit` ticket types that somebody waits for, of events that are on sale and have not begun; of one event
/// only where it is named.
pub async fn waited_for(db: &Db, event_id: Option<Uuid>, limit: i64) -> Result<Vec<Waited>, Fault> {
    Ok(prepared(
        sql_query(include_str!("sql/waited_for.sql"))
            .bind::<diesel::sql_types::Nullable<SqlUuid>, _>(event_id)
            .bind::<BigInt, _>(limit),
    )
    .load(&mut *db.conn().await?)
    .await?)
}

/// Offers what is free for the waitlist of an event. Safe to repeat, and to run twice at once.
pub async fn promote(db: &Db, inventory: &Inventory, event_id: Uuid) -> Result<Promoted, SyncError> {
    let mut promoted = Promoted::default();
    for mut waited in waited_for(db, Some(event_id), 1000).await? {
        for round in 0.. {
            if round == ROUNDS {
                promoted.more = true;
                break;
            }
            let offers = round_of(db, inventory, &waited).await?;
            promoted.offers += offers;
            if offers == 0 {
                break;
            }
            // The smallest may have been served.
            let left = waited_for(db, Some(event_id), 1000).await?;
            match left.into_iter().find(|left| left.ticket_type_id == waited.ticket_type_id) {
                Some(left) => waited = left,
                None => break,
            }
        }
    }
    Ok(promoted)
}

/// One transaction of offers; answers how many it made.
async fn round_of(db: &Db, inventory: &Inventory, waited: &Waited) -> Result<usize, SyncError> {
    let (least, most) = (i64::from(waited.smallest), SEATS_AT_ONCE.max(i64::from(waited.largest)));
    let Some(taken) = take(db, inventory, waited, least, most, false).await? else { return Ok(0) };
    kill_point("promote.taken");
    let pick = Pick::Line { seats: taken.seats, all: taken.all };
    let offered = offer(db, waited, pick, None).await;
    kill_point("promote.offered");
    let ended = taken.end(inventory, offered).await?;
    kill_point("promote.told");
    Ok(ended.unwrap_or(0))
}

/// Seats in a hold of nobody's.
pub(super) struct Taken {
    event_id: Uuid,
    hold_id: Uuid,
    pub seats: i32,
    /// Whether that was all there was to take.
    pub all: bool,
}

/// Takes free seats; with `public` also those that are not the waitlist's. `None`: there are not so many.
pub(super) async fn take(
    db: &Db,
    inventory: &Inventory,
    waited: &Waited,
    least: i64,
    most: i64,
    public: bool,
) -> Result<Option<Taken>, SyncError> {
    let (event_id, hold_id) = (waited.event_id, Uuid::now_v7());
    let keys = Keys::of(event_id);
    for again in [false, true] {
        let call = Call::new(Script::TakeShare)
            .key(keys.inventory())
            .key(keys.holds())
            .key(keys.hold(hold_id))
            .key(keys.user_held())
            .arg(hold_id.to_string())
            .arg(NOBODY.to_string())
            .arg(waited.ticket_type_id.to_string())
            .arg(least)
            .arg(most.max(least))
            .arg(HOLD_MS)
            .arg(u8::from(public));
        let mut reply = Reply::new(inventory.run(call).await?)?;
        match reply.text()?.as_str() {
            "taken" => {
                let seats = i32::try_from(reply.int()?).map_err(|e| Fault::Corrupt(e.to_string()))?;
                return Ok(Some(Taken { event_id, hold_id, seats, all: reply.int()? == 1 }));
            }
            "rebuilding" if !again => ensure_ready(inventory, db, event_id).await?,
            "rebuilding" => return Err(SyncError::Rebuilding),
            _ => break,
        }
    }
    Ok(None)
}

impl Taken {
    /// Ends the hold: with what was committed, in one script, or by giving the seats back. Answers how many offers
    /// were made; `None`: not one.
    pub(super) async fn end(
        self,
        inventory: &Inventory,
        offered: Result<Option<(usize, Vec<SeatCount>)>, Fault>,
    ) -> Result<Option<usize>, Fault> {
        let (event_id, hold_id) = (self.event_id, self.hold_id);
        match offered {
            Ok(Some((count, rows))) => {
                let (seats, buyers) = Changes::of_seats(rows).of(event_id);
                let settlement = Settlement { holds: vec![(hold_id, 0, Settled::Confirmed)], seats, buyers };
                if let Err(error) = holds::settle(inventory, event_id, &settlement).await {
                    tracing::warn!(%error, %event_id, "the inventory was not told of offers that stand");
                }
                Ok(Some(count))
            }
            // An unanswered commit may have been done: then the seats are reserved, and the hold runs out.
            Err(fault) if fault.is_transient() => Err(fault),
            refused => {
                match holds::release(inventory, event_id, hold_id, NOBODY).await {
                    Ok(_) | Err(ReleaseError::NotFound | ReleaseError::Busy(_)) => {}
                    Err(ReleaseError::Fault(fault)) => return Err(fault),
                }
                refused.map(|_| None)
            }
        }
    }
}

/// Who is to be offered seats.
#[derive(Clone, Copy)]
pub(super) enum Pick {
    /// As many of the line as fit, in its order. Only where these are `all` the seats is anybody passed over.
    Line { seats: i32, all: bool },
    /// This entry, whatever its place.
    One { entry_id: Uuid, seats: i32 },
}

#[derive(QueryableByName)]
struct Sale {
    #[diesel(sql_type = Bool)]
    open: bool,
    #[diesel(sql_type = Text)]
    currency: String,
    #[diesel(sql_type = Timestamptz)]
    expires_at: DateTime<Utc>,
}

/// Makes offers of seats that the caller has taken, with an entry of the audit log where there is one, in one
/// transaction. `None`: there was nobody to offer them to, and nothing changed.
pub(super) async fn offer(
    db: &Db,
    waited: &Waited,
    pick: Pick,
    entry: Option<AuditEntry>,
) -> Result<Option<(usize, Vec<SeatCount>)>, Fault> {
    let mut conn = db.conn().await?;
    (*conn)
        .transaction(async move |conn: &mut Conn| {
            let made = offer_in_transaction(conn, waited, pick).await?;
            if made.is_some() {
                audit::append(conn, entry.as_slice()).await?;
            }
            Ok(made)
        })
        .await
}

async fn offer_in_transaction(
    conn: &mut Conn,
    waited: &Waited,
    pick: Pick,
) -> Result<Option<(usize, Vec<SeatCount>)>, Fault> {
    let (event_id, ticket_type_id) = (waited.event_id, waited.ticket_type_id);
    let sale: Option<Sale> =
        prepared(sql_query(include_str!("sql/lock_sale.sql")).bind::<SqlUuid, _>(event_id))
            .get_result(conn)
            .await
            .optional()?;
    let Some(sale) = sale.filter(|sale| sale.open) else { return Ok(None) };
    let Some(row) = line::lock(conn, vec![ticket_type_id]).await?.into_iter().find(|row| !row.withdrawn)
    else {
        return Ok(None);
    };
    let chosen = match pick {
        Pick::Line { seats, all } => {
            let heads = heads(conn, event_id, ticket_type_id, seats).await?;
            if heads.is_empty() {
                let ended = ends::end_over_limit(conn, ticket_type_id, seats, SEATS_AT_ONCE).await?;
                return Ok(ended.map(|rows| (0, rows)));
            }
            first_that_fit(heads, seats, all)
        }
        Pick::One { entry_id, seats } => {
            let entry: Option<Head> = prepared(
                sql_query(include_str!("sql/waiting_entry.sql"))
                    .bind::<SqlUuid, _>(entry_id)
                    .bind::<SqlUuid, _>(ticket_type_id),
            )
            .get_result(conn)
            .await
            .optional()?;
            entry
                .filter(|entry| entry.candidate.quantity <= seats)
                .map(|entry| entry.candidate)
                .into_iter()
                .collect()
        }
    };
    let tickets: i32 = chosen.iter().map(|entry| entry.quantity).sum();
    let count = i32::try_from(chosen.len()).unwrap_or(i32::MAX);
    if count == 0 {
        return Ok(None);
    }
    let delta = Delta { reserved: tickets, entries: -count, tickets: -tickets };
    let rows = line::change(conn, &Deltas::from([(ticket_type_id, delta)])).await?;
    let Some(version) = rows.as_slice().first().map(|row| row.inventory_version) else {
        // Redis thought seats free that are not: the reconciler mends that.
        tracing::warn!(%event_id, %ticket_type_id, tickets, "the guard refused an offer");
        return Ok(None);
    };
    let terms = Terms { unit_price: row.price, currency: sale.currency, expires_at: sale.expires_at };
    offers::make(conn, &terms, &chosen).await?;
    let sync = OutboxEntry::new(&format!("offers:{ticket_type_id}:{version}"), &SyncInventory { event_id });
    outbox::record(conn, &[sync]).await?;
    metrics::counter!("evently_waitlist_offers_total", "outcome" => "made").increment(chosen.len() as u64);
    Ok(Some((chosen.len(), rows)))
}

/// An entry and its number in line.
#[derive(QueryableByName)]
struct Head {
    #[diesel(embed)]
    candidate: Candidate,
    /// From 1, among those that were looked at.
    #[diesel(sql_type = BigInt)]
    nth: i64,
}

/// Of each quantity that fits, the first entries in line, as many as could be served.
async fn heads(
    conn: &mut Conn,
    event_id: Uuid,
    ticket_type_id: Uuid,
    seats: i32,
) -> Result<Vec<Head>, Fault> {
    Ok(prepared(
        sql_query(include_str!("sql/heads.sql"))
            .bind::<SqlUuid, _>(event_id)
            .bind::<SqlUuid, _>(ticket_type_id)
            .bind::<Integer, _>(seats),
    )
    .load(conn)
    .await?)
}

/// First come, first served, by the quantity that fits. While there are more seats than these, the first who does not
/// fit is not passed over: the next round serves them.
fn first_that_fit(mut heads: Vec<Head>, seats: i32, all: bool) -> Vec<Candidate> {
    heads.sort_by_key(|head| head.nth);
    let mut left = seats;
    let mut chosen = Vec::new();
    for Head { candidate, .. } in heads {
        if candidate.quantity <= left {
            left -= candidate.quantity;
            chosen.push(candidate);
        } else if !all {
            break;
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(quantities: &[(i64, i32)]) -> Vec<Head> {
        let head = |&(nth, quantity): &(i64, i32)| Head {
            candidate: Candidate {
                id: Uuid::from_u128(nth.unsigned_abs().into()),
                user_id: Uuid::nil(),
                email: String::new(),
                quantity,
            },
            nth,
        };
        quantities.iter().map(head).collect()
    }

    fn served(quantities: &[(i64, i32)], seats: i32, all: bool) -> Vec<u128> {
        first_that_fit(heads(quantities), seats, all).iter().map(|candidate| candidate.id.as_u128()).collect()
    }

    #[test]
    fn the_line_is_served_in_its_order_by_what_fits() {
        assert_eq!(served(&[(3, 1), (1, 2), (2, 4)], 3, true), [1, 3], "a party of four is passed over");
        assert_eq!(served(&[(1, 2), (2, 4), (3, 1)], 3, false), [1], "not while there are more seats");
        assert_eq!(served(&[(1, 2), (2, 4), (3, 1)], 6, true), [1, 2], "and served when there is room");
        assert_eq!(served(&[(1, 2)], 1, true), [] as [u128; 0]);
    }
}
