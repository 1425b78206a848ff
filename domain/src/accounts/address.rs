//! E-mail addresses: one spelling an account.

/// A plausible address in lower case, at most 254 characters: `local@domain.tld` in ASCII, no quoting, no
/// comments. Whether mail arrives there only a code can tell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EmailAddress(String);

/// The text is no address that Evently takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an e-mail address")]
pub struct InvalidAddress;

impl EmailAddress {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for EmailAddress {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let text = text.trim();
        let (local, domain) = text.rsplit_once('@').ok_or(InvalidAddress)?;
        let plausible = text.len() <= 254 && is_local(local) && is_domain(domain);
        if plausible { Ok(Self(text.to_ascii_lowercase())) } else { Err(InvalidAddress) }
    }
}

impl std::fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_local(local: &str) -> bool {
    local.len() <= 64
        && local.split('.').all(|atom| {
            !atom.is_empty()
                && atom.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b))
        })
}

fn is_domain(domain: &str) -> bool {
    domain.contains('.')
        && domain.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_addresses_in_one_spelling() {
        let address: EmailAddress = " Ada+Tickets@Evently.TEST ".parse().unwrap();
        assert_eq!(address.as_str(), "ada+tickets@evently.test");
        assert!("o'hara_1@mail.xn--bcher-kva.example".parse::<EmailAddress>().is_ok());
    }

    #[test]
    fn refuses_what_cannot_receive_mail_or_would_forge_a_header() {
        let long = format!("{}@example.com", "x".repeat(65));
        for text in [
            "",
            "@",
            "ada",
            "ada@",
            "@evently.test",
            "ada@evently",
            "ada@@evently.test",
            "a b@evently.test",
            "ada@evently.test\r\nBcc: x@y.z",
            "ada\0@evently.test",
            ".ada@evently.test",
            "ada..l@evently.test",
            "ada@-evently.test",
            "ada@evently..test",
            "ada@evently.test.",
            "ädä@evently.test",
            "\"ada\"@evently.test",
            "ada@[127.0.0.1]",
            "ada,bob@evently.test",
            "<ada@evently.test>",
            &long,
        ] {
            assert_eq!(text.parse::<EmailAddress>(), Err(InvalidAddress), "{text:?}");
        }
    }
}
