//! The protocol of holds and confirms as a model, walked through exhaustively: every order in which its steps can
//! follow each other, with every fault at every moment, in a world of two buyers and a seat or two.
//!
//! What must hold always: no more is sold than there is; no money is taken without a seat, and none twice; each hold
//! is given back or consumed once; as long as Redis is not lost, whoever holds a seat gets it. From every state the
//! system comes to rest by itself, and at rest every confirm that was accepted has ended, every payment too, nothing
//! is held for nobody, and Redis equals Postgres.
//!
//! | in the model | in the code |
//! |---|---|
//! | `Place` | `holds/place.lua`, with what it reclaims; who finds no inventory has it rebuilt |
//! | `Confirm`, `ConfirmAndCrash` | `holds/begin_confirm.lua`, with the hold's token, then `Queue::enqueue`, or the end of the API process between the two |
//! | `Expire`, `Deadline` | `expire` of `inventory/prelude.lua`; time passing |
//! | `Start`, `StartTwice`, `WorkerCrashes` | a delivery of `ConfirmBooking`, to one worker or, when the first is taken for dead, to two |
//! | `Step`: `Look` | `confirm_booking.rs`: the hold, the booking, and `rows_behind` if it is decided |
//! | `Step`: `Record`, `Authorise` | `payments/attempts.rs`; the provider, where one key is one charge |
//! | `Step`: `Commit` | the transaction of `bookings/commit.rs` |
//! | `Step`: `Settle` | `holds/settle.lua`, with the rows read in the transaction |
//! | `Step`: `Capture`, `Mark` | `steps::capture`, `progress::mark_captured` |
//! | `AnswerLost`, `RequestDelayed`, `RequestArrives` | a provider that acts and says nothing, or acts late |
//! | `ResumeConfirm`, `JobDies`, `GiveUpDead` | `upkeep/resume_confirms.rs` |
//! | `SweepVoid`, `GiveUpPayment`, `VoidAtProvider`, `SweepCapture` | `upkeep/sweep_payments.rs`, `confirm/void_payment.rs`, `confirm/capture_payment.rs` |
//! | `BeginRebuild`, `RebuildStep` | `inventory/sync.rs`: epoch, `begin_rebuild.lua`, the read, `install.lua` |
//! | `Reconcile` | `inventory/reconcile.rs` |
//! | `Flush`; `Replicate`, `FailOver` | Redis loses everything, jobs included; it goes back to an earlier moment under another run id |
//!
//! Sweeps know no patience here: what they may do after seconds they may do at once. Left out: the idempotency keys,
//! the limit per person, several ticket types, cancellations.

#![expect(clippy::unwrap_used, reason = "a test's unwrap is an assertion")]

mod checker;
mod moves;
mod protocol;
mod steps;
mod world;

use checker::check;
use protocol::{Faults, Mutant, Protocol};

const NONE: Faults = Faults {
    flushes: 0,
    failovers: 0,
    crashes: 0,
    rebuild_crashes: 0,
    duplicates: 0,
    lost_answers: 0,
    deaths: 0,
    declines: 0,
};

/// Two buyers, one seat, two workers, and nothing goes wrong.
const TWO_BUYERS: Protocol = Protocol {
    mutant: None,
    capacity: 1,
    holds: 2,
    workers: 2,
    rebuilders: 1,
    reconciles: false,
    confirms: 2,
    faults: NONE,
};

const TWO_SEATS: Protocol = Protocol { capacity: 2, confirms: 1, ..TWO_BUYERS };

const ONE_BUYER: Protocol = Protocol { holds: 1, ..TWO_BUYERS };

/// Declined, delivered twice, killed: each at any moment.
const CLUMSY: Protocol =
    Protocol { faults: Faults { declines: 1, duplicates: 1, crashes: 1, ..NONE }, ..TWO_BUYERS };

const GIVEN_UP: Protocol =
    Protocol { faults: Faults { deaths: 1, duplicates: 1, lost_answers: 1, ..NONE }, ..TWO_BUYERS };

const FLUSHED: Protocol = Protocol { confirms: 1, faults: Faults { flushes: 1, ..NONE }, ..TWO_BUYERS };

const FLUSHED_AND_KILLED: Protocol = Protocol {
    reconciles: true,
    confirms: 1,
    faults: Faults { flushes: 1, crashes: 1, ..NONE },
    ..ONE_BUYER
};

const FLUSHED_AND_UNANSWERED: Protocol =
    Protocol { confirms: 1, faults: Faults { flushes: 1, lost_answers: 1, ..NONE }, ..ONE_BUYER };

/// Two rebuilds at once, one of which may be killed, while Redis is emptied twice.
const REBUILT: Protocol = Protocol {
    workers: 1,
    rebuilders: 2,
    confirms: 1,
    faults: Faults { flushes: 2, rebuild_crashes: 1, duplicates: 1, ..NONE },
    ..ONE_BUYER
};

const FAILED_OVER: Protocol =
    Protocol { workers: 1, confirms: 1, faults: Faults { failovers: 1, ..NONE }, ..TWO_BUYERS };

fn holds(name: &str, protocol: &Protocol) {
    let visited = check(protocol).unwrap_or_else(|found| panic!("{name}: {found:?}"));
    eprintln!("{name}: {} states, {} of them at rest", visited.states, visited.at_rest);
    // A model in which nothing happens proves nothing.
    assert!(visited.states > 1_000 && visited.at_rest > 1, "{name}: {visited:?}");
}

/// The checker finds the mutant in a world in which the protocol as it is holds.
fn is_found(mutant: Mutant, world: Protocol, why: &str) {
    let found = check(&Protocol { mutant: Some(mutant), ..world }).expect_err("nothing is found wrong");
    eprintln!("{mutant:?}: {} after {} states, in {} steps", found.why, found.states, found.way.len() - 1);
    assert_eq!(found.why, why, "{found:?}");
}

#[test]
fn declines_duplicates_and_kills() {
    holds("clumsy", &CLUMSY);
}

#[test]
fn dead_jobs_and_lost_answers() {
    holds("given up", &GIVEN_UP);
}

#[test]
fn two_seats_with_kills() {
    holds("two seats", &Protocol { faults: Faults { crashes: 1, ..NONE }, ..TWO_SEATS });
}

#[test]
fn redis_is_emptied() {
    holds("flushed", &FLUSHED);
    holds("flushed and killed", &FLUSHED_AND_KILLED);
    holds("flushed and unanswered", &FLUSHED_AND_UNANSWERED);
}

#[test]
fn redis_is_emptied_while_it_is_rebuilt() {
    holds("rebuilt", &REBUILT);
}

#[test]
fn redis_fails_over_to_an_older_self() {
    holds("failed over", &FAILED_OVER);
}

#[test]
fn no_guard_in_postgres() {
    is_found(Mutant::NoPostgresGuard, FLUSHED, "more is sold than there is");
}

#[test]
fn a_missing_key_read_as_full_capacity() {
    is_found(Mutant::MissingIsFull, FLUSHED, "Redis has another row than Postgres");
}

#[test]
fn capture_before_the_seats() {
    is_found(Mutant::CaptureBeforeSeats, TWO_BUYERS, "money is taken without a seat");
}

#[test]
fn capture_of_a_payment_that_the_booking_did_not_take() {
    is_found(Mutant::CaptureUntaken, FLUSHED_AND_KILLED, "a booking is paid twice");
}

#[test]
fn an_old_row_over_a_newer_one() {
    is_found(Mutant::OldRowsOverNewer, TWO_SEATS, "Redis has another row than Postgres");
}

#[test]
fn a_delta_applied_twice() {
    is_found(Mutant::DeltaTwice, CLUMSY, "Redis has another row than Postgres");
}

#[test]
fn an_expiry_that_ends_a_confirming_hold() {
    is_found(Mutant::UnfencedExpiry, TWO_BUYERS, "a confirm was accepted and came to nothing");
}

#[test]
fn a_rebuild_that_installs_under_an_old_epoch() {
    is_found(Mutant::UnfencedRebuild, REBUILT, "Redis has another row than Postgres");
}

#[test]
fn a_refusal_that_ends_whichever_confirm_is_under_way() {
    is_found(Mutant::SettleIgnoresAttempt, CLUMSY, "a seat that was held is not there at the commit");
}

#[test]
fn confirms_that_nobody_resumes() {
    is_found(Mutant::NoConfirmingSweep, CLUMSY, "seats are held for nobody");
}

#[test]
fn a_void_that_postgres_does_not_know_of() {
    is_found(Mutant::VoidWithoutGivingUp, FLUSHED, "a booking is not paid");
}
