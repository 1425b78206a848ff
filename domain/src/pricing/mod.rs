//! Prices that move by rules: evaluated when they are due, changed with their reason, and replayed under other rules.
//!
//! Each evaluation has an identity, its event and the time at which it was due, and is written once under it, with
//! everything that it saw. Who evaluates looks first, under the locks of the ticket types, at how much is sold and how far
//! the booking log has got; and then, under the lock of the event, decides and writes prices, history, audit entry and the
//! job for the inventory in one transaction. What the log says of demand is read in between, without a lock: no entry of
//! these ticket types can come later that stands before the position which was noted.

mod due;
mod engine;
mod evaluate;
mod history;
mod recorded;
mod replay;
mod rules;
mod simulate;
mod stored;

pub use due::{Due, due, renew};
pub use engine::{Contribution, Decision, Inputs, Limit, Reason, decide};
pub use evaluate::{Evaluated, Moved, evaluate};
pub use history::{HistoryError, HistoryFilter, PriceCause, PriceChange, PriceInputs, PriceReason, page};
pub use rules::{PricingRules, ShareStep, TimeStep, Velocity, WaitlistStep};
pub use simulate::{
    Instants, PricePath, PricePoint, Revenue, SimulateError, SimulatedTicketType, Simulation, simulate,
};
pub use stored::{Pricing, read, replace};

pub(crate) use history::{ManualChange, record_manual};
pub(crate) use stored::arm;
