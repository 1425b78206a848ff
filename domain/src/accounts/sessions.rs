//! Sessions: opened by a password, carried on by refresh tokens that work once, ended by many things.
//!
//! The refresh tokens of one session are one family. One that was used and comes again is in two hands, so the
//! session ends for both.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use diesel::{
    dsl::{IntervalDsl, now},
    pg::Pg,
    prelude::*,
    sql_types::Timestamptz,
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use secrecy::SecretString;
use serde_json::json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    Accounts, User, address::EmailAddress, amendments::Amendment, passwords::Busy, registration::lower,
    tokens::ACCESS_LIFETIME,
};
use crate::{
    audit::{self, AuditEntry},
    db::Conn,
    fault::Fault,
    listing::{Fingerprint, InvalidCursor, Page},
    schema::{refresh_tokens, sessions, users},
};

/// How long a refresh token, and a session that nobody carries on, lasts.
const REFRESH_DAYS: i32 = 7;
/// Why a session ended whose used refresh token came again.
const REUSED: &str = "refresh-reused";

/// From where a session is opened, as its owner will see it in the list.
#[derive(Clone, Debug, Default)]
pub struct Client {
    pub user_agent: Option<String>,
    pub ip: Option<String>,
}

/// What a client gets to act as a user.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub access_token: String,
    /// Seconds that the access token is good for.
    pub expires_in: u64,
    pub refresh_token: String,
    pub user: User,
}

/// An open session.
#[derive(Clone, Debug, diesel::Queryable, diesel::Selectable)]
#[diesel(table_name = sessions, check_for_backend(Pg))]
pub struct Session {
    pub id: Uuid,
    pub user_agent: Option<String>,
    pub ip: Option<String>,
    pub created_at: DateTime<Utc>,
    pub last_used_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// No active account has this address and password.
    #[error("e-mail or password is wrong")]
    InvalidCredentials,
    #[error(transparent)]
    Busy(#[from] Busy),
    #[error(transparent)]
    Fault(#[from] Fault),
}

#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// Never issued, or its session has ended.
    #[error("the refresh token is not valid")]
    Invalid,
    #[error("the refresh token has expired")]
    Expired,
    /// It was used before, or ended with a session in which that happened.
    #[error("the refresh token was used before")]
    Reused,
    #[error(transparent)]
    Fault(#[from] Fault),
}

#[derive(Debug, thiserror::Error)]
pub enum ListSessionsError {
    #[error(transparent)]
    InvalidCursor(#[from] InvalidCursor),
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Accounts {
    /// Opens a session. Takes as long for an address without an account.
    pub async fn log_in(
        &self,
        email: &EmailAddress,
        password: SecretString,
        client: &Client,
    ) -> Result<Credentials, LoginError> {
        let place = self.passwords.place()?;
        let known: Option<(Uuid, String)> = users::table
            .filter(lower(users::email).eq(email.as_str()))
            .filter(users::deactivated_at.is_null())
            .select((users::id, users::password_hash))
            .first(&mut *self.db.conn().await?)
            .await
            .optional()
            .map_err(Fault::from)?;
        let (id, hash) = known.unzip();
        let holds = self.passwords.verify(place, password, hash.clone()).await?;
        let (Some(id), Some(hash), true) = (id, hash, holds) else {
            return Err(LoginError::InvalidCredentials);
        };
        let mut conn = self.db.conn().await?;
        let opened = conn
            .transaction(async |conn| -> Result<_, Fault> {
                // Locked against a deactivation or a new password meanwhile, which ends what was open before.
                let user: Option<User> = users::table
                    .find(id)
                    .filter(users::deactivated_at.is_null())
                    .filter(users::password_hash.eq(&hash))
                    .select(User::as_select())
                    .for_share()
                    .first(conn)
                    .await
                    .optional()?;
                let Some(user) = user else { return Ok(None) };
                let session_id = Uuid::now_v7();
                diesel::insert_into(sessions::table)
                    .values((
                        sessions::id.eq(session_id),
                        sessions::user_id.eq(user.id),
                        sessions::user_agent.eq(&client.user_agent),
                        sessions::ip.eq(&client.ip),
                        sessions::expires_at.eq(now.into_sql::<Timestamptz>() + REFRESH_DAYS.days()),
                    ))
                    .execute(conn)
                    .await?;
                let refresh_token = add_refresh_token(conn, session_id).await?;
                Ok(Some((user, session_id, refresh_token)))
            })
            .await?;
        let (user, session_id, refresh_token) = opened.ok_or(LoginError::InvalidCredentials)?;
        Ok(self.credentials(user, session_id, refresh_token))
    }

    /// Trades a refresh token for a new pair. It works once; used again it ends the session.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Credentials, RefreshError> {
        let mut conn = self.db.conn().await?;
        match conn.transaction(async |conn| rotate(conn, &digest(refresh_token)).await).await? {
            Rotation::Done { user, session_id, refresh_token } => {
                Ok(self.credentials(user, session_id, refresh_token))
            }
            Rotation::Reused { ended } => {
                if let Some(session_id) = ended {
                    self.announce(&[Amendment::SessionEnded(session_id)]).await;
                }
                Err(RefreshError::Reused)
            }
            Rotation::Expired => Err(RefreshError::Expired),
            Rotation::Invalid => Err(RefreshError::Invalid),
        }
    }

    fn credentials(&self, user: User, session_id: Uuid, refresh_token: String) -> Credentials {
        Credentials {
            access_token: self.tokens.issue(&user.grant(session_id), ACCESS_LIFETIME),
            expires_in: ACCESS_LIFETIME.as_secs(),
            refresh_token,
            user,
        }
    }

    /// Ends one of the user's sessions; `false` when they have no such open session.
    pub async fn end_session(&self, user_id: Uuid, session_id: Uuid) -> Result<bool, Fault> {
        let ended = diesel::update(sessions::table.find(session_id))
            .filter(sessions::user_id.eq(user_id))
            .filter(sessions::revoked_at.is_null().and(sessions::expires_at.gt(now)))
            .set((sessions::revoked_at.eq(now), sessions::revoked_why.eq("ended")))
            .execute(&mut *self.db.conn().await?)
            .await?
            > 0;
        if ended {
            self.announce(&[Amendment::SessionEnded(session_id)]).await;
        }
        Ok(ended)
    }

    /// A page of the user's open sessions, newest first.
    pub async fn sessions(
        &self,
        user_id: Uuid,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<Session>, ListSessionsError> {
        let list = Fingerprint::of("sessions", &user_id);
        let mut query = sessions::table
            .filter(sessions::user_id.eq(user_id))
            .filter(sessions::revoked_at.is_null().and(sessions::expires_at.gt(now)))
            .order(sessions::id.desc())
            .limit(i64::from(limit) + 1)
            .select(Session::as_select())
            .into_boxed();
        if let Some(cursor) = cursor {
            query = query.filter(sessions::id.lt(list.position::<Uuid>(cursor)?));
        }
        let mut conn = self.db.conn().await?;
        let found = query.load(&mut *conn).await.map_err(Fault::from)?;
        Ok(list.page(found, limit, |session: &Session| session.id))
    }

    /// Whether the session is open and its user active, by Postgres: what introspection answers.
    pub async fn session_is_open(&self, session_id: Uuid) -> Result<bool, Fault> {
        let query = sessions::table
            .inner_join(users::table)
            .filter(sessions::id.eq(session_id))
            .filter(sessions::revoked_at.is_null().and(sessions::expires_at.gt(now)))
            .filter(users::deactivated_at.is_null());
        let open = diesel::select(diesel::dsl::exists(query)).get_result(&mut *self.db.conn().await?).await?;
        Ok(open)
    }
}

/// Ends every open session of a user, in the transaction that is the reason.
pub(super) async fn end_all(conn: &mut Conn, user_id: Uuid, why: &str) -> Result<usize, Fault> {
    let ended = diesel::update(sessions::table)
        .filter(sessions::user_id.eq(user_id).and(sessions::revoked_at.is_null()))
        .set((sessions::revoked_at.eq(now), sessions::revoked_why.eq(why)))
        .execute(conn)
        .await?;
    Ok(ended)
}

enum Rotation {
    Done {
        user: User,
        session_id: Uuid,
        refresh_token: String,
    },
    /// `ended` is the session that ended for it just now.
    Reused {
        ended: Option<Uuid>,
    },
    Expired,
    Invalid,
}

async fn rotate(conn: &mut Conn, token_hash: &[u8]) -> Result<Rotation, Fault> {
    // The row lock decides between two who bring the same token: the second finds it used.
    let found: Option<(Uuid, bool, bool)> = refresh_tokens::table
        .find(token_hash)
        .select((
            refresh_tokens::session_id,
            refresh_tokens::used_at.is_not_null(),
            refresh_tokens::expires_at.le(now),
        ))
        .for_update()
        .first(conn)
        .await
        .optional()?;
    let Some((session_id, was_used, expired)) = found else { return Ok(Rotation::Invalid) };
    if was_used {
        let user_id: Option<Uuid> = diesel::update(sessions::table.find(session_id))
            .filter(sessions::revoked_at.is_null())
            .set((sessions::revoked_at.eq(now), sessions::revoked_why.eq(REUSED)))
            .returning(sessions::user_id)
            .get_result(conn)
            .await
            .optional()?;
        if let Some(user_id) = user_id {
            let object = ("session", session_id);
            let entry = AuditEntry::new(Some(user_id), "session.reuse_detected", object, json!({}));
            audit::append(conn, &[entry]).await?;
        }
        return Ok(Rotation::Reused { ended: user_id.map(|_| session_id) });
    }
    let (user_id, ended_why): (Uuid, Option<String>) = sessions::table
        .find(session_id)
        .select((sessions::user_id, sessions::revoked_why))
        .for_update()
        .first(conn)
        .await?;
    match ended_why.as_deref() {
        Some(REUSED) => return Ok(Rotation::Reused { ended: None }),
        Some(_) => return Ok(Rotation::Invalid),
        None if expired => return Ok(Rotation::Expired),
        None => {}
    }
    let user: Option<User> = users::table
        .find(user_id)
        .filter(users::deactivated_at.is_null())
        .select(User::as_select())
        .first(conn)
        .await
        .optional()?;
    let Some(user) = user else { return Ok(Rotation::Invalid) };
    diesel::update(refresh_tokens::table.find(token_hash))
        .set(refresh_tokens::used_at.eq(now))
        .execute(conn)
        .await?;
    diesel::update(sessions::table.find(session_id))
        .set((
            sessions::last_used_at.eq(now),
            sessions::expires_at.eq(now.into_sql::<Timestamptz>() + REFRESH_DAYS.days()),
        ))
        .execute(conn)
        .await?;
    let refresh_token = add_refresh_token(conn, session_id).await?;
    Ok(Rotation::Done { user, session_id, refresh_token })
}

/// A new token of the session: 256 random bits, of which only the hash is kept.
async fn add_refresh_token(conn: &mut Conn, session_id: Uuid) -> Result<String, Fault> {
    let token = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    diesel::insert_into(refresh_tokens::table)
        .values((
            refresh_tokens::token_hash.eq(digest(&token)),
            refresh_tokens::session_id.eq(session_id),
            refresh_tokens::expires_at.eq(now.into_sql::<Timestamptz>() + REFRESH_DAYS.days()),
        ))
        .execute(conn)
        .await?;
    Ok(token)
}

fn digest(token: &str) -> Vec<u8> {
    Sha256::digest(token).to_vec()
}
