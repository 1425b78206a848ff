//! A forgotten password: a code by mail, and a new password for it.

use diesel::{dsl::now, prelude::*};
use diesel_async::{AsyncConnection, RunQueryDsl};
use secrecy::SecretString;
use serde_json::json;

use super::{
    Accounts, User,
    address::EmailAddress,
    codes::{self, Purpose},
    passwords::Busy,
    registration::by_email,
    sessions,
};
use crate::{
    audit::{self, AuditEntry},
    fault::Fault,
    schema::users,
};

#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    /// Wrong, used, too old, out of tries, or for an address without an account.
    #[error("the code is not valid")]
    CodeInvalid,
    #[error(transparent)]
    Busy(#[from] Busy),
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Accounts {
    /// Mails a code that allows a new password, where there is an active account. The caller cannot tell.
    pub async fn forgot_password(&self, email: &EmailAddress) -> Result<(), Fault> {
        self.db
            .conn()
            .await?
            .transaction(async |conn| match by_email(conn, email).await? {
                Some(user) if user.deactivated_at.is_none() => {
                    codes::send(conn, &self.tokens, &user, Purpose::ResetPassword).await
                }
                _ => Ok(()),
            })
            .await
    }

    /// Sets a new password and ends every session. The code came by mail, so the address counts as verified.
    pub async fn reset_password(
        &self,
        email: &EmailAddress,
        code: &str,
        password: SecretString,
    ) -> Result<User, ResetError> {
        // Hashed before the transaction, so that no connection waits in the line of the hashes.
        let hash = self.passwords.hash(password).await?;
        let mut conn = self.db.conn().await?;
        let reset = conn
            .transaction(async |conn| -> Result<Option<User>, Fault> {
                let Some(user) = by_email(conn, email).await?.filter(|user| user.deactivated_at.is_none())
                else {
                    return Ok(None);
                };
                if !codes::redeem(conn, &self.tokens, user.id, Purpose::ResetPassword, code).await? {
                    return Ok(None);
                }
                let user = diesel::update(users::table.find(user.id))
                    .set((
                        users::password_hash.eq(&hash),
                        users::verified_at.eq(diesel::dsl::sql("coalesce(verified_at, now())")),
                        users::version.eq(users::version + 1),
                        users::updated_at.eq(now),
                    ))
                    .returning(User::as_returning())
                    .get_result(conn)
                    .await?;
                sessions::end_all(conn, user.id, "password-reset").await?;
                let entry =
                    AuditEntry::new(Some(user.id), "user.password_reset", ("user", user.id), json!({}));
                audit::append(conn, &[entry]).await?;
                Ok(Some(user))
            })
            .await?;
        let user = reset.ok_or(ResetError::CodeInvalid)?;
        self.announce(&[user.change(true)]).await;
        Ok(user)
    }
}
