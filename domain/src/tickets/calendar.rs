//! The calendar entry of a booking (RFC 5545): what mails attach and `calendar.ics` serves.

use chrono::{DateTime, Utc};
use icalendar::{Calendar, Component, Event, EventLike, EventStatus, Property};
use uuid::Uuid;

/// Whether the entry goes into a calendar or out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The booking stands.
    Publish,
    /// The booking is cancelled: calendars that have the entry strike it out.
    Cancel,
}

impl Entry {
    /// The value of `METHOD`, which the media type's `method` parameter repeats.
    pub const fn method(self) -> &'static str {
        match self {
            Self::Publish => "PUBLISH",
            Self::Cancel => "CANCEL",
        }
    }
}

/// What an entry says. Times go out in UTC, which every calendar shows in its reader's zone.
#[derive(Clone, Copy, Debug)]
pub struct CalendarEntry<'a> {
    pub entry: Entry,
    /// The UID: one booking is one entry, whatever is sent about it.
    pub booking_id: Uuid,
    /// The order reference.
    pub reference: &'a str,
    pub title: &'a str,
    pub starts_at: DateTime<Utc>,
    pub ends_at: DateTime<Utc>,
    /// Venue, address, city, country: whatever is known, in the order in which it is written.
    pub location: &'a [&'a str],
    /// Where the booking can be looked at.
    pub url: &'a str,
    /// The address from which mails come, when it is known.
    pub organizer: Option<&'a str>,
    /// When the entry came to be as it is (confirmed or cancelled): the same entry is the same bytes.
    pub changed_at: DateTime<Utc>,
}

impl CalendarEntry<'_> {
    /// The whole `.ics` document, with CRLF line ends.
    pub fn render(&self) -> String {
        let location =
            self.location.iter().map(|part| clean(part)).filter(|part| !part.is_empty()).collect::<Vec<_>>();
        let mut event = Event::new();
        event
            .uid(&self.booking_id.to_string())
            .timestamp(self.changed_at)
            .starts(self.starts_at)
            .ends(self.ends_at)
            .summary(&clean(self.title))
            .description(&format!("Order {}", clean(self.reference)))
            .location(&location.join(", "))
            .url(self.url)
            .status(match self.entry {
                Entry::Publish => EventStatus::Confirmed,
                Entry::Cancel => EventStatus::Cancelled,
            })
            .sequence(u32::from(self.entry == Entry::Cancel));
        if let Some(address) = self.organizer {
            let organizer = Property::new("ORGANIZER", format!("mailto:{}", clean(address)))
                .add_parameter("CN", "Evently")
                .done();
            event.append_property(organizer);
        }

        let mut calendar = Calendar::empty();
        calendar
            .append_property(("VERSION", "2.0"))
            .append_property(("PRODID", "-//Evently//Tickets//EN"))
            .append_property(("CALSCALE", "GREGORIAN"))
            .append_property(("METHOD", self.entry.method()))
            .push(event.done());
        calendar.to_string()
    }
}

/// One line of text: titles and addresses are other people's input, and a raw line end would start a property.
fn clean(text: &str) -> String {
    text.split(|c: char| c.is_control()).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    fn entry(entry: Entry, title: &str) -> String {
        CalendarEntry {
            entry,
            booking_id: Uuid::from_u128(7),
            reference: "EV-7Q2K9X",
            title,
            starts_at: Utc.with_ymd_and_hms(2027, 3, 5, 18, 30, 0).unwrap(),
            ends_at: Utc.with_ymd_and_hms(2027, 3, 5, 21, 0, 0).unwrap(),
            location: &["The Hall", "1 Long Street", "", "Berlin"],
            url: "http://127.0.0.1:8080/v1/bookings/x",
            organizer: Some("tickets@evently.test"),
            changed_at: Utc.with_ymd_and_hms(2027, 1, 2, 3, 4, 5).unwrap(),
        }
        .render()
    }

    #[test]
    fn an_entry_says_when_and_where() {
        let text = entry(Entry::Publish, "Winter, again; \\ live").replace("\r\n ", "");
        for line in [
            "METHOD:PUBLISH",
            "UID:00000000-0000-0000-0000-000000000007",
            "DTSTAMP:20270102T030405Z",
            "DTSTART:20270305T183000Z",
            "DTEND:20270305T210000Z",
            "SUMMARY:Winter\\, again\\; \\\\ live",
            "LOCATION:The Hall\\, 1 Long Street\\, Berlin",
            "ORGANIZER;CN=Evently:mailto:tickets@evently.test",
            "STATUS:CONFIRMED",
            "SEQUENCE:0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_cancelled_entry_follows_the_one_it_cancels() {
        let text = entry(Entry::Cancel, "Winter");
        for line in ["METHOD:CANCEL", "STATUS:CANCELLED", "SEQUENCE:1"] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_title_cannot_add_a_property() {
        let text = entry(Entry::Publish, "Winter\r\nATTENDEE:mailto:x@y.z\rX:1\nEND:VEVENT");
        assert_eq!(text.lines().filter(|line| *line == "END:VEVENT").count(), 1);
        assert!(!text.lines().any(|line| line.starts_with("ATTENDEE") || line.starts_with("X:")));
    }
}
