//! The end of a refund: the money is back, and the booking says so.

use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, Integer, Jsonb, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use serde_json::{Value, json};
use uuid::Uuid;

use super::log::{self, Happening};
use crate::{
    db::{Conn, Db},
    fault::Fault,
    mails::{self, DueMail, MailContent},
    payments::refunds,
    statement::prepared,
    trace::TraceContext,
};

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    event_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
    #[diesel(sql_type = Text)]
    email: String,
    #[diesel(sql_type = Integer)]
    quantity: i32,
    #[diesel(sql_type = BigInt)]
    amount: i64,
    #[diesel(sql_type = Text)]
    currency: String,
    #[diesel(sql_type = Jsonb)]
    items: Value,
}

/// Marks a refund as paid, its payment and booking as refunded, and owes the mail that says so; `false`: it was
/// marked before, and nothing is done. Safe to repeat.
pub async fn mark_refunded(db: &Db, refund_id: Uuid) -> Result<bool, Fault> {
    let conn = &mut *db.conn().await?;
    conn.transaction(async |conn: &mut Conn| {
        let Some(paid) = refunds::mark_done(conn, refund_id).await? else { return Ok(false) };
        let rows: Vec<Row> = prepared(
            sql_query(
                "UPDATE bookings b SET status = 'refunded', refunded_at = now(), updated_at = now()
                 FROM users u
                 WHERE b.id = $1 AND b.status = 'cancelled' AND u.id = b.user_id
                 RETURNING b.event_id, b.user_id, u.email, b.quantity, $2 AS amount, b.currency, b.items",
            )
            .bind::<SqlUuid, _>(paid.booking_id)
            .bind::<BigInt, _>(paid.amount),
        )
        .load(conn)
        .await?;
        for row in rows {
            record(conn, paid.booking_id, row).await?;
        }
        Ok(true)
    })
    .await
}

async fn record(conn: &mut Conn, booking_id: Uuid, row: Row) -> Result<(), Fault> {
    let mail = DueMail {
        cause: booking_id.to_string(),
        user_id: row.user_id,
        recipient: row.email,
        content: MailContent::BookingRefunded { booking_id },
        deadline: None,
        traceparent: None,
    };
    mails::owe(conn, &[mail]).await?;
    let happening = Happening {
        kind: "refunded",
        event_id: row.event_id,
        booking_id,
        user_id: row.user_id,
        quantity: row.quantity,
        amount: row.amount,
        currency: row.currency,
        items: row.items,
        actor: None,
        detail: json!({ "amount": row.amount }),
        trace_id: TraceContext::current().map(TraceContext::trace_id_hex),
    };
    log::append(conn, &[happening]).await
}
