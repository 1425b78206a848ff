//! The protocol of holds and confirms as a state machine, one step for each moment at which a process may be killed
//! or another one may come in between: how large its world is, and what must hold in it. See the head of `main.rs` for
//! what stands for which code.

use crate::{
    checker::{Cause, Model},
    moves::Action,
    world::{
        ATTEMPTS, Affair, Booking, Charge, HOLDS, Inventory, Job, Payment, REBUILDERS, Rebuild, Redis, Row,
        State, Status, Void, WORKERS,
    },
};

/// What is built wrongly, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The commit sells without looking at what is sold.
    NoPostgresGuard,
    /// Place takes an inventory that is not there for one in which nothing is sold.
    MissingIsFull,
    /// The money is taken as soon as it is authorised.
    CaptureBeforeSeats,
    /// Redis takes any row that comes, also one older than its own.
    OldRowsOverNewer,
    /// Redis is told how many were sold, to be added, in place of the row: each time that it is told.
    DeltaTwice,
    /// Expiry ends holds that are being confirmed.
    UnfencedExpiry,
    /// A rebuild installs what it read, whoever has begun one since.
    UnfencedRebuild,
    /// A refusal ends whichever confirm of the hold is under way.
    SettleIgnoresAttempt,
    /// Whoever finds the booking confirmed captures the payment that he had authorised for it.
    CaptureUntaken,
    /// Nothing looks after confirms whose job is gone.
    NoConfirmingSweep,
    /// A payment is voided without being given up in Postgres first.
    VoidWithoutGivingUp,
}

/// How large the world is, and how often something may go wrong in it.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    pub mutant: Option<Mutant>,
    pub capacity: u8,
    pub holds: usize,
    pub workers: usize,
    pub rebuilders: usize,
    /// Whether Redis is compared with Postgres now and then. Needed where a process dies between its commit and Redis
    /// while Redis is rebuilt; where none does, the two must come to agree without.
    pub reconciles: bool,
    /// Confirms that a client may begin of each hold, until Redis is lost.
    pub confirms: u8,
    pub faults: Faults,
}

/// How often each of these may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Faults {
    /// Redis loses everything.
    pub flushes: u8,
    /// Redis goes back to what it was at some earlier moment, as another server.
    pub failovers: u8,
    /// A worker is killed, or the API before it enqueues.
    pub crashes: u8,
    /// Whoever rebuilds the inventory is killed.
    pub rebuild_crashes: u8,
    /// A job is delivered to a second worker while the first one still runs.
    pub duplicates: u8,
    /// The provider's answer is lost, or its request arrives after the caller has gone.
    pub lost_answers: u8,
    /// A job is given up as dead.
    pub deaths: u8,
    /// A payment is declined.
    pub declines: u8,
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn initial(&self) -> State {
        let row = Row { sold: 0, version: 1 };
        let inventory =
            Inventory { ready: true, current: true, epoch: 0, fresh: false, row: Some(row), held: 0 };
        let affair = Affair {
            placed: false,
            due: false,
            confirms: 0,
            accepted: false,
            booking: Booking::None,
            jobs: [Job::None; ATTEMPTS],
            payments: [Payment::None; ATTEMPTS],
            charges: [Charge::None; ATTEMPTS],
            voids: [Void::None; ATTEMPTS],
            late: [false; ATTEMPTS],
        };
        State {
            redis: Redis { inventory: Some(inventory), holds: [None; HOLDS] },
            replica: None,
            row,
            epoch: 0,
            affairs: [affair; HOLDS],
            runs: [None; WORKERS],
            rebuilds: [Rebuild::None; REBUILDERS],
            left: self.faults,
            losses: 0,
        }
    }

    fn next(&self, state: &State, add: &mut dyn FnMut(Cause, Action, State)) {
        self.clients(state, add);
        self.jobs(state, add);
        self.payments(state, add);
        self.time(state, add);
        self.rebuilds(state, add);
        Self::losses(state, add);
    }

    fn wrong(&self, state: &State) -> Option<&'static str> {
        if state.row.sold > self.capacity {
            return Some("more is sold than there is");
        }
        for affair in &state.affairs {
            let captured = affair.charges.iter().filter(|charge| **charge == Charge::Captured).count();
            if captured > 1 {
                return Some("a booking is paid twice");
            }
            if captured > 0 && affair.booking != Booking::Confirmed {
                return Some("money is taken without a seat");
            }
            if state.losses == 0
                && affair.booking != Booking::Confirmed
                && affair.payments.contains(&Payment::GivenUp)
                && state.left.deaths == self.faults.deaths
            {
                return Some("a seat that was held is not there at the commit");
            }
        }
        let inventory = state.redis.inventory?;
        if !inventory.fresh && inventory.held != state.redis.held() {
            return Some("a hold was given back twice, or never");
        }
        // As long as Redis was not lost, whoever holds a seat gets it.
        let promised = state.redis.holds.iter().zip(&state.affairs).filter(|(hold, affair)| {
            hold.is_some_and(|hold| matches!(hold.status, Status::Held | Status::Confirming))
                && affair.booking != Booking::Confirmed
        });
        if state.losses == 0 && promised.count() > usize::from(self.capacity - state.row.sold) {
            return Some("more is sold and promised than there is");
        }
        None
    }

    fn wrong_at_rest(&self, state: &State) -> Option<&'static str> {
        let mut redis = state.redis;
        let Some(inventory) = redis.ready() else { return Some("there is no inventory") };
        if inventory.row != Some(state.row) {
            return Some("Redis has another row than Postgres");
        }
        if inventory.held != 0 {
            return Some("seats are held for nobody");
        }
        let confirmed = state.affairs.iter().filter(|affair| affair.booking == Booking::Confirmed).count();
        if confirmed != usize::from(state.row.sold) {
            return Some("what is sold is not what is booked");
        }
        for affair in &state.affairs {
            if affair.accepted && affair.booking == Booking::None {
                return Some("a confirm was accepted and came to nothing");
            }
            let captured = affair.charges.iter().filter(|charge| **charge == Charge::Captured).count();
            if captured != usize::from(affair.booking == Booking::Confirmed) {
                return Some("a booking is not paid");
            }
            if affair.charges.contains(&Charge::Authorised) {
                return Some("money is set aside for nothing");
            }
            let rests = |payment: &Payment| {
                !matches!(payment, Payment::Unknown(_) | Payment::GivenUp | Payment::Authorised)
            };
            if !affair.payments.iter().all(rests) {
                return Some("a payment does not come to rest");
            }
        }
        None
    }
}
