//! A real application over a real Postgres and a real Redis for each test, and what tests ask of it.

#![allow(dead_code, reason = "each test uses what it needs")]

pub mod api_process;
pub mod app;
pub mod children;
pub mod database;
pub mod events;
pub mod figures;
pub mod http;
pub mod ledger;
pub mod localstripe;
pub mod localstripe_install;
pub mod people;
pub mod postgres;
pub mod processes;
pub mod proxy;
pub mod redis;
pub mod roles;
pub mod smtp;
pub mod stripe_proxy;
pub mod waitlist;
pub mod wire;
pub mod workers;
