//! Every test that needs Postgres, Redis or the whole application: one binary, so that they share one Postgres.

#![expect(clippy::unwrap_used, reason = "a test's unwrap is an assertion")]

mod api;
mod chaos;
mod domain;
mod flows;
mod jobs;
mod launch;
mod support;
