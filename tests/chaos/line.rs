//! The checker's rules on waitlists: in order, seats that came free to nobody else, each offer one hold, and in the end
//! each of its seats sold or the public's.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ring::digest::{SHA256, digest};
use uuid::Uuid;

use super::{
    check::{Violation, broken},
    ending::{Ending, OfferRow},
    history::{Entry, History, Op},
};

const RULE: &str = "waitlist";

pub(super) fn check(history: &History, ending: &Ending) -> Vec<Violation> {
    let mut found = Vec::new();
    found.extend(order(history));
    found.extend(strangers(history, ending));
    found.extend(entries(history, ending));
    found.extend(answers(history, ending));
    found.extend(seats(ending));
    found.extend(mails(ending));
    found
}

/// At no moment does anybody wait behind whom one was served that wanted as many or more.
fn order(history: &History) -> Vec<Violation> {
    let wrong = history.samples.iter().filter(|sample| sample.passed_over > 0);
    wrong.map(|sample| broken("order", None, format!("{sample:?}"))).collect()
}

/// While somebody waits for one ticket, so that none was the public's when he joined, nobody places a hold.
fn strangers(history: &History, ending: &Ending) -> Vec<Violation> {
    let mut places: BTreeMap<(usize, &str), Vec<&Entry>> = BTreeMap::new();
    for entry in &history.entries {
        if let Op::Place { key, .. } = &entry.op {
            places.entry((entry.person, key)).or_default().push(entry);
        }
    }
    let mut found = Vec::new();
    for (ticket_type, person, from_ms, to_ms) in waits(history, ending) {
        for tries in places.values() {
            let Op::Place { items, .. } = &tries[0].op else { continue };
            let begun_ms = tries.iter().map(|entry| entry.begun_ms).min();
            let held = tries.iter().filter(|entry| entry.outcome.status() == 201);
            let Some(first) = held.min_by_key(|entry| entry.ended_ms) else { continue };
            if items.iter().any(|(id, _)| *id == ticket_type)
                && begun_ms > Some(from_ms)
                && first.ended_ms < to_ms
            {
                let what = format!("placed by {} while {person} waits since {from_ms} ms", first.person);
                found.push(broken("stranger", first.hold(), what));
            }
        }
    }
    found
}

/// When somebody certainly waited for one ticket: (ticket type, person, from, to).
fn waits(history: &History, ending: &Ending) -> Vec<(Uuid, usize, u64, u64)> {
    let offers: HashMap<Uuid, u64> = ending.offers.iter().map(|offer| (offer.entry, offer.made_ms)).collect();
    let mut waits = Vec::new();
    for joined in &history.entries {
        let Op::Join { event, ticket_type, quantity: 1 } = joined.op else { continue };
        let Some(id) = joined.hold().filter(|_| joined.outcome.status() == 201) else { continue };
        // What the public may have is lost with Redis, if it happens while nobody waits yet.
        if history.was_flushed(joined.begun_ms, joined.ended_ms) {
            continue;
        }
        let left = history.entries.iter().filter(|entry| {
            entry.person == joined.person
                && entry.ended_ms > joined.begun_ms
                && matches!(entry.op, Op::Leave { event: left } if left == event)
        });
        let left_ms = left.map(|entry| entry.begun_ms).min().unwrap_or(u64::MAX);
        let offered_ms = offers.get(&id).copied().unwrap_or(u64::MAX);
        waits.push((ticket_type, joined.person, joined.ended_ms, left_ms.min(offered_ms)));
    }
    waits
}

/// A place that was acknowledged is there, and no entry has two offers.
fn entries(history: &History, ending: &Ending) -> Vec<Violation> {
    let rows: HashMap<Uuid, _> = ending.entries.iter().map(|row| (row.id, row)).collect();
    let mut found = Vec::new();
    for entry in &history.entries {
        let Op::Join { ticket_type, quantity, .. } = entry.op else { continue };
        let status = entry.outcome.status();
        if !matches!(status, 200 | 201) {
            continue;
        }
        let row = entry.hold().and_then(|id| rows.get(&id));
        let fits = row.is_some_and(|row| {
            row.ticket_type == ticket_type && (status == 200 || row.quantity == i64::from(quantity))
        });
        if !fits {
            found.push(broken(RULE, entry.hold(), format!("joined, and then {row:?}")));
        }
    }
    let mut seen = BTreeSet::new();
    let twice = ending.offers.iter().filter(|offer| !seen.insert(offer.entry));
    found.extend(twice.map(|offer| broken(RULE, Some(offer.entry), format!("a second offer: {offer:?}"))));
    found
}

/// An offer becomes one hold, however often it is claimed, or is declined; what was answered is what stands.
fn answers(history: &History, ending: &Ending) -> Vec<Violation> {
    let rows: HashMap<&str, &OfferRow> =
        ending.offers.iter().map(|offer| (offer.token_hash.as_str(), offer)).collect();
    let mut tokens: BTreeMap<&str, (Vec<&Entry>, Vec<&Entry>)> = BTreeMap::new();
    for entry in &history.entries {
        match &entry.op {
            Op::Claim { token } if matches!(entry.outcome.status(), 200 | 201) => {
                tokens.entry(token).or_default().0.push(entry);
            }
            Op::Decline { token } if entry.outcome.status() == 204 => {
                tokens.entry(token).or_default().1.push(entry);
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    for (token, (claimed, declined)) in tokens {
        let hash = digest(&SHA256, token.as_bytes());
        let hash = hash.as_ref().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        let row = rows.get(hash.as_str());
        let holds: BTreeSet<_> = claimed.iter().map(|entry| entry.hold()).collect();
        let firsts = claimed.iter().filter(|entry| entry.outcome.status() == 201).count();
        let stands = match row {
            Some(row) if !claimed.is_empty() => {
                holds.contains(&row.hold) && matches!(row.status.as_str(), "claimed" | "sold" | "lapsed")
            }
            Some(row) => row.status == "declined",
            None => false,
        };
        if holds.len() + declined.len() > 1 || firsts > 1 || !stands {
            let what = format!("{holds:?} in {firsts} claims, declined {}: {row:?}", declined.len());
            found.push(broken(RULE, holds.first().copied().flatten(), what));
        }
    }
    found
}

/// With nobody waiting any more every offer has ended, sold exactly where its hold is a booking, and no seat is kept.
fn seats(ending: &Ending) -> Vec<Violation> {
    let booked: BTreeSet<Uuid> =
        ending.bookings.iter().filter(|row| row.was_confirmed()).map(|row| row.id).collect();
    let mut found = Vec::new();
    for offer in &ending.offers {
        let is_booked = offer.hold.is_some_and(|hold| booked.contains(&hold));
        let fits = match offer.status.as_str() {
            "sold" => is_booked,
            "lapsed" => !is_booked && offer.hold.is_some(),
            "declined" | "expired" => offer.hold.is_none(),
            _ => false,
        };
        if !fits {
            found.push(broken(RULE, offer.hold, format!("booked: {is_booked}, {offer:?}")));
        }
    }
    for entry in ending.entries.iter().filter(|entry| matches!(entry.status.as_str(), "waiting" | "offered"))
    {
        found.push(broken(RULE, Some(entry.id), format!("it left, and {entry:?}")));
    }
    for seats in ending.seats.iter().filter(|seats| seats.reserved != 0 || seats.waiting != 0) {
        found.push(broken(RULE, None, format!("nobody waits, and {seats:?}")));
    }
    found
}

/// An offer is mailed under one Message-ID, in time or not at all; that it ran out is mailed exactly then.
fn mails(ending: &Ending) -> Vec<Violation> {
    let mut sent: BTreeMap<(Uuid, &str), BTreeSet<&str>> = BTreeMap::new();
    for mail in &ending.delivered {
        if let Some(offer) = mail.offer {
            sent.entry((offer, mail.kind.as_str())).or_default().insert(&mail.message_id);
        }
    }
    let mut found = Vec::new();
    for offer in &ending.offers {
        let mut count = |kind| sent.remove(&(offer.id, kind)).map_or(0, |ids| ids.len());
        let (made, ended) = (count("waitlist_offer"), count("waitlist_offer_expired"));
        if made > 1 || ended != usize::from(offer.status == "expired") {
            let what = format!("{made} mails with it, {ended} that it ran out: {offer:?}");
            found.push(broken("mail", Some(offer.entry), what));
        }
    }
    found
        .extend(sent.keys().map(|(offer, kind)| broken("mail", Some(*offer), format!("{kind} for nothing"))));
    found
}
