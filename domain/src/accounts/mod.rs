//! Accounts: who somebody is, how they prove it, and what they may do.

pub mod address;
pub mod amendments;
mod codes;
pub mod management;
pub mod passwords;
pub mod profile;
pub mod provision;
pub mod recovery;
pub mod registration;
pub mod sessions;
pub mod signing_key;
pub mod tokens;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use diesel::{
    backend::Backend,
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::Pg,
    serialize::{self, Output, ToSql},
    sql_types::Text,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{db::Db, schema::users};
use amendments::{Amendment, UserChange};
use passwords::Passwords;
use tokens::{Grant, Tokens};

/// What an account may do.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, AsExpression, FromSqlRow,
)]
#[diesel(sql_type = Text)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Buys tickets.
    User,
    /// Runs events of their own.
    Organizer,
    /// Looks after queues and jobs.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// The `role` column, claim and field.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Organizer => "organizer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The word names no role.
#[derive(Debug, thiserror::Error)]
#[error("no role is called {0:?}; the roles are user, organizer, operator, admin")]
pub struct UnknownRole(pub String);

impl std::str::FromStr for Role {
    type Err = UnknownRole;

    fn from_str(name: &str) -> Result<Self, UnknownRole> {
        [Self::User, Self::Organizer, Self::Operator, Self::Admin]
            .into_iter()
            .find(|role| role.name() == name)
            .ok_or_else(|| UnknownRole(name.to_owned()))
    }
}

impl FromSql<Text, Pg> for Role {
    fn from_sql(bytes: <Pg as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        Ok(<String as FromSql<Text, Pg>>::from_sql(bytes)?.parse()?)
    }
}

impl ToSql<Text, Pg> for Role {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        <str as ToSql<Text, Pg>>::to_sql(self.name(), out)
    }
}

/// An account, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq, diesel::Queryable, diesel::Selectable)]
#[diesel(table_name = users, check_for_backend(Pg))]
pub struct User {
    pub id: Uuid,
    pub email: String,
    pub name: String,
    pub role: Role,
    pub verified_at: Option<DateTime<Utc>>,
    pub deactivated_at: Option<DateTime<Utc>>,
    /// Raised by every change of the row.
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl User {
    fn grant(&self, session_id: Uuid) -> Grant {
        Grant {
            user_id: self.id,
            session_id,
            role: self.role,
            verified: self.verified_at.is_some(),
            user_version: self.version,
        }
    }

    /// What tokens of earlier versions do not know. With `sessions_ended` they are over.
    fn change(&self, sessions_ended: bool) -> Amendment {
        Amendment::UserChanged(UserChange {
            user_id: self.id,
            version: self.version,
            role: self.role,
            verified: self.verified_at.is_some(),
            ended_before: if sessions_ended { self.version } else { 0 },
        })
    }
}

/// Everything that the operations on accounts share. Cheap to clone.
#[derive(Clone)]
pub struct Accounts {
    db: Db,
    redis: redis::aio::ConnectionManager,
    tokens: Arc<Tokens>,
    passwords: Passwords,
}

impl Accounts {
    /// `redis` carries amendments to the other processes.
    pub fn new(db: Db, redis: redis::aio::ConnectionManager, tokens: Arc<Tokens>) -> Self {
        Self { db, redis, tokens, passwords: Passwords::default() }
    }

    pub fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }

    /// Makes committed changes known: here at once, elsewhere through Redis. Without Redis, tokens held against
    /// other processes live until they expire, which is within 15 minutes; the commit stands either way.
    async fn announce(&self, amendments: &[Amendment]) {
        for amendment in amendments {
            self.tokens.amendments().note(*amendment);
        }
        if amendments.is_empty() {
            return;
        }
        if let Err(error) = amendments::publish(&mut self.redis.clone(), amendments).await {
            tracing::warn!(%error, "amendments reach other processes when their tokens expire");
        }
    }
}
