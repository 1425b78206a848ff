//! Starts private Postgres and Redis servers, for `evently up` and for the tests.
//!
//! The functions here block for milliseconds and hand out plain [`std::process::Command`]s: who spawns them
//! decides the thread whose end ends them.

pub mod account;
pub mod command;
pub mod install;
pub mod leftovers;
pub mod postgres;
pub mod redis;
