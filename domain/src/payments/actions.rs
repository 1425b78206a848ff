//! Payments that wait for their customer: what is to be done, until when, and for which hold.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, Bool, Double, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::PaymentAction;
use crate::{
    clock,
    db::Db,
    fault::Fault,
    holds::{HeldItem, Hold, HoldStatus},
    statement::prepared,
};

/// The action as two columns keep it.
pub(super) fn composed(
    action: Option<Value>,
    until: Option<DateTime<Utc>>,
) -> Result<Option<PaymentAction>, Fault> {
    #[derive(Deserialize)]
    struct Kept {
        #[serde(rename = "type")]
        kind: String,
        client_secret: String,
    }
    let (Some(action), Some(expires_at)) = (action, until) else { return Ok(None) };
    let Kept { kind, client_secret } = serde_json::from_value(action)?;
    Ok(Some(PaymentAction { kind, client_secret, expires_at }))
}

/// What a hold was, as far as it must be known to take its seats anew.
#[derive(Serialize, Deserialize)]
struct Quoted {
    items: Vec<HeldItem>,
    created_at: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct ActionRow {
    #[diesel(sql_type = Text)]
    provider: String,
    #[diesel(sql_type = Nullable<Jsonb>)]
    action: Option<Value>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    action_until: Option<DateTime<Utc>>,
}

/// Notes that a payment waits for its customer, `patience` long from the first time on; answers what is to be done.
/// `None`: it has been decided otherwise meanwhile. Safe to repeat.
pub async fn begin(
    db: &Db,
    payment_id: Uuid,
    client_secret: &str,
    hold: &Hold,
    patience: Duration,
) -> Result<Option<PaymentAction>, Fault> {
    let quoted = Quoted { items: hold.items.clone(), created_at: hold.created_at };
    let rows: Vec<ActionRow> = prepared(
        sql_query(
            "UPDATE payments
             SET action = coalesce(action, $2), hold = coalesce(hold, $3), updated_at = now(),
                 action_until = coalesce(action_until, now() + make_interval(secs => $4))
             WHERE id = $1 AND status = 'unknown' AND failure IS NULL
             RETURNING provider, action, action_until",
        )
        .bind::<SqlUuid, _>(payment_id)
        .bind::<Jsonb, _>(json!({ "type": "stripe_sdk", "client_secret": client_secret }))
        .bind::<Jsonb, _>(serde_json::to_value(quoted)?)
        .bind::<Double, _>(patience.as_secs_f64()),
    )
    .load(&mut *db.conn().await?)
    .await?;
    rows.into_iter().next().map_or(Ok(None), |row| composed(row.action, row.action_until))
}

/// What the customer of a booking under way has to do, with the provider that asks for it.
pub async fn of_booking(db: &Db, booking_id: Uuid) -> Result<Option<(String, PaymentAction)>, Fault> {
    let rows: Vec<ActionRow> = prepared(
        sql_query(
            "SELECT provider, action, action_until FROM payments
             WHERE booking_id = $1 AND status = 'unknown' AND failure IS NULL AND action_until > now()
             ORDER BY attempt DESC LIMIT 1",
        )
        .bind::<SqlUuid, _>(booking_id),
    )
    .load(&mut *db.conn().await?)
    .await?;
    let Some(row) = rows.into_iter().next() else { return Ok(None) };
    Ok(composed(row.action, row.action_until)?.map(|action| (row.provider, action)))
}

#[derive(QueryableByName)]
struct HoldRow {
    #[diesel(sql_type = SqlUuid)]
    booking_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    event_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
    #[diesel(sql_type = BigInt)]
    amount: i64,
    #[diesel(sql_type = Text)]
    currency: String,
    #[diesel(sql_type = Jsonb)]
    hold: Value,
    #[diesel(sql_type = Bool)]
    offered: bool,
}

/// The hold that a payment which waited for its customer was for, with a minute to be confirmed in.
pub async fn hold_of(db: &Db, payment_id: Uuid) -> Result<Option<Hold>, Fault> {
    let rows: Vec<HoldRow> = prepared(
        sql_query(
            "SELECT booking_id, event_id, user_id, amount, currency, hold,
                    EXISTS (SELECT FROM waitlist_offers o
                            WHERE o.hold_id = payments.booking_id AND o.status = 'claimed') AS offered
             FROM payments WHERE id = $1 AND hold IS NOT NULL",
        )
        .bind::<SqlUuid, _>(payment_id),
    )
    .load(&mut *db.conn().await?)
    .await?;
    let Some(row) = rows.into_iter().next() else { return Ok(None) };
    let Quoted { items, created_at } = serde_json::from_value(row.hold)?;
    Ok(Some(Hold {
        id: row.booking_id,
        event_id: row.event_id,
        user_id: row.user_id,
        status: HoldStatus::Held,
        items,
        total: row.amount,
        currency: row.currency,
        created_at,
        expires_at: clock::now() + chrono::TimeDelta::minutes(1),
        offered: row.offered,
    }))
}
