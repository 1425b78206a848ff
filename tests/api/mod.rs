//! The HTTP contract, route by route, and what holds for all of them.

mod accounts;
mod accounts_admin;
mod analytics;
mod docs;
mod edge;
mod errors;
mod events;
mod events_admin;
mod events_capacity;
mod hostile;
mod openapi;
mod ops;
mod pricing;
mod traces;
mod waitlist;
