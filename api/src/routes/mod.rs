//! One file a noun: the requests, the answers and the routes.

pub mod admin_bookings;
pub mod admin_events;
pub mod admin_ticket_types;
pub mod admin_users;
pub mod admin_venues;
pub mod admin_waitlist;
pub mod auth;
pub mod bookings;
pub mod confirm;
pub mod dev_mail;
pub mod docs;
pub mod events;
pub mod export;
pub mod health;
pub mod holds;
pub mod jwks;
pub mod me;
pub mod offers;
pub mod problems;
pub mod sessions;
pub mod tickets;
pub mod users;
pub mod venues;
pub mod waitlist;
pub mod webhooks;
