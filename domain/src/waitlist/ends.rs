//! How entries and offers end other than by being sold: left, declined, run out, lapsed, cancelled.
//!
//! Each gives its seats back in one transaction with its own end, and with the job that tells Redis if this process
//! does not live to; so each seat goes back exactly once.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    QueryableByName, sql_query,
    sql_types::{Array, BigInt, Integer, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use uuid::Uuid;

use super::{
    line::{self, Deltas},
    offers::{self, OfferError, OfferStatus},
};
use crate::{
    bookings::{Changes, SeatCount},
    db::{Conn, Db},
    fault::Fault,
    jobs::SyncInventory,
    mails::{self, DueMail, MailContent},
    outbox::{self, OutboxEntry},
    statement::prepared,
};

/// What came to an end, for Redis to take over.
#[derive(Debug, Default)]
pub struct Ended {
    /// How many entries or offers.
    pub count: usize,
    pub changes: Changes,
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    ticket_type_id: Uuid,
}

#[derive(QueryableByName)]
struct EndedOffer {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    ticket_type_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
    #[diesel(sql_type = Text)]
    email: String,
    #[diesel(sql_type = Integer)]
    quantity: i32,
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
}

/// From what to what offers go, and what becomes of their entries.
#[derive(Clone, Copy)]
struct Way {
    from: &'static str,
    to: &'static str,
    entry: Option<&'static str>,
    /// Whether their people are told.
    mail: bool,
}

const EXPIRE: Way = Way { from: "open", to: "expired", entry: Some("expired"), mail: true };
const CANCEL: Way = Way { from: "open", to: "expired", entry: Some("expired"), mail: false };
const DECLINE: Way = Way { from: "open", to: "declined", entry: Some("declined"), mail: false };
const LEAVE: Way = Way { from: "open", to: "declined", entry: Some("left"), mail: false };
const LAPSE: Way = Way { from: "claimed", to: "lapsed", entry: None, mail: false };

/// Ends those of these offers that are still as they were; their ticket types are locked.
async fn end_offers(
    conn: &mut Conn,
    ids: &[Uuid],
    way: Way,
    deltas: &mut Deltas,
) -> Result<Vec<EndedOffer>, Fault> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ended: Vec<EndedOffer> = prepared(
        sql_query(include_str!("sql/end_offers.sql"))
            .bind::<Array<SqlUuid>, _>(ids)
            .bind::<Text, _>(way.from)
            .bind::<Text, _>(way.to)
            .bind::<Text, _>(way.entry.unwrap_or("")),
    )
    .load(conn)
    .await?;
    for offer in &ended {
        deltas.entry(offer.ticket_type_id).or_default().reserved -= offer.quantity;
    }
    if way.mail {
        let due: Vec<DueMail> = ended
            .iter()
            .map(|offer| DueMail {
                cause: offer.id.to_string(),
                user_id: offer.user_id,
                recipient: offer.email.clone(),
                content: MailContent::WaitlistOfferExpired { offer_id: offer.id },
                deadline: Some(offer.now + TimeDelta::days(1)),
                traceparent: None,
            })
            .collect();
        mails::owe(conn, &due).await?;
    }
    let outcome = way.to;
    metrics::counter!("evently_waitlist_offers_total", "outcome" => outcome).increment(ended.len() as u64);
    Ok(ended)
}

/// Writes the numbers of ticket types, and the job that tells Redis of them.
async fn finish(conn: &mut Conn, deltas: &Deltas, count: usize) -> Result<Ended, Fault> {
    let rows = line::change(conn, deltas).await?;
    let events: BTreeMap<Uuid, i64> = rows.iter().map(|row| (row.event_id, row.inventory_version)).collect();
    let syncs: Vec<_> = events
        .iter()
        .map(|(event_id, version)| {
            OutboxEntry::new(
                &format!("waitlist:{event_id}:{version}:{}", Uuid::now_v7()),
                &SyncInventory { event_id: *event_id },
            )
        })
        .collect();
    outbox::record(conn, &syncs).await?;
    Ok(Ended { count, changes: Changes::of_seats(rows) })
}

/// Ends offers that some query finds: looks, locks their ticket types, and ends those that are still there.
async fn end_found(conn: &mut Conn, found: Vec<Found>, way: Way) -> Result<Ended, Fault> {
    line::lock(conn, found.iter().map(|offer| offer.ticket_type_id).collect()).await?;
    let ids: Vec<Uuid> = found.iter().map(|offer| offer.id).collect();
    let mut deltas = Deltas::new();
    let ended = end_offers(conn, &ids, way, &mut deltas).await?;
    finish(conn, &deltas, ended.len()).await
}

/// Ends up to `limit` offers whose window is over, and owes the mails that say so. Safe to repeat and to race.
pub async fn expire_overdue(db: &Db, limit: i64) -> Result<Ended, Fault> {
    let mut conn = db.conn().await?;
    (*conn)
        .transaction(async |conn: &mut Conn| {
            let found: Vec<Found> = prepared(
                sql_query(
                    "SELECT id, ticket_type_id FROM waitlist_offers
                     WHERE status = 'open' AND expires_at <= now() ORDER BY expires_at LIMIT $1",
                )
                .bind::<BigInt, _>(limit),
            )
            .load(conn)
            .await?;
            if found.is_empty() { Ok(Ended::default()) } else { end_found(conn, found, EXPIRE).await }
        })
        .await
}

/// Declines an open offer, for the user that it was made to, whom `as_user` must be if it is given.
pub async fn decline(db: &Db, token: &str, as_user: Option<Uuid>) -> Result<Ended, OfferError> {
    let mut conn = db.conn().await?;
    (*conn)
        .transaction(async |conn: &mut Conn| {
            let offer = offers::find(conn, token).await?;
            if as_user.is_some_and(|user| user != offer.user_id) {
                return Err(OfferError::NotFound);
            }
            if offer.status != OfferStatus::Open || offer.overdue {
                return Err(OfferError::Over);
            }
            let found = vec![Found { id: offer.id, ticket_type_id: offer.ticket_type_id }];
            let ended = end_found(conn, found, DECLINE).await?;
            if ended.count == 0 { Err(OfferError::Over) } else { Ok(ended) }
        })
        .await
}

/// Claimed offers whose hold's time is over, as (event, hold): whether it is, Redis knows.
pub async fn over_holds(db: &Db, limit: i64) -> Result<Vec<(Uuid, Uuid)>, Fault> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        event_id: Uuid,
        #[diesel(sql_type = SqlUuid)]
        hold_id: Uuid,
    }
    let rows: Vec<Row> = prepared(
        sql_query(
            "SELECT event_id, hold_id FROM waitlist_offers
             WHERE status = 'claimed' AND hold_expires_at <= now() ORDER BY hold_expires_at LIMIT $1",
        )
        .bind::<BigInt, _>(limit),
    )
    .load(&mut *db.conn().await?)
    .await?;
    Ok(rows.into_iter().map(|row| (row.event_id, row.hold_id)).collect())
}

/// Gives the seats of claimed offers back whose holds are over and cannot come back. Safe to repeat.
pub async fn lapse(db: &Db, holds: &[Uuid]) -> Result<Ended, Fault> {
    if holds.is_empty() {
        return Ok(Ended::default());
    }
    let mut conn = db.conn().await?;
    (*conn)
        .transaction(async |conn: &mut Conn| {
            let found: Vec<Found> = prepared(
                sql_query(
                    "SELECT id, ticket_type_id FROM waitlist_offers
                     WHERE hold_id = ANY($1) AND status || '' = 'claimed' ORDER BY id",
                )
                .bind::<Array<SqlUuid>, _>(holds),
            )
            .load(conn)
            .await?;
            if found.is_empty() { Ok(Ended::default()) } else { end_found(conn, found, LAPSE).await }
        })
        .await
}

#[derive(QueryableByName)]
struct LeftRow {
    #[diesel(sql_type = SqlUuid)]
    ticket_type_id: Uuid,
    #[diesel(sql_type = Integer)]
    quantity: i32,
}

/// Ends those of these entries that are live, waiting or offered; their ticket types are locked.
async fn end_entries(conn: &mut Conn, ids: &[Uuid], way: Way, deltas: &mut Deltas) -> Result<(), Fault> {
    // By key alone, as everything here: see `PLAN_ONCE`.
    let open: Vec<Found> = prepared(
        sql_query(
            "SELECT id, ticket_type_id FROM waitlist_offers
             WHERE entry_id = ANY($1) AND status || '' = 'open' ORDER BY id FOR NO KEY UPDATE",
        )
        .bind::<Array<SqlUuid>, _>(ids),
    )
    .load(conn)
    .await?;
    end_offers(conn, &open.iter().map(|offer| offer.id).collect::<Vec<_>>(), way, deltas).await?;
    let left: Vec<LeftRow> = prepared(
        sql_query(
            "UPDATE waitlist_entries SET status = $2, changed_at = now()
             WHERE id = ANY($1) AND status || '' = 'waiting' RETURNING ticket_type_id, quantity",
        )
        .bind::<Array<SqlUuid>, _>(ids)
        .bind::<Text, _>(way.entry.unwrap_or("left")),
    )
    .load(conn)
    .await?;
    for entry in &left {
        let delta = deltas.entry(entry.ticket_type_id).or_default();
        delta.entries -= 1;
        delta.tickets -= entry.quantity;
    }
    Ok(())
}

/// Takes a user's entries of an event, or of one of its ticket types, off the list; an open offer is declined.
/// Safe to repeat.
pub async fn leave(
    db: &Db,
    event_id: Uuid,
    user_id: Uuid,
    ticket_type_id: Option<Uuid>,
) -> Result<Ended, Fault> {
    let mut conn = db.conn().await?;
    (*conn)
        .transaction(async |conn: &mut Conn| {
            let found: Vec<Found> = prepared(
                sql_query(
                    "SELECT id, ticket_type_id FROM waitlist_entries
                     WHERE user_id = $1 AND event_id = $2 AND status IN ('waiting', 'offered')
                       AND ($3::uuid IS NULL OR ticket_type_id = $3)",
                )
                .bind::<SqlUuid, _>(user_id)
                .bind::<SqlUuid, _>(event_id)
                .bind::<diesel::sql_types::Nullable<SqlUuid>, _>(ticket_type_id),
            )
            .load(conn)
            .await?;
            if found.is_empty() { Ok(Ended::default()) } else { end_all(conn, &found, LEAVE).await }
        })
        .await
}

/// Takes one entry off the list, in the caller's transaction; `count` is 0 if it was off already.
pub(super) async fn leave_one(conn: &mut Conn, id: Uuid, ticket_type_id: Uuid) -> Result<Ended, Fault> {
    end_all(conn, &[Found { id, ticket_type_id }], LEAVE).await
}

async fn end_all(conn: &mut Conn, found: &[Found], way: Way) -> Result<Ended, Fault> {
    line::lock(conn, found.iter().map(|entry| entry.ticket_type_id).collect()).await?;
    let ids: Vec<Uuid> = found.iter().map(|entry| entry.id).collect();
    let mut deltas = Deltas::new();
    end_entries(conn, &ids, way, &mut deltas).await?;
    let count = if deltas.is_empty() { 0 } else { ids.len() };
    finish(conn, &deltas, count).await
}

/// Ends up to `limit` entries that want at most so many seats, none of which may have them any more; the caller has
/// found that out, and has the ticket type locked. Answers its row; `None`: there was no such entry.
pub(super) async fn end_over_limit(
    conn: &mut Conn,
    ticket_type_id: Uuid,
    seats: i32,
    limit: i64,
) -> Result<Option<Vec<SeatCount>>, Fault> {
    let found: Vec<Found> = prepared(
        sql_query(
            "SELECT id, ticket_type_id FROM waitlist_entries
             WHERE ticket_type_id = $1 AND status = 'waiting' AND quantity <= $2 ORDER BY place LIMIT $3",
        )
        .bind::<SqlUuid, _>(ticket_type_id)
        .bind::<Integer, _>(seats)
        .bind::<BigInt, _>(limit),
    )
    .load(conn)
    .await?;
    if found.is_empty() {
        return Ok(None);
    }
    Ok(Some(end_all(conn, &found, CANCEL).await?.changes.into_seats()))
}

/// Ends up to `limit` entries of a cancelled event and tells their people. Answers how many; 0: there is none left.
pub async fn end_event(db: &Db, event_id: Uuid, limit: i64) -> Result<Ended, Fault> {
    #[derive(QueryableByName)]
    struct Live {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
        #[diesel(sql_type = SqlUuid)]
        ticket_type_id: Uuid,
        #[diesel(sql_type = SqlUuid)]
        user_id: Uuid,
        #[diesel(sql_type = Text)]
        email: String,
    }
    let mut conn = db.conn().await?;
    (*conn)
        .transaction(async |conn: &mut Conn| {
            let types: Vec<Found> = prepared(
                sql_query(
                    "SELECT id, id AS ticket_type_id FROM ticket_types WHERE event_id = $1 ORDER BY id",
                )
                .bind::<SqlUuid, _>(event_id),
            )
            .load(conn)
            .await?;
            line::lock(conn, types.iter().map(|kind| kind.id).collect()).await?;
            let live: Vec<Live> = prepared(
                sql_query(
                    "SELECT w.id, w.ticket_type_id, w.user_id, u.email
                     FROM waitlist_entries w JOIN users u ON u.id = w.user_id
                     WHERE w.event_id = $1 AND w.status IN ('waiting', 'offered') ORDER BY w.id LIMIT $2",
                )
                .bind::<SqlUuid, _>(event_id)
                .bind::<BigInt, _>(limit),
            )
            .load(conn)
            .await?;
            if live.is_empty() {
                return Ok(Ended::default());
            }
            let due: Vec<DueMail> = live
                .iter()
                .map(|entry| DueMail {
                    cause: entry.id.to_string(),
                    user_id: entry.user_id,
                    recipient: entry.email.clone(),
                    content: MailContent::WaitlistEnded { entry_id: entry.id },
                    deadline: None,
                    traceparent: None,
                })
                .collect();
            mails::owe(conn, &due).await?;
            let found: Vec<Found> = live
                .iter()
                .map(|entry| Found { id: entry.id, ticket_type_id: entry.ticket_type_id })
                .collect();
            let ended = end_all(conn, &found, CANCEL).await?;
            Ok(Ended { count: found.len(), ..ended })
        })
        .await
}
