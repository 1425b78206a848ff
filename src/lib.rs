//! The `evently` command, subcommand by subcommand, and the launching of private servers that it shares with
//! the tests.

pub mod analytics;
pub mod api;
pub mod bench;
pub mod doctor;
pub mod jobs;
pub mod launch;
pub mod migrate;
pub mod open_files;
pub mod reconcile;
pub mod running;
pub mod seed;
pub mod shutdown;
pub mod telemetry;
pub mod up;
pub mod worker;
