//! How far the booking log is settled: up to which id every row is there that will ever be there.
//!
//! Ids are drawn from a sequence, and transactions commit in another order than they drew: a row with a smaller id
//! may appear after one with a larger. Whoever counts by id alone would skip it for good. But a transaction that drew
//! an id has a lock on the table until it ends, so the highest id seen now is a horizon as soon as everybody who had
//! that lock just after has ended. Those who come later draw higher ids, and nobody is kept waiting. Transactions that
//! do not write to the log, however long they take, hold nothing up.

use std::time::{Duration, Instant};

use diesel::{
    QueryableByName, sql_query,
    sql_types::{Array, BigInt, Nullable, Text},
};
use diesel_async::RunQueryDsl;

use crate::{db::Conn, fault::Fault, statement::prepared};

#[derive(QueryableByName)]
struct Highest {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

#[derive(QueryableByName)]
struct WriterRow {
    #[diesel(sql_type = Text)]
    writer: String,
}

/// The id up to which the log is settled; `None` when a transaction that writes to it does not end for so long. Call
/// it outside of transactions: each statement must see what was committed before it.
pub(super) async fn settled(conn: &mut Conn, patience: Duration) -> Result<Option<i64>, Fault> {
    let Highest { id } =
        prepared(sql_query("SELECT coalesce(max(id), 0) AS id FROM booking_log")).get_result(conn).await?;
    let begun = Instant::now();
    let mut pause = Duration::from_millis(2);
    let mut writers = writers(conn, None).await?;
    while !writers.is_empty() {
        if begun.elapsed() >= patience {
            return Ok(None);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
        writers = self::writers(conn, Some(writers)).await?;
    }
    Ok(Some(id))
}

/// Who is writing to the log; of these, if some are given.
async fn writers(conn: &mut Conn, of: Option<Vec<String>>) -> Result<Vec<String>, Fault> {
    let rows: Vec<WriterRow> =
        prepared(sql_query(include_str!("sql/writers.sql")).bind::<Nullable<Array<Text>>, _>(of))
            .load(conn)
            .await?;
    Ok(rows.into_iter().map(|row| row.writer).collect())
}
