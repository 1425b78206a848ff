//! What a run does and what is done to it, all of it decided by the seed before it begins.

use std::time::Duration;

use super::{dice::Dice, waiting::Wait};
use crate::support::{proxy::Weather, smtp::Misbehave};

pub const APIS: usize = 2;
pub const WORKERS: usize = 2;
/// How many seats each ticket type of each event begins with, and what one costs.
pub const EVENTS: [&[(i64, i64)]; 5] =
    [&[(6, 4500)], &[(10, 1999), (4, 8000)], &[(4, 0)], &[(9, 2500)], &[(3, 3000)]];
/// What the events give back of a cancelled booking, in percent.
pub const REFUNDS: [u8; 5] = [100, 50, 100, 33, 80];
/// How long their holds live: in some of them, deadlines pass under way.
pub const HOLD_TTL_SECS: [i32; 5] = [300, 120, 4, 8, 4];
/// How long their offers stand, in every event.
pub const OFFER_TTL_SECS: i64 = 3;
/// The events whose waitlists people join: those whose holds are soon over.
pub const WAITED_FOR: [usize; 3] = [2, 3, 4];

/// What one person does, from the first click to the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    pub at: Duration,
    pub event: usize,
    /// Tickets of each ticket type, in their order.
    pub quantities: Vec<u32>,
    /// Sends the first request twice, under one key.
    pub again: bool,
    pub think: Duration,
    pub then: Then,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// Never comes back.
    Leave,
    Release,
    Confirm {
        card: &'static str,
        wait_secs: u32,
        with_token: bool,
        /// Sends the confirm twice, at the same time.
        again: bool,
        cancel: Option<Cancel>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancel {
    pub after: Duration,
    /// Sends it twice, under one key.
    pub again: bool,
}

/// The organizer sets a capacity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapacityChange {
    pub at: Duration,
    pub event: usize,
    pub ticket_type: usize,
    pub to: i64,
}

/// A connection that runs through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Link {
    ClientToApi(usize),
    ApiToRedis(usize),
    ApiToPostgres(usize),
    WorkerToRedis(usize),
    WorkerToPostgres(usize),
    WorkerToSmtp(usize),
}

impl Link {
    pub fn all() -> Vec<Self> {
        let apis =
            (0..APIS).flat_map(|n| [Self::ClientToApi(n), Self::ApiToRedis(n), Self::ApiToPostgres(n)]);
        let workers = (0..WORKERS)
            .flat_map(|n| [Self::WorkerToRedis(n), Self::WorkerToPostgres(n), Self::WorkerToSmtp(n)]);
        apis.chain(workers).collect()
    }

    fn is_of_worker(self) -> bool {
        matches!(self, Self::WorkerToRedis(_) | Self::WorkerToPostgres(_) | Self::WorkerToSmtp(_))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// kill -9, and started again after this.
    Kill {
        down: Duration,
    },
    /// Ended in good order, and started again after this.
    Restart {
        down: Duration,
    },
    /// SIGSTOP, and SIGCONT after this.
    Suspend {
        length: Duration,
    },
    /// Killed and started again with a clock that is off, until its next fault.
    Clock {
        secs: i64,
    },
    /// Redis forgets everything.
    Flush,
    Weather {
        link: Link,
        weather: Weather,
        length: Duration,
    },
    Cut {
        link: Link,
    },
    Reset {
        link: Link,
    },
    /// The next mails are treated like this.
    Mail {
        how: Misbehave,
        count: usize,
    },
}

/// What the faults of one lane happen to, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Api(usize),
    Worker(usize),
    Redis,
    Postgres,
    Network(usize),
    Mail,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    pub target: Target,
    /// Each with the pause before it.
    pub faults: Vec<(Duration, Fault)>,
}

/// How much a run is to do.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub length: Duration,
    pub people: usize,
    /// Also what takes up to a minute to heal: Redis loses everything, and workers are killed, cut off, or stopped for
    /// longer than their heartbeat while they hold a job or a mail.
    pub hard: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// For each person, in order of time.
    pub stories: Vec<Vec<Story>>,
    /// What each of them does on waitlists meanwhile, in order of time.
    pub waits: Vec<Vec<Wait>>,
    pub capacities: Vec<CapacityChange>,
    pub lanes: Vec<Lane>,
}

impl Plan {
    pub fn draw(seed: u64, size: Size) -> Self {
        let people = 0..size.people;
        let waits = people.clone();
        let waits = waits.map(|n| Wait::draw(&mut Dice::of(seed, &format!("waits {n}")), size.length));
        let stories = people.map(|n| stories(&mut Dice::of(seed, &format!("person {n}")), size.length));
        let apis = (0..APIS).map(Target::Api);
        let targets = apis.chain((0..WORKERS).map(Target::Worker)).chain([
            Target::Redis,
            Target::Postgres,
            Target::Network(0),
            Target::Network(1),
            Target::Mail,
        ]);
        Self {
            stories: stories.collect(),
            waits: waits.collect(),
            capacities: capacities(&mut Dice::of(seed, "organizer"), size.length),
            lanes: targets.map(|target| lane(target, seed, size)).collect(),
        }
    }
}

fn stories(dice: &mut Dice, length: Duration) -> Vec<Story> {
    let mut stories = Vec::new();
    let mut at = dice.millis(0, 800);
    while at < length {
        let event = dice.index(EVENTS.len());
        let mut quantities: Vec<u32> =
            EVENTS[event].iter().map(|_| u32::try_from(dice.between(0, 2)).unwrap()).collect();
        if quantities.iter().all(|quantity| *quantity == 0) {
            quantities[0] = 1;
        }
        let then = match dice.between(0, 9) {
            0 => Then::Leave,
            1 => Then::Release,
            _ => Then::confirm(dice),
        };
        stories.push(Story {
            at,
            event,
            quantities,
            again: dice.chance(30),
            think: dice.millis(0, 1_500),
            then,
        });
        at += dice.millis(300, 1_500);
    }
    stories
}

impl Then {
    pub fn confirm(dice: &mut Dice) -> Self {
        let cards = ["tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_timeout", "tok_slow", "tok_declined"];
        let cancel = dice.chance(60);
        Self::Confirm {
            card: dice.pick(&cards),
            wait_secs: dice.pick(&[0, 1, 5, 10]),
            with_token: dice.chance(70),
            again: dice.chance(20),
            cancel: cancel.then(|| Cancel { after: dice.millis(0, 3_000), again: dice.chance(30) }),
        }
    }
}

fn capacities(dice: &mut Dice, length: Duration) -> Vec<CapacityChange> {
    let mut changes = Vec::new();
    let mut at = dice.millis(0, 1_500);
    while at < length {
        let event = dice.index(EVENTS.len());
        let ticket_type = dice.index(EVENTS[event].len());
        let first = u64::try_from(EVENTS[event][ticket_type].0).unwrap();
        let to = i64::try_from(dice.between(first / 2, first * 2)).unwrap();
        changes.push(CapacityChange { at, event, ticket_type, to });
        at += dice.millis(500, 2_500);
    }
    changes
}

fn lane(target: Target, seed: u64, size: Size) -> Lane {
    let dice = &mut Dice::of(seed, &format!("{target:?}"));
    let total = u64::try_from(size.length.as_millis()).unwrap();
    // The mean pause; in a short run everything comes once.
    let mean = match target {
        Target::Api(_) | Target::Worker(_) => 14_000,
        Target::Redis | Target::Postgres => 18_000,
        Target::Network(_) => 2_500,
        Target::Mail => 3_000,
    };
    let mean = mean.min(total / 2);
    let mut faults = Vec::new();
    let mut spent = dice.millis(0, mean);
    let mut pause = spent;
    while spent < size.length {
        let fault = fault(target, dice, size.hard);
        spent += fault.length();
        faults.push((pause, fault));
        pause = dice.millis(mean / 2, mean * 3 / 2);
        spent += pause;
    }
    Lane { target, faults }
}

impl Fault {
    /// For how long it keeps its lane busy.
    pub fn length(&self) -> Duration {
        match self {
            Self::Kill { down: length }
            | Self::Restart { down: length }
            | Self::Suspend { length }
            | Self::Weather { length, .. } => *length,
            Self::Clock { .. } | Self::Flush | Self::Cut { .. } | Self::Reset { .. } | Self::Mail { .. } => {
                Duration::ZERO
            }
        }
    }
}

fn fault(target: Target, dice: &mut Dice, hard: bool) -> Fault {
    match target {
        Target::Worker(_) if !hard => match dice.between(0, 1) {
            0 => Fault::Suspend { length: dice.millis(500, 2_000) },
            _ => Fault::Restart { down: dice.millis(0, 1_000) },
        },
        Target::Api(_) | Target::Worker(_) => match dice.between(0, 9) {
            0..=3 => Fault::Kill { down: dice.millis(0, 2_000) },
            4..=6 => Fault::Suspend { length: dice.millis(500, 4_000) },
            // A worker counts as dead after 20 s of silence.
            7 if hard => Fault::Suspend { length: dice.millis(22_000, 26_000) },
            7 => Fault::Restart { down: dice.millis(0, 1_000) },
            _ => Fault::Clock { secs: dice.pick(&[-3_600, 3_600]) },
        },
        Target::Redis => match dice.between(0, 9) {
            0..=3 if hard => Fault::Flush,
            0..=5 => Fault::Kill { down: dice.millis(0, 2_500) },
            _ => Fault::Restart { down: dice.millis(0, 2_500) },
        },
        Target::Postgres => match dice.between(0, 9) {
            0..=4 => Fault::Kill { down: dice.millis(0, 2_500) },
            _ => Fault::Restart { down: dice.millis(0, 2_500) },
        },
        Target::Network(_) => network(dice, hard),
        Target::Mail => mail(dice, hard),
    }
}

fn network(dice: &mut Dice, hard: bool) -> Fault {
    let links: Vec<_> = Link::all().into_iter().filter(|link| hard || !link.is_of_worker()).collect();
    let link = dice.pick(&links);
    let weather = match dice.between(0, 5) {
        0 => return Fault::Cut { link },
        1 => return Fault::Reset { link },
        2 => Weather::Delay(dice.millis(5, 250)),
        3 => Weather::Blackhole,
        4 => Weather::LoseAnswers,
        _ => Weather::Refuse,
    };
    Fault::Weather { link, weather, length: dice.millis(200, if hard { 5_000 } else { 2_000 }) }
}

fn mail(dice: &mut Dice, hard: bool) -> Fault {
    let count = dice.index(if hard { 5 } else { 2 }) + 1;
    let how = match dice.between(0, if hard { 4 } else { 3 }) {
        0 => Misbehave::Refuse { at: ".", reply: "451 try again" },
        1 => Misbehave::Refuse { at: "MAIL", reply: "421 not now" },
        2 => Misbehave::LoseAnswer,
        3 => Misbehave::HangUpAfter,
        _ => Misbehave::Slow(dice.millis(100, 4_000)),
    };
    Fault::Mail { how, count }
}

#[test]
fn a_seed_decides_everything() {
    let size = Size { length: Duration::from_mins(1), people: 6, hard: true };
    assert_eq!(Plan::draw(7, size), Plan::draw(7, size));
    assert_ne!(Plan::draw(7, size).lanes, Plan::draw(8, size).lanes);
    // A longer run of the same seed begins like the shorter one.
    let longer = Plan::draw(7, Size { length: Duration::from_secs(90), ..size });
    assert!(longer.stories[0].starts_with(&Plan::draw(7, size).stories[0]));
}
