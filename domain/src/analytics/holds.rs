//! Counts holds: what scripts in Redis have counted as they placed them is brought here, for the figures.
//!
//! A count stands for an event, a quarter of an hour and the epoch of the inventory in which it was counted, and only
//! grows. So whatever is brought twice, late or after something newer changes nothing, and nothing is lost with whoever
//! dies in the middle of it. What Redis counted and loses before it is brought is missing for good: some seconds, if it
//! loses everything.

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use chrono::{DateTime, Utc};
use diesel::{
    ExpressionMethods, IntoSql, QueryDsl,
    dsl::{IntervalDsl, now},
    sql_query,
    sql_types::{Array, BigInt, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use uuid::Uuid;

use super::columns::spell_out;
use crate::{
    db::{Conn, Db},
    fault::Fault,
    inventory::{Call, Inventory, Keys, Script},
    kill_point::kill_point,
    schema::events,
};

/// Events asked about at once.
const PAGE: i64 = 200;
/// Counts a transaction.
const BATCH: usize = 5_000;
const QUARTER: Duration = Duration::from_mins(15);
/// How long a quarter of an hour has been over when its count is taken out of Redis: clocks may be set back.
const KEPT: Duration = Duration::from_hours(1);

const GIVEN: &str = include_str!("sql/given_holds.sql");
const KEPT_HOLDS: &str = "SELECT event_id, at, holds FROM hold_counts";

/// Meets the events of holds and adds these to their figures: of given ones, which are new, and of all that are kept.
static COUNT: LazyLock<[[String; 2]; 2]> = LazyLock::new(|| {
    [GIVEN, KEPT_HOLDS].map(|holds| {
        [include_str!("sql/meet_held_events.sql"), include_str!("sql/count_holds.sql")]
            .map(|statement| spell_out(&statement.replace("{holds}", holds)))
    })
});

/// What one run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HoldsCounted {
    /// Counts that Redis had.
    pub found: u64,
    /// Those of them that are taken out of it, since they will not grow any more.
    pub forgotten: u64,
}

/// One count, as Redis has it.
struct Count {
    event_id: Uuid,
    /// When its quarter of an hour began.
    at: DateTime<Utc>,
    epoch: i64,
    holds: i64,
    /// How Redis calls it.
    field: String,
}

impl Count {
    fn new(event_id: Uuid, field: String, holds: i64) -> Result<Self, Fault> {
        let corrupt = || Fault::Corrupt(format!("a count of holds: {field}"));
        let (quarter, epoch) = field.split_once(':').ok_or_else(corrupt)?;
        let quarter: i64 = quarter.parse().map_err(|_| corrupt())?;
        let secs = quarter.checked_mul(QUARTER.as_secs().cast_signed()).ok_or_else(corrupt)?;
        let at = DateTime::from_timestamp(secs, 0).ok_or_else(corrupt)?;
        let epoch = epoch.parse().map_err(|_| corrupt())?;
        Ok(Self { event_id, at, epoch, holds, field })
    }
}

/// Brings all counts of events that may be held, or were until lately. Safe to repeat, and to run twice at once.
pub async fn count_holds(db: &Db, inventory: &Inventory) -> Result<HoldsCounted, Fault> {
    let (mut done, mut after) = (HoldsCounted::default(), Uuid::nil());
    loop {
        let page = events_after(&mut *db.conn().await?, after).await?;
        let Some(&last) = page.last() else { return Ok(done) };
        after = last;
        let (counts, at) = read(inventory, &page).await?;
        for counts in counts.chunks(BATCH) {
            if !keep(db, counts).await? {
                return Ok(done);
            }
            kill_point("figures.holds_kept");
            done.found += counts.len() as u64;
            done.forgotten += forget(inventory, counts, at).await?;
        }
    }
}

/// Events that are no drafts and whose inventory is not forgotten yet.
async fn events_after(conn: &mut Conn, after: Uuid) -> Result<Vec<Uuid>, Fault> {
    Ok(events::table
        .filter(events::status.ne("draft"))
        .filter(events::ends_at.gt(now.into_sql::<Timestamptz>() - 2.days()))
        .filter(events::id.gt(after))
        .order(events::id)
        .limit(PAGE)
        .select(events::id)
        .load(conn)
        .await?)
}

/// The counts of these events, and what time it is in Redis.
async fn read(inventory: &Inventory, event_ids: &[Uuid]) -> Result<(Vec<Count>, DateTime<Utc>), Fault> {
    let mut connection = inventory.connection();
    let (secs, _): (i64, i64) = redis::cmd("TIME").query_async(&mut connection).await?;
    let at = DateTime::from_timestamp(secs, 0).ok_or_else(|| Fault::Corrupt(format!("time: {secs}")))?;
    let mut pipeline = redis::pipe();
    for event_id in event_ids {
        pipeline.cmd("HGETALL").arg(Keys::of(*event_id).counts());
    }
    let found: Vec<HashMap<String, i64>> = pipeline.query_async(&mut connection).await?;
    let counts = event_ids
        .iter()
        .zip(found)
        .flat_map(|(event_id, counts)| {
            counts.into_iter().map(|(field, holds)| Count::new(*event_id, field, holds))
        })
        .collect::<Result<_, _>>()?;
    Ok((counts, at))
}

/// Keeps counts and adds what is new in them to the figures; answers whether it could: somebody else may be counting.
async fn keep(db: &Db, counts: &[Count]) -> Result<bool, Fault> {
    let conn = &mut *db.conn().await?;
    conn.transaction(async |conn: &mut Conn| {
        let mine = sql_query("SELECT FROM analytics_offset FOR UPDATE SKIP LOCKED").execute(conn).await?;
        if mine == 0 {
            return Ok(false);
        }
        for statement in COUNT[0].iter().map(String::as_str).chain([include_str!("sql/keep_holds.sql")]) {
            sql_query(statement)
                .bind::<Array<SqlUuid>, _>(counts.iter().map(|count| count.event_id).collect::<Vec<_>>())
                .bind::<Array<Timestamptz>, _>(counts.iter().map(|count| count.at).collect::<Vec<_>>())
                .bind::<Array<BigInt>, _>(counts.iter().map(|count| count.epoch).collect::<Vec<_>>())
                .bind::<Array<BigInt>, _>(counts.iter().map(|count| count.holds).collect::<Vec<_>>())
                .execute(conn)
                .await?;
        }
        Ok::<_, Fault>(true)
    })
    .await
}

/// Takes counts out of Redis that are kept and long over; answers how many.
async fn forget(inventory: &Inventory, counts: &[Count], at: DateTime<Utc>) -> Result<u64, Fault> {
    let mut over: HashMap<Uuid, Call> = HashMap::new();
    for count in counts.iter().filter(|count| count.at + QUARTER + KEPT < at) {
        let call = over
            .entry(count.event_id)
            .or_insert_with(|| Call::new(Script::ForgetCounts).key(Keys::of(count.event_id).counts()));
        call.push(&count.field);
        call.push(count.holds);
    }
    let calls: Vec<Call> = over.into_values().collect();
    let mut forgotten = 0;
    for reply in inventory.run_all(&calls).await? {
        forgotten += redis::from_redis_value::<u64>(reply).map_err(redis::RedisError::from)?;
    }
    Ok(forgotten)
}

/// Adds all holds to figures in which there are none.
pub(super) async fn recount(conn: &mut Conn) -> Result<(), Fault> {
    for statement in &COUNT[1] {
        sql_query(statement.as_str()).execute(conn).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_says_of_when_it_is() {
        let count = Count::new(Uuid::nil(), "1973664:12".to_owned(), 7).unwrap();
        assert_eq!((count.at.to_rfc3339().as_str(), count.epoch), ("2026-04-16T00:00:00+00:00", 12));
        for odd in ["", "1", ":", "x:1", "1:x", "9223372036854775807:1"] {
            assert!(Count::new(Uuid::nil(), odd.to_owned(), 1).is_err(), "{odd}");
        }
    }
}
