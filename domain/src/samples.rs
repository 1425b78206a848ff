//! Whether a database is still empty but for seed data, and which of that it has.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};
use uuid::Uuid;

use crate::{
    accounts::Role,
    db::{Conn, Db},
    events::{self, NewEvent, WriteError},
    fault::Fault,
    schema::{events as events_table, users, venues},
};

/// Whether nothing but admins, the users of these addresses and the events of these titles is there: what an
/// interrupted seeding may leave, and nobody's work.
pub async fn is_untouched(db: &Db, emails: &[&str], titles: &[&str]) -> Result<bool, Fault> {
    let mut conn = db.conn().await?;
    let people: i64 = users::table
        .filter(users::role.ne(Role::Admin).and(users::email.ne_all(emails)))
        .count()
        .get_result(&mut *conn)
        .await?;
    let others: i64 =
        events_table::table.filter(events_table::title.ne_all(titles)).count().get_result(&mut *conn).await?;
    Ok(people == 0 && others == 0)
}

/// Creates a draft, whole or not at all.
pub async fn create_event(db: &Db, organizer_id: Uuid, event: NewEvent) -> Result<Uuid, WriteError> {
    let mut conn = db.conn().await?;
    let stored =
        (*conn).transaction(async |conn: &mut Conn| events::create(conn, organizer_id, event).await).await?;
    Ok(stored.event.id)
}

/// The venue of this name.
pub async fn venue(db: &Db, name: &str) -> Result<Option<Uuid>, Fault> {
    let found = venues::table.filter(venues::name.eq(name)).select(venues::id);
    Ok(found.first(&mut *db.conn().await?).await.optional()?)
}

/// The ids of the events of these titles, and whether they are drafts.
pub async fn events(db: &Db, titles: &[&str]) -> Result<HashMap<String, (Uuid, bool)>, Fault> {
    let found: Vec<(String, Uuid, String)> = events_table::table
        .filter(events_table::title.eq_any(titles))
        .select((events_table::title, events_table::id, events_table::status))
        .load(&mut *db.conn().await?)
        .await?;
    Ok(found.into_iter().map(|(title, id, status)| (title, (id, status == "draft"))).collect())
}
