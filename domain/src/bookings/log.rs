//! The booking log and the audit log of bookings, appended in the transaction that they describe.

use diesel::{
    sql_query,
    sql_types::{Array, BigInt, Integer, Jsonb, Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use serde_json::Value;
use uuid::Uuid;

use crate::{db::Conn, fault::Fault, statement::prepared};

/// Something that happened to a booking.
pub(super) struct Happening {
    /// `confirmed`, `failed`, `cancelled` or `refunded`.
    pub kind: &'static str,
    pub event_id: Uuid,
    pub booking_id: Uuid,
    pub user_id: Uuid,
    pub quantity: i32,
    /// The booking's total, or for `cancelled` and `refunded` what is given back.
    pub amount: i64,
    pub currency: String,
    pub items: Value,
    /// Whose doing it was; nobody: Evently's.
    pub actor: Option<Uuid>,
    pub detail: Value,
    pub trace_id: Option<String>,
}

impl Happening {
    const fn action(&self) -> &'static str {
        match self.kind.as_bytes() {
            b"confirmed" => "booking.confirmed",
            b"failed" => "booking.failed",
            b"cancelled" => "booking.cancelled",
            _ => "booking.refunded",
        }
    }
}

/// Appends to both logs.
pub(super) async fn append(mut conn: &Conn, happenings: &[Happening]) -> Result<(), Fault> {
    if happenings.is_empty() {
        return Ok(());
    }
    let column = happenings.iter();
    prepared(
        sql_query(include_str!("sql/append_log.sql"))
            .bind::<Array<SqlUuid>, _>(column.clone().map(|h| h.event_id).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(column.clone().map(|h| h.booking_id).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(column.clone().map(|h| h.user_id).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(column.clone().map(|h| h.kind).collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(column.clone().map(|h| h.quantity).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(column.clone().map(|h| h.amount).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(column.clone().map(|h| h.currency.as_str()).collect::<Vec<_>>())
            .bind::<Array<Jsonb>, _>(column.clone().map(|h| &h.items).collect::<Vec<_>>()),
    )
    .execute(&mut conn)
    .await?;
    prepared(
        sql_query(include_str!("sql/append_audit.sql"))
            .bind::<Array<Nullable<SqlUuid>>, _>(column.clone().map(|h| h.actor).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(column.clone().map(Happening::action).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(column.clone().map(|h| h.booking_id).collect::<Vec<_>>())
            .bind::<Array<Jsonb>, _>(column.clone().map(|h| &h.detail).collect::<Vec<_>>())
            .bind::<Array<Nullable<Text>>, _>(column.map(|h| h.trace_id.as_deref()).collect::<Vec<_>>()),
    )
    .execute(&mut conn)
    .await?;
    Ok(())
}
