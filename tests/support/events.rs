//! Something to sell, published and in Redis.

use chrono::TimeDelta;
use domain::{
    clock,
    events::{self, Editor, NewEvent, Seating, TicketTypeFields},
    inventory::sync_event,
    money::Money,
    samples,
    venues::{self, VenueFields},
};
use secrecy::SecretString;
use uuid::Uuid;

use super::{app::TestApp, people::PASSWORD};

/// A published event and its ticket types, in order.
#[derive(Clone, Debug)]
pub struct TestEvent {
    pub id: Uuid,
    pub ticket_types: Vec<Uuid>,
}

/// An event that is on sale: `capacity` seats at 45 euros, everything else by default.
pub fn on_sale(venue_id: Uuid, capacity: i64) -> NewEvent {
    let now = clock::now();
    NewEvent {
        title: "Harbour Night".to_owned(),
        description: String::new(),
        category: "concert".to_owned(),
        venue_id,
        starts_at: now + TimeDelta::days(30),
        ends_at: now + TimeDelta::days(30) + TimeDelta::hours(4),
        sales_start_at: Some(now - TimeDelta::minutes(1)),
        sales_end_at: None,
        max_tickets_per_user: 10,
        hold_ttl_secs: 300,
        offer_ttl_secs: 1800,
        refund_policy: vec![events::RefundStep { hours_before: 0, percent: 100 }],
        ticket_types: vec![ticket_type("Standing", capacity, 4500)],
    }
}

/// A ticket type of general admission, its price in cents.
pub fn ticket_type(name: &str, capacity: i64, cents: i64) -> TicketTypeFields {
    TicketTypeFields {
        name: name.to_owned(),
        description: String::new(),
        seating: Seating::General,
        capacity,
        base_price: Money::new(cents, "EUR"),
    }
}

impl TestApp {
    /// A venue.
    pub async fn venue(&self) -> Uuid {
        let fields = VenueFields {
            name: "Kesselhaus".to_owned(),
            address: "Sandtorkai 30".to_owned(),
            city: "Hamburg".to_owned(),
            country: "DE".to_owned(),
            latitude: 53.5436,
            longitude: 9.9886,
            timezone: "Europe/Berlin".to_owned(),
        };
        venues::create(&self.db, None, &fields).await.unwrap().id
    }

    /// A published event with so many seats.
    pub async fn event(&self, capacity: i64) -> TestEvent {
        self.event_with(capacity, |_| {}).await
    }

    /// A published event that `change` made different from [`on_sale`].
    pub async fn event_with(&self, capacity: i64, change: impl FnOnce(&mut NewEvent)) -> TestEvent {
        let mut event = on_sale(self.venue().await, capacity);
        change(&mut event);
        let (email, password) = ("owner@evently.test".parse().unwrap(), SecretString::from(PASSWORD));
        let owner = domain::accounts::provision::ensure_admin(&self.db, &email, password).await.unwrap();
        let id = samples::create_event(&self.db, owner.id, event).await.unwrap();
        let editor = Editor { user_id: owner.id, is_admin: true };
        let published = events::publish(&self.db, editor, id, None).await.unwrap();
        sync_event(&self.app.inventory, &self.db, id, false).await.unwrap();
        let ticket_types = published.event.ticket_types.iter().map(|ticket_type| ticket_type.id).collect();
        TestEvent { id, ticket_types }
    }
}
