//! Events and their ticket types: what they are, how they are written, found and kept at hand.

mod cache;
mod catalog;
mod fields;
mod read;
mod search;
mod ticket_types;
mod write;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

pub use cache::Announcements;
pub use catalog::{
    Availability, Catalog, CatalogError, EventAnswer, EventList, ListAnswer, ListRequest,
    TicketTypeAvailability,
};
pub use fields::{EventFields, NewEvent, RefundStep, Seating, TicketTypeFields};
pub use read::{StoredEvent, find, find_many};
pub use search::{EventFilter, FacetCount, FacetName, Facets, SearchError, Sort, facets, search};
pub use ticket_types::{Target, WrittenTicketType, add_ticket_type, delete_ticket_type, replace_ticket_type};
pub use write::{Editor, WriteError, cancel, complete_ended, create, delete, publish, replace};
pub(crate) use write::{changed, lock};

use crate::{fault::Fault, money::Money};

/// Where an event is in its life: `draft` → `published` → `completed`, or `published` → `cancelled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventStatus {
    /// Seen by its owner and admins only.
    Draft,
    Published,
    Cancelled,
    /// It has ended.
    Completed,
}

impl EventStatus {
    /// The `status` column.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Published => "published",
            Self::Cancelled => "cancelled",
            Self::Completed => "completed",
        }
    }
}

impl std::str::FromStr for EventStatus {
    type Err = Fault;

    fn from_str(name: &str) -> Result<Self, Fault> {
        [Self::Draft, Self::Published, Self::Cancelled, Self::Completed]
            .into_iter()
            .find(|status| status.name() == name)
            .ok_or_else(|| Fault::Corrupt(format!("event status {name:?}")))
    }
}

/// An event as everybody sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    pub id: Uuid,
    /// Made of the title when the event was created; unique, and stays when the title changes.
    #[schema(example = "harbour-night")]
    pub slug: String,
    pub title: String,
    pub description: String,
    pub category: String,
    pub venue: EventVenue,
    pub starts_at: DateTime<Utc>,
    pub ends_at: DateTime<Utc>,
    pub sales_start_at: DateTime<Utc>,
    pub sales_end_at: DateTime<Utc>,
    pub status: EventStatus,
    pub max_tickets_per_user: i32,
    pub hold_ttl_secs: i32,
    pub offer_ttl_secs: i32,
    /// How much comes back when a booking is cancelled, longest before the start first; after the last step
    /// nothing does.
    pub refund_policy: Vec<RefundStep>,
    pub ticket_types: Vec<TicketType>,
    /// The number in the event's ETag; raised by every change of the event, its venue or its ticket types.
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// The venue, as part of an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventVenue {
    pub id: Uuid,
    pub name: String,
    pub address: String,
    pub city: String,
    pub country: String,
    pub latitude: f64,
    pub longitude: f64,
    /// IANA name.
    pub timezone: String,
}

/// A kind of ticket of one event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TicketType {
    pub id: Uuid,
    pub name: String,
    pub description: String,
    pub seating: Seating,
    pub capacity: i32,
    pub base_price: Money,
    /// What a ticket costs now.
    pub price: Money,
    /// How many can be held now: capacity without what is sold, held or offered. At most a second old.
    pub available: i64,
    /// The number in the ticket type's ETag.
    pub version: i64,
}
