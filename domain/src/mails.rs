//! Mails that are owed: one row a cause and kind, written with what causes it, sent by the `email` pool.

mod sending;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName, sql_query,
    sql_types::{Array, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    db::Conn,
    fault::Fault,
    jobs::SendMail,
    outbox::{self, OutboxEntry},
    statement::prepared,
};

pub use sending::{
    BookingSnapshot, Claim, Claimed, EventSnapshot, ItemSnapshot, LeasedMail, Snapshot, TicketSnapshot,
    VenueSnapshot, WaitSnapshot, claim, mark_failed, mark_sent, release,
};

/// What a mail says and what it needs to say it. The tag is the `kind` column and names the template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum MailContent {
    /// The code that proves an address.
    VerifyEmail { code: String },
    /// The code that allows a new password.
    ResetPassword { code: String },
    /// The booking is confirmed: tickets, QR codes, calendar.
    BookingConfirmed { booking_id: Uuid },
    /// Its owner cancelled the booking.
    BookingCancelled { booking_id: Uuid },
    /// The organiser cancelled the event, and with it the booking.
    EventCancelled { booking_id: Uuid },
    /// The money is back.
    BookingRefunded { booking_id: Uuid },
    /// A payment that the customer was sent away to approve came to nothing: what was set aside is let go.
    PaymentVoided {
        event: String,
        /// Minor units.
        amount: i64,
        currency: String,
    },
    /// Seats are offered to one who waits; with the token that claims them.
    WaitlistOffer { offer_id: Uuid, token: String },
    /// The window of an offer has passed.
    WaitlistOfferExpired { offer_id: Uuid },
    /// The event was cancelled, and with it the wait.
    WaitlistEnded { entry_id: Uuid },
}

impl MailContent {
    /// The `kind` column.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::VerifyEmail { .. } => "verify_email",
            Self::ResetPassword { .. } => "reset_password",
            Self::BookingConfirmed { .. } => "booking_confirmed",
            Self::BookingCancelled { .. } => "booking_cancelled",
            Self::EventCancelled { .. } => "event_cancelled",
            Self::BookingRefunded { .. } => "booking_refunded",
            Self::PaymentVoided { .. } => "payment_voided",
            Self::WaitlistOffer { .. } => "waitlist_offer",
            Self::WaitlistOfferExpired { .. } => "waitlist_offer_expired",
            Self::WaitlistEnded { .. } => "waitlist_ended",
        }
    }
}

/// A mail that something causes.
#[derive(Clone, Debug)]
pub struct DueMail {
    /// What caused it, an id: one cause brings one mail of a kind, however often it is recorded.
    pub cause: String,
    pub user_id: Uuid,
    pub recipient: String,
    pub content: MailContent,
    /// After this it is not worth sending.
    pub deadline: Option<DateTime<Utc>>,
    /// The trace that the mail belongs to, when it is not the current one.
    pub traceparent: Option<String>,
}

#[derive(QueryableByName)]
struct Owed {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    cause: String,
}

/// Records that these mails are owed, and the jobs that send them; call it inside the transaction that causes
/// them. Safe to repeat: a (cause, kind) that is recorded stays as it is.
pub async fn owe(mut conn: &Conn, due: &[DueMail]) -> Result<(), Fault> {
    if due.is_empty() {
        return Ok(());
    }
    let data = due.iter().map(|mail| serde_json::to_value(&mail.content)).collect::<Result<Vec<_>, _>>()?;
    let column = due.iter();
    let inserted: Vec<Owed> = prepared(
        sql_query(
            "INSERT INTO mails (id, cause, kind, user_id, recipient, data, deadline)
             SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::jsonb[],
                                  $7::timestamptz[])
             ON CONFLICT DO NOTHING
             RETURNING id, cause",
        )
        .bind::<Array<SqlUuid>, _>(column.clone().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(column.clone().map(|mail| mail.cause.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(column.clone().map(|mail| mail.content.kind()).collect::<Vec<_>>())
        .bind::<Array<SqlUuid>, _>(column.clone().map(|mail| mail.user_id).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(column.clone().map(|mail| mail.recipient.as_str()).collect::<Vec<_>>())
        .bind::<Array<Jsonb>, _>(data)
        .bind::<Array<Nullable<Timestamptz>>, _>(column.map(|mail| mail.deadline).collect::<Vec<_>>()),
    )
    .load(&mut conn)
    .await?;
    let causes: HashMap<&str, &DueMail> = due.iter().map(|mail| (mail.cause.as_str(), mail)).collect();
    let entries = inserted
        .iter()
        .map(|owed| {
            let entry = OutboxEntry::new(&owed.id.to_string(), &SendMail { mail_id: owed.id });
            match causes.get(owed.cause.as_str()).and_then(|mail| mail.traceparent.clone()) {
                Some(traceparent) => entry.in_trace(Some(traceparent)),
                None => entry,
            }
        })
        .collect::<Vec<_>>();
    outbox::record(conn, &entries).await
}
