//! The rules of seats, against a real Redis and a real Postgres.

mod analytics;
mod analytics_holds;
mod hold_model;
mod hold_races;
mod inventory_rebuild;
mod late_money;
mod prices;
pub mod seats;
mod waitlist;
