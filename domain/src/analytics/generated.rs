//! A long booking log out of nothing, for load tests: two years of a thousand past events.
//!
//! Only the log and the events that it speaks of are made, no bookings. The log is append-only, so this cannot be taken
//! back: it is for databases that are thrown away.

use diesel::{
    sql_query,
    sql_types::{BigInt, Integer, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use uuid::Uuid;

use crate::{
    db::{Conn, Db},
    fault::Fault,
};

/// Makes so many events that are over, at a venue. Safe to repeat: the same ones stay.
pub async fn generate_events(db: &Db, organizer_id: Uuid, venue_id: Uuid, events: i32) -> Result<(), Fault> {
    let conn = &mut *db.conn().await?;
    conn.transaction(async |conn: &mut Conn| {
        for statement in
            [include_str!("sql/generate_events.sql"), include_str!("sql/generate_ticket_types.sql")]
        {
            sql_query(statement)
                .bind::<SqlUuid, _>(organizer_id)
                .bind::<SqlUuid, _>(venue_id)
                .bind::<Integer, _>(events)
                .execute(conn)
                .await?;
        }
        Ok(())
    })
    .await
}

/// Appends the rows from `first` on, `rows` of them, of a log of `total` about `events` generated events: the same share
/// of two years that they are of the log.
pub async fn generate_log(db: &Db, events: i32, first: i64, rows: i64, total: i64) -> Result<(), Fault> {
    sql_query(include_str!("sql/generate_log.sql"))
        .bind::<Integer, _>(events)
        .bind::<BigInt, _>(first)
        .bind::<BigInt, _>(rows)
        .bind::<BigInt, _>(total)
        .execute(&mut *db.conn().await?)
        .await?;
    Ok(())
}
