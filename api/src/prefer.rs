//! The `Prefer` header (RFC 7240), of which `wait` is understood: how long an answer may take.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, request::Parts},
};

static APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Unless told otherwise.
const DEFAULT: u64 = 10;
const MOST: u64 = 30;

/// How long the client will wait. What is malformed or out of range is ignored, as the standard asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreferWait {
    /// Whether the client said so itself.
    asked: bool,
    seconds: u64,
}

impl PreferWait {
    fn of(headers: &HeaderMap) -> Self {
        let asked = headers
            .get_all("prefer")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|list| list.split(','))
            .filter_map(|preference| preference.split(';').next()?.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
            .and_then(|(_, value)| value.trim().trim_matches('"').parse().ok())
            .filter(|seconds| *seconds <= MOST);
        Self { asked: asked.is_some(), seconds: asked.unwrap_or(DEFAULT) }
    }

    pub fn duration(self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// `Preference-Applied`, if there was a preference.
    pub fn applied(self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if self.asked
            && let Ok(value) = HeaderValue::try_from(format!("wait={}", self.seconds))
        {
            headers.insert(APPLIED.clone(), value);
        }
        headers
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PreferWait {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(value: &'static str) -> PreferWait {
        let mut headers = HeaderMap::new();
        headers.insert("prefer", HeaderValue::from_static(value));
        PreferWait::of(&headers)
    }

    #[test]
    fn takes_what_is_in_range_and_ignores_the_rest() {
        for (value, seconds) in [("wait=0", 0), ("respond-async, Wait = 30", 30), ("wait=5; x=y", 5)] {
            assert_eq!(wait(value), PreferWait { asked: true, seconds }, "{value}");
        }
        for value in ["wait", "wait=31", "wait=-1", "wait=x", "return=minimal", ""] {
            assert_eq!(wait(value), PreferWait { asked: false, seconds: 10 }, "{value}");
        }
        assert_eq!(wait("wait=7").applied()["preference-applied"], "wait=7");
        assert!(wait("wait=99").applied().is_empty());
    }
}
