//! Accounts that no registration made: the first admin, and those of seed data and load tests.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::{
    dsl::{IntervalDsl, now},
    prelude::*,
    sql_types::Timestamptz,
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use secrecy::SecretString;
use serde_json::json;
use uuid::Uuid;

use super::{
    Role, User,
    address::EmailAddress,
    passwords::Passwords,
    registration::{by_email, insert},
    tokens::{Grant, Tokens},
};
use crate::{
    audit::{self, AuditEntry},
    clock,
    db::{Conn, Db},
    fault::Fault,
    schema::{sessions, users},
};

/// How long the access tokens of seeded users are good for.
const SEEDED_TOKEN_LIFETIME: Duration = Duration::from_hours(1);
/// Rows an INSERT: well below Postgres's limit of 65,535 parameters.
const BATCH: usize = 1_000;

/// Makes sure that an admin of this address exists: creates one, verified, with this password. An account that
/// exists keeps its password, and becomes an active admin if it was none. Safe to repeat and to race.
pub async fn ensure_admin(db: &Db, email: &EmailAddress, password: SecretString) -> Result<User, Fault> {
    let user = seed_user(db, email, "Admin", password, Role::Admin).await?;
    if user.role == Role::Admin && user.deactivated_at.is_none() {
        return Ok(user);
    }
    db.conn()
        .await?
        .transaction(async |conn| {
            let user = diesel::update(users::table.find(user.id))
                .set((
                    users::role.eq(Role::Admin),
                    users::deactivated_at.eq(None::<DateTime<Utc>>),
                    users::version.eq(users::version + 1),
                    users::updated_at.eq(now),
                ))
                .returning(User::as_returning())
                .get_result(conn)
                .await?;
            let detail = json!({"role": Role::Admin, "by": "EVENTLY_ADMIN_EMAIL"});
            let entry = AuditEntry::new(None, "user.role_changed", ("user", user.id), detail);
            audit::append(conn, &[entry]).await?;
            Ok(user)
        })
        .await
}

/// A verified account of this role, or the one that the address has. Safe to repeat and to race.
pub async fn seed_user(
    db: &Db,
    email: &EmailAddress,
    name: &str,
    password: SecretString,
    role: Role,
) -> Result<User, Fault> {
    let mut conn = db.conn().await?;
    if let Some(user) = by_email(&mut conn, email).await? {
        return Ok(user);
    }
    drop(conn);
    let hash = hash(password).await?;
    db.conn()
        .await?
        .transaction(async |conn| {
            let Some(user) = insert(conn, email, name, &hash, role).await? else {
                // Somebody else was first and has committed, or the insert would have waited for it.
                let user = by_email(conn, email).await?;
                return user.ok_or_else(|| Fault::Corrupt(format!("{email} is taken and not to be found")));
            };
            let user = diesel::update(users::table.find(user.id))
                .set(users::verified_at.eq(now))
                .returning(User::as_returning())
                .get_result(conn)
                .await?;
            let entry = AuditEntry::new(None, "user.seeded", ("user", user.id), json!({"role": role}));
            audit::append(conn, &[entry]).await?;
            Ok(user)
        })
        .await
}

/// Creates `count` verified users who share one password, and answers an access token of each, good for an hour.
/// Their sessions are real: they are listed, and can be ended.
pub async fn seed_users(
    db: &Db,
    tokens: &Tokens,
    count: usize,
    password: SecretString,
) -> Result<Vec<String>, Fault> {
    let hash = hash(password).await?;
    let mut conn = db.conn().await?;
    let mut issued = Vec::with_capacity(count);
    while issued.len() < count {
        let batch = BATCH.min(count - issued.len());
        let grants = conn.transaction(async |conn| seed_batch(conn, batch, &hash).await).await?;
        issued.extend(grants.iter().map(|grant| tokens.issue(grant, SEEDED_TOKEN_LIFETIME)));
    }
    Ok(issued)
}

async fn seed_batch(conn: &mut Conn, size: usize, hash: &str) -> Result<Vec<Grant>, Fault> {
    let verified_at = clock::now();
    let grants: Vec<Grant> = (0..size)
        .map(|_| Grant {
            user_id: Uuid::now_v7(),
            session_id: Uuid::now_v7(),
            role: Role::User,
            verified: true,
            user_version: 1,
        })
        .collect();
    let people: Vec<_> = grants
        .iter()
        .map(|grant| {
            (
                users::id.eq(grant.user_id),
                users::email.eq(format!("load-{}@evently.test", grant.user_id.simple())),
                users::name.eq("Load test"),
                users::password_hash.eq(hash),
                users::verified_at.eq(verified_at),
            )
        })
        .collect();
    diesel::insert_into(users::table).values(people).execute(conn).await?;
    let opened: Vec<_> = grants
        .iter()
        .map(|grant| {
            (
                sessions::id.eq(grant.session_id),
                sessions::user_id.eq(grant.user_id),
                sessions::user_agent.eq("evently seed"),
                sessions::expires_at.eq(now.into_sql::<Timestamptz>() + 1.hour()),
            )
        })
        .collect();
    diesel::insert_into(sessions::table).values(opened).execute(conn).await?;
    Ok(grants)
}

async fn hash(password: SecretString) -> Result<String, Fault> {
    // A line of our own is never full.
    Passwords::new(1, 1).hash(password).await.map_err(|busy| Fault::Corrupt(busy.to_string()))
}
