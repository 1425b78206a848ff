//! The line as its people and its organizer read it.

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Entry, EntryOffer, EntryStatus};
use crate::{
    db::{Conn, Db},
    events::Editor,
    fault::Fault,
    inventory::Inventory,
    listing::{Fingerprint, InvalidCursor, Page},
    money::Money,
    statement::prepared,
};

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    event_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    ticket_type_id: Uuid,
    #[diesel(sql_type = Nullable<BigInt>)]
    position: Option<i64>,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Integer)]
    quantity: i32,
    #[diesel(sql_type = Timestamptz)]
    joined_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    offer_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<BigInt>)]
    unit_price: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    currency: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    expires_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    hold_id: Option<Uuid>,
}

impl Row {
    fn read(self) -> Result<Entry, Fault> {
        let offer = match (self.offer_id, self.unit_price, self.currency, self.expires_at) {
            (Some(id), Some(unit_price), Some(currency), Some(expires_at)) => Some(EntryOffer {
                id,
                quantity: self.quantity,
                unit_price: Money::new(unit_price, &currency),
                total: Money::new(unit_price * i64::from(self.quantity), &currency),
                expires_at,
                hold_id: self.hold_id,
            }),
            _ => None,
        };
        Ok(Entry {
            id: self.id,
            event_id: self.event_id,
            ticket_type_id: self.ticket_type_id,
            position: self.position,
            status: self.status.parse()?,
            quantity: self.quantity,
            offer,
            joined_at: self.joined_at,
        })
    }
}

/// A user's entries of an event: of each ticket type the newest.
pub async fn mine(conn: &mut Conn, event_id: Uuid, user_id: Uuid) -> Result<Vec<Entry>, Fault> {
    let rows: Vec<Row> = prepared(
        sql_query(include_str!("sql/mine.sql")).bind::<SqlUuid, _>(user_id).bind::<SqlUuid, _>(event_id),
    )
    .load(conn)
    .await?;
    rows.into_iter().map(Row::read).collect()
}

/// Which entries of an event an organizer looks at.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct AdminFilter {
    pub event_id: Uuid,
    pub ticket_type_id: Option<Uuid>,
    /// Those that wait or have an open offer, unless it is given.
    pub status: Option<EntryStatus>,
}

/// Why an entry was not offered anything so far
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WhyNot {
    /// `no_seats`: none is free. `party_too_large`: it wants more than are free, which stay with the waitlist until more
    /// come free, a smaller party joins, or nobody waits any more. `behind_others`: its turn comes. `limit_exceeded`: it
    /// has bought so many meanwhile that these would be too many. `sale_closed`: nothing is offered now.
    #[schema(example = "party_too_large")]
    pub code: &'static str,
    pub detail: String,
}

/// An entry as its organizer reads it
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AdminWaitlistEntry)]
pub struct AdminEntry {
    #[serde(flatten)]
    pub entry: Entry,
    pub user_id: Uuid,
    pub email: String,
    pub name: String,
    /// Of one that waits: why it has no offer.
    pub not_offered: Option<WhyNot>,
}

#[derive(Debug, thiserror::Error)]
pub enum AdminListError {
    /// Unknown, or somebody else's event.
    #[error("there is no such event")]
    NotFound,
    #[error(transparent)]
    InvalidCursor(#[from] InvalidCursor),
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<diesel::result::Error> for AdminListError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Fault(error.into())
    }
}

#[derive(QueryableByName)]
struct AdminRow {
    #[diesel(embed)]
    entry: Row,
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
    #[diesel(sql_type = Text)]
    email: String,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    place: String,
    #[diesel(sql_type = Integer)]
    bought: i32,
}

#[derive(QueryableByName)]
struct EventRow {
    #[diesel(sql_type = SqlUuid)]
    organizer_id: Uuid,
    #[diesel(sql_type = Integer)]
    max_tickets_per_user: i32,
    #[diesel(sql_type = Bool)]
    open: bool,
}

/// A page of the line, in the order in which it is served, with the reason why each is not offered anything.
pub async fn page(
    db: &Db,
    inventory: &Inventory,
    editor: Editor,
    filter: &AdminFilter,
    limit: u32,
    cursor: Option<&str>,
) -> Result<Page<AdminEntry>, AdminListError> {
    let list = Fingerprint::of("waitlist", filter);
    let after: Option<(Uuid, String, Uuid)> = cursor.map(|cursor| list.position(cursor)).transpose()?;
    let mut conn = db.conn().await?;
    let event: Vec<EventRow> = prepared(
        sql_query(
            "SELECT organizer_id, max_tickets_per_user,
                    status = 'published' AND now() < least(sales_end_at, starts_at) AS open
             FROM events WHERE id = $1",
        )
        .bind::<SqlUuid, _>(filter.event_id),
    )
    .load(&mut *conn)
    .await?;
    let event = event.into_iter().next().filter(|event| editor.may_edit(Some(event.organizer_id)));
    let event = event.ok_or(AdminListError::NotFound)?;
    let rows: Vec<AdminRow> = prepared(
        sql_query(include_str!("sql/page.sql"))
            .bind::<SqlUuid, _>(filter.event_id)
            .bind::<Nullable<SqlUuid>, _>(filter.ticket_type_id)
            .bind::<Nullable<Text>, _>(filter.status.map(EntryStatus::name))
            .bind::<Nullable<SqlUuid>, _>(after.as_ref().map(|after| after.0))
            .bind::<Nullable<Text>, _>(after.as_ref().map(|after| after.1.as_str()))
            .bind::<Nullable<SqlUuid>, _>(after.as_ref().map(|after| after.2))
            .bind::<BigInt, _>(i64::from(limit) + 1),
    )
    .load(&mut *conn)
    .await?;
    drop(conn);
    let mut types: Vec<Uuid> = rows.iter().map(|row| row.entry.ticket_type_id).collect();
    types.dedup();
    let counts = inventory.availability(filter.event_id, &types).await?.map_or_else(Vec::new, |seen| seen.1);
    let page = list.page(rows, limit, |row| (row.entry.ticket_type_id, row.place.clone(), row.entry.id));
    let share = |kind: Uuid| counts.iter().find(|c| c.ticket_type_id == kind).map_or(0, |count| count.share);
    let data = page.data.into_iter().map(|row| {
        let (bought, free) = (row.bought, share(row.entry.ticket_type_id));
        let entry = row.entry.read()?;
        let not_offered =
            (entry.status == EntryStatus::Waiting).then(|| why_not(&event, &entry, bought, free));
        Ok(AdminEntry { entry, user_id: row.user_id, email: row.email, name: row.name, not_offered })
    });
    Ok(Page { data: data.collect::<Result<_, Fault>>()?, next_cursor: page.next_cursor })
}

fn why_not(event: &EventRow, entry: &Entry, bought: i32, free: i64) -> WhyNot {
    let (quantity, most) = (i64::from(entry.quantity), event.max_tickets_per_user);
    let (code, detail) = if !event.open {
        (
            "sale_closed",
            "Nothing is offered before the sale, after it, or once the event has begun.".to_owned(),
        )
    } else if bought + entry.quantity > most {
        ("limit_exceeded", format!("Has bought {bought} since; {most} is the most one person may have."))
    } else if free == 0 {
        ("no_seats", "No seat is free that is not offered already.".to_owned())
    } else if quantity > free {
        let detail = format!(
            "Wants {quantity}, and {free} are free. It keeps its place. Smaller parties behind it are served first; \
             what fits nobody stays with the waitlist until more comes free, and is the public's once nobody waits."
        );
        ("party_too_large", detail)
    } else {
        ("behind_others", "Seats are free: it is its turn once those before it are served.".to_owned())
    };
    WhyNot { code, detail }
}
