//! How an account comes to be and proves its address.

use diesel::{dsl::now, prelude::*};
use diesel_async::{AsyncConnection, RunQueryDsl};
use secrecy::SecretString;
use serde_json::json;
use uuid::Uuid;

use super::{
    Accounts, Role, User,
    address::EmailAddress,
    codes::{self, Purpose},
    passwords::Busy,
};
use crate::{
    audit::{self, AuditEntry},
    db::Conn,
    fault::Fault,
    schema::users,
};

/// Somebody who asks for an account.
#[derive(Debug)]
pub struct Newcomer {
    pub email: EmailAddress,
    pub name: String,
    pub password: SecretString,
}

#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error("the address has an account")]
    EmailTaken,
    #[error(transparent)]
    Busy(#[from] Busy),
    #[error(transparent)]
    Fault(#[from] Fault),
}

#[derive(Debug, thiserror::Error)]
pub enum VerifyEmailError {
    /// Wrong, used, too old, out of tries, or for an address without an account.
    #[error("the code is not valid")]
    CodeInvalid,
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Accounts {
    /// A new account, with the mail that brings its code, in one transaction.
    pub async fn register(&self, newcomer: Newcomer) -> Result<User, RegisterError> {
        let hash = self.passwords.hash(newcomer.password).await?;
        let mut conn = self.db.conn().await?;
        let created = conn
            .transaction(async |conn| -> Result<Option<User>, Fault> {
                let user = insert(conn, &newcomer.email, &newcomer.name, &hash, Role::User).await?;
                if let Some(user) = &user {
                    codes::send(conn, &self.tokens, user, Purpose::VerifyEmail).await?;
                    let entry =
                        AuditEntry::new(Some(user.id), "user.registered", ("user", user.id), json!({}));
                    audit::append(conn, &[entry]).await?;
                }
                Ok(user)
            })
            .await?;
        created.ok_or(RegisterError::EmailTaken)
    }

    /// Marks the address as verified, when the code is the right one. The user's tokens say so at once.
    pub async fn verify_email(&self, email: &EmailAddress, code: &str) -> Result<User, VerifyEmailError> {
        let mut conn = self.db.conn().await?;
        let verified = conn
            .transaction(async |conn| -> Result<Option<User>, Fault> {
                let Some(user) = by_email(conn, email).await? else { return Ok(None) };
                if !codes::redeem(conn, &self.tokens, user.id, Purpose::VerifyEmail, code).await? {
                    return Ok(None);
                }
                let user = diesel::update(users::table.find(user.id))
                    .set((
                        users::verified_at.eq(diesel::dsl::sql("coalesce(verified_at, now())")),
                        users::version.eq(users::version + 1),
                        users::updated_at.eq(now),
                    ))
                    .returning(User::as_returning())
                    .get_result(conn)
                    .await?;
                let entry = AuditEntry::new(Some(user.id), "user.verified", ("user", user.id), json!({}));
                audit::append(conn, &[entry]).await?;
                Ok(Some(user))
            })
            .await?;
        let user = verified.ok_or(VerifyEmailError::CodeInvalid)?;
        self.announce(&[user.change(false)]).await;
        Ok(user)
    }

    /// Mails a new code, which replaces the older, unless there is nothing to verify. The caller cannot tell.
    pub async fn resend_code(&self, email: &EmailAddress) -> Result<(), Fault> {
        self.db
            .conn()
            .await?
            .transaction(async |conn| match by_email(conn, email).await? {
                Some(user) if user.verified_at.is_none() && user.deactivated_at.is_none() => {
                    codes::send(conn, &self.tokens, &user, Purpose::VerifyEmail).await
                }
                _ => Ok(()),
            })
            .await
    }
}

/// The new row, or `None` when the address is taken.
pub(super) async fn insert(
    conn: &mut Conn,
    email: &EmailAddress,
    name: &str,
    password_hash: &str,
    role: Role,
) -> Result<Option<User>, Fault> {
    let user = diesel::insert_into(users::table)
        .values((
            users::id.eq(Uuid::now_v7()),
            users::email.eq(email.as_str()),
            users::name.eq(name),
            users::password_hash.eq(password_hash),
            users::role.eq(role),
        ))
        .on_conflict_do_nothing()
        .returning(User::as_returning())
        .get_result(conn)
        .await
        .optional()?;
    Ok(user)
}

/// The account of this address.
pub(super) async fn by_email(conn: &mut Conn, email: &EmailAddress) -> Result<Option<User>, Fault> {
    // Addresses are stored in lower case; `lower` is what the unique index is on.
    let user = users::table
        .filter(lower(users::email).eq(email.as_str()))
        .select(User::as_select())
        .first(conn)
        .await
        .optional()?;
    Ok(user)
}

diesel::define_sql_function! {
    /// Postgres's `lower`.
    fn lower(text: diesel::sql_types::Text) -> diesel::sql_types::Text;
}
