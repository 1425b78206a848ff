//! Attempts to pay: which row an order's payment has, written before the provider is called.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName, sql_query,
    sql_types::{Array, BigInt, Bool, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use serde_json::Value;
use uuid::Uuid;

use super::{Charge, PaymentAction, PaymentStatus, actions};
use crate::{
    db::{Conn, Db},
    fault::Fault,
    statement::prepared,
};

/// An order that is to be paid.
#[derive(Clone, Debug)]
pub struct ToPay {
    pub booking_id: Uuid,
    pub event_id: Uuid,
    pub user_id: Uuid,
    /// Which confirm of the hold asks.
    pub attempt: u32,
    pub provider: String,
    pub token: String,
    pub amount: i64,
    pub currency: String,
}

/// The row of an attempt.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub payment_id: Uuid,
    pub event_id: Uuid,
    pub provider: String,
    pub charge: Charge,
    pub status: PaymentStatus,
    pub reference: Option<String>,
    /// Why it failed or was given up.
    pub failure: Option<String>,
    /// What the customer was asked to do.
    pub action: Option<PaymentAction>,
    /// The time for that is over, by Postgres's clock.
    pub action_over: bool,
}

#[derive(QueryableByName)]
pub(super) struct Row {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub booking_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub event_id: Uuid,
    #[diesel(sql_type = Integer)]
    pub attempt: i32,
    #[diesel(sql_type = Text)]
    pub provider: String,
    #[diesel(sql_type = Text)]
    pub provider_key: String,
    #[diesel(sql_type = Text)]
    pub token: String,
    #[diesel(sql_type = BigInt)]
    pub amount: i64,
    #[diesel(sql_type = Text)]
    pub currency: String,
    #[diesel(sql_type = Text)]
    pub status: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub reference: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub failure: Option<String>,
    #[diesel(sql_type = Nullable<Jsonb>)]
    pub action: Option<Value>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub action_until: Option<DateTime<Utc>>,
    #[diesel(sql_type = Bool)]
    pub action_over: bool,
}

impl Row {
    pub(super) fn attempt(self) -> Result<Attempt, Fault> {
        Ok(Attempt {
            payment_id: self.id,
            event_id: self.event_id,
            provider: self.provider,
            charge: Charge {
                provider_key: self.provider_key,
                booking_id: self.booking_id,
                token: self.token,
                amount: self.amount,
                currency: self.currency,
                reference: self.reference.clone(),
            },
            status: serde_json::from_value(Value::String(self.status))?,
            reference: self.reference,
            failure: self.failure,
            action: actions::composed(self.action, self.action_until)?,
            action_over: self.action_over,
        })
    }
}

/// What an order does, given the newest row that its booking has.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// The row is this very attempt's, or one whose end nobody knows since Redis lost the hold: go on with it.
    Resume,
    Begin(i32),
}

fn next(newest: Option<&Row>, wanted: i32, token: &str) -> Next {
    let Some(row) = newest else { return Next::Begin(wanted) };
    let resumable = match row.status.as_str() {
        // Nobody knows yet what came of it: whichever attempt it was, it is never charged anew.
        "unknown" if row.failure.is_none() => true,
        // Its customer had their time for this very confirm, and there is no second one.
        "unknown" | "voided" => row.action.is_some() && wanted <= row.attempt,
        "authorised" | "captured" => true,
        // Declined, and the same card once more in the same attempt: a job that runs again.
        "failed" => row.attempt == wanted && row.token == token,
        _ => false,
    };
    if resumable { Next::Resume } else { Next::Begin(wanted.max(row.attempt + 1)) }
}

/// The row of each order's attempt, in their order, written where there is none yet. Commits by itself: once this
/// answers, no charge can go unnoticed. Safe to repeat.
pub async fn record(db: &Db, orders: &[ToPay]) -> Result<Vec<Attempt>, Fault> {
    let mut conn = db.conn().await?;
    // A row that somebody else writes meanwhile is seen on the second round.
    for _ in 0..3 {
        if let Some(attempts) = try_record(&mut conn, orders).await? {
            return Ok(attempts);
        }
    }
    Err(Fault::Corrupt("an attempt to pay was neither written nor found".to_owned()))
}

async fn try_record(conn: &mut Conn, orders: &[ToPay]) -> Result<Option<Vec<Attempt>>, Fault> {
    let booking_ids: Vec<Uuid> = orders.iter().map(|order| order.booking_id).collect();
    let rows: Vec<Row> =
        prepared(sql_query(include_str!("newest_attempts.sql")).bind::<Array<SqlUuid>, _>(booking_ids))
            .load(conn)
            .await?;
    let mut newest: HashMap<Uuid, Row> = rows.into_iter().map(|row| (row.booking_id, row)).collect();
    let mut begun = HashMap::new();
    for order in orders {
        let wanted = i32::try_from(order.attempt).map_err(|error| Fault::Corrupt(error.to_string()))?;
        if let Next::Begin(number) = next(newest.get(&order.booking_id), wanted, &order.token) {
            begun.insert(order.booking_id, (order, number));
        }
    }
    if !begun.is_empty() {
        let begun: Vec<_> = begun.into_values().collect();
        let inserted = insert(conn, &begun).await?;
        if inserted.len() < begun.len() {
            return Ok(None);
        }
        newest.extend(inserted.into_iter().map(|row| (row.booking_id, row)));
    }
    let attempts = newest
        .into_iter()
        .map(|(id, row)| Ok((id, row.attempt()?)))
        .collect::<Result<HashMap<_, _>, Fault>>()?;
    Ok(orders.iter().map(|order| attempts.get(&order.booking_id).cloned()).collect())
}

async fn insert(conn: &mut Conn, begun: &[(&ToPay, i32)]) -> Result<Vec<Row>, Fault> {
    let column = begun.iter();
    let keys = column.clone().map(|(order, number)| format!("{}:{number}", order.booking_id));
    let rows = prepared(
        sql_query(include_str!("insert_attempts.sql"))
            .bind::<Array<SqlUuid>, _>(column.clone().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(column.clone().map(|(o, _)| o.booking_id).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(column.clone().map(|(o, _)| o.event_id).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(column.clone().map(|(o, _)| o.user_id).collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(column.clone().map(|(_, number)| *number).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(column.clone().map(|(o, _)| o.provider.as_str()).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(keys.collect::<Vec<_>>())
            .bind::<Array<Text>, _>(column.clone().map(|(o, _)| o.token.as_str()).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(column.clone().map(|(o, _)| o.amount).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(column.map(|(o, _)| o.currency.as_str()).collect::<Vec<_>>()),
    )
    .load(conn)
    .await?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(attempt: i32, status: &str, failure: Option<&str>) -> Row {
        Row {
            id: Uuid::nil(),
            booking_id: Uuid::nil(),
            event_id: Uuid::nil(),
            attempt,
            provider: "sandbox".to_owned(),
            provider_key: String::new(),
            token: "tok_ok".to_owned(),
            amount: 1,
            currency: "EUR".to_owned(),
            status: status.to_owned(),
            reference: None,
            failure: failure.map(str::to_owned),
            action: None,
            action_until: None,
            action_over: false,
        }
    }

    #[test]
    fn a_job_that_runs_again_goes_on_with_its_row_and_anything_else_begins_anew() {
        assert_eq!(next(None, 1, "tok_ok"), Next::Begin(1));
        assert_eq!(next(Some(&row(1, "failed", Some("card"))), 2, "tok_ok"), Next::Begin(2));
        assert_eq!(next(Some(&row(1, "unknown", None)), 1, "tok_ok"), Next::Resume);
        assert_eq!(next(Some(&row(1, "unknown", None)), 70_000, "tok_other"), Next::Resume);
        assert_eq!(next(Some(&row(2, "captured", None)), 1, "tok_ok"), Next::Resume);
        assert_eq!(next(Some(&row(1, "failed", Some("card"))), 1, "tok_ok"), Next::Resume);
        assert_eq!(next(Some(&row(1, "failed", Some("card"))), 1, "tok_other"), Next::Begin(2));
        assert_eq!(next(Some(&row(1, "unknown", Some("hold-expired"))), 1, "tok_ok"), Next::Begin(2));
        assert_eq!(next(Some(&row(3, "voided", None)), 1, "tok_ok"), Next::Begin(4));
        let waited = Row { action: Some(Value::Null), ..row(3, "voided", Some("hold-expired")) };
        assert_eq!(next(Some(&waited), 3, "tok_ok"), Next::Resume);
        assert_eq!(next(Some(&waited), 4, "tok_ok"), Next::Begin(4));
    }
}
