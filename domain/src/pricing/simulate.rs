//! What an event would have brought in under other rules: reads a sale as it was, and plays it again.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use tokio::sync::Semaphore;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    engine::Moment,
    recorded::{
        ChangeRow, EventRow, KindRow, MAX_ENTRIES, MAX_INSTANTS, read_changes, read_event, read_instants,
        read_kinds, read_log,
    },
    replay::{self, Instant, LogEntry, Observed, Sale, replay},
    rules::PricingRules,
    stored::may_see,
};
use crate::{db::Db, events::Editor, fault::Fault, invalid::FieldError, money::Money};

/// The most decisions: evaluations by ticket types.
const MAX_DECISIONS: usize = 100_000;
/// How many simulations run in a process at once: each holds some ten megabytes.
const AT_ONCE: usize = 2;

static RUNNING: Semaphore = Semaphore::const_new(AT_ONCE);

#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// Unknown, or somebody else's event.
    #[error("there is no such event")]
    NotFound,
    #[error("{} fields are not valid", .0.len())]
    Invalid(Vec<FieldError>),
    /// As many run as may.
    #[error("too many simulations run")]
    Busy,
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<diesel::result::Error> for SimulateError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Fault(error.into())
    }
}

/// When prices are evaluated in a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SimulatedInstants)]
pub enum Instants {
    /// When they really were: the interval is that of the event's rules. With all of its rules, the simulated path is the
    /// actual one.
    Recorded,
    /// At each interval from the start of sales on: the prices were never evaluated, or at another interval. Holds and
    /// the waitlist are taken as the last evaluation before saw them, and as none before the first.
    Scheduled,
}

/// A price from one moment on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PricePoint {
    /// Null: from the start.
    pub at: Option<DateTime<Utc>>,
    pub price: Money,
}

/// The prices of a ticket type, and what they brought in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PricePath {
    /// The first price, then each other one.
    pub prices: Vec<PricePoint>,
    /// Before anything was given back.
    pub gross: Money,
}

impl PricePath {
    fn of(path: replay::Path, currency: &str) -> Self {
        let point = |(at, price)| PricePoint { at, price: Money::new(price, currency) };
        Self { prices: path.prices.into_iter().map(point).collect(), gross: Money::new(path.gross, currency) }
    }
}

/// What came in and went back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Revenue {
    pub gross: Money,
    /// Given back to those who cancelled.
    pub refunded: Money,
    pub net: Money,
}

impl Revenue {
    fn of(revenue: replay::Revenue, currency: &str) -> Self {
        Self {
            gross: Money::new(revenue.gross, currency),
            refunded: Money::new(revenue.refunded, currency),
            net: Money::new(revenue.gross - revenue.refunded, currency),
        }
    }
}

/// A ticket type in a simulation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SimulatedTicketType {
    pub ticket_type_id: Uuid,
    pub name: String,
    /// Tickets sold, those that were given back among them.
    pub tickets: i64,
    pub actual: PricePath,
    pub simulated: PricePath,
}

/// What was, beside what would have been if everybody had bought what they bought at the prices of these rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Simulation {
    pub instants: Instants,
    /// How often prices were evaluated.
    pub evaluations: usize,
    /// False when there was more than one simulation may take: it then ends at `until`.
    pub complete: bool,
    /// Up to when bookings and prices are in it.
    pub until: DateTime<Utc>,
    pub ticket_types: Vec<SimulatedTicketType>,
    pub actual: Revenue,
    pub simulated: Revenue,
}

/// Plays the sale of an event again under these rules, whether they are on or not. Writes nothing.
pub async fn simulate(
    db: &Db,
    editor: Editor,
    event_id: Uuid,
    rules: PricingRules,
) -> Result<Simulation, SimulateError> {
    let _place = RUNNING.try_acquire().map_err(|_| SimulateError::Busy)?;
    let mut conn = db.conn().await?;
    if !may_see(&mut conn, editor, event_id).await? {
        return Err(SimulateError::NotFound);
    }
    let event = read_event(&mut conn, event_id).await?;
    let kinds = read_kinds(&mut conn, event_id).await?;
    let base_prices: Vec<_> = kinds.iter().filter(|kind| kind.present).map(|kind| kind.base_price).collect();
    rules.check(&base_prices).map_err(SimulateError::Invalid)?;
    let recorded = read_instants(&mut conn, event_id).await?;
    let changes = read_changes(&mut conn, event_id).await?;
    let log = read_log(&mut conn, event_id).await?;
    drop(conn);
    // Seconds of work on a slow machine: not where requests are answered.
    let work = tokio::task::spawn_blocking(move || {
        let read = Read { event, kinds, recorded, changes, log };
        read.simulate(&rules)
    });
    Ok(work.await.map_err(|error| Fault::Corrupt(format!("a simulation failed: {error}")))??)
}

/// Everything that was read of a sale; of each kind at most one more than may be used.
struct Read {
    event: EventRow,
    kinds: Vec<KindRow>,
    recorded: Vec<Instant>,
    changes: Vec<ChangeRow>,
    log: Vec<LogEntry>,
}

impl Read {
    fn simulate(mut self, rules: &PricingRules) -> Result<Simulation, Fault> {
        let until = self.cut();
        let complete = until.is_none();
        let until = until.unwrap_or(self.event.now);
        self.log.sort_unstable_by_key(|entry| entry.id);
        let own_interval =
            self.event.every_minutes.is_some_and(|every| i64::from(every) == rules.every_minutes);
        let instants =
            if own_interval && !self.recorded.is_empty() { Instants::Recorded } else { Instants::Scheduled };
        let kinds = self.kinds.iter().map(|kind| (kind.id, self.first(kind).0)).collect();
        let mut sale = Sale {
            kinds,
            instants: Vec::new(),
            changes: self.changes.iter().map(ChangeRow::change).collect(),
            log: Vec::new(),
        };
        let complete = match instants {
            Instants::Recorded => {
                sale.changes.retain(|change| change.manual);
                sale.instants = std::mem::take(&mut self.recorded);
                complete
            }
            Instants::Scheduled => {
                let (scheduled, whole) = self.schedule(rules, until);
                sale.instants = scheduled;
                number(&mut sale);
                complete && whole
            }
        };
        sale.log = std::mem::take(&mut self.log);
        let mut replayed = replay(rules, &sale);
        let currency = self.event.currency.as_str();
        let ticket_types = self.kinds.into_iter().map(|kind| {
            let found = replayed.kinds.remove(&kind.id);
            let (tickets, actual, simulated) =
                found.ok_or_else(|| Fault::Corrupt("a simulation lost a ticket type".to_owned()))?;
            Ok(SimulatedTicketType {
                ticket_type_id: kind.id,
                name: kind.name,
                tickets,
                actual: PricePath::of(actual, currency),
                simulated: PricePath::of(simulated, currency),
            })
        });
        Ok(Simulation {
            instants,
            evaluations: sale.instants.len(),
            complete,
            until,
            ticket_types: ticket_types.collect::<Result<_, Fault>>()?,
            actual: Revenue::of(replayed.actual, currency),
            simulated: Revenue::of(replayed.simulated, currency),
        })
    }

    /// Cuts off what is too much, of everything at the same time; answers when, if there was too much of anything.
    fn cut(&mut self) -> Option<DateTime<Utc>> {
        let most = MAX_INSTANTS.min(MAX_DECISIONS / self.kinds.len().max(1));
        let ends = [
            self.recorded.get(most).map(|instant| instant.moment.at),
            self.changes.get(MAX_ENTRIES).map(|change| change.at),
            self.log.get(MAX_ENTRIES).map(|entry| entry.at),
        ];
        let until = ends.into_iter().flatten().min()?;
        self.recorded.retain(|instant| instant.moment.at < until);
        self.changes.retain(|change| change.at < until);
        self.log.retain(|entry| entry.at < until);
        Some(until)
    }

    /// The price and the base price that a ticket type began with.
    fn first(&self, kind: &KindRow) -> (i64, i64) {
        let first = self.changes.iter().find(|change| change.ticket_type_id == kind.id);
        first.map_or((kind.price, kind.base_price), |first| (first.old_price, first.old_base_price))
    }

    /// An evaluation at each interval of these rules from the start of sales until then; and whether that is all.
    fn schedule(&self, rules: &PricingRules, until: DateTime<Utc>) -> (Vec<Instant>, bool) {
        if !self.event.published {
            return (Vec::new(), true);
        }
        let (start, every) = (self.event.sales_start_at, TimeDelta::minutes(rules.every_minutes));
        let end = until.min(self.event.sales_over_at);
        let most = MAX_INSTANTS.min(MAX_DECISIONS / self.kinds.len().max(1));
        let base_prices = self.base_prices();
        let mut instants = Vec::new();
        let mut at = start + every;
        let mut log = self.log.iter().peekable();
        let (mut log_position, mut seen) = (0, 0);
        while at < end {
            if instants.len() == most {
                return (instants, false);
            }
            while let Some(entry) = log.next_if(|entry| entry.at <= at) {
                log_position = log_position.max(entry.id);
            }
            seen += self.recorded[seen..].iter().take_while(|instant| instant.moment.at <= at).count();
            let last = seen.checked_sub(1).map(|last| &self.recorded[last]);
            let moment = Moment {
                at,
                sales_start_at: start,
                sales_over_at: self.event.sales_over_at,
                starts_at: self.event.starts_at,
            };
            let kinds = self.kinds.iter().filter(|kind| kind.present && kind.created_at <= at);
            let kinds = kinds.map(|kind| {
                let prices = &base_prices[&kind.id];
                let base_price = prices[prices.partition_point(|(from, _)| *from <= at).max(1) - 1].1;
                (kind.id, observed(kind, last, base_price))
            });
            let kinds = kinds.collect();
            instants.push(Instant { step: 0, moment, log_position, kinds });
            at += every;
        }
        (instants, true)
    }

    /// The base prices of each ticket type, each from some time on; the first from ever.
    fn base_prices(&self) -> HashMap<Uuid, Vec<(DateTime<Utc>, i64)>> {
        let first = |kind: &KindRow| (kind.id, vec![(DateTime::<Utc>::MIN_UTC, self.first(kind).1)]);
        let mut prices: HashMap<_, _> = self.kinds.iter().map(first).collect();
        for change in self.changes.iter().filter(|change| change.manual) {
            if let Some(prices) = prices.get_mut(&change.ticket_type_id) {
                prices.push((change.at, change.new_base_price));
            }
        }
        prices
    }
}

/// A ticket type as it was, as far as is known.
fn observed(kind: &KindRow, last: Option<&Instant>, base_price: i64) -> Observed {
    let last = last.and_then(|last| last.kinds.iter().find(|(id, _)| *id == kind.id));
    Observed {
        base_price,
        capacity: last.map_or_else(|| kind.capacity.into(), |last| last.1.capacity),
        held: last.map_or(0, |last| last.1.held),
        waiting: last.map_or(0, |last| last.1.waiting),
        to: None,
    }
}

/// Numbers instants that were scheduled and changes that were by their times, each change before the instant of its time.
fn number(sale: &mut Sale) {
    let Sale { instants, changes, .. } = sale;
    changes.sort_by_key(|change| change.at);
    let mut before = 0;
    let mut step = 0;
    for instant in instants {
        while let Some(change) = changes.get_mut(before).filter(|change| change.at <= instant.moment.at) {
            step += 1;
            change.step = step;
            before += 1;
        }
        step += 1;
        instant.step = step;
    }
    for change in &mut changes[before..] {
        step += 1;
        change.step = step;
    }
}
