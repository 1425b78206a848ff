//! A sale once more, under other rules: pure, over what was recorded of it.
//!
//! Everybody buys what they bought, when they bought it: that demand would have been another at another price is not
//! guessed. What is sold, and when, is counted anew from the booking log at each evaluation, as the evaluation itself
//! counted it; what the log does not tell (holds, the waitlist, capacities) is as it was seen then. A base price that was
//! set by hand is set again.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    engine::{Counted, Moment, decide},
    rules::PricingRules,
};

/// An entry of the booking log, of one booking that was confirmed or cancelled.
#[derive(Clone, Debug)]
pub struct LogEntry {
    pub id: i64,
    pub at: DateTime<Utc>,
    pub booking_id: Uuid,
    pub cancelled: bool,
    /// When the prices were quoted.
    pub quoted_at: DateTime<Utc>,
    /// What was paid, or what of it was given back.
    pub amount: i64,
    /// Ticket type, quantity, the price of one.
    pub items: Vec<(Uuid, i64, i64)>,
}

/// What an evaluation saw of a ticket type and the booking log does not tell.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    pub base_price: i64,
    pub capacity: i64,
    pub held: i64,
    pub waiting: i64,
    /// What it made of the real price, if this evaluation was one that really was.
    pub to: Option<i64>,
}

/// An evaluation.
#[derive(Clone, Debug)]
pub struct Instant {
    /// Its place among evaluations and changes.
    pub step: i64,
    pub moment: Moment,
    /// The last entry of the booking log that is counted.
    pub log_position: i64,
    pub kinds: Vec<(Uuid, Observed)>,
}

/// A change of a price that really was, by hand or by an evaluation that is not among the instants.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub step: i64,
    pub ticket_type_id: Uuid,
    pub at: DateTime<Utc>,
    pub price: i64,
    pub manual: bool,
}

/// A sale as it was.
#[derive(Clone, Debug)]
pub struct Sale {
    /// Each ticket type and the price that it began with.
    pub kinds: Vec<(Uuid, i64)>,
    /// In the order of their steps, as changes are.
    pub instants: Vec<Instant>,
    pub changes: Vec<Change>,
    /// In the order of their ids.
    pub log: Vec<LogEntry>,
}

/// The prices of a ticket type, and what they brought in before anything was given back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// The first price, and each other one with its time.
    pub prices: Vec<(Option<DateTime<Utc>>, i64)>,
    pub gross: i64,
}

/// What came in and went back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revenue {
    pub gross: i64,
    pub refunded: i64,
}

/// What was, beside what would have been.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// By ticket type: tickets sold, the actual path, the simulated one.
    pub kinds: BTreeMap<Uuid, (i64, Path, Path)>,
    pub actual: Revenue,
    pub simulated: Revenue,
}

/// Plays a sale again under these rules.
pub fn replay(rules: &PricingRules, sale: &Sale) -> Replayed {
    let mut tracks: HashMap<Uuid, Track> =
        sale.kinds.iter().map(|(id, price)| (*id, Track::new(*id, *price, &sale.log))).collect();
    let mut changes = sale.changes.iter().peekable();
    for instant in &sale.instants {
        while let Some(change) = changes.next_if(|change| change.step < instant.step) {
            if let Some(track) = tracks.get_mut(&change.ticket_type_id) {
                track.change(change);
            }
        }
        for (id, observed) in &instant.kinds {
            if let Some(track) = tracks.get_mut(id) {
                track.evaluate(rules, instant, observed);
            }
        }
    }
    for change in changes {
        if let Some(track) = tracks.get_mut(&change.ticket_type_id) {
            track.change(change);
        }
    }
    account(&mut tracks, &sale.log)
}

/// What both sets of prices bring in.
fn account(tracks: &mut HashMap<Uuid, Track>, log: &[LogEntry]) -> Replayed {
    let mut replayed = Replayed::default();
    let mut totals: HashMap<Uuid, (i64, i64)> = HashMap::new();
    for entry in log {
        if entry.cancelled {
            let (actual, simulated) = totals.get(&entry.booking_id).copied().unwrap_or_default();
            let share = |of: i64| i128::from(entry.amount) * i128::from(of) / i128::from(actual.max(1));
            replayed.actual.refunded += entry.amount;
            // The same share of what would have been paid.
            replayed.simulated.refunded += i64::try_from(share(simulated)).unwrap_or(i64::MAX);
            continue;
        }
        let total = totals.entry(entry.booking_id).or_default();
        for (id, quantity, unit_price) in &entry.items {
            let Some(track) = tracks.get_mut(id) else { continue };
            let (actual, simulated) =
                (quantity * unit_price, quantity * track.simulated_price(entry.quoted_at, *unit_price));
            track.tickets += quantity;
            track.actual.gross += actual;
            track.simulated.gross += simulated;
            *total = (total.0 + actual, total.1 + simulated);
            replayed.actual.gross += actual;
            replayed.simulated.gross += simulated;
        }
    }
    replayed.kinds =
        tracks.drain().map(|(id, track)| (id, (track.tickets, track.actual, track.simulated))).collect();
    replayed
}

/// Both prices from a moment on.
struct Segment {
    from: DateTime<Utc>,
    actual: i64,
    simulated: i64,
}

/// A sale of some tickets, or their return (negative).
struct Flow {
    id: i64,
    at: DateTime<Utc>,
    quantity: i64,
}

/// One ticket type on its way through the sale.
struct Track {
    flows: Vec<Flow>,
    /// Tickets sold up to each flow, and those of them that were not given back.
    sums: Vec<(i64, i64)>,
    /// The earliest time of each flow and all later ones.
    earliest: Vec<DateTime<Utc>>,
    /// Tickets sold up to each time, by time.
    by_time: Vec<(DateTime<Utc>, i64)>,
    segments: Vec<Segment>,
    changed_at: Option<DateTime<Utc>>,
    tickets: i64,
    actual: Path,
    simulated: Path,
}

impl Track {
    fn new(id: Uuid, price: i64, log: &[LogEntry]) -> Self {
        let of_this = |entry: &LogEntry| -> i64 {
            entry.items.iter().filter(|item| item.0 == id).map(|item| item.1).sum()
        };
        let flows: Vec<Flow> = log
            .iter()
            .map(|entry| Flow {
                id: entry.id,
                at: entry.at,
                quantity: of_this(entry) * if entry.cancelled { -1 } else { 1 },
            })
            .filter(|flow| flow.quantity != 0)
            .collect();
        let running = |sums: &mut (i64, i64), flow: &Flow| {
            *sums = (sums.0 + flow.quantity.max(0), sums.1 + flow.quantity);
            Some(*sums)
        };
        let sums = flows.iter().scan((0, 0), running).collect();
        let mut earliest: Vec<_> = flows.iter().map(|flow| flow.at).collect();
        for at in (1..earliest.len()).rev() {
            earliest[at - 1] = earliest[at - 1].min(earliest[at]);
        }
        let mut by_time: Vec<_> =
            flows.iter().filter(|flow| flow.quantity > 0).map(|flow| (flow.at, flow.quantity)).collect();
        by_time.sort_unstable();
        let mut sum = 0;
        for (_, quantity) in &mut by_time {
            sum += *quantity;
            *quantity = sum;
        }
        let first = Segment { from: DateTime::<Utc>::MIN_UTC, actual: price, simulated: price };
        let path = Path { prices: vec![(None, price)], gross: 0 };
        Self {
            flows,
            sums,
            earliest,
            by_time,
            segments: vec![first],
            changed_at: None,
            tickets: 0,
            actual: path.clone(),
            simulated: path,
        }
    }

    /// The present prices.
    fn present(&self) -> (i64, i64) {
        // There is always the first segment.
        self.segments.last().map_or((0, 0), |last| (last.actual, last.simulated))
    }

    fn set(&mut self, at: DateTime<Utc>, actual: i64, simulated: i64) {
        let present = self.present();
        if present == (actual, simulated) {
            return;
        }
        if actual != present.0 {
            self.actual.prices.push((Some(at), actual));
        }
        if simulated != present.1 {
            self.simulated.prices.push((Some(at), simulated));
        }
        // Those who evaluate look before they write: a change by hand may have come in between, with a later time.
        let from = self.segments.last().map_or(at, |last| last.from.max(at));
        self.segments.push(Segment { from, actual, simulated });
    }

    fn change(&mut self, change: &Change) {
        let simulated = if change.manual {
            self.changed_at = Some(change.at);
            change.price
        } else {
            self.present().1
        };
        self.set(change.at, change.price, simulated);
    }

    fn evaluate(&mut self, rules: &PricingRules, instant: &Instant, observed: &Observed) {
        let Instant { moment, log_position, .. } = instant;
        let (actual, price) = self.present();
        let actual = observed.to.unwrap_or(actual);
        let counted = Counted {
            base_price: observed.base_price,
            capacity: observed.capacity,
            sold: self.sold(*log_position).1,
            sold_in_window: self.sold_since(moment.at - moment.window(rules), *log_position),
            held: observed.held,
            waiting: observed.waiting,
        };
        let decision = decide(rules, &moment.inputs(rules, &counted, price, self.changed_at));
        if decision.price != price {
            self.changed_at = Some(moment.at);
        }
        self.set(moment.at, actual, decision.price);
    }

    /// How many flows are up to a position of the log.
    fn up_to(&self, log_position: i64) -> usize {
        self.flows.partition_point(|flow| flow.id <= log_position)
    }

    /// Tickets sold, and those of them that were not given back, up to a position of the log.
    fn sold(&self, log_position: i64) -> (i64, i64) {
        self.up_to(log_position).checked_sub(1).map_or((0, 0), |last| self.sums[last])
    }

    /// Tickets sold after a time, up to a position of the log.
    fn sold_since(&self, since: DateTime<Utc>, log_position: i64) -> i64 {
        let before = self.by_time.partition_point(|(at, _)| *at <= since);
        let before = before.checked_sub(1).map_or(0, |last| self.by_time[last].1);
        // Of those before, some may stand behind the position: entries are numbered when they are written, and have the
        // time at which their transaction began.
        let mut late = 0;
        for at in self.up_to(log_position)..self.flows.len() {
            if self.earliest[at] > since {
                break;
            }
            if self.flows[at].at <= since {
                late += self.flows[at].quantity.max(0);
            }
        }
        self.sold(log_position).0 - (before - late)
    }

    /// What a ticket would have cost that was quoted then, at this price: in force at that time, or last before it (an
    /// offer keeps its price, and Redis hears of a new one a moment later), or next after it (its clock is another).
    fn simulated_price(&self, quoted_at: DateTime<Utc>, paid: i64) -> i64 {
        let at = self.segments.partition_point(|segment| segment.from <= quoted_at).max(1) - 1;
        let (before, after) = self.segments.split_at(at + 1);
        let quoted = before.iter().rfind(|segment| segment.actual == paid);
        let quoted = quoted.or_else(|| after.iter().find(|segment| segment.actual == paid));
        quoted.unwrap_or(&self.segments[at]).simulated
    }
}
