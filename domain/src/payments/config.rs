//! Which payment provider there is, and what it needs.

use std::time::Duration;

use secrecy::SecretString;

use crate::config::{ConfigError, Env};

/// A provider that payments may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Moves no money.
    Sandbox,
    Stripe,
}

impl Provider {
    /// The word in `EVENTLY_PAYMENTS`, in requests and in the `provider` column.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Stripe => "stripe",
        }
    }
}

#[derive(Clone, Debug)]
pub struct PaymentsConfig {
    /// The one that is enabled.
    pub provider: Provider,
    /// What Stripe needs; always there when it is enabled.
    pub stripe: Option<StripeConfig>,
    /// How long seats wait for a customer who has to approve the payment.
    pub action_patience: Duration,
}

#[derive(Clone, Debug)]
pub struct StripeConfig {
    /// `sk_…` or `rk_…`.
    pub secret_key: SecretString,
    /// `whsec_…`, of the endpoint that Stripe was given.
    pub webhook_secret: SecretString,
    /// Without a trailing slash.
    pub api_url: String,
}

impl PaymentsConfig {
    /// Reads `EVENTLY_PAYMENTS`, `EVENTLY_PAYMENT_ACTION_SECS`, and the three `STRIPE_…`.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let provider = match env.get("EVENTLY_PAYMENTS").unwrap_or("sandbox") {
            "sandbox" => Provider::Sandbox,
            "stripe" => Provider::Stripe,
            other => {
                let reason = format!("{other:?} is no payment provider: sandbox or stripe");
                return Err(ConfigError { name: "EVENTLY_PAYMENTS", reason });
            }
        };
        let stripe = (provider == Provider::Stripe).then(|| StripeConfig::from_env(env)).transpose()?;
        let seconds = env.parse("EVENTLY_PAYMENT_ACTION_SECS", 900)?;
        if !(1..=86_400).contains(&seconds) {
            let reason = format!("{seconds} is not between 1 and 86400");
            return Err(ConfigError { name: "EVENTLY_PAYMENT_ACTION_SECS", reason });
        }
        Ok(Self { provider, stripe, action_patience: Duration::from_secs(seconds) })
    }

    /// Whether payments may name this provider.
    pub fn takes(&self, provider: &str) -> bool {
        self.provider.name() == provider
    }
}

impl StripeConfig {
    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let secret = |name| {
            let value = env.get(name).ok_or_else(|| ConfigError {
                name,
                reason: "is not set, and EVENTLY_PAYMENTS=stripe needs it".to_owned(),
            })?;
            if value.bytes().all(|byte| byte.is_ascii_graphic()) {
                Ok(SecretString::from(value))
            } else {
                let reason = "holds something that is not visible ASCII".to_owned();
                Err(ConfigError { name, reason })
            }
        };
        let api_url = env.get("STRIPE_API_URL").unwrap_or("https://api.stripe.com").trim_end_matches('/');
        if !(api_url.starts_with("https://") || api_url.starts_with("http://")) {
            let reason = format!("{api_url:?} does not begin with https:// or http://");
            return Err(ConfigError { name: "STRIPE_API_URL", reason });
        }
        Ok(Self {
            secret_key: secret("STRIPE_SECRET_KEY")?,
            webhook_secret: secret("STRIPE_WEBHOOK_SECRET")?,
            api_url: api_url.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<PaymentsConfig, ConfigError> {
        PaymentsConfig::from_env(&pairs.iter().copied().collect())
    }

    #[test]
    fn stripe_needs_its_secrets_and_says_which() {
        assert!(read(&[]).is_ok_and(|config| config.takes("sandbox") && !config.takes("stripe")));
        let error = read(&[("EVENTLY_PAYMENTS", "stripe")]).err().map(|error| error.name);
        assert_eq!(error, Some("STRIPE_SECRET_KEY"));
        let key = ("STRIPE_SECRET_KEY", "sk_test_1");
        let error = read(&[("EVENTLY_PAYMENTS", "stripe"), key]).err().map(|error| error.name);
        assert_eq!(error, Some("STRIPE_WEBHOOK_SECRET"));
        let all = [("EVENTLY_PAYMENTS", "stripe"), key, ("STRIPE_WEBHOOK_SECRET", "whsec_1")];
        let config = read(&all).ok().and_then(|config| config.stripe);
        assert!(config.is_some_and(|stripe| stripe.api_url == "https://api.stripe.com"));
        assert!(read(&[("EVENTLY_PAYMENTS", "paypal")]).is_err());
    }
}
