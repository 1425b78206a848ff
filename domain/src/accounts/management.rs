//! What admins do to accounts: find them, give them a role, deactivate them, end their sessions.

use diesel::{dsl::now, prelude::*};
use diesel_async::{AsyncConnection, RunQueryDsl};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::{Accounts, Role, User, sessions};
use crate::{
    audit::{self, AuditEntry},
    db::Conn,
    fault::Fault,
    listing::{Fingerprint, InvalidCursor, Page},
    schema::users,
};

/// Which accounts are listed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct UserFilter {
    /// Part of the address or the name.
    pub q: Option<String>,
    pub role: Option<Role>,
    pub active: Option<bool>,
}

/// What an admin changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Role(Role),
    /// Ends every session; the account can neither log in nor act.
    Deactivate,
    Activate,
}

#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    #[error("no such account")]
    NotFound,
    /// The account is no longer of the version that was expected.
    #[error("the account has changed")]
    Stale,
    /// Nobody could undo it.
    #[error("this is the last active admin")]
    LastAdmin,
    #[error(transparent)]
    Fault(#[from] Fault),
}

#[derive(Debug, thiserror::Error)]
pub enum ListUsersError {
    #[error(transparent)]
    InvalidCursor(#[from] InvalidCursor),
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Accounts {
    /// A page of accounts, newest first.
    pub async fn users(
        &self,
        filter: &UserFilter,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<User>, ListUsersError> {
        let list = Fingerprint::of("users", filter);
        let mut query = users::table
            .order(users::id.desc())
            .limit(i64::from(limit) + 1)
            .select(User::as_select())
            .into_boxed();
        if let Some(cursor) = cursor {
            query = query.filter(users::id.lt(list.position::<Uuid>(cursor)?));
        }
        if let Some(q) = &filter.q {
            let pattern = format!("%{}%", q.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_"));
            query = query.filter(users::email.ilike(pattern.clone()).or(users::name.ilike(pattern)));
        }
        if let Some(role) = filter.role {
            query = query.filter(users::role.eq(role));
        }
        query = match filter.active {
            Some(true) => query.filter(users::deactivated_at.is_null()),
            Some(false) => query.filter(users::deactivated_at.is_not_null()),
            None => query,
        };
        let mut conn = self.db.conn().await?;
        let found = query.load(&mut *conn).await.map_err(Fault::from)?;
        Ok(list.page(found, limit, |user: &User| user.id))
    }

    /// Whether there is such an account, active or not.
    pub async fn user_exists(&self, id: Uuid) -> Result<bool, Fault> {
        let query = diesel::select(diesel::dsl::exists(users::table.find(id)));
        Ok(query.get_result(&mut *self.db.conn().await?).await?)
    }

    /// Carries a decision out, with its audit entry. Safe to repeat: what is so already stays as it is. Tokens that
    /// are out follow at once.
    pub async fn decide(
        &self,
        actor: Uuid,
        id: Uuid,
        decision: Decision,
        expected: Option<i64>,
    ) -> Result<User, ManageError> {
        let mut conn = self.db.conn().await?;
        let outcome =
            conn.transaction(async |conn| decide(conn, actor, id, decision, expected).await).await?;
        match outcome {
            Outcome::Changed(user) => {
                self.announce(&[user.change(decision == Decision::Deactivate)]).await;
                Ok(user)
            }
            Outcome::Unchanged(user) => Ok(user),
            Outcome::NotFound => Err(ManageError::NotFound),
            Outcome::Stale => Err(ManageError::Stale),
            Outcome::LastAdmin => Err(ManageError::LastAdmin),
        }
    }

    /// Ends every session of an account; its access tokens are over at once.
    pub async fn end_sessions(&self, actor: Uuid, id: Uuid) -> Result<(), ManageError> {
        let mut conn = self.db.conn().await?;
        let user = conn
            .transaction(async |conn| -> Result<Option<User>, Fault> {
                let user: Option<User> = diesel::update(users::table.find(id))
                    .set((users::version.eq(users::version + 1), users::updated_at.eq(now)))
                    .returning(User::as_returning())
                    .get_result(conn)
                    .await
                    .optional()?;
                if user.is_some() {
                    let ended = sessions::end_all(conn, id, "ended-by-admin").await?;
                    let detail = json!({"sessions": ended});
                    let entry = AuditEntry::new(Some(actor), "user.sessions_ended", ("user", id), detail);
                    audit::append(conn, &[entry]).await?;
                }
                Ok(user)
            })
            .await?;
        let user = user.ok_or(ManageError::NotFound)?;
        self.announce(&[user.change(true)]).await;
        Ok(())
    }
}

enum Outcome {
    Changed(User),
    Unchanged(User),
    NotFound,
    Stale,
    LastAdmin,
}

async fn decide(
    conn: &mut Conn,
    actor: Uuid,
    id: Uuid,
    decision: Decision,
    expected: Option<i64>,
) -> Result<Outcome, Fault> {
    // Admins are locked before the account, always in this order, so that two who remove each other take turns.
    let removes_admin = !matches!(decision, Decision::Activate | Decision::Role(Role::Admin));
    let admins = if removes_admin { lock_admins(conn).await? } else { Vec::new() };
    let present: Option<User> =
        users::table.find(id).select(User::as_select()).for_no_key_update().first(conn).await.optional()?;
    let Some(present) = present else { return Ok(Outcome::NotFound) };
    if expected.is_some_and(|version| version != present.version) {
        return Ok(Outcome::Stale);
    }
    let is_so = match decision {
        Decision::Role(role) => present.role == role,
        Decision::Deactivate => present.deactivated_at.is_some(),
        Decision::Activate => present.deactivated_at.is_none(),
    };
    if is_so {
        return Ok(Outcome::Unchanged(present));
    }
    if admins == [id] {
        return Ok(Outcome::LastAdmin);
    }
    let target = users::table.find(id);
    let touched = (users::version.eq(users::version + 1), users::updated_at.eq(now));
    let (user, action, detail): (User, _, _) = match decision {
        Decision::Role(role) => {
            let update = diesel::update(target).set((users::role.eq(role), touched));
            let user = update.returning(User::as_returning()).get_result(conn).await?;
            (user, "user.role_changed", json!({"from": present.role, "to": role}))
        }
        Decision::Deactivate => {
            let update = diesel::update(target).set((users::deactivated_at.eq(now), touched));
            let user = update.returning(User::as_returning()).get_result(conn).await?;
            let ended = sessions::end_all(conn, id, "deactivated").await?;
            (user, "user.deactivated", json!({"sessions": ended}))
        }
        Decision::Activate => {
            let never = None::<chrono::DateTime<chrono::Utc>>;
            let update = diesel::update(target).set((users::deactivated_at.eq(never), touched));
            let user = update.returning(User::as_returning()).get_result(conn).await?;
            (user, "user.activated", json!({}))
        }
    };
    audit::append(conn, &[AuditEntry::new(Some(actor), action, ("user", id), detail)]).await?;
    Ok(Outcome::Changed(user))
}

/// Every active admin, locked: none of them stops being one until the transaction ends.
pub(super) async fn lock_admins(conn: &mut Conn) -> Result<Vec<Uuid>, Fault> {
    let admins = users::table
        .filter(users::role.eq(Role::Admin).and(users::deactivated_at.is_null()))
        .order(users::id)
        .select(users::id)
        .for_no_key_update()
        .load(conn)
        .await?;
    Ok(admins)
}
