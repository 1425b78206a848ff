//! What the private servers promise.

mod bench;
mod doctor;
mod roles;
mod servers;
