//! Random walks through the life of holds, compared step by step with a model of a few lines.

use std::collections::HashMap;

use domain::{
    holds::{
        self, BeginConfirmError, ConfirmStart, PlaceError, ReleaseError, Settled, Settlement, begin_confirm,
        expire_holds, settle,
    },
    inventory::{BuyerSnapshot, SeatSnapshot, ensure_ready},
};
use proptest::{prelude::*, test_runner::TestRunner};
use uuid::Uuid;

use super::seats::Sale;

const CAPACITY: [u32; 2] = [5, 8];
const USERS: usize = 3;
const LIMIT: u32 = 6;

/// One step. Holds and settlements are named by a number, modulo how many there are.
#[derive(Clone, Debug)]
enum Step {
    Place {
        user: usize,
        lines: [u32; 2],
    },
    PlaceAgain {
        hold: usize,
    },
    Release {
        hold: usize,
        user: usize,
    },
    RunOut {
        hold: usize,
    },
    Sweep,
    Begin {
        hold: usize,
    },
    /// Postgres decides; Redis does not know yet.
    Commit {
        hold: usize,
        outcome: Settled,
    },
    /// A decision reaches Redis, in any order, perhaps not for the first time.
    Deliver {
        settlement: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let hold = 0..12_usize;
    prop_oneof![
        5 => (0..USERS, [0..4_u32, 0..4_u32]).prop_map(|(user, lines)| Step::Place { user, lines }),
        1 => hold.clone().prop_map(|hold| Step::PlaceAgain { hold }),
        2 => (hold.clone(), 0..USERS).prop_map(|(hold, user)| Step::Release { hold, user }),
        2 => hold.clone().prop_map(|hold| Step::RunOut { hold }),
        1 => Just(Step::Sweep),
        4 => hold.clone().prop_map(|hold| Step::Begin { hold }),
        4 => (hold, prop_oneof![3 => Just(Settled::Confirmed), 1 => Just(Settled::Declined), 1 => Just(Settled::Failed)])
            .prop_map(|(hold, outcome)| Step::Commit { hold, outcome }),
        4 => (0..12_usize).prop_map(|settlement| Step::Deliver { settlement }),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Held,
    Confirming,
    Over,
    Confirmed,
}

#[derive(Clone, Debug)]
struct ModelHold {
    id: Uuid,
    user: usize,
    lines: [u32; 2],
    status: Status,
    attempt: u32,
    /// Whether Postgres has decided the attempt under way.
    decided: bool,
    ran_out: bool,
}

/// What Redis should know, and what Postgres does.
#[derive(Default)]
struct Model {
    holds: Vec<ModelHold>,
    sold: [u32; 2],
    version: i64,
    bought: HashMap<usize, (u32, i64)>,
    seen_sold: [u32; 2],
    seen_version: i64,
    seen_bought: HashMap<usize, (u32, i64)>,
    settlements: Vec<(Settlement, usize, u32, Settled)>,
}

impl Model {
    fn held(&self, tt: usize) -> u32 {
        let live = |h: &&ModelHold| matches!(h.status, Status::Held | Status::Confirming);
        self.holds.iter().filter(live).map(|h| h.lines[tt]).sum()
    }

    fn free(&self, tt: usize) -> i64 {
        i64::from(CAPACITY[tt]) - i64::from(self.seen_sold[tt]) - i64::from(self.held(tt))
    }

    fn owned(&self, user: usize) -> u32 {
        let live = |h: &&ModelHold| h.user == user && matches!(h.status, Status::Held | Status::Confirming);
        let held: u32 = self.holds.iter().filter(live).map(|h| h.lines.iter().sum::<u32>()).sum();
        held + self.seen_bought.get(&user).map_or(0, |(sold, _)| *sold)
    }
}

#[test]
fn holds_do_what_the_model_does() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut sale = runtime.block_on(Sale::open(&CAPACITY, USERS, LIMIT));
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 96, failure_persistence: None, ..Default::default() });
    let sale = std::cell::RefCell::new(&mut sale);
    runner
        .run(&proptest::collection::vec(step(), 1..80), |steps| {
            let mut sale = sale.borrow_mut();
            runtime.block_on(async {
                sale.next_event(&CAPACITY, LIMIT).await;
                ensure_ready(&sale.inventory, &sale.db, sale.event_id).await.unwrap();
                let mut model = Model { version: 1, seen_version: 1, ..Model::default() };
                for (at, step) in steps.iter().enumerate() {
                    walk(&sale, &mut model, step, at).await;
                    let counts = sale.counts().await;
                    assert_eq!(counts.len(), CAPACITY.len());
                    for (tt, seats) in counts.iter().enumerate() {
                        assert_eq!(seats.held, i64::from(model.held(tt)), "held after step {at}: {step:?}");
                        assert_eq!(
                            seats.sold,
                            i64::from(model.seen_sold[tt]),
                            "sold after step {at}: {step:?}"
                        );
                    }
                }
            });
            Ok(())
        })
        .unwrap();
}

async fn walk(sale: &Sale, model: &mut Model, step: &Step, at: usize) {
    let pick = |n: usize, of: usize| (of > 0).then(|| n % of.max(1));
    match *step {
        Step::Place { user, lines } => place(sale, model, user, lines, at).await,
        Step::PlaceAgain { hold } => {
            let Some(i) = pick(hold, model.holds.len()) else { return };
            let hold = &model.holds[i];
            // Holds are placed under their step's key, so this key is fresh: it must act like any other basket.
            let key = format!("again-{at}");
            match sale.place(hold.user, &basket(hold.lines), &key).await {
                Ok(placed) => {
                    assert!(!placed.replayed);
                    let replay = sale.place(hold.user, &basket(hold.lines), &key).await.unwrap();
                    assert!(replay.replayed && replay.hold == placed.hold);
                    holds::release(&sale.inventory, sale.event_id, placed.hold.id, sale.users[hold.user])
                        .await
                        .unwrap();
                }
                Err(PlaceError::SoldOut { .. } | PlaceError::LimitExceeded { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        Step::Release { hold, user } => {
            let Some(i) = pick(hold, model.holds.len()) else { return };
            let hold = &mut model.holds[i];
            let released = holds::release(&sale.inventory, sale.event_id, hold.id, sale.users[user]).await;
            match released {
                Err(ReleaseError::NotFound) => assert_ne!(user, hold.user),
                Err(ReleaseError::Busy(_)) => {
                    assert!(matches!(hold.status, Status::Confirming | Status::Confirmed));
                }
                Ok(_) => {
                    assert!(user == hold.user && matches!(hold.status, Status::Held | Status::Over));
                    hold.status = Status::Over;
                }
                Err(ReleaseError::Fault(fault)) => panic!("{fault}"),
            }
        }
        Step::RunOut { hold } => {
            let Some(i) = pick(hold, model.holds.len()) else { return };
            sale.let_run_out(model.holds[i].id).await;
            model.holds[i].ran_out = true;
            if model.holds[i].status == Status::Held {
                model.holds[i].status = Status::Over;
            }
        }
        Step::Sweep => {
            expire_holds(&sale.inventory, sale.event_id, 100).await.unwrap();
        }
        Step::Begin { hold } => {
            let Some(i) = pick(hold, model.holds.len()) else { return };
            let hold = &mut model.holds[i];
            let begun = begin_confirm(&sale.inventory, &sale.db, &sale.confirm(hold.id, hold.user)).await;
            match (begun, hold.status) {
                (Ok(ConfirmStart::Started { attempt }), Status::Held) => {
                    assert_eq!(attempt, hold.attempt + 1);
                    (hold.status, hold.attempt, hold.decided) = (Status::Confirming, attempt, false);
                }
                (Ok(ConfirmStart::Running { attempt }), Status::Confirming) => {
                    assert_eq!(attempt, hold.attempt);
                }
                (Ok(ConfirmStart::Confirmed), Status::Confirmed)
                | (Err(BeginConfirmError::Expired), Status::Over) => {}
                (begun, status) => panic!("{begun:?} of a hold that is {status:?}"),
            }
        }
        Step::Commit { hold, outcome } => {
            if let Some(i) = pick(hold, model.holds.len()) {
                commit(sale, model, i, outcome);
            }
        }
        Step::Deliver { settlement } => {
            if let Some(i) = pick(settlement, model.settlements.len()) {
                deliver(sale, model, i).await;
            }
        }
    }
}

fn basket(lines: [u32; 2]) -> Vec<(usize, u32)> {
    lines.into_iter().enumerate().filter(|(_, quantity)| *quantity > 0).collect()
}

async fn place(sale: &Sale, model: &mut Model, user: usize, lines: [u32; 2], at: usize) {
    let wanted = basket(lines);
    if wanted.is_empty() {
        return;
    }
    let placed = sale.place(user, &wanted, &format!("step-{at}")).await;
    let over_limit = model.owned(user) + lines.iter().sum::<u32>() > LIMIT;
    let short = (0..2).any(|tt| lines[tt] > 0 && model.free(tt) < i64::from(lines[tt]));
    match placed {
        Ok(placed) => {
            assert!(!over_limit && !short, "placed {lines:?} though it does not fit");
            assert_eq!(placed.hold.total, 1000 * i64::from(lines.iter().sum::<u32>()));
            model.holds.push(ModelHold {
                id: placed.hold.id,
                user,
                lines,
                status: Status::Held,
                attempt: 0,
                decided: false,
                ran_out: false,
            });
        }
        Err(PlaceError::LimitExceeded { .. }) => assert!(over_limit),
        Err(PlaceError::SoldOut { .. }) => assert!(short && !over_limit),
        Err(other) => panic!("{other}"),
    }
}

fn commit(sale: &Sale, model: &mut Model, i: usize, outcome: Settled) {
    let hold = &mut model.holds[i];
    if hold.status != Status::Confirming || hold.decided {
        return;
    }
    hold.decided = true;
    if outcome == Settled::Confirmed {
        model.version += 1;
        for tt in 0..2 {
            model.sold[tt] += hold.lines[tt];
        }
        let bought = model.bought.entry(hold.user).or_insert((0, 1));
        *bought = (bought.0 + hold.lines.iter().sum::<u32>(), bought.1 + 1);
    }
    let seats = (0..2).map(|tt| SeatSnapshot {
        ticket_type_id: sale.ticket_types[tt],
        capacity: i32::try_from(CAPACITY[tt]).unwrap(),
        sold: i32::try_from(model.sold[tt]).unwrap(),
        reserved: 0,
        price: 1000,
        version: model.version,
        waiting: 0,
    });
    let buyers = model.bought.get(&hold.user).map(|&(sold, version)| BuyerSnapshot {
        user_id: sale.users[hold.user],
        sold: i32::try_from(sold).unwrap(),
        version,
    });
    let settlement = Settlement {
        holds: vec![(hold.id, hold.attempt, outcome)],
        seats: seats.collect(),
        buyers: buyers.into_iter().collect(),
    };
    model.settlements.push((settlement, i, hold.attempt, outcome));
}

async fn deliver(sale: &Sale, model: &mut Model, i: usize) {
    let (settlement, hold, attempt, outcome) = model.settlements[i].clone();
    settle(&sale.inventory, sale.event_id, &settlement).await.unwrap();
    let hold = &mut model.holds[hold];
    if hold.status == Status::Confirming && hold.attempt == attempt {
        hold.status = match outcome {
            Settled::Confirmed => Status::Confirmed,
            Settled::Declined if !hold.ran_out => Status::Held,
            Settled::Declined | Settled::Failed => Status::Over,
        };
    }
    let user = hold.user;
    let row = settlement.seats[0];
    if row.version >= model.seen_version {
        model.seen_version = row.version;
        model.seen_sold = [0, 1].map(|tt: usize| u32::try_from(settlement.seats[tt].sold).unwrap());
    }
    for row in &settlement.buyers {
        let seen = model.seen_bought.entry(user).or_insert((0, 0));
        if row.version >= seen.1 {
            *seen = (u32::try_from(row.sold).unwrap(), row.version);
        }
    }
}
