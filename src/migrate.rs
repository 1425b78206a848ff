//! `evently migrate`: the schema, and the first admin.

use anyhow::Context;
use domain::{
    accounts::{address::EmailAddress, provision::ensure_admin},
    config::Env,
    db::{self, Db, DbConfig},
};
use secrecy::SecretString;

/// The address of the first admin under `up`, unless told otherwise.
pub const DEFAULT_ADMIN: &str = "admin@evently.test";
/// The password of everybody whom `up` and `seed` make, unless told otherwise.
pub const DEFAULT_PASSWORD: &str = "correct-horse-battery";

/// Runs what migrations are missing, then sees to it that the admin of `EVENTLY_ADMIN_EMAIL` exists, where that is
/// set. Safe to repeat, and safe to start several times at once.
pub async fn run(env: Env) -> anyhow::Result<()> {
    for name in db::migrate(env.require("DATABASE_URL")?).await? {
        tracing::info!(migration = name, "migrated");
    }
    if let Some((email, password)) = admin_of(&env)? {
        let admin = ensure_admin(&Db::new(&DbConfig::from_env(&env)?), &email, password).await?;
        tracing::info!(email = admin.email, "the admin exists");
    }
    Ok(())
}

/// The admin that the environment names. One without the other is a mistake that would be noticed too late.
pub fn admin_of(env: &Env) -> anyhow::Result<Option<(EmailAddress, SecretString)>> {
    let Some(email) = env.get("EVENTLY_ADMIN_EMAIL") else { return Ok(None) };
    let email = email.parse().with_context(|| format!("EVENTLY_ADMIN_EMAIL: {email:?}"))?;
    let password = env.require("EVENTLY_ADMIN_PASSWORD")?;
    Ok(Some((email, SecretString::from(password))))
}

/// The admin of a system that was told nothing.
pub fn default_admin() -> (EmailAddress, SecretString) {
    // The constant is an address: a test says so.
    let email = DEFAULT_ADMIN.parse().expect("an address");
    (email, SecretString::from(DEFAULT_PASSWORD))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_admin_has_an_address() {
        assert_eq!(default_admin().0.as_str(), DEFAULT_ADMIN);
    }
}
