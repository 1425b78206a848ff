//! The samples: one venue in Hamburg, ten events from tomorrow to next summer, two people.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use domain::{
    events::{NewEvent, RefundStep, Seating, TicketTypeFields},
    money::Money,
    venues::VenueFields,
};
use uuid::Uuid;

/// Names and addresses of those who may buy.
pub(super) const PEOPLE: [(&str, &str); 2] =
    [("Ada Lovelace", "ada@evently.test"), ("Grace Hopper", "grace@evently.test")];

pub(super) fn people() -> Vec<&'static str> {
    PEOPLE.iter().map(|(_, email)| *email).collect()
}

pub(super) fn titles() -> Vec<&'static str> {
    EVENTS.iter().map(|event| event.title).collect()
}

pub(super) fn venue() -> VenueFields {
    VenueFields {
        name: "Kesselhaus am Hafen".to_owned(),
        address: "Sandtorkai 30".to_owned(),
        city: "Hamburg".to_owned(),
        country: "DE".to_owned(),
        latitude: 53.5436,
        longitude: 9.9886,
        timezone: "Europe/Berlin".to_owned(),
    }
}

/// The events, as they are when seeded at `now`.
pub(super) fn events(venue_id: Uuid, now: DateTime<Utc>) -> impl Iterator<Item = NewEvent> {
    EVENTS.iter().map(move |sample| sample.at(venue_id, now))
}

struct Sample {
    title: &'static str,
    description: &'static str,
    category: &'static str,
    /// How many days from now it starts, at which hour (UTC), and how many hours it lasts.
    starts: (i64, i64),
    hours: i64,
    /// In how many days its sale begins; 0 is at once.
    sale_in_days: i64,
    max_tickets: i64,
    /// How many hours before the start a cancelled booking still gets which share back.
    refunds: &'static [(i64, i64)],
    /// Name, capacity, price in cents.
    tickets: &'static [(&'static str, i64, i64)],
}

const EVENTS: [Sample; 10] = [
    Sample {
        title: "Harbour Night",
        description: "Four bands on two stages, and the cranes lit until midnight.",
        category: "concert",
        starts: (21, 18),
        hours: 5,
        sale_in_days: 0,
        max_tickets: 10,
        refunds: &[(0, 100)],
        tickets: &[("Standing", 2500, 4500), ("Balcony", 320, 7900)],
    },
    Sample {
        title: "Rust at Sea: a day of talks",
        description: "Nine talks on systems that do not sink, and a hallway with a view of the Elbe.",
        category: "conference",
        starts: (45, 8),
        hours: 9,
        sale_in_days: 0,
        max_tickets: 5,
        refunds: &[(336, 100), (48, 50)],
        tickets: &[("Early bird", 100, 14900), ("Regular", 400, 19900), ("Student", 60, 4900)],
    },
    Sample {
        title: "The Winter's Tale",
        description: "Shakespeare in a boiler house. In English, with German surtitles.",
        category: "theatre",
        starts: (9, 19),
        hours: 3,
        sale_in_days: 0,
        max_tickets: 8,
        refunds: &[(24, 100)],
        tickets: &[("Stalls", 240, 3900), ("Gallery", 120, 2200)],
    },
    Sample {
        title: "Open Air Cinema: Metropolis",
        description: "The restored print with a live orchestra. Bring a blanket.",
        category: "film",
        starts: (210, 19),
        hours: 3,
        sale_in_days: 0,
        max_tickets: 10,
        refunds: &[(0, 100)],
        tickets: &[("Lawn", 1200, 1800)],
    },
    Sample {
        title: "Saturday Comedy Cellar",
        description: "Six comedians, ten minutes each, one microphone that works.",
        category: "comedy",
        starts: (1, 20),
        hours: 2,
        sale_in_days: 0,
        max_tickets: 6,
        refunds: &[(2, 100)],
        tickets: &[("Table seat", 80, 1500)],
    },
    Sample {
        title: "Hanseatic Marathon",
        description: "42 kilometres, 61 bridges. The start number is the ticket.",
        category: "sport",
        starts: (160, 7),
        hours: 7,
        sale_in_days: 0,
        max_tickets: 2,
        refunds: &[(720, 100), (168, 50)],
        tickets: &[("Marathon", 5000, 9500), ("Half marathon", 4000, 5500), ("Relay team", 300, 18000)],
    },
    Sample {
        title: "Museum Night Tour",
        description: "By torchlight through the turbine hall. Free, but the hall holds only so many.",
        category: "tour",
        starts: (5, 20),
        hours: 2,
        sale_in_days: 0,
        max_tickets: 4,
        refunds: &[(0, 100)],
        tickets: &[("Visitor", 150, 0)],
    },
    Sample {
        title: "Elbe Jazz Weekend",
        description: "Two days, eleven ensembles, one very old saxophone.",
        category: "concert",
        starts: (75, 16),
        hours: 30,
        sale_in_days: 0,
        max_tickets: 10,
        refunds: &[(168, 100), (24, 50)],
        tickets: &[("Weekend pass", 900, 8900), ("Saturday", 600, 4900), ("Sunday", 600, 4900)],
    },
    Sample {
        title: "Street Food Market",
        description: "Forty kitchens between the old boilers. The ticket includes the first plate.",
        category: "food",
        starts: (14, 11),
        hours: 9,
        sale_in_days: 0,
        max_tickets: 10,
        refunds: &[(0, 100)],
        tickets: &[("Entry", 3000, 900), ("Entry with tasting", 500, 2900)],
    },
    Sample {
        title: "New Year at the Docks",
        description: "Fireworks over the harbour from the roof. The sale opens in three days, for everybody at once.",
        category: "party",
        starts: (41, 20),
        hours: 8,
        sale_in_days: 3,
        max_tickets: 4,
        refunds: &[(168, 80)],
        tickets: &[("Roof", 400, 12900), ("Hall", 1800, 6900)],
    },
];

impl Sample {
    fn at(&self, venue_id: Uuid, now: DateTime<Utc>) -> NewEvent {
        // Truncating to a day fails only for times that no clock shows.
        let today = now.duration_trunc(TimeDelta::days(1)).unwrap_or(now);
        let (days, hour) = self.starts;
        let starts_at = today + TimeDelta::days(days) + TimeDelta::hours(hour);
        let refund = |&(hours_before, percent): &(i64, i64)| RefundStep { hours_before, percent };
        NewEvent {
            title: self.title.to_owned(),
            description: self.description.to_owned(),
            category: self.category.to_owned(),
            venue_id,
            starts_at,
            ends_at: starts_at + TimeDelta::hours(self.hours),
            sales_start_at: Some(now + TimeDelta::days(self.sale_in_days)),
            sales_end_at: None,
            max_tickets_per_user: self.max_tickets,
            hold_ttl_secs: 300,
            offer_ttl_secs: 1800,
            refund_policy: self.refunds.iter().map(refund).collect(),
            ticket_types: self.tickets.iter().map(ticket_type).collect(),
        }
    }
}

fn ticket_type(&(name, capacity, cents): &(&str, i64, i64)) -> TicketTypeFields {
    TicketTypeFields {
        name: name.to_owned(),
        description: String::new(),
        seating: Seating::General,
        capacity,
        base_price: Money::new(cents, "EUR"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_ten_different_ones_and_most_are_on_sale() {
        let now = domain::clock::now();
        let events: Vec<NewEvent> = events(Uuid::nil(), now).collect();
        let titles: std::collections::HashSet<_> = events.iter().map(|event| &event.title).collect();
        assert_eq!(titles.len(), 10);
        assert!(events.iter().all(|event| event.starts_at > now && !event.ticket_types.is_empty()));
        assert_eq!(events.iter().filter(|event| event.sales_start_at <= Some(now)).count(), 9);
    }
}
