//! Reads settings from the environment, once, at start; every error names the variable.

use std::{collections::HashMap, fmt::Display, str::FromStr};

/// A variable holds something that its setting cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {reason}")]
pub struct ConfigError {
    pub name: &'static str,
    pub reason: String,
}

/// The environment as it was when the process started, or a map of a test's own.
#[derive(Clone, Debug, Default)]
pub struct Env(HashMap<String, String>);

impl Env {
    pub fn from_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
        )
    }

    /// The value, unless it is missing or empty.
    pub fn get(&self, name: &'static str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub fn require(&self, name: &'static str) -> Result<&str, ConfigError> {
        self.get(name).ok_or_else(|| ConfigError { name, reason: "is not set".to_owned() })
    }

    /// The parsed value, or the default when the variable is missing.
    pub fn parse<T: FromStr<Err: Display>>(&self, name: &'static str, default: T) -> Result<T, ConfigError> {
        self.get(name).map_or(Ok(default), |text| {
            text.parse().map_err(|error: T::Err| ConfigError { name, reason: format!("{text:?}: {error}") })
        })
    }

    /// `on` or `off`.
    pub fn switch(&self, name: &'static str, default: bool) -> Result<bool, ConfigError> {
        match self.get(name) {
            None => Ok(default),
            Some("on") => Ok(true),
            Some("off") => Ok(false),
            Some(other) => Err(ConfigError { name, reason: format!("{other:?} is neither on nor off") }),
        }
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}
