//! What the private servers promise.

mod doctor;
mod roles;
mod servers;
