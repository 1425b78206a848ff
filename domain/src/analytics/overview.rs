//! Everything at a glance: totals of a period beside the one before, what sells best, how full it is.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName, sql_query,
    sql_types::{Date, Nullable, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Scope,
    columns::spell_out,
    figures::{Change, CountedIn, Totals},
    period::Period,
    top::{self, PopularEvent, TopEvents},
    utilization::{self, Utilization},
};
use crate::{db::Conn, fault::Fault, statement::prepared};

/// The totals of a period.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PeriodTotals {
    #[serde(flatten)]
    pub period: Period,
    pub totals: Totals,
}

/// Figures of all one's events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Overview {
    /// The days that are counted; null: all there are.
    pub period: Option<Period>,
    pub totals: Totals,
    /// As many days right before; null when all days are counted.
    pub previous: Option<PeriodTotals>,
    /// From `previous` to `totals`.
    pub change: Option<Change>,
    /// What sold most tickets in the period.
    pub most_popular: Vec<PopularEvent>,
    /// What sold most tickets lately and ever, whatever the period.
    pub top_events: TopEvents,
    /// How full the events on sale are now.
    pub capacity_utilization: Utilization,
    /// When something was last counted: a few seconds after it happened.
    pub as_of: Option<DateTime<Utc>>,
}

/// Of a period, or of all time. Safe to call at any time; nothing is locked.
pub async fn overview(conn: &mut Conn, scope: Scope, period: Option<Period>) -> Result<Overview, Fault> {
    let totals = totals(conn, scope, period).await?;
    let mut previous = None;
    if let Some(before) = period.map(Period::before) {
        previous =
            Some(PeriodTotals { period: before, totals: self::totals(conn, scope, Some(before)).await? });
    }
    let change = previous.as_ref().map(|before| Change::between(&before.totals, &totals));
    let top_events = top::top_events(conn, scope).await?;
    let most_popular = match period {
        Some(period) => top::in_period(conn, scope, period).await?,
        None => top_events.all_time.clone(),
    };
    let capacity_utilization = utilization::utilization(conn, scope).await?;
    let as_of = as_of(conn).await?;
    Ok(Overview { period, totals, previous, change, most_popular, top_events, capacity_utilization, as_of })
}

/// When something was last counted.
pub(super) async fn as_of(conn: &mut Conn) -> Result<Option<DateTime<Utc>>, Fault> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<Timestamptz>)]
        counted_at: Option<DateTime<Utc>>,
    }
    let row: Row = prepared(sql_query("SELECT counted_at FROM analytics_offset")).get_result(conn).await?;
    Ok(row.counted_at)
}

static TOTALS: LazyLock<String> = LazyLock::new(|| {
    spell_out(
        "SELECT c.currency, {sums} FROM analytics_totals c
         WHERE c.organizer_id = $1 AND ($2::date IS NULL OR c.day BETWEEN $2 AND $3) GROUP BY 1 ORDER BY 1",
    )
});

async fn totals(conn: &mut Conn, scope: Scope, period: Option<Period>) -> Result<Totals, Fault> {
    let statement = sql_query(TOTALS.as_str())
        .bind::<SqlUuid, _>(scope.totals())
        .bind::<Nullable<Date>, _>(period.map(|period| period.from))
        .bind::<Nullable<Date>, _>(period.map(|period| period.to));
    let rows: Vec<CountedIn> = prepared(statement).load(conn).await?;
    Ok(Totals::new(&rows))
}
