//! Compares the figures with a recount of the log and of the holds: they must be the same, and nothing here makes them
//! so.

use std::sync::LazyLock;

use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, Bool},
};
use diesel_async::RunQueryDsl;

use super::columns::spell_out;
use crate::{db::Db, fault::Fault};

static STATEMENTS: LazyLock<[String; 4]> = LazyLock::new(|| {
    [
        include_str!("sql/check_events.sql"),
        include_str!("sql/check_days.sql"),
        include_str!("sql/check_months.sql"),
        include_str!("sql/check_totals.sql"),
    ]
    .map(spell_out)
});

/// How many rows of the figures differ from a recount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    pub events: i64,
    pub days: i64,
    pub months: i64,
    pub totals: i64,
}

impl Differences {
    pub const fn total(self) -> i64 {
        self.events + self.days + self.months + self.totals
    }
}

/// Recounts everything as far as it is counted, compares, and notes what came of it. Takes its time on a long log, and
/// keeps nobody waiting: every comparison is one statement, which sees the figures and the offset of one moment.
pub async fn check(db: &Db) -> Result<Differences, Fault> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        differences: i64,
    }
    let conn = &mut *db.conn().await?;
    let mut found = [0; 4];
    for (found, statement) in found.iter_mut().zip(STATEMENTS.iter()) {
        let row: Row = sql_query(statement.as_str()).get_result(conn).await?;
        *found = row.differences;
    }
    let [events, days, months, totals] = found;
    let differences = Differences { events, days, months, totals };
    sql_query("UPDATE analytics_offset SET checked_at = now(), differences = $1")
        .bind::<BigInt, _>(differences.total())
        .execute(conn)
        .await?;
    Ok(differences)
}

/// Whether the figures have not been checked since three o'clock (UTC) of the night.
pub async fn is_check_due(db: &Db) -> Result<bool, Fault> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Bool)]
        due: bool,
    }
    let row: Row = sql_query(
        "SELECT checked_at < (date_trunc('day', now() AT TIME ZONE 'UTC' - interval '3 hours')
                              + interval '3 hours') AT TIME ZONE 'UTC' AS due
         FROM analytics_offset",
    )
    .get_result(&mut *db.conn().await?)
    .await?;
    Ok(row.due)
}
