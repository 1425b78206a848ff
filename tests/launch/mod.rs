//! What the private servers promise.

mod bench;
mod doctor;
mod monitoring;
mod roles;
mod servers;
