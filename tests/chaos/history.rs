//! What was done and what came of it, as those outside saw it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    Place {
        event: Uuid,
        key: String,
        items: Vec<(Uuid, u32)>,
    },
    Release {
        hold: Uuid,
    },
    Confirm {
        hold: Uuid,
        card: String,
        with_token: bool,
        wait_secs: u32,
    },
    Read {
        booking: Uuid,
    },
    Cancel {
        booking: Uuid,
        key: String,
    },
    Capacity {
        ticket_type: Uuid,
        to: i64,
    },
    Join {
        event: Uuid,
        ticket_type: Uuid,
        quantity: u32,
    },
    Leave {
        event: Uuid,
    },
    /// Looks at an offer, which changes nothing.
    Look {
        token: String,
    },
    Claim {
        token: String,
    },
    Decline {
        token: String,
    },
}

impl Op {
    /// The hold, or the booking that came of it.
    pub fn hold(&self) -> Option<Uuid> {
        match self {
            Self::Place { .. }
            | Self::Capacity { .. }
            | Self::Join { .. }
            | Self::Leave { .. }
            | Self::Look { .. }
            | Self::Claim { .. }
            | Self::Decline { .. } => None,
            Self::Release { hold } | Self::Confirm { hold, .. } => Some(*hold),
            Self::Read { booking } | Self::Cancel { booking, .. } => Some(*booking),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Answer {
        status: u16,
        body: Value,
    },
    /// It may have happened or not.
    Unknown(String),
}

impl Outcome {
    /// The status; 0 when there was no answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::Answer { status, .. } => *status,
            Self::Unknown(_) => 0,
        }
    }

    pub fn body(&self) -> &Value {
        match self {
            Self::Answer { body, .. } => body,
            Self::Unknown(_) => &Value::Null,
        }
    }

    /// Whether the same request may be answered otherwise later: no answer, or none that decides anything.
    pub fn is_open(&self) -> bool {
        // A process whose clock is off takes no access token; nor does one that was killed take anything.
        matches!(self.status(), 0 | 401 | 408 | 429 | 500..)
            || self.body()["code"] == "idempotency-in-progress"
    }
}

/// One request, in milliseconds since the run began.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    pub person: usize,
    pub begun_ms: u64,
    pub ended_ms: u64,
    pub op: Op,
    pub outcome: Outcome,
}

impl Entry {
    /// The hold that it is about: for a place or a claim, the one that was answered; for a join, its entry.
    pub fn hold(&self) -> Option<Uuid> {
        self.op.hold().or_else(|| self.outcome.body()["id"].as_str()?.parse().ok())
    }
}

/// A fault as it was carried out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Happened {
    pub begun_ms: u64,
    pub ended_ms: u64,
    pub what: String,
    /// Redis lost everything.
    pub flush: bool,
}

/// A ticket type at one moment, all of it in one snapshot of Postgres.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    pub at_ms: u64,
    pub ticket_type: Uuid,
    pub capacity: i64,
    pub sold: i64,
    pub reserved: i64,
    /// Tickets that are not cancelled.
    pub tickets: i64,
    /// Entries that wait although one behind them, which wants as many or more, has had an offer.
    pub passed_over: i64,
}

/// A run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct History {
    pub entries: Vec<Entry>,
    pub faults: Vec<Happened>,
    pub samples: Vec<Sample>,
    /// When the last fault was over and everything ran.
    pub healed_ms: u64,
}

impl History {
    /// Whether Redis lost everything at some moment between these.
    pub fn was_flushed(&self, from_ms: u64, to_ms: u64) -> bool {
        self.faults.iter().any(|fault| fault.flush && fault.begun_ms <= to_ms && fault.ended_ms >= from_ms)
    }
}
