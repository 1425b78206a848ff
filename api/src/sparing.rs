//! Log lines that an outage or a rush would write by the ten thousand: some every second, and how many were left out.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// Lines a second.
const MOST: u64 = 10;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// One kind of line.
pub struct Sparing {
    /// The second that is counted, in the upper half, and its lines, in the lower.
    counted: AtomicU64,
}

impl Sparing {
    pub const fn new() -> Self {
        Self { counted: AtomicU64::new(0) }
    }

    /// Whether the line is to be written; if so, how many were not in the last second that had any.
    pub fn may_write(&self) -> Option<u64> {
        self.may_write_at(START.elapsed().as_secs())
    }

    fn may_write_at(&self, second: u64) -> Option<u64> {
        let second = second & u64::from(u32::MAX);
        let before = self
            .counted
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |counted| {
                Some(if counted >> 32 == second { counted.saturating_add(1) } else { second << 32 | 1 })
            })
            .unwrap_or_else(|counted| counted);
        let lines = before & u64::from(u32::MAX);
        if before >> 32 == second { (lines < MOST).then_some(0) } else { Some(lines.saturating_sub(MOST)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_some_a_second_and_says_how_many_were_left_out() {
        let sparing = Sparing::new();
        let written = |second| (0..100).filter_map(|_| sparing.may_write_at(second)).collect::<Vec<_>>();
        assert_eq!(written(7), [0; 10]);
        assert_eq!(written(9), [90, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
