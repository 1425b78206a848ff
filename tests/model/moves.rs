//! What may happen next in a state, and to whom.

use crate::{
    checker::Cause::{self, Foreign, Own},
    protocol::{Mutant, Protocol},
    world::{
        ATTEMPTS, Affair, Charge, HOLDS, Job, Paid, Payment, Rebuild, Redis, Run, State, Step, Void, at,
    },
};

/// What happens, and to whom.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "they are shown in counterexamples")]
pub enum Action {
    Place(usize),
    Confirm { hold: usize, bad: bool },
    ConfirmAndCrash(usize),
    Deadline(usize),
    Expire(usize),
    ResumeConfirm(usize),
    GiveUpDead(usize),
    JobDies(usize, u8),
    Start(usize, u8),
    StartTwice(usize, u8),
    Step(usize),
    AnswerLost(usize),
    RequestDelayed(usize),
    RequestArrives(usize, u8),
    WorkerCrashes(usize),
    SweepVoid(usize, u8),
    GiveUpPayment(usize, u8),
    VoidAtProvider(usize, u8),
    SweepCapture(usize, u8),
    Reconcile,
    BeginRebuild,
    BeginRebuildTwice,
    RebuildStep(usize),
    RebuildCrashes(usize),
    Flush,
    Replicate,
    FailOver,
}

impl Protocol {
    pub fn clients(&self, state: &State, add: &mut dyn FnMut(Cause, Action, State)) {
        for hold in 0..self.holds {
            let affair = &state.affairs[hold];
            if !affair.placed {
                add(Foreign, Action::Place(hold), self.place(state, hold));
                continue;
            }
            if affair.confirms >= self.confirms && state.is_confirming(hold).is_none() {
                continue;
            }
            for bad in [false, true] {
                let mut next = *state;
                if bad {
                    let Some(left) = next.left.declines.checked_sub(1) else { continue };
                    next.left.declines = left;
                }
                if let Some(attempt) = self.begin_confirm(&mut next, hold, bad) {
                    let mut crashed = next;
                    next.enqueue(hold, attempt);
                    add(Foreign, Action::Confirm { hold, bad }, next);
                    if let (Some(left), false) = (state.left.crashes.checked_sub(1), bad) {
                        crashed.left.crashes = left;
                        add(Foreign, Action::ConfirmAndCrash(hold), crashed);
                    }
                } else if !bad {
                    add(Foreign, Action::Confirm { hold, bad }, next);
                }
            }
        }
    }

    pub fn jobs(&self, state: &State, add: &mut dyn FnMut(Cause, Action, State)) {
        let idle = state.runs[..self.workers].iter().position(Option::is_none);
        for hold in 0..self.holds {
            if let (Some(attempt), false) = (state.is_confirming(hold), self.is(Mutant::NoConfirmingSweep)) {
                let mut next = *state;
                next.enqueue(hold, attempt);
                add(Own, Action::ResumeConfirm(hold), next);
                let dead = state.affairs[hold].jobs[at(attempt)] == Job::Dead;
                if let (Some(idle), true, 0) = (idle, dead, state.runners(hold, attempt)) {
                    let mut next = *state;
                    let step = Step::Commit(Paid::GivenUp);
                    next.runs[idle] = Some(Run { hold: u8::try_from(hold).unwrap(), attempt, step });
                    add(Own, Action::GiveUpDead(hold), next);
                }
            }
            for attempt in 1..=u8::try_from(ATTEMPTS).unwrap() {
                let job = state.affairs[hold].jobs[at(attempt)];
                if let (Job::Waiting, Some(left)) = (job, state.left.deaths.checked_sub(1)) {
                    let mut next = *state;
                    next.left.deaths = left;
                    next.affairs[hold].jobs[at(attempt)] = Job::Dead;
                    add(Foreign, Action::JobDies(hold, attempt), next);
                }
                let (Some(idle), Job::Waiting | Job::Running) = (idle, job) else { continue };
                let mut next = *state;
                next.affairs[hold].jobs[at(attempt)] = Job::Running;
                next.runs[idle] = Some(Run { hold: u8::try_from(hold).unwrap(), attempt, step: Step::Look });
                if job == Job::Waiting || state.runners(hold, attempt) == 0 {
                    add(Own, Action::Start(hold, attempt), next);
                } else if let Some(left) = state.left.duplicates.checked_sub(1) {
                    next.left.duplicates = left;
                    add(Foreign, Action::StartTwice(hold, attempt), next);
                }
            }
        }
        for (n, run) in state.runs.iter().enumerate() {
            let Some(run) = *run else { continue };
            let hold = usize::from(run.hold);
            let mut next = *state;
            let step = self.step(&mut next, run);
            next.runs[n] = step.map(|step| Run { step, ..run });
            let job = &mut next.affairs[hold].jobs[at(run.attempt)];
            if step.is_none() && *job == Job::Running {
                *job = Job::None;
            }
            add(Own, Action::Step(n), next);
            if let Some(left) = state.left.crashes.checked_sub(1) {
                let mut next = *state;
                next.left.crashes = left;
                next.runs[n] = None;
                add(Foreign, Action::WorkerCrashes(n), next);
            }
            if let (Step::Authorise(number), Some(left)) = (run.step, state.left.lost_answers.checked_sub(1))
            {
                let mut next = *state;
                next.left.lost_answers = left;
                next.runs[n] = None;
                if next.affairs[hold].jobs[at(run.attempt)] == Job::Running {
                    next.affairs[hold].jobs[at(run.attempt)] = Job::Waiting;
                }
                let mut delayed = next;
                Self::authorise(&mut next, hold, number);
                add(Foreign, Action::AnswerLost(n), next);
                delayed.affairs[hold].late[at(number)] = true;
                add(Foreign, Action::RequestDelayed(n), delayed);
            }
        }
    }

    pub fn payments(&self, state: &State, add: &mut dyn FnMut(Cause, Action, State)) {
        for hold in 0..self.holds {
            for number in 1..=u8::try_from(ATTEMPTS).unwrap() {
                let n = at(number);
                let affair = &state.affairs[hold];
                let change = |change: &dyn Fn(&mut Affair)| {
                    let mut next = *state;
                    change(&mut next.affairs[hold]);
                    next
                };
                if affair.late[n] {
                    let mut next = *state;
                    next.affairs[hold].late[n] = false;
                    Self::authorise(&mut next, hold, number);
                    add(Own, Action::RequestArrives(hold, number), next);
                }
                let open = match affair.payments[n] {
                    Payment::Unknown(_) => state.is_confirming(hold).is_none(),
                    Payment::GivenUp => true,
                    _ => false,
                };
                match affair.voids[n] {
                    Void::None if open => {
                        let next = change(&|affair| affair.voids[n] = Void::Queued);
                        add(Own, Action::SweepVoid(hold, number), next);
                    }
                    Void::None => {}
                    Void::Queued => {
                        let next = change(&|affair| match affair.payments[n] {
                            Payment::Unknown(_) | Payment::GivenUp => {
                                if !self.is(Mutant::VoidWithoutGivingUp) {
                                    affair.payments[n] = Payment::GivenUp;
                                }
                                affair.voids[n] = Void::GivenUp;
                            }
                            _ => affair.voids[n] = Void::None,
                        });
                        add(Own, Action::GiveUpPayment(hold, number), next);
                    }
                    Void::GivenUp => {
                        let next = change(&|affair| {
                            affair.voids[n] = Void::None;
                            let entry = &mut affair.charges[n];
                            if matches!(entry, Charge::None | Charge::Authorised) {
                                *entry = Charge::Voided;
                            }
                            let payment = &mut affair.payments[n];
                            if *entry != Charge::Captured
                                && matches!(payment, Payment::GivenUp | Payment::Unknown(_))
                            {
                                *payment = Payment::Voided;
                            }
                        });
                        add(Own, Action::VoidAtProvider(hold, number), next);
                    }
                }
                if affair.payments[n] == Payment::Authorised {
                    let next = change(&|affair| {
                        let entry = &mut affair.charges[n];
                        if *entry == Charge::Authorised {
                            *entry = Charge::Captured;
                        }
                        if *entry == Charge::Captured {
                            affair.payments[n] = Payment::Captured;
                        }
                    });
                    add(Own, Action::SweepCapture(hold, number), next);
                }
            }
        }
    }

    pub fn time(&self, state: &State, add: &mut dyn FnMut(Cause, Action, State)) {
        for hold in 0..self.holds {
            if state.affairs[hold].placed && !state.affairs[hold].due {
                let mut next = *state;
                next.affairs[hold].due = true;
                add(Own, Action::Deadline(hold), next);
            }
            let mut next = *state;
            next.expire(hold, self.is(Mutant::UnfencedExpiry));
            add(Own, Action::Expire(hold), next);
        }
    }

    pub fn rebuilds(&self, state: &State, add: &mut dyn FnMut(Cause, Action, State)) {
        let mut redis = state.redis;
        if let (true, Some(_)) = (self.reconciles, redis.ready()) {
            let mut next = *state;
            next.redis.inventory.as_mut().into_iter().for_each(|inventory| self.apply(inventory, state.row));
            add(Own, Action::Reconcile, next);
        }
        let idle = state.rebuilds[..self.rebuilders].iter().position(|rebuild| *rebuild == Rebuild::None);
        if let (None, Some(idle)) = (redis.ready(), idle) {
            let mut next = *state;
            next.epoch += 1;
            next.rebuilds[idle] = Rebuild::Numbered(next.epoch);
            if state.rebuilds.iter().all(|rebuild| *rebuild == Rebuild::None) {
                add(Own, Action::BeginRebuild, next);
            } else if let Some(left) = state.left.duplicates.checked_sub(1) {
                next.left.duplicates = left;
                add(Foreign, Action::BeginRebuildTwice, next);
            }
        }
        for (n, rebuild) in state.rebuilds.iter().enumerate() {
            if *rebuild == Rebuild::None {
                continue;
            }
            let mut next = *state;
            next.rebuilds[n] = self.rebuild(&mut next, *rebuild);
            add(Own, Action::RebuildStep(n), next);
            if let Some(left) = state.left.rebuild_crashes.checked_sub(1) {
                let mut next = *state;
                next.left.rebuild_crashes = left;
                next.rebuilds[n] = Rebuild::None;
                add(Foreign, Action::RebuildCrashes(n), next);
            }
        }
    }

    pub fn losses(state: &State, add: &mut dyn FnMut(Cause, Action, State)) {
        if let Some(left) = state.left.flushes.checked_sub(1) {
            let mut next = *state;
            next.left.flushes = left;
            next.lose(Redis { inventory: None, holds: [None; HOLDS] });
            add(Foreign, Action::Flush, next);
        }
        if let Some(left) = state.left.failovers.checked_sub(1) {
            let mut next = *state;
            if let Some(mut replica) = state.replica {
                next.left.failovers = left;
                next.replica = None;
                if let Some(inventory) = &mut replica.inventory {
                    inventory.current = false;
                }
                next.lose(replica);
                add(Foreign, Action::FailOver, next);
            } else {
                next.replica = Some(state.redis);
                add(Foreign, Action::Replicate, next);
            }
        }
    }
}
