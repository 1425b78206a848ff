//! Other people's words, times and zones as they stand in a mail.

use std::fmt::Write;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

/// One line of text: without control characters, which start headers and properties, and without the invisible
/// ones that turn the direction of what follows.
pub fn line(text: &str) -> String {
    let words = text.split(|c: char| c.is_control() || c.is_whitespace() || is_unseen(c));
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The same, cut at a length in characters that a subject or a name can have.
pub fn short_line(text: &str, max_chars: usize) -> String {
    let text = line(text);
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text,
    }
}

fn is_unseen(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// When an event takes place, on its venue's clocks: `Friday, 5 March 2027, 19:30–22:00 (CET, Europe/Berlin)`.
pub fn period(starts_at: DateTime<Utc>, ends_at: DateTime<Utc>, timezone: &str) -> String {
    let zone = timezone.parse().unwrap_or(Tz::UTC);
    let (from, to) = (starts_at.with_timezone(&zone), ends_at.with_timezone(&zone));
    let mut text = from.format("%A, %-d %B %Y, %H:%M").to_string();
    // Writing to a string does not fail.
    let _ = if from.date_naive() == to.date_naive() {
        write!(text, "–{}", to.format("%H:%M"))
    } else {
        write!(text, " – {}", to.format("%A, %-d %B %Y, %H:%M"))
    };
    let _ = write!(text, " ({})", zone_name(&from, zone));
    text
}

/// When something happened, on the venue's clocks.
pub fn moment(at: DateTime<Utc>, timezone: &str) -> String {
    let zone = timezone.parse().unwrap_or(Tz::UTC);
    let at = at.with_timezone(&zone);
    format!("{} ({})", at.format("%-d %B %Y, %H:%M"), zone_name(&at, zone))
}

/// A length of time, about: `30 minutes`, `2 hours`, `3 days`.
pub fn span(length: TimeDelta) -> String {
    let (count, unit) = match (length.num_seconds(), (length + TimeDelta::seconds(30)).num_minutes()) {
        (seconds, _) if seconds < 90 => (seconds.max(0), "second"),
        (_, minutes) if minutes < 120 => (minutes, "minute"),
        (_, minutes) if minutes < 48 * 60 => ((minutes + 30) / 60, "hour"),
        (_, minutes) => ((minutes + 12 * 60) / (24 * 60), "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// `CET, Europe/Berlin`; zones without an abbreviation show their offset: `UTC+04, Asia/Dubai`.
fn zone_name(at: &DateTime<Tz>, zone: Tz) -> String {
    let short = at.format("%Z").to_string();
    match (short.as_str(), zone.name()) {
        (short, name) if short == name => name.to_owned(),
        (short, name) if short.starts_with(['+', '-']) => format!("UTC{short}, {name}"),
        (short, name) => format!("{short}, {name}"),
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    fn at(month: u32, day: u32, hour: u32, minute: u32) -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2027, month, day, hour, minute, 0).unwrap()
    }

    #[test]
    fn periods_are_told_on_the_venues_clocks() {
        for (from, to, zone, text) in [
            (
                at(3, 5, 18, 30),
                at(3, 5, 21, 0),
                "Europe/Berlin",
                "Friday, 5 March 2027, 19:30–22:00 (CET, Europe/Berlin)",
            ),
            (
                at(7, 5, 18, 30),
                at(7, 5, 23, 0),
                "Europe/Berlin",
                "Monday, 5 July 2027, 20:30 – Tuesday, 6 July 2027, 01:00 (CEST, Europe/Berlin)",
            ),
            (
                at(7, 5, 18, 30),
                at(7, 5, 19, 0),
                "Asia/Dubai",
                "Monday, 5 July 2027, 22:30–23:00 (UTC+04, Asia/Dubai)",
            ),
            (at(7, 5, 18, 30), at(7, 5, 19, 0), "UTC", "Monday, 5 July 2027, 18:30–19:00 (UTC)"),
            (at(7, 5, 18, 30), at(7, 5, 19, 0), "Not/AZone", "Monday, 5 July 2027, 18:30–19:00 (UTC)"),
        ] {
            assert_eq!(period(from, to, zone), text);
        }
    }

    #[test]
    fn spans_are_told_as_people_say_them() {
        for (seconds, text) in [
            (2, "2 seconds"),
            (1_800, "30 minutes"),
            (5_400, "90 minutes"),
            (7_200, "2 hours"),
            (604_800, "7 days"),
        ] {
            assert_eq!(span(TimeDelta::seconds(seconds)), text);
        }
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(line(" A\r\nBcc: x@y.z\0\tB\u{202e}C\u{2028}D "), "A Bcc: x@y.z B C D");
        assert_eq!(short_line("äöüß", 3), "äöü…");
        assert_eq!(short_line("äöü", 3), "äöü");
    }
}
