//! What organizers write of events and ticket types, and the rules that it must keep.

use std::collections::HashSet;

use chrono::{DateTime, Datelike, SubsecRound, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    invalid::{Check, FieldError},
    money::Money,
};

/// The most ticket types of one event.
pub const MAX_TICKET_TYPES: usize = 50;
/// The most seats of one ticket type.
pub const MAX_CAPACITY: i64 = 1_000_000;
const MAX_REFUND_STEPS: usize = 10;

/// A step of a refund policy: up to this long before the start, this share comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefundStep {
    #[schema(minimum = 0, maximum = 8760, example = 48)]
    pub hours_before: i64,
    #[schema(minimum = 0, maximum = 100, example = 50)]
    pub percent: i64,
}

/// How the seats of a ticket type are given out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Seating {
    /// Any seat, or none.
    #[default]
    General,
    /// Numbered seats.
    Reserved,
}

/// What a ticket type is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketTypeFields {
    #[schema(min_length = 1, max_length = 200, example = "Standing")]
    pub name: String,
    #[serde(default)]
    #[schema(max_length = 2000)]
    pub description: String,
    #[serde(default)]
    pub seating: Seating,
    #[schema(minimum = 0, maximum = 1_000_000, example = 250)]
    pub capacity: i64,
    pub base_price: Money,
}

macro_rules! event_fields {
    ($(#[$meta:meta])* $name:ident { $($extra:tt)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            #[schema(min_length = 1, max_length = 200, example = "Harbour Night")]
            pub title: String,
            #[serde(default)]
            #[schema(max_length = 20_000)]
            pub description: String,
            /// Free text.
            #[serde(default = "default_category")]
            #[schema(min_length = 1, max_length = 100, default = "other", example = "concert")]
            pub category: String,
            pub venue_id: Uuid,
            pub starts_at: DateTime<Utc>,
            pub ends_at: DateTime<Utc>,
            /// Now, unless given; on a change, what it was.
            #[serde(default)]
            pub sales_start_at: Option<DateTime<Utc>>,
            /// The start of the event, unless given.
            #[serde(default)]
            pub sales_end_at: Option<DateTime<Utc>>,
            /// How many tickets one person may hold and own.
            #[serde(default = "default_max_tickets")]
            #[schema(minimum = 1, maximum = 1000, default = 10)]
            pub max_tickets_per_user: i64,
            /// How long a hold lasts, in seconds.
            #[serde(default = "default_hold_ttl")]
            #[schema(minimum = 2, maximum = 3600, default = 300)]
            pub hold_ttl_secs: i64,
            /// How long an offer of the waitlist lasts, in seconds.
            #[serde(default = "default_offer_ttl")]
            #[schema(minimum = 2, maximum = 604_800, default = 1800)]
            pub offer_ttl_secs: i64,
            /// Everything until the start, unless given.
            #[serde(default = "default_refund_policy")]
            #[schema(max_items = 10)]
            pub refund_policy: Vec<RefundStep>,
            $($extra)*
        }
    };
}

event_fields! {
    /// A new event with its ticket types.
    NewEvent {
        /// May come later; an event without any cannot be published. All prices have one currency.
        #[serde(default)]
        #[schema(max_items = 50)]
        pub ticket_types: Vec<TicketTypeFields>,
    }
}
event_fields! {
    /// An event's own fields, all of them: what is left out becomes its default.
    EventFields {}
}

fn default_category() -> String {
    "other".to_owned()
}

const fn default_max_tickets() -> i64 {
    10
}

const fn default_hold_ttl() -> i64 {
    300
}

const fn default_offer_ttl() -> i64 {
    1800
}

fn default_refund_policy() -> Vec<RefundStep> {
    vec![RefundStep { hours_before: 0, percent: 100 }]
}

impl NewEvent {
    /// The event's own fields, and its ticket types.
    pub(super) fn into_parts(self) -> (EventFields, Vec<TicketTypeFields>) {
        let fields = EventFields {
            title: self.title,
            description: self.description,
            category: self.category,
            venue_id: self.venue_id,
            starts_at: self.starts_at,
            ends_at: self.ends_at,
            sales_start_at: self.sales_start_at,
            sales_end_at: self.sales_end_at,
            max_tickets_per_user: self.max_tickets_per_user,
            hold_ttl_secs: self.hold_ttl_secs,
            offer_ttl_secs: self.offer_ttl_secs,
            refund_policy: self.refund_policy,
        };
        (fields, self.ticket_types)
    }
}

/// An event's own fields, checked and without gaps, as the columns take them.
#[derive(Debug, diesel::AsChangeset, diesel::Insertable)]
#[diesel(table_name = crate::schema::events)]
pub(super) struct CheckedEvent {
    pub(super) title: String,
    pub(super) description: String,
    pub(super) category: String,
    pub(super) venue_id: Uuid,
    pub(super) starts_at: DateTime<Utc>,
    pub(super) ends_at: DateTime<Utc>,
    pub(super) sales_start_at: DateTime<Utc>,
    pub(super) sales_end_at: DateTime<Utc>,
    pub(super) max_tickets_per_user: i32,
    pub(super) hold_ttl_secs: i32,
    pub(super) offer_ttl_secs: i32,
    pub(super) refund_policy: serde_json::Value,
}

impl EventFields {
    /// Checks everything; `sales_start_at` is what an event gets that names none.
    pub(super) fn check(self, sales_start_at: DateTime<Utc>) -> Result<CheckedEvent, Vec<FieldError>> {
        let mut check = Check::default();
        check.line("/title", &self.title, 200);
        check.text("/description", &self.description, 20_000);
        check.line("/category", &self.category, 100);
        let sales_start_at = self.sales_start_at.unwrap_or(sales_start_at);
        let sales_end_at = self.sales_end_at.unwrap_or(self.starts_at);
        for (pointer, time) in [
            ("/starts_at", self.starts_at),
            ("/ends_at", self.ends_at),
            ("/sales_start_at", sales_start_at),
            ("/sales_end_at", sales_end_at),
        ] {
            check.ensure((2000..=9999).contains(&time.year()), pointer, "must be in the years 2000 to 9999");
        }
        check.ensure(self.starts_at < self.ends_at, "/ends_at", "must be after starts_at");
        check.ensure(sales_start_at < sales_end_at, "/sales_end_at", "must be after sales_start_at");
        check.ensure(sales_end_at <= self.ends_at, "/sales_end_at", "must not be after ends_at");
        check.range("/max_tickets_per_user", self.max_tickets_per_user, 1..=1000);
        check.range("/hold_ttl_secs", self.hold_ttl_secs, 2..=3600);
        check.range("/offer_ttl_secs", self.offer_ttl_secs, 2..=604_800);
        let refund_policy = check_refund_policy(&mut check, self.refund_policy);
        check.finish()?;
        Ok(CheckedEvent {
            title: self.title,
            description: self.description,
            category: self.category,
            venue_id: self.venue_id,
            starts_at: self.starts_at.trunc_subsecs(6),
            ends_at: self.ends_at.trunc_subsecs(6),
            sales_start_at: sales_start_at.trunc_subsecs(6),
            sales_end_at: sales_end_at.trunc_subsecs(6),
            max_tickets_per_user: narrow(self.max_tickets_per_user),
            hold_ttl_secs: narrow(self.hold_ttl_secs),
            offer_ttl_secs: narrow(self.offer_ttl_secs),
            refund_policy,
        })
    }
}

/// A number whose range was checked to fit.
pub(super) fn narrow(checked: i64) -> i32 {
    i32::try_from(checked).unwrap_or(i32::MAX)
}

fn check_refund_policy(check: &mut Check, mut steps: Vec<RefundStep>) -> serde_json::Value {
    check.ensure(
        steps.len() <= MAX_REFUND_STEPS,
        "/refund_policy",
        &format!("must have {MAX_REFUND_STEPS} steps at most"),
    );
    let mut hours = HashSet::new();
    for (at, step) in steps.iter().enumerate() {
        let pointer = format!("/refund_policy/{at}/hours_before");
        check.range(&pointer, step.hours_before, 0..=8760);
        check.ensure(hours.insert(step.hours_before), &pointer, "must differ from the other steps'");
        check.range(&format!("/refund_policy/{at}/percent"), step.percent, 0..=100);
    }
    steps.sort_by_key(|step| std::cmp::Reverse(step.hours_before));
    let step = |s: &RefundStep| serde_json::json!({ "hours_before": s.hours_before, "percent": s.percent });
    steps.iter().map(step).collect()
}

/// Checks the ticket types of a new event; `base` is the pointer of their array.
pub(super) fn check_ticket_types(types: &[TicketTypeFields]) -> Result<(), Vec<FieldError>> {
    let mut check = Check::default();
    check.ensure(
        types.len() <= MAX_TICKET_TYPES,
        "/ticket_types",
        &format!("must have {MAX_TICKET_TYPES} entries at most"),
    );
    let currency = types.first().map(|first| first.base_price.currency.as_str());
    for (at, fields) in types.iter().enumerate() {
        fields.check_into(&mut check, &format!("/ticket_types/{at}"), currency);
    }
    check.finish()
}

impl TicketTypeFields {
    /// Checks one ticket type whose event has this currency, if it has one yet.
    pub(super) fn check(&self, currency: Option<&str>) -> Result<(), Vec<FieldError>> {
        let mut check = Check::default();
        self.check_into(&mut check, "", currency);
        check.finish()
    }

    fn check_into(&self, check: &mut Check, base: &str, currency: Option<&str>) {
        let price = &self.base_price;
        check.line(&format!("{base}/name"), &self.name, 200);
        check.text(&format!("{base}/description"), &self.description, 2000);
        check.range(&format!("{base}/capacity"), self.capacity, 0..=MAX_CAPACITY);
        check.range(&format!("{base}/base_price/amount"), price.amount, 0..=Money::MAX_AMOUNT);
        let code = Money { amount: 0, currency: price.currency.clone() };
        let pointer = format!("{base}/base_price/currency");
        check.ensure(code.is_valid(), &pointer, "must be three capital letters (ISO 4217)");
        check.ensure(
            currency.is_none_or(|currency| currency == price.currency),
            &pointer,
            "must be the same for all ticket types of an event",
        );
        check.ensure(
            self.seating == Seating::General,
            &format!("{base}/seating"),
            "reserved seating is not offered yet",
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(changes: &serde_json::Value) -> NewEvent {
        let mut event = json!({
            "title": "Harbour Night",
            "venue_id": Uuid::nil(),
            "starts_at": "2030-06-01T18:00:00Z",
            "ends_at": "2030-06-01T23:00:00Z",
            "ticket_types": [{"name": "Standing", "capacity": 5, "base_price": {"amount": 100, "currency": "EUR"}}],
        });
        let fields = event.as_object_mut().unwrap();
        fields.extend(changes.as_object().unwrap().clone());
        serde_json::from_value(event).unwrap()
    }

    fn faults(changes: &serde_json::Value) -> Vec<String> {
        let (fields, types) = event(changes).into_parts();
        let now = "2026-11-20T00:00:00Z".parse().unwrap();
        let errors = fields.check(now).map(drop).and_then(|()| check_ticket_types(&types));
        errors.err().unwrap_or_default().into_iter().map(|error| error.pointer).collect()
    }

    #[test]
    fn defaults_are_valid() {
        assert_eq!(faults(&json!({})), Vec::<String>::new());
    }

    #[test]
    fn each_rule_names_its_field() {
        let price = |amount: i64, currency: &str| json!({ "amount": amount, "currency": currency });
        let tickets = |capacity: i64, price: serde_json::Value| json!({ "ticket_types": [{ "name": "a", "capacity": capacity, "base_price": price }] });
        for (changes, pointer) in [
            (json!({ "title": "" }), "/title"),
            (json!({ "title": "a\r\nBcc: b" }), "/title"),
            (json!({ "title": "x".repeat(201) }), "/title"),
            (json!({ "category": " " }), "/category"),
            (json!({ "description": "\u{0}" }), "/description"),
            (json!({ "ends_at": "2030-06-01T18:00:00Z" }), "/ends_at"),
            (
                json!({ "starts_at": "0001-01-01T00:00:00Z", "sales_end_at": "2030-01-01T00:00:00Z" }),
                "/starts_at",
            ),
            (json!({ "sales_start_at": "2030-06-01T18:00:00Z" }), "/sales_end_at"),
            (json!({ "sales_end_at": "2030-06-02T00:00:00Z" }), "/sales_end_at"),
            (json!({ "hold_ttl_secs": 1 }), "/hold_ttl_secs"),
            (json!({ "offer_ttl_secs": 604_801 }), "/offer_ttl_secs"),
            (json!({ "max_tickets_per_user": 0 }), "/max_tickets_per_user"),
            (json!({ "refund_policy": [{ "hours_before": 1, "percent": 101 }] }), "/refund_policy/0/percent"),
            (
                json!({ "refund_policy": [{ "hours_before": 1, "percent": 1 }, { "hours_before": 1, "percent": 2 }] }),
                "/refund_policy/1/hours_before",
            ),
            (tickets(-1, price(1, "EUR")), "/ticket_types/0/capacity"),
            (tickets(1_000_001, price(1, "EUR")), "/ticket_types/0/capacity"),
            (tickets(1, price(-1, "EUR")), "/ticket_types/0/base_price/amount"),
            (tickets(1, price(1, "eur")), "/ticket_types/0/base_price/currency"),
        ] {
            assert_eq!(faults(&changes), [pointer], "{changes}");
        }
    }

    #[test]
    fn one_currency_an_event_and_no_numbered_seats() {
        let types = json!({ "ticket_types": [
            { "name": "a", "capacity": 1, "base_price": { "amount": 1, "currency": "EUR" } },
            { "name": "b", "capacity": 1, "seating": "reserved", "base_price": { "amount": 1, "currency": "USD" } },
        ]});
        assert_eq!(faults(&types), ["/ticket_types/1/base_price/currency", "/ticket_types/1/seating"]);
    }
}
