//! Figures of what was sold: rolled up from the booking log, and read by organisers and admins.
//!
//! The log alone is the truth: every figure is a sum over its rows up to one id, the offset, which moves in the
//! transaction that adds the rows (`roll_up`). Hence nothing is counted twice or left out, and a recount of the log up
//! to the offset gives the same (`check`). How many holds there were, only Redis knows; its counts are kept beside the
//! log (`holds`). An event's days are those of its venue's calendar (`zones`).

mod check;
mod columns;
mod export;
mod figures;
mod generated;
mod holds;
mod horizon;
mod overview;
mod period;
mod roll_up;
mod series;
mod statistics;
mod top;
mod utilization;
mod zones;

use uuid::Uuid;

pub use check::{Differences, check, is_check_due};
pub use export::{ExportRow, export_page};
pub use figures::{Balance, Change, Counts, Revenue, Totals};
pub use generated::{generate_events, generate_log};
pub use holds::{HoldsCounted, count_holds};
pub use overview::{Overview, PeriodTotals, overview};
pub use period::{Granularity, Period};
pub use roll_up::{RolledUp, rebuild, roll_up};
pub use series::{Bucket, Series, event_series, series};
pub use statistics::{EventStatistics, event_statistics};
pub use top::{PopularEvent, TopEvents, popularity};
pub use utilization::{
    Band, EventUtilization, Utilization, UtilizationError, UtilizationFilter, UtilizationPosition,
    utilization_page, utilizations,
};
pub use zones::follow_zones;

/// Whose events are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everybody's: for admins.
    All,
    /// Those of this organizer.
    Organizer(Uuid),
}

impl Scope {
    const fn organizer(self) -> Option<Uuid> {
        match self {
            Self::All => None,
            Self::Organizer(id) => Some(id),
        }
    }

    /// Under whose id the totals stand.
    const fn totals(self) -> Uuid {
        match self {
            Self::All => Uuid::nil(),
            Self::Organizer(id) => id,
        }
    }
}
