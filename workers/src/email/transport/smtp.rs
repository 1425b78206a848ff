//! One conversation with an SMTP server: its opening, and the sending of one mail.

use std::{fmt, net::IpAddr, time::Duration};

use lettre::transport::smtp::{
    authentication::{Credentials, DEFAULT_MECHANISMS},
    client::{AsyncSmtpConnection, TlsParameters},
    commands::{Data, Mail, Rcpt, Rset},
    extension::{ClientId, Extension, MailBodyParameter, MailParameter},
    response::Response,
};
use url::{Host, Url};

use super::SendError;
use crate::email::render::RenderedMail;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the server is and how to talk to it.
#[derive(Clone)]
pub struct SmtpConfig {
    host: String,
    port: u16,
    tls: Tls,
    credentials: Option<Credentials>,
    /// The most connections at a time.
    pub connections: usize,
}

#[derive(Clone)]
enum Tls {
    /// `smtps://`: from the first byte.
    Implicit(TlsParameters),
    /// STARTTLS or nothing.
    Required(TlsParameters),
    /// STARTTLS where the server offers it.
    Opportunistic(TlsParameters),
    /// `?tls=none`.
    Never,
}

impl fmt::Debug for SmtpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SmtpConfig({}:{})", self.host, self.port)
    }
}

impl SmtpConfig {
    /// Reads `smtp://user:password@host:port` or `smtps://…`. `smtp` uses STARTTLS where the server offers it;
    /// `?tls=required` insists on it and `?tls=none` does without. A password travels unencrypted only to this
    /// machine, or where `tls=none` says so.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        // The text holds a password: what is wrong with it is said without it.
        let url = Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or("names no host")?;
        let decoded = |text: &str| {
            percent_encoding::percent_decode_str(text)
                .decode_utf8()
                .map(std::borrow::Cow::into_owned)
                .map_err(|_| "has a user or password that is no UTF-8".to_owned())
        };
        let credentials = match url.password() {
            Some(password) => Some(Credentials::new(decoded(url.username())?, decoded(password)?)),
            None => None,
        };
        let asked = url.query_pairs().find(|(name, _)| name == "tls").map(|(_, value)| value.into_owned());
        let is_here = match url.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            _ => host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        };
        // Encryption that may be left out protects against listeners alone, so any certificate will do there.
        let checked = || TlsParameters::new(host.to_owned()).map_err(|error| error.to_string());
        let unchecked = || {
            TlsParameters::builder(host.to_owned())
                .dangerous_accept_invalid_certs(true)
                .build()
                .map_err(|error| error.to_string())
        };
        let (tls, default_port) = match (url.scheme(), asked.as_deref()) {
            ("smtps", None) => (Tls::Implicit(checked()?), 465),
            ("smtp", Some("required")) => (Tls::Required(checked()?), 587),
            ("smtp", Some("none")) => (Tls::Never, 25),
            ("smtp", None) if credentials.is_some() && !is_here => (Tls::Required(checked()?), 587),
            ("smtp", None | Some("opportunistic")) => (Tls::Opportunistic(unchecked()?), 25),
            ("smtp" | "smtps", Some(other)) => return Err(format!("tls={other} is not known here")),
            (scheme, _) => return Err(format!("begins with {scheme}: rather than smtp: or smtps:")),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: url.port().unwrap_or(default_port), tls, credentials, connections: 32 })
    }
}

/// A conversation that is open and has no mail in it.
pub(super) struct Connection(AsyncSmtpConnection);

/// How the sending of a mail went wrong.
pub(super) struct Failure {
    pub error: SendError,
    /// The server ended the conversation before it had anything of this mail.
    pub was_closed: bool,
}

impl Connection {
    /// Connects, encrypts, logs in. Whatever goes wrong here concerns the server, not a mail: it is temporary.
    pub(super) async fn open(config: &SmtpConfig) -> Result<Self, SendError> {
        let opening = async {
            let hello = ClientId::default();
            let implicit = match &config.tls {
                Tls::Implicit(tls) => Some(tls.clone()),
                _ => None,
            };
            let server = (config.host.as_str(), config.port);
            let mut connection =
                AsyncSmtpConnection::connect_tokio1(server, Some(CONNECT_TIMEOUT), &hello, implicit, None)
                    .await?;
            match &config.tls {
                Tls::Required(tls) => connection.starttls(tls.clone(), &hello).await?,
                Tls::Opportunistic(tls) if connection.can_starttls() => {
                    connection.starttls(tls.clone(), &hello).await?;
                }
                _ => {}
            }
            if let Some(credentials) = &config.credentials {
                connection.auth(DEFAULT_MECHANISMS, credentials).await?;
            }
            Ok::<_, lettre::transport::smtp::Error>(connection)
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, opening).await {
            Ok(Ok(connection)) => Ok(Self(connection)),
            Ok(Err(error)) => Err(SendError::Temporary(format!("cannot talk to {config:?}: {error}"))),
            Err(_) => Err(SendError::Temporary(format!("{config:?} did not open in time"))),
        }
    }

    /// Takes leave. Whether the server answers no longer matters.
    pub(super) async fn close(mut self) {
        let _ = tokio::time::timeout(CONNECT_TIMEOUT, self.0.quit()).await;
    }

    /// Sends a mail. Answers what became of it, and the conversation if it can go on.
    pub(super) async fn send(mut self, mail: &RenderedMail) -> (Result<(), Failure>, Option<Self>) {
        let mut options = Vec::new();
        if !mail.raw.is_ascii() {
            let server = self.0.server_info();
            if !server.supports_feature(Extension::SmtpUtfEight) {
                let error =
                    SendError::Permanent(format!("the server does not take {} (no SMTPUTF8)", mail.to));
                return (Err(Failure { error, was_closed: false }), Some(self));
            }
            options = vec![MailParameter::SmtpUtfEight, MailParameter::Body(MailBodyParameter::EightBitMime)];
        }
        let opening = self.command(Mail::new(Some(mail.from.clone()), options)).await;
        let sent = match opening {
            Err(error) => Err(Failure { was_closed: is_closed(&error), error: refusal(&error) }),
            Ok(_) => self
                .deliver(mail)
                .await
                .map_err(|error| Failure { error: refusal(&error), was_closed: false }),
        };
        let goes_on = match &sent {
            Ok(()) => true,
            Err(_) => !self.0.has_broken() && self.command(Rset).await.is_ok(),
        };
        (sent, goes_on.then_some(self))
    }

    async fn deliver(&mut self, mail: &RenderedMail) -> Result<(), lettre::transport::smtp::Error> {
        self.command(Rcpt::new(mail.to.clone(), Vec::new())).await?;
        self.command(Data).await?;
        // In one write with its final dot: two would wait for the server's delayed acknowledgement.
        self.command(on_the_wire(&mail.raw)).await?;
        Ok(())
    }

    async fn command(
        &mut self,
        command: impl fmt::Display,
    ) -> Result<Response, lettre::transport::smtp::Error> {
        self.0.command(command).await
    }
}

/// The mail with its dots doubled at the start of lines and the line that ends it.
fn on_the_wire(raw: &str) -> String {
    let mut wire = String::with_capacity(raw.len() + 64);
    if raw.starts_with('.') {
        wire.push('.');
    }
    wire.push_str(&raw.replace("\r\n.", "\r\n.."));
    if !raw.ends_with("\r\n") {
        wire.push_str("\r\n");
    }
    wire.push_str(".\r\n");
    wire
}

/// Whether the server had hung up, or hangs up now, on a conversation that was idle.
fn is_closed(error: &lettre::transport::smtp::Error) -> bool {
    !error.is_permanent()
        && (!error.is_transient() || error.status().is_some_and(|code| u16::from(code) == 421))
}

/// A refusal is permanent where the server says so, unless it only wants us to log in.
fn refusal(error: &lettre::transport::smtp::Error) -> SendError {
    let code = error.status().map(u16::from);
    if error.is_permanent() && !matches!(code, Some(530 | 534 | 535 | 538)) {
        SendError::Permanent(error.to_string())
    } else {
        SendError::Temporary(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_doubled_and_the_end_is_marked() {
        assert_eq!(on_the_wire(".a\r\n.\r\nb.\r\n"), "..a\r\n..\r\nb.\r\n.\r\n");
        assert_eq!(on_the_wire("a"), "a\r\n.\r\n");
    }

    #[test]
    fn urls_say_how_to_encrypt() {
        for (url, port, tls) in [
            ("smtp://127.0.0.1:1025", 1025, "opportunistic"),
            ("smtp://a:b@localhost", 25, "opportunistic"),
            ("smtp://a:b@mail.example.com", 587, "required"),
            ("smtp://a:b@mail.example.com?tls=none", 25, "none"),
            ("smtp://mail.example.com?tls=required", 587, "required"),
            ("smtps://a:p%40ss@mail.example.com", 465, "implicit"),
        ] {
            let config = SmtpConfig::parse(url).unwrap();
            let found = match config.tls {
                Tls::Implicit(_) => "implicit",
                Tls::Required(_) => "required",
                Tls::Opportunistic(_) => "opportunistic",
                Tls::Never => "none",
            };
            assert_eq!((config.port, found), (port, tls), "{url}");
        }
    }

    #[test]
    fn what_is_no_smtp_url_is_refused_without_its_password() {
        for url in ["http://a:secret@b", "smtp://a:secret@b?tls=maybe", "smtps://a:secret@", "a:secret"] {
            let reason = SmtpConfig::parse(url).unwrap_err();
            assert!(!reason.contains("secret"), "{reason}");
        }
    }
}
