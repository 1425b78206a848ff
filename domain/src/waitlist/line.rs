//! The rows of ticket types as the waitlist locks and changes them.

use std::collections::BTreeMap;

use diesel::{
    sql_query,
    sql_types::{Array, Integer, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::{bookings::SeatCount, db::Conn, fault::Fault, statement::prepared};

/// How the numbers of a ticket type change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Delta {
    /// Seats of offers.
    pub reserved: i32,
    /// Entries that wait, and the tickets that they want.
    pub entries: i32,
    pub tickets: i32,
}

/// Ticket types and how each changes, in the order in which they are locked.
pub(super) type Deltas = BTreeMap<Uuid, Delta>;

/// Locks these ticket types, in the order of ids, until the transaction ends.
pub(super) async fn lock(conn: &mut Conn, mut ids: Vec<Uuid>) -> Result<Vec<SeatCount>, Fault> {
    ids.sort_unstable();
    ids.dedup();
    Ok(prepared(
        sql_query(include_str!("../bookings/sql/lock_ticket_types.sql")).bind::<Array<SqlUuid>, _>(ids),
    )
    .load(conn)
    .await?)
}

/// Changes ticket types that are locked; answers their new rows. What would not fit the capacity is left out.
pub(super) async fn change(conn: &mut Conn, deltas: &Deltas) -> Result<Vec<SeatCount>, Fault> {
    if deltas.is_empty() {
        return Ok(Vec::new());
    }
    let column = |of: fn(&Delta) -> i32| deltas.values().map(of).collect::<Vec<_>>();
    Ok(prepared(
        sql_query(include_str!("sql/change_ticket_types.sql"))
            .bind::<Array<SqlUuid>, _>(deltas.keys().copied().collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(column(|delta| delta.reserved))
            .bind::<Array<Integer>, _>(column(|delta| delta.entries))
            .bind::<Array<Integer>, _>(column(|delta| delta.tickets)),
    )
    .load(conn)
    .await?)
}
