//! What there is in the model: Redis, Postgres, the provider's books, jobs, and processes in the middle of something.

use crate::protocol::Faults;

/// Hold ids; each is one user's.
pub const HOLDS: usize = 2;
/// Numbers that confirms of one hold may have, from 1.
pub const ATTEMPTS: usize = 5;
pub const WORKERS: usize = 2;
pub const REBUILDERS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    Held,
    Confirming,
    Confirmed,
    Expired,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hold {
    pub status: Status,
    pub attempt: u8,
    /// Whether its payment will be declined.
    pub bad: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    pub sold: u8,
    pub version: u8,
}

/// `ev:{E}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inventory {
    pub ready: bool,
    /// Whether it was installed in this life of the server.
    pub current: bool,
    pub epoch: u8,
    pub fresh: bool,
    pub row: Option<Row>,
    pub held: i8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Redis {
    pub inventory: Option<Inventory>,
    pub holds: [Option<Hold>; HOLDS],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Job {
    None,
    Waiting,
    Running,
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Booking {
    None,
    Confirmed,
    /// With the attempt that failed, and whether because the payment was declined.
    Failed(u8, bool),
}

/// A row of `payments`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Payment {
    None,
    /// `unknown` without a failure; whether the card is bad.
    Unknown(bool),
    /// `unknown` with a failure.
    GivenUp,
    Authorised,
    Captured,
    Voided,
    Failed,
}

/// What the provider has in its books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Charge {
    None,
    Authorised,
    Captured,
    Voided,
    Declined,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Confirmed,
    Declined,
    Failed,
}

/// How an order's payment stands, with the number of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Paid {
    Authorised(u8),
    Declined(u8),
    GivenUp,
}

/// Where a `ConfirmBooking` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Look,
    Record,
    Authorise(u8),
    Commit(Paid),
    /// What was decided, the row read with it, and the payment to capture then.
    Settle(Outcome, Row, Option<u8>),
    Capture(u8),
    Mark(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    pub hold: u8,
    pub attempt: u8,
    pub step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rebuild {
    None,
    /// It has this epoch.
    Numbered(u8),
    Begun(u8),
    Read(u8, Row),
}

/// Where a `VoidPayment` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Void {
    None,
    Queued,
    GivenUp,
}

/// What concerns one hold, outside of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Affair {
    /// The client has its token.
    pub placed: bool,
    /// Its deadline has passed.
    pub due: bool,
    /// Confirms that the client has begun in this life of Redis, and whether one of them was accepted.
    pub confirms: u8,
    pub accepted: bool,
    pub booking: Booking,
    /// All of these by attempt.
    pub jobs: [Job; ATTEMPTS],
    pub payments: [Payment; ATTEMPTS],
    pub charges: [Charge; ATTEMPTS],
    pub voids: [Void; ATTEMPTS],
    /// Requests to authorise that are still on their way.
    pub late: [bool; ATTEMPTS],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub redis: Redis,
    /// What Redis would go back to.
    pub replica: Option<Redis>,
    /// The ticket type's row in Postgres, and the event's epoch.
    pub row: Row,
    pub epoch: u8,
    pub affairs: [Affair; HOLDS],
    pub runs: [Option<Run>; WORKERS],
    pub rebuilds: [Rebuild; REBUILDERS],
    pub left: Faults,
    /// How often Redis was lost; whether ever.
    pub losses: u8,
}

pub fn at(attempt: u8) -> usize {
    usize::from(attempt) - 1
}

impl Redis {
    pub fn ready(&mut self) -> Option<&mut Inventory> {
        self.inventory.as_mut().filter(|inventory| inventory.ready && inventory.current)
    }

    /// `give_back`.
    pub fn give_back(&mut self) {
        if let Some(inventory) = &mut self.inventory {
            inventory.held -= 1;
        }
    }

    pub fn held(&self) -> i8 {
        let holding = |hold: &&Hold| matches!(hold.status, Status::Held | Status::Confirming);
        i8::try_from(self.holds.iter().flatten().filter(holding).count()).unwrap()
    }
}

impl State {
    /// Ends a hold that is overdue.
    pub fn expire(&mut self, hold: usize, confirming_too: bool) {
        if let Some(found) = &mut self.redis.holds[hold]
            && self.affairs[hold].due
            && (found.status == Status::Held || confirming_too && found.status == Status::Confirming)
        {
            found.status = Status::Expired;
            self.redis.give_back();
        }
    }

    pub fn enqueue(&mut self, hold: usize, attempt: u8) {
        let job = &mut self.affairs[hold].jobs[at(attempt)];
        if *job == Job::None {
            *job = Job::Waiting;
        }
    }

    pub fn is_confirming(&self, hold: usize) -> Option<u8> {
        let found = self.redis.holds[hold].filter(|found| found.status == Status::Confirming)?;
        Some(found.attempt)
    }

    /// How many workers run this job.
    pub fn runners(&self, hold: usize, attempt: u8) -> usize {
        let this = |run: &&Run| usize::from(run.hold) == hold && run.attempt == attempt;
        self.runs.iter().flatten().filter(this).count()
    }

    /// Redis is another one, or empty: the jobs were in it, too.
    pub fn lose(&mut self, redis: Redis) {
        self.redis = redis;
        self.losses += 1;
        for affair in &mut self.affairs {
            affair.jobs = [Job::None; ATTEMPTS];
            affair.confirms = 0;
            affair.accepted = false;
        }
    }
}
