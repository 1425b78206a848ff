//! How many files a process may have open at once: each connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than any process here needs. Some systems allow a thousand times as many, and programs that walk through all
/// they may have open would then take minutes.
const MOST: u64 = 1 << 20;

/// Raises the limit of this process and of those it starts as far as it is allowed to: many systems start processes
/// with 1024, and an API takes more connections than that.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let Some(raised) = raised(limit.current, limit.maximum) else { return };
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit }) {
        eprintln!("evently: cannot raise the limit of open files to {raised}: {error}");
    }
}

/// How many files this process may have open once [`raise`] has run.
pub fn allowed() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    raised(limit.current, limit.maximum).or(limit.current).unwrap_or(u64::MAX)
}

/// What to raise the limit to, where there is something to raise. `None` is no limit.
fn raised(current: Option<u64>, maximum: Option<u64>) -> Option<u64> {
    let wanted = maximum.map_or(MOST, |maximum| maximum.min(MOST));
    current.filter(|current| *current < wanted).map(|_| wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ever_raises() {
        assert_eq!(raised(Some(1024), Some(524_288)), Some(524_288));
        assert_eq!(raised(Some(1024), None), Some(MOST));
        assert_eq!(raised(Some(1024), Some(1 << 30)), Some(MOST));
        assert_eq!(raised(Some(4096), Some(4096)), None);
        assert_eq!(raised(Some(1 << 22), Some(1 << 30)), None);
        assert_eq!(raised(None, None), None);
    }
}
