//! The `email` pool: what mails say, and how they get to their readers.

pub mod config;
mod mailer;
pub mod render;
mod send_mail;
pub mod text;
pub mod transport;
mod view;

use std::time::Duration;

use domain::jobs::{Pool, SendMail};

use crate::{job, runtime::PoolSpec};

pub use mailer::Mailer;

/// A mail waits for its server most of the time; more connections than this a server may refuse.
pub static SPEC: PoolSpec = PoolSpec {
    pool: Pool::Email,
    concurrency: 32,
    poll: Duration::from_millis(20),
    jobs: &[job!(send_mail, SendMail)],
    periodics: &[],
};
