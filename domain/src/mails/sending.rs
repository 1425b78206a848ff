//! The send lease of a mail, what it says once that is fixed, and how its sending ended.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    prelude::*,
    sql_query,
    sql_types::{Array, Bool, Double, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::MailContent;
use crate::{db::Conn, fault::Fault, schema::mails, statement::prepared};

/// What a mail says, fixed at its first attempt: every later attempt says the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The `From` of the mail, `Name <address>`.
    pub sender: String,
    /// What links in the mail start with; no `/` at the end.
    pub base_url: String,
    /// The trace in which the mail was first tried.
    pub traceparent: Option<String>,
    /// The name of its reader, unless the account is gone.
    pub name: Option<String>,
    /// The booking that the mail is about, when it is about one.
    pub booking: Option<BookingSnapshot>,
    /// The place on the waitlist that the mail is about, when it is about one.
    #[serde(default)]
    pub wait: Option<WaitSnapshot>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitSnapshot {
    pub entry_id: Uuid,
    pub ticket_type: String,
    pub quantity: i64,
    pub event: EventSnapshot,
    pub venue: VenueSnapshot,
    /// What one ticket costs, in minor units; where something was offered.
    pub unit_price: Option<i64>,
    pub currency: String,
    /// When the offer was made, and until when it stands.
    pub offered_at: Option<DateTime<Utc>>,
    pub expires_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookingSnapshot {
    pub id: Uuid,
    pub reference: String,
    /// Minor units, as all amounts here.
    pub total: i64,
    pub currency: String,
    pub confirmed_at: Option<DateTime<Utc>>,
    pub cancelled_at: Option<DateTime<Utc>>,
    pub event: EventSnapshot,
    pub venue: VenueSnapshot,
    /// What goes back to the buyer, when something does.
    pub refund: Option<i64>,
    pub items: Vec<ItemSnapshot>,
    pub tickets: Vec<TicketSnapshot>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventSnapshot {
    pub id: Uuid,
    pub title: String,
    pub starts_at: DateTime<Utc>,
    pub ends_at: DateTime<Utc>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VenueSnapshot {
    pub name: String,
    pub address: String,
    pub city: String,
    pub country: String,
    /// An IANA name.
    pub timezone: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemSnapshot {
    pub name: String,
    pub quantity: i64,
    pub unit_price: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketSnapshot {
    pub id: Uuid,
    pub code: String,
    pub seat: Option<String>,
    pub ticket_type: String,
}

/// A mail whose sending is in the caller's hands until its lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasedMail {
    pub id: Uuid,
    pub recipient: String,
    pub content: MailContent,
    pub snapshot: Snapshot,
    /// Which attempt this is, from 1.
    pub attempt: i32,
    /// When it became due.
    pub due_at: DateTime<Utc>,
    pub deadline: Option<DateTime<Utc>>,
    /// Its deadline is over, by Postgres's clock.
    pub too_late: bool,
}

/// What came of asking for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The caller sends it now.
    Leased(Box<LeasedMail>),
    /// Somebody else is sending it; or was, and is gone. Ask again after this.
    Busy(Duration),
    /// It was sent, or given up for good.
    Ended,
    /// There is no such mail.
    Unknown,
    /// Its row cannot be read, and the lease on it is the caller's: this says why.
    Unreadable(String),
}

/// A mail to send, and the trace in which it is tried.
#[derive(Clone, Debug)]
pub struct Claim {
    pub mail_id: Uuid,
    pub traceparent: Option<String>,
}

#[derive(QueryableByName)]
struct LeasedRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    recipient: String,
    #[diesel(sql_type = Jsonb)]
    data: Value,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    deadline: Option<DateTime<Utc>>,
    #[diesel(sql_type = Bool)]
    too_late: bool,
}

impl LeasedRow {
    fn read(mut self) -> Result<LeasedMail, Fault> {
        let snapshot = self.data.get_mut("snapshot").map(Value::take).unwrap_or_default();
        Ok(LeasedMail {
            id: self.id,
            recipient: self.recipient,
            content: serde_json::from_value(self.data)?,
            snapshot: serde_json::from_value(snapshot)?,
            attempt: self.attempts,
            due_at: self.created_at,
            deadline: self.deadline,
            too_late: self.too_late,
        })
    }
}

/// Takes the lease on each of these mails for `lease`, and fixes at the first attempt what it says: the booking
/// as it is now, this sender, this base of links. An answer for each, in their order.
pub async fn claim(
    conn: &mut Conn,
    claims: &[Claim],
    sender: &str,
    base_url: &str,
    lease: Duration,
) -> Result<Vec<Claimed>, Fault> {
    let ids = claims.iter().map(|claim| claim.mail_id).collect::<Vec<_>>();
    let traces =
        claims.iter().map(|claim| claim.traceparent.as_deref().unwrap_or_default()).collect::<Vec<_>>();
    let statement = sql_query(include_str!("claim.sql"))
        .bind::<Array<SqlUuid>, _>(&ids)
        .bind::<Array<Text>, _>(&traces)
        .bind::<Text, _>(sender)
        .bind::<Text, _>(base_url)
        .bind::<Double, _>(lease.as_secs_f64());
    let rows: Vec<LeasedRow> = prepared(statement).load(conn).await?;
    let mut leased = rows
        .into_iter()
        .map(|row| {
            let id = row.id;
            let read = row.read().map(Box::new);
            (id, read.map_or_else(|fault| Claimed::Unreadable(fault.to_string()), Claimed::Leased))
        })
        .collect::<HashMap<_, _>>();
    let others = ids.iter().filter(|id| !leased.contains_key(id)).copied().collect::<Vec<_>>();
    let mut others = if others.is_empty() { HashMap::new() } else { why_not(conn, &others).await? };
    // A mail that is asked for twice here is leased once.
    others.extend(leased.keys().map(|id| (*id, Claimed::Busy(lease))));
    Ok(ids
        .iter()
        .map(|id| leased.remove(id).or_else(|| others.get(id).cloned()).unwrap_or(Claimed::Unknown))
        .collect())
}

async fn why_not(conn: &mut Conn, ids: &[Uuid]) -> Result<HashMap<Uuid, Claimed>, Fault> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
        #[diesel(sql_type = Bool)]
        pending: bool,
        #[diesel(sql_type = Double)]
        secs: f64,
    }
    let rows: Vec<Row> = sql_query(
        "SELECT id, status = 'pending' AS pending, \
         greatest(extract(epoch FROM lease_until - now()), 0)::float8 AS secs FROM mails WHERE id = ANY($1)",
    )
    .bind::<Array<SqlUuid>, _>(ids)
    .load(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let claimed =
                if row.pending { Claimed::Busy(Duration::from_secs_f64(row.secs)) } else { Claimed::Ended };
            (row.id, claimed)
        })
        .collect())
}

/// These mails are sent: nobody sends them again, and the codes and tokens they carried are forgotten. Safe to repeat.
pub async fn mark_sent(conn: &mut Conn, ids: &[Uuid]) -> Result<(), Fault> {
    // By key alone: see `PLAN_ONCE`.
    let statement = sql_query(
        "UPDATE mails SET status = 'sent', sent_at = now(), lease_until = NULL, error = NULL, \
         data = data - 'code' - 'token' - 'snapshot' WHERE id = ANY($1) AND status || '' = 'pending'",
    )
    .bind::<Array<SqlUuid>, _>(ids);
    prepared(statement).execute(conn).await?;
    Ok(())
}

/// This mail will never be sent, and why. Safe to repeat.
pub async fn mark_failed(conn: &mut Conn, id: Uuid, error: &str) -> Result<(), Fault> {
    sql_query(
        "UPDATE mails SET status = 'failed', lease_until = NULL, error = $2, data = data - 'code' - 'token' - 'snapshot' \
         WHERE id = $1 AND status || '' = 'pending'",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Text, _>(error)
    .execute(conn)
    .await?;
    Ok(())
}

/// This attempt failed and another may follow: the lease is free. What the mail says stays fixed. Safe to repeat;
/// of several holders of a lease only the last, whose attempt it is, gives it back.
pub async fn release(conn: &mut Conn, id: Uuid, attempt: i32, error: &str) -> Result<(), Fault> {
    diesel::update(mails::table.find(id))
        .filter(mails::status.eq("pending").and(mails::attempts.eq(attempt)))
        .set((mails::lease_until.eq(None::<DateTime<Utc>>), mails::error.eq(error)))
        .execute(conn)
        .await?;
    Ok(())
}
