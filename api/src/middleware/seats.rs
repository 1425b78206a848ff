//! How many requests a process works on at once, and how one steps aside while it only waits.
//!
//! What counts is work: a request that waits for its client's body, or for a job's result, gives its seat to others
//! meanwhile. So clients that are slow on purpose take memory, which the limit of connections bounds, and no turn.

use std::{
    cell::Cell,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

tokio::task_local! {
    static SEAT: Seat;
}

/// The seats of a process.
pub(super) struct Seats {
    max: usize,
    taken: AtomicUsize,
}

impl Seats {
    pub(super) const fn new(max: usize) -> Self {
        Self { max, taken: AtomicUsize::new(0) }
    }

    /// Whether there is none just now.
    pub(super) fn are_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed) >= self.max
    }
}

/// A request's place among those that are worked on, given back when the answer is made or the client gone.
pub(super) struct Seat {
    /// None: the request needs no seat.
    seats: Option<Arc<Seats>>,
    /// Whether it counts just now.
    taken: Cell<bool>,
}

impl Seat {
    /// A seat, if one is free.
    pub(super) fn take(seats: &Arc<Seats>) -> Option<Self> {
        let seat = Self { seats: Some(Arc::clone(seats)), taken: Cell::new(false) };
        let before = seats.taken.fetch_add(1, Ordering::Relaxed);
        seat.taken.set(true);
        // Dropped, it is given back.
        (before < seats.max).then_some(seat)
    }

    /// For a request that is answered however busy the process is.
    pub(super) const fn exempt() -> Self {
        Self { seats: None, taken: Cell::new(false) }
    }

    /// Runs a request in this seat.
    pub(super) async fn scope<F: Future>(self, request: F) -> F::Output {
        SEAT.scope(self, request).await
    }

    fn leave(&self) {
        if let Some(seats) = &self.seats
            && self.taken.replace(false)
        {
            seats.taken.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Takes the seat again, also above the limit; answers whether it is within.
    fn come_back(&self) -> bool {
        let Some(seats) = &self.seats else { return true };
        self.taken.set(true);
        seats.taken.fetch_add(1, Ordering::Relaxed) < seats.max
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Waits for something that is no work of this process. Answers what came, and whether the process has room to go on
/// with the request; one that has done something already goes on anyway.
pub async fn aside<F: Future>(waiting: F) -> (F::Output, bool) {
    let mut waiting = pin!(waiting);
    if let std::task::Poll::Ready(output) = futures::poll!(waiting.as_mut()) {
        return (output, true);
    }
    // Outside of a request there is no seat to leave.
    let _ = SEAT.try_with(Seat::leave);
    let output = waiting.await;
    (output, SEAT.try_with(Seat::come_back).unwrap_or(true))
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn who_waits_aside_leaves_the_seat_to_others() {
        let seats = Arc::new(Seats::new(1));
        let (go, told) = oneshot::channel::<()>();
        let first = Seat::take(&seats).unwrap();
        assert!(Seat::take(&seats).is_none(), "one seat");
        let mut first = Box::pin(first.scope(aside(told)));
        assert!(futures::poll!(first.as_mut()).is_pending());
        let second = Seat::take(&seats).expect("the first one waits aside");
        go.send(()).unwrap();
        let (_, welcome) = first.await;
        assert!(!welcome, "the second one is there");
        drop(second);
        assert_eq!(seats.taken.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn who_goes_away_while_waiting_gives_nothing_back_twice() {
        let seats = Arc::new(Seats::new(1));
        let mut request = Box::pin(Seat::take(&seats).unwrap().scope(aside(std::future::pending::<()>())));
        assert!(futures::poll!(request.as_mut()).is_pending());
        drop(request);
        assert_eq!(seats.taken.load(Ordering::Relaxed), 0);
        let ((), welcome) = Seat::take(&seats).unwrap().scope(aside(async {})).await;
        assert!(welcome);
        Seat::exempt().scope(aside(tokio::task::yield_now())).await;
        assert_eq!(seats.taken.load(Ordering::Relaxed), 0);
    }
}
