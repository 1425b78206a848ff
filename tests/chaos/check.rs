//! The checker: what is promised, held against a history and the books at its end. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use serde_json::Value;
use uuid::Uuid;

use super::{
    ending::Ending,
    history::{Entry, History, Op, Outcome},
    line, money,
};

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub rule: &'static str,
    pub what: String,
    /// The hold or booking in question.
    pub about: Option<Uuid>,
}

pub(super) fn broken(rule: &'static str, about: Option<Uuid>, what: impl Into<String>) -> Violation {
    Violation { rule, what: what.into(), about }
}

/// Every promise that was broken; `patience` is how long after healing a confirm may take.
pub fn check(history: &History, ending: &Ending, patience: Duration) -> Vec<Violation> {
    let mut found = Vec::new();
    found.extend(capacity(history));
    found.extend(durable(history, ending));
    found.extend(readable(history));
    found.extend(terminal(history, ending, patience));
    found.extend(replays(history));
    found.extend(money::check(history, ending));
    found.extend(line::check(history, ending));
    found.extend(mails(ending));
    found.extend(counts(ending));
    found.extend(redis(ending));
    found.extend(ending.left_over.iter().map(|what| broken("left over", None, what)));
    found
}

/// What was answered and said about a hold, for those who look into a violation.
pub fn sub_history(history: &History, about: Uuid) -> Vec<&Entry> {
    history.entries.iter().filter(|entry| entry.hold() == Some(about)).collect()
}

/// At no moment more was sold and promised than there is, nor another number of tickets issued.
fn capacity(history: &History) -> Vec<Violation> {
    let wrong = history.samples.iter().filter(|sample| {
        sample.sold + sample.reserved > sample.capacity
            || sample.tickets != sample.sold
            || sample.reserved < 0
    });
    wrong.map(|sample| broken("capacity", None, format!("{sample:?}"))).collect()
}

/// A 201 is a booking for good, and so is a cancellation.
fn durable(history: &History, ending: &Ending) -> Vec<Violation> {
    let bookings: HashMap<_, _> = ending.bookings.iter().map(|row| (row.id, row)).collect();
    let mut found = Vec::new();
    for entry in &history.entries {
        let (hold, status, body) = (entry.op.hold(), entry.outcome.status(), entry.outcome.body());
        match entry.op {
            Op::Confirm { hold: id, .. } if status == 201 => match bookings.get(&id) {
                Some(row) if row.was_confirmed() => {
                    if body["reference"] != row.reference.as_str() || body["total"]["amount"] != row.total {
                        found.push(broken("durable", hold, format!("{body} became {row:?}")));
                    }
                    let read = ending.reads.get(&id).map(|read| read.status.as_str());
                    if !matches!(read, Some("confirmed" | "cancelled" | "refunded")) {
                        found.push(broken("durable", hold, format!("201, and at last it reads {read:?}")));
                    }
                }
                row => found.push(broken("durable", hold, format!("201, and then {row:?}"))),
            },
            Op::Cancel { booking, .. } if status == 200 => {
                let row = bookings.get(&booking);
                if !row.is_some_and(|row| matches!(row.status.as_str(), "cancelled" | "refunded")) {
                    found.push(broken("durable", hold, format!("cancelled, and then {row:?}")));
                }
            }
            _ => {}
        }
    }
    let tried: BTreeSet<_> = history
        .entries
        .iter()
        .filter(|entry| matches!(entry.op, Op::Confirm { .. }))
        .filter_map(|entry| entry.op.hold())
        .collect();
    let unasked = ending.bookings.iter().filter(|row| !tried.contains(&row.id));
    found.extend(unasked.map(|row| broken("durable", Some(row.id), "nobody confirmed it")));
    found
}

/// Once somebody has a 201, nobody reads anything else. Where Redis lost the hold, a confirm with its token is under
/// way once more, to the same end: it may be answered 202, and `Location` says what it is.
fn readable(history: &History) -> Vec<Violation> {
    let mut firsts: HashMap<Uuid, &Entry> = HashMap::new();
    for entry in &history.entries {
        if let (Op::Confirm { hold, .. }, 201) = (&entry.op, entry.outcome.status()) {
            let first = firsts.entry(*hold).or_insert(entry);
            if entry.ended_ms < first.ended_ms {
                *first = entry;
            }
        }
    }
    let later = history.entries.iter().filter_map(|entry| {
        let first = firsts.get(&entry.hold()?)?;
        (entry.begun_ms > first.ended_ms).then_some((first, entry))
    });
    let mut found = Vec::new();
    for (first, entry) in later {
        let (status, body) = (entry.outcome.status(), entry.outcome.body());
        let fits = match entry.op {
            Op::Read { .. } => {
                entry.outcome.is_open()
                    || status == 200
                        && ["confirmed", "cancelled", "refunded"].iter().any(|word| body["status"] == *word)
            }
            Op::Confirm { with_token, .. } => {
                entry.outcome.is_open()
                    || status == 201
                    || status == 202 && with_token && history.was_flushed(first.begun_ms, entry.ended_ms)
            }
            _ => true,
        };
        if !fits {
            found.push(broken("readable", entry.hold(), format!("after its 201: {status} {body}")));
        }
    }
    found
}

/// Every 202 ends, in time; only what Redis lost may be gone.
fn terminal(history: &History, ending: &Ending, patience: Duration) -> Vec<Violation> {
    let latest = history.healed_ms + u64::try_from(patience.as_millis()).unwrap();
    let mut found = Vec::new();
    for entry in &history.entries {
        let Op::Confirm { hold, .. } = entry.op else { continue };
        let accepted = entry.outcome.status() == 202;
        match ending.reads.get(&hold) {
            None => found.push(broken("terminal", Some(hold), "nobody looked how it ended")),
            Some(read) if read.status == "confirming" => {
                found.push(broken("terminal", Some(hold), "it never ended"));
            }
            Some(read) if read.at_ms > latest => {
                found.push(broken("terminal", Some(hold), format!("it ended at {} ms", read.at_ms)));
            }
            Some(read) if read.status == "absent" => {
                if accepted && !history.was_flushed(entry.begun_ms, u64::MAX) {
                    found.push(broken("terminal", Some(hold), "202, and there is no booking"));
                }
            }
            Some(_) => {}
        }
    }
    found.dedup();
    found
}

/// One key has one answer, and one hold one booking.
fn replays(history: &History) -> Vec<Violation> {
    let mut kept: BTreeMap<String, Vec<&Entry>> = BTreeMap::new();
    let mut found = Vec::new();
    for entry in &history.entries {
        let (status, code) = (entry.outcome.status(), &entry.outcome.body()["code"]);
        let is_kept = match entry.op {
            // A sold-out answer is kept as well.
            Op::Place { .. } => {
                status == 201 || status == 409 && (code == "sold-out" || code == "sale-closed")
            }
            Op::Cancel { .. } => status == 200,
            Op::Confirm { .. } => status == 201,
            _ => false,
        };
        if !is_kept {
            continue;
        }
        let name = match &entry.op {
            Op::Place { key, .. } => format!("place {} {key}", entry.person),
            Op::Cancel { key, .. } => format!("cancel {} {key}", entry.person),
            op => format!("confirm {:?}", op.hold()),
        };
        kept.entry(name).or_default().push(entry);
    }
    for (name, entries) in kept {
        for pair in entries.windows(2) {
            let (first, second) = (pair[0], pair[1]);
            // The keys of holds are Redis's to remember.
            let forgotten = matches!(first.op, Op::Place { .. })
                && history
                    .was_flushed(first.begun_ms.min(second.begun_ms), first.ended_ms.max(second.ended_ms));
            if !forgotten && identity(first) != identity(second) {
                let what = format!("{name}: {:?}, then {:?}", first.outcome, second.outcome);
                found.push(broken("replay", first.hold(), what));
            }
        }
    }
    found
}

/// What is the same in every answer to one request.
fn identity(entry: &Entry) -> Value {
    let Outcome::Answer { status, body } = &entry.outcome else { return Value::Null };
    match entry.op {
        // Its state moves on between one answer and the next, and what it is does not.
        Op::Confirm { .. } => {
            let tickets = body["tickets"].as_array().map(Vec::as_slice).unwrap_or_default();
            let tickets: Vec<_> = tickets.iter().map(|ticket| &ticket["code"]).collect();
            serde_json::json!([status, body["id"], body["reference"], body["total"], tickets])
        }
        _ if *status == 409 => serde_json::json!([status, body["code"]]),
        _ => serde_json::json!([status, body]),
    }
}

/// Each booking that was ever confirmed has one confirmation, whatever the number of its copies; none that failed.
fn mails(ending: &Ending) -> Vec<Violation> {
    let mut sent: BTreeMap<(Uuid, &str), BTreeSet<&str>> = BTreeMap::new();
    let mut found = Vec::new();
    // Those of a waitlist have rules of their own.
    for mail in ending.delivered.iter().filter(|mail| mail.offer.is_none()) {
        match mail.booking {
            Some(booking) => {
                sent.entry((booking, mail.kind.as_str())).or_default().insert(&mail.message_id);
            }
            None => found.push(broken("mail", None, format!("nobody owed it: {mail:?}"))),
        }
    }
    for row in &ending.bookings {
        let count = |kind| sent.get(&(row.id, kind)).map_or(0, BTreeSet::len);
        let cancelled = usize::from(matches!(row.status.as_str(), "cancelled" | "refunded"));
        let (confirmed, refunded) = (usize::from(row.was_confirmed()), usize::from(row.status == "refunded"));
        for (kind, wanted) in [
            ("booking_confirmed", confirmed),
            ("booking_cancelled", cancelled),
            ("booking_refunded", refunded),
        ] {
            if count(kind) != wanted {
                let what = format!("{} of {wanted} {kind} for one that is {}", count(kind), row.status);
                found.push(broken("mail", Some(row.id), what));
            }
        }
    }
    let booked: BTreeSet<_> = ending.bookings.iter().map(|row| row.id).collect();
    let stray = sent.keys().filter(|(booking, _)| !booked.contains(booking));
    found.extend(stray.map(|(booking, kind)| broken("mail", Some(*booking), format!("{kind} for nothing"))));
    found
}

/// However tickets are counted, the number is the same.
fn counts(ending: &Ending) -> Vec<Violation> {
    let mut found = Vec::new();
    for row in &ending.events {
        if [row.booked, row.bought, row.logged, row.rolled_up] != [row.sold; 4] {
            found.push(broken("counts", None, format!("{row:?}")));
        }
    }
    found.extend(ending.figures.iter().map(|row| broken("counts", None, row)));
    for row in &ending.seats {
        if row.tickets != row.sold || row.sold + row.reserved > row.capacity {
            found.push(broken("counts", None, format!("{row:?}")));
        }
    }
    for row in &ending.bookings {
        let live = if row.status == "confirmed" { row.quantity } else { 0 };
        if row.tickets != live {
            found.push(broken("counts", Some(row.id), format!("{row:?}")));
        }
    }
    found
}

/// Redis has what Postgres has.
fn redis(ending: &Ending) -> Vec<Violation> {
    let seats = ending.seats.iter().filter(|row| row.redis != Some((row.capacity, row.sold, row.reserved)));
    let drifted = ending.events.iter().filter(|row| row.drift > 0);
    let seats = seats.map(|row| broken("redis", None, format!("{row:?}")));
    seats.chain(drifted.map(|row| broken("redis", None, format!("{row:?}")))).collect()
}
