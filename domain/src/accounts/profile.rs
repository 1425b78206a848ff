//! What people see and change of their own account.

use diesel::{dsl::now, prelude::*};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{Accounts, User};
use crate::{fault::Fault, schema::users};

impl Accounts {
    /// The account, unless it is deactivated or gone.
    pub async fn user(&self, id: Uuid) -> Result<Option<User>, Fault> {
        let user = users::table
            .find(id)
            .filter(users::deactivated_at.is_null())
            .select(User::as_select())
            .first(&mut *self.db.conn().await?)
            .await
            .optional()?;
        Ok(user)
    }

    /// Changes the name; `None` when there is no such account, or none of version `expected` when that is given.
    pub async fn rename(&self, id: Uuid, name: &str, expected: Option<i64>) -> Result<Option<User>, Fault> {
        let conn = &mut *self.db.conn().await?;
        let target = users::table.find(id).filter(users::deactivated_at.is_null());
        let change = (users::name.eq(name), users::version.eq(users::version + 1), users::updated_at.eq(now));
        let user = match expected {
            None => diesel::update(target).set(change).returning(User::as_returning()).get_result(conn).await,
            Some(version) => {
                diesel::update(target.filter(users::version.eq(version)))
                    .set(change)
                    .returning(User::as_returning())
                    .get_result(conn)
                    .await
            }
        };
        Ok(user.optional()?)
    }
}
