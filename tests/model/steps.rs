//! What each script, transaction and request does, as one step: the model's side of the code.

use crate::{
    protocol::{Mutant, Protocol},
    world::{
        Booking, Charge, Hold, Inventory, Outcome, Paid, Payment, Rebuild, Row, Run, State, Status, Step, at,
    },
};

impl Protocol {
    pub fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// `apply_seats`.
    pub fn apply(&self, inventory: &mut Inventory, row: Row) {
        let newer_is_here = inventory.row.is_some_and(|present| present.version > row.version);
        if !newer_is_here || self.is(Mutant::OldRowsOverNewer) {
            inventory.row = Some(row);
        }
    }

    pub fn free(&self, inventory: Inventory) -> i8 {
        let sold = inventory.row.map_or(0, |row| row.sold);
        i8::try_from(self.capacity).unwrap() - i8::try_from(sold).unwrap() - inventory.held
    }

    /// `place.lua`.
    pub fn place(&self, state: &State, hold: usize) -> State {
        let mut next = *state;
        if self.is(Mutant::MissingIsFull) && next.redis.inventory.is_none() {
            next.redis.inventory =
                Some(Inventory { ready: true, current: true, epoch: 0, fresh: false, row: None, held: 0 });
        }
        if next.redis.ready().is_none() {
            return *state;
        }
        self.reclaim(&mut next);
        let Some(inventory) = next.redis.ready().filter(|inventory| self.free(**inventory) > 0) else {
            return next;
        };
        inventory.held += 1;
        next.redis.holds[hold] = Some(Hold { status: Status::Held, attempt: 0, bad: false });
        next.affairs[hold].placed = true;
        next
    }

    /// What place and confirm do when no seat is free: end what is overdue.
    pub fn reclaim(&self, state: &mut State) {
        let inventory = state.redis.inventory.unwrap();
        if self.free(inventory) < 1 {
            for hold in 0..self.holds {
                state.expire(hold, false);
            }
        }
    }

    /// `begin_confirm.lua`; answers the attempt that is under way then.
    pub fn begin_confirm(&self, state: &mut State, hold: usize, bad: bool) -> Option<u8> {
        if state.redis.holds[hold].is_none() {
            if state.affairs[hold].due {
                return None;
            }
            state.redis.ready()?;
            self.reclaim(state);
            let inventory = state.redis.ready()?;
            if self.free(*inventory) < 1 {
                return None;
            }
            inventory.held += 1;
            // More than it may have been confirmed before.
            let attempt = 2 * state.losses;
            state.redis.holds[hold] = Some(Hold { status: Status::Held, attempt, bad });
        }
        if state.affairs[hold].due {
            state.expire(hold, false);
        }
        let found = state.redis.holds[hold].as_mut()?;
        match found.status {
            Status::Confirming => {}
            Status::Held => {
                *found = Hold { status: Status::Confirming, attempt: found.attempt + 1, bad };
                state.affairs[hold].confirms += 1;
            }
            Status::Confirmed | Status::Expired => return None,
        }
        state.affairs[hold].accepted = true;
        Some(found.attempt)
    }

    /// `settle.lua`, for one confirm.
    pub fn settle(&self, state: &mut State, run: Run, outcome: Outcome, row: Row) {
        let hold = usize::from(run.hold);
        if let Some(found) = &mut state.redis.holds[hold] {
            let mine = found.attempt == run.attempt || self.is(Mutant::SettleIgnoresAttempt);
            let decided = match outcome {
                Outcome::Confirmed => matches!(found.status, Status::Confirming | Status::Held),
                Outcome::Declined | Outcome::Failed => found.status == Status::Confirming && mine,
            };
            if decided {
                if outcome == Outcome::Declined && !state.affairs[hold].due {
                    found.status = Status::Held;
                } else {
                    found.status =
                        if outcome == Outcome::Confirmed { Status::Confirmed } else { Status::Expired };
                    state.redis.give_back();
                }
            } else if outcome == Outcome::Confirmed && found.status == Status::Expired {
                found.status = Status::Confirmed;
            }
        }
        if let Some(inventory) = &mut state.redis.inventory {
            match &mut inventory.row {
                Some(present) if self.is(Mutant::DeltaTwice) => {
                    let more = u8::from(outcome == Outcome::Confirmed);
                    *present = Row { sold: present.sold + more, version: row.version };
                }
                _ => self.apply(inventory, row),
            }
        }
    }

    /// One step of a confirm; what it is to do then, or nothing more.
    pub fn step(&self, state: &mut State, run: Run) -> Option<Step> {
        let hold = usize::from(run.hold);
        let row = state.row;
        let affair = &mut state.affairs[hold];
        match run.step {
            Step::Look => match affair.booking {
                Booking::Confirmed => Some(Step::Settle(Outcome::Confirmed, row, None)),
                Booking::Failed(attempt, declined) if attempt >= run.attempt => {
                    let outcome = if declined { Outcome::Declined } else { Outcome::Failed };
                    Some(Step::Settle(outcome, row, None))
                }
                _ => (state.is_confirming(hold) == Some(run.attempt)).then_some(Step::Record),
            },
            // `attempts::record`: which row of `payments` this is about.
            Step::Record => {
                let bad = state.redis.holds[hold].is_some_and(|found| found.bad);
                let newest = affair.payments.iter().rposition(|payment| *payment != Payment::None);
                let number = match newest {
                    None => run.attempt,
                    Some(newest) => {
                        let number = u8::try_from(newest + 1).unwrap();
                        match affair.payments[newest] {
                            Payment::Unknown(_) | Payment::Authorised | Payment::Captured => number,
                            Payment::Failed if number == run.attempt => number,
                            _ => run.attempt.max(number + 1),
                        }
                    }
                };
                if affair.payments[at(number)] == Payment::None {
                    affair.payments[at(number)] = Payment::Unknown(bad);
                }
                Some(Step::Authorise(number))
            }
            Step::Authorise(number) => {
                Self::authorise(state, hold, number);
                let charge = &mut state.affairs[hold].charges[at(number)];
                if self.is(Mutant::CaptureBeforeSeats) && *charge == Charge::Authorised {
                    *charge = Charge::Captured;
                }
                Some(Step::Commit(match charge {
                    Charge::Authorised | Charge::Captured => Paid::Authorised(number),
                    _ => Paid::Declined(number),
                }))
            }
            Step::Commit(paid) => Some(self.commit(state, run, paid)),
            Step::Settle(outcome, row, charge) => {
                self.settle(state, run, outcome, row);
                charge.map(Step::Capture)
            }
            Step::Capture(number) => {
                let charge = &mut affair.charges[at(number)];
                if *charge == Charge::Authorised {
                    *charge = Charge::Captured;
                }
                (*charge == Charge::Captured).then_some(Step::Mark(number))
            }
            Step::Mark(number) => {
                let payment = &mut affair.payments[at(number)];
                if *payment == Payment::Authorised {
                    *payment = Payment::Captured;
                }
                None
            }
        }
    }

    /// The provider's own step: one key is one charge.
    pub fn authorise(state: &mut State, hold: usize, number: u8) {
        let affair = &mut state.affairs[hold];
        let bad = affair.payments[at(number)] == Payment::Unknown(true)
            || affair.payments[at(number)] == Payment::Failed;
        let charge = &mut affair.charges[at(number)];
        if *charge == Charge::None {
            *charge = if bad { Charge::Declined } else { Charge::Authorised };
        }
    }

    /// `commit.rs`: one transaction.
    pub fn commit(&self, state: &mut State, run: Run, paid: Paid) -> Step {
        let affair = &mut state.affairs[usize::from(run.hold)];
        match affair.booking {
            Booking::None => {}
            Booking::Failed(attempt, _) if attempt < run.attempt => {}
            // Decided before.
            Booking::Failed(_, declined) => {
                let outcome = if declined { Outcome::Declined } else { Outcome::Failed };
                return Step::Settle(outcome, state.row, None);
            }
            Booking::Confirmed => {
                let charge = match paid {
                    Paid::Authorised(number) if self.is(Mutant::CaptureUntaken) => Some(number),
                    _ => None,
                };
                return Step::Settle(Outcome::Confirmed, state.row, charge);
            }
        }
        let number = match paid {
            Paid::Authorised(number) => number,
            Paid::Declined(number) => {
                affair.booking = Booking::Failed(run.attempt, true);
                let payment = &mut affair.payments[at(number)];
                if matches!(payment, Payment::Unknown(_)) {
                    *payment = Payment::Failed;
                }
                return Step::Settle(Outcome::Declined, state.row, None);
            }
            Paid::GivenUp => {
                affair.booking = Booking::Failed(run.attempt, false);
                return Step::Settle(Outcome::Failed, state.row, None);
            }
        };
        let payment = &mut affair.payments[at(number)];
        let payable = matches!(payment, Payment::Unknown(_));
        let fits = state.row.sold < self.capacity || self.is(Mutant::NoPostgresGuard);
        if payable && fits {
            *payment = Payment::Authorised;
            affair.booking = Booking::Confirmed;
            state.row = Row { sold: state.row.sold + 1, version: state.row.version + 1 };
            Step::Settle(Outcome::Confirmed, state.row, Some(number))
        } else {
            if payable {
                *payment = Payment::GivenUp;
            }
            affair.booking = Booking::Failed(run.attempt, false);
            Step::Settle(Outcome::Failed, state.row, None)
        }
    }

    /// `sync.rs`: one step of a rebuild.
    pub fn rebuild(&self, state: &mut State, rebuild: Rebuild) -> Rebuild {
        match rebuild {
            Rebuild::None => Rebuild::None,
            Rebuild::Numbered(epoch) => {
                let present = state.redis.inventory;
                if present.is_some_and(|present| present.epoch >= epoch) {
                    return Rebuild::None;
                }
                let missing =
                    Inventory { ready: false, current: false, epoch, fresh: true, row: None, held: 0 };
                let opened = present.map_or(missing, |present| Inventory { ready: false, epoch, ..present });
                state.redis.inventory = Some(opened);
                Rebuild::Begun(epoch)
            }
            Rebuild::Begun(epoch) => Rebuild::Read(epoch, state.row),
            Rebuild::Read(epoch, row) => {
                let held = state.redis.held();
                if let Some(inventory) = &mut state.redis.inventory
                    && (!inventory.ready && inventory.epoch == epoch || self.is(Mutant::UnfencedRebuild))
                {
                    self.apply(inventory, row);
                    if inventory.fresh {
                        inventory.held = held;
                    }
                    (inventory.fresh, inventory.ready, inventory.current) = (false, true, true);
                }
                Rebuild::None
            }
        }
    }
}
