//! Named points between two writes, at which tests let a process die as by kill -9.
//!
//! The feature `kill-points` is among the root package's dev-dependencies and nowhere else, so what `cargo build` makes
//! has none of this: `tests/dependencies.rs` says so. With it, a process dies when it gets to the point whose name is in the
//! file `EVENTLY_KILL_POINT_FILE`: a test may write it while the process runs.

/// Every point there is; `tests/flows/kill_points` dies at each of them.
#[cfg(feature = "kill-points")]
pub const ALL: &[&str] = &[
    // The API, placing a hold.
    "place.placed",
    "place.planned",
    // The API, beginning a confirm.
    "confirm.pointed",
    "confirm.begun",
    "confirm.enqueued",
    // The worker, confirming.
    "confirm.looked",
    "confirm.attempted",
    "confirm.authorised",
    "confirm.committing",
    "confirm.committed",
    "confirm.settled",
    "confirm.captured",
    "confirm.noted",
    "confirm.published",
    // The jobs that follow where a confirm could not end by itself.
    "capture.captured",
    "capture.noted",
    "void.given_up",
    "void.voided",
    "void.noted",
    // Cancelling a booking, and paying back.
    "cancel.cancelling",
    "cancel.cancelled",
    "cancel.told",
    "refund.captured",
    "refund.noted",
    "refund.paid",
    "refund.done",
    // Cancelling an event.
    "cancel_event.ended",
    "cancel_event.cancelled",
    "cancel_event.told",
    "cancel_event.finished",
    // Ending holds.
    "expiry.expired",
    "expiry.planned",
    // The API, joining a waitlist.
    "join.begun",
    "join.committed",
    "join.told",
    // The worker, offering what came free.
    "promote.taken",
    "promote.offered",
    "promote.told",
    // The API, claiming an offer.
    "claim.decided",
    "claim.made",
    // The API, where somebody leaves, declines, or releases what was claimed.
    "waitlist.released",
    "waitlist.ended",
    "waitlist.told",
    // The worker, where offers and the holds made out of them run out.
    "offers.expired",
    "offers.lapsed",
    // From the outbox to the queue and back.
    "relay.enqueued",
    "relay.noted",
    "relay.handed_over",
    "outbox.finished",
    // Sending a mail.
    "mail.begun",
    "mail.leased",
    "mail.taken",
    "mail.recorded",
    // Rebuilding an inventory.
    "rebuild.raised",
    "rebuild.begun",
    "rebuild.read",
    "rebuild.loaded",
    "rebuild.installed",
    // Counting holds for the figures.
    "figures.holds_kept",
    // Moving prices.
    "reprice.enqueued",
    "reprice.looked",
    "reprice.committed",
    "reprice.synced",
    "reprice.announced",
];

/// Does nothing: tests alone are built with points to die at.
#[cfg(not(feature = "kill-points"))]
#[expect(clippy::inline_always, reason = "nothing is left of it, at any level of optimisation")]
#[inline(always)]
pub const fn kill_point(_: &'static str) {}

/// Ends the process here and now, without unwinding or cleaning up, if the file that `EVENTLY_KILL_POINT_FILE` names says
/// so.
#[cfg(feature = "kill-points")]
pub fn kill_point(name: &'static str) {
    use std::{env, fs, path::PathBuf, sync::LazyLock};
    static DEADLY: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| env::var_os("EVENTLY_KILL_POINT_FILE").map(PathBuf::from));
    assert!(ALL.contains(&name), "{name} is not among the kill points");
    if let Some(file) = &*DEADLY
        && fs::read_to_string(file).is_ok_and(|deadly| deadly == name)
    {
        std::process::abort();
    }
}
