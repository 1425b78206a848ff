//! Where mail goes and whom it comes from: `SMTP_URL`, `EVENTLY_MAIL_FROM`, `EVENTLY_PUBLIC_URL`,
//! `EVENTLY_DATA_DIR`.

use std::path::PathBuf;

use domain::config::{ConfigError, Env};
use lettre::message::Mailbox;

use super::transport::SmtpConfig;

#[derive(Clone, Debug)]
pub struct MailConfig {
    pub delivery: Delivery,
    /// `Name <address>`, checked to be one.
    pub sender: String,
    /// What links start with; no `/` at the end.
    pub base_url: String,
}

/// Where mail goes.
#[derive(Clone, Debug)]
pub enum Delivery {
    Smtp(SmtpConfig),
    /// Into files of this directory, for development.
    Files(PathBuf),
}

impl MailConfig {
    /// Without `SMTP_URL`, mail is kept as files in `mail` of the data directory.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let delivery = match env.get("SMTP_URL") {
            Some(url) => Delivery::Smtp(
                SmtpConfig::parse(url).map_err(|reason| ConfigError { name: "SMTP_URL", reason })?,
            ),
            None => {
                Delivery::Files(PathBuf::from(env.get("EVENTLY_DATA_DIR").unwrap_or(".evently")).join("mail"))
            }
        };
        let sender = env.get("EVENTLY_MAIL_FROM").unwrap_or("Evently <tickets@evently.test>").to_owned();
        if sender.parse::<Mailbox>().is_err() {
            let reason = format!("{sender:?} is neither `Name <address>` nor an address");
            return Err(ConfigError { name: "EVENTLY_MAIL_FROM", reason });
        }
        let base_url = match env.get("EVENTLY_PUBLIC_URL") {
            Some(url) => url.to_owned(),
            None => format!("http://{}", env.get("EVENTLY_HTTP_ADDR").unwrap_or("127.0.0.1:8080")),
        };
        Ok(Self { delivery, sender, base_url: base_url.trim_end_matches('/').to_owned() })
    }
}
