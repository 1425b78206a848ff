//! Seats of ticket types while a transaction holds their locks, who bought how many, and what Redis is told of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use diesel::{
    QueryableByName, sql_query,
    sql_types::{Array, BigInt, Bool, Integer, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::{
    db::Conn,
    fault::Fault,
    holds::{HeldItem, Settlement, settle},
    inventory::{BuyerSnapshot, Inventory, SeatSnapshot},
    statement::prepared,
};

/// A ticket type's numbers as Postgres has them, for Redis to take over if they are newer than its own.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub(crate) struct SeatCount {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub event_id: Uuid,
    #[diesel(sql_type = Integer)]
    pub capacity: i32,
    #[diesel(sql_type = Integer)]
    pub sold: i32,
    #[diesel(sql_type = Integer)]
    pub reserved: i32,
    #[diesel(sql_type = BigInt)]
    pub price: i64,
    #[diesel(sql_type = BigInt)]
    pub inventory_version: i64,
    #[diesel(sql_type = Integer)]
    pub waiting_tickets: i32,
    #[diesel(sql_type = Bool)]
    pub withdrawn: bool,
}

impl From<&SeatCount> for SeatSnapshot {
    fn from(row: &SeatCount) -> Self {
        Self {
            ticket_type_id: row.id,
            // One that was withdrawn has no capacity beyond what it sold.
            capacity: if row.withdrawn { row.sold + row.reserved } else { row.capacity },
            sold: row.sold,
            reserved: row.reserved,
            price: row.price,
            version: row.inventory_version,
            waiting: row.waiting_tickets,
        }
    }
}

/// How many tickets of an event a user has, for Redis to take over if it is newer.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub(super) struct BuyerCount {
    #[diesel(sql_type = SqlUuid)]
    pub event_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub user_id: Uuid,
    #[diesel(sql_type = Integer)]
    pub sold: i32,
    #[diesel(sql_type = BigInt)]
    pub version: i64,
}

/// The rows of the inventory that a transaction wrote or read under lock, for Redis to take over.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub(super) seats: Vec<SeatCount>,
    pub(super) buyers: Vec<BuyerCount>,
}

impl Changes {
    /// Rows of ticket types alone.
    pub(crate) const fn of_seats(seats: Vec<SeatCount>) -> Self {
        Self { seats, buyers: Vec::new() }
    }

    /// The rows of ticket types alone.
    pub(crate) fn into_seats(self) -> Vec<SeatCount> {
        self.seats
    }

    /// The rows of one event.
    pub fn of(&self, event_id: Uuid) -> (Vec<SeatSnapshot>, Vec<BuyerSnapshot>) {
        let seats = self.seats.iter().filter(|row| row.event_id == event_id).map(SeatSnapshot::from);
        let buyers = self.buyers.iter().filter(|row| row.event_id == event_id).map(|row| BuyerSnapshot {
            user_id: row.user_id,
            sold: row.sold,
            version: row.version,
        });
        (seats.collect(), buyers.collect())
    }

    /// Tells Redis, as well as can be: what does not get there, the reconciler brings.
    pub async fn tell(&self, inventory: &Inventory) {
        let events: BTreeSet<Uuid> = self.seats.iter().map(|row| row.event_id).collect();
        for event_id in events {
            let (seats, buyers) = self.of(event_id);
            let settlement = Settlement { holds: Vec::new(), seats, buyers };
            if let Err(error) = settle(inventory, event_id, &settlement).await {
                tracing::warn!(%error, %event_id, "the inventory was not told of committed rows");
            }
        }
    }
}

/// The rows that these bookings' seats stand in, as they are now: what Redis is told of bookings that were decided
/// before. Read after the decision, so they count it.
pub async fn rows_behind(conn: &mut Conn, bookings: &[Uuid]) -> Result<Changes, Fault> {
    let seats = prepared(
        sql_query(include_str!("sql/seats_behind.sql")).bind::<Array<SqlUuid>, _>(bookings.to_vec()),
    )
    .load(conn)
    .await?;
    let buyers = prepared(
        sql_query(include_str!("sql/buyers_behind.sql")).bind::<Array<SqlUuid>, _>(bookings.to_vec()),
    )
    .load(conn)
    .await?;
    Ok(Changes { seats, buyers })
}

/// Ticket types under lock.
#[derive(Debug, Default)]
pub(super) struct Stock {
    types: HashMap<Uuid, SeatCount>,
    /// What this transaction sells of each, in the order of ids.
    taken: BTreeMap<Uuid, i32>,
    /// How much of that was reserved for offers.
    offered: BTreeMap<Uuid, i32>,
}

impl Stock {
    /// Locks these ticket types until the transaction ends.
    pub(super) async fn lock(conn: &mut Conn, mut ids: Vec<Uuid>) -> Result<Self, Fault> {
        ids.sort_unstable();
        ids.dedup();
        let rows: Vec<SeatCount> =
            prepared(sql_query(include_str!("sql/lock_ticket_types.sql")).bind::<Array<SqlUuid>, _>(ids))
                .load(conn)
                .await?;
        Ok(Self::of(rows))
    }

    fn of(rows: Vec<SeatCount>) -> Self {
        Self { types: rows.into_iter().map(|row| (row.id, row)).collect(), ..Self::default() }
    }

    /// Whether every line is of this event and still sold.
    pub(super) fn sells(&self, event_id: Uuid, items: &[HeldItem]) -> bool {
        items.iter().all(|item| {
            self.types.get(&item.ticket_type_id).is_some_and(|row| row.event_id == event_id && !row.withdrawn)
        })
    }

    /// Takes the seats of a whole order, or none of them if one line does not fit. Those of an offer are reserved for
    /// it already.
    pub(super) fn take(&mut self, items: &[HeldItem], offered: bool) -> bool {
        let (mut taken, mut from_offers) = (self.taken.clone(), self.offered.clone());
        for item in items {
            let Some(row) = self.types.get(&item.ticket_type_id) else { return false };
            let count = taken.entry(item.ticket_type_id).or_default();
            let Some(more) = i32::try_from(item.quantity).ok().and_then(|q| count.checked_add(q)) else {
                return false;
            };
            let reserved = from_offers.entry(item.ticket_type_id).or_default();
            if offered {
                *reserved += more - *count;
            }
            let others = i64::from(row.reserved) - i64::from(*reserved);
            if i64::from(row.sold) + others + i64::from(more) > i64::from(row.capacity) {
                return false;
            }
            *count = more;
        }
        (self.taken, self.offered) = (taken, from_offers);
        true
    }

    /// Writes what was taken, one row a ticket type, and answers the numbers of all.
    pub(super) async fn sell(mut self, mut conn: &Conn) -> Result<Vec<SeatCount>, Fault> {
        if !self.taken.is_empty() {
            let rows: Vec<SeatCount> = prepared(
                sql_query(include_str!("sql/sell.sql"))
                    .bind::<Array<SqlUuid>, _>(self.taken.keys().copied().collect::<Vec<_>>())
                    .bind::<Array<Integer>, _>(self.taken.values().copied().collect::<Vec<_>>())
                    .bind::<Array<Integer>, _>(
                        self.taken
                            .keys()
                            .map(|id| self.offered.get(id).copied().unwrap_or(0))
                            .collect::<Vec<_>>(),
                    ),
            )
            .load(&mut conn)
            .await?;
            // The rows are locked and were checked: the guard can only disagree after a mistake of ours.
            if rows.len() != self.taken.len() {
                return Err(Fault::Corrupt(
                    "the guard refused seats that were counted under lock".to_owned(),
                ));
            }
            self.types.extend(rows.into_iter().map(|row| (row.id, row)));
        }
        Ok(self.types.into_values().collect())
    }
}

/// Gives seats back, in the order of ids; answers the new numbers. The caller holds no other such lock.
pub(super) async fn give_back(
    conn: &mut Conn,
    quantities: &BTreeMap<Uuid, i32>,
) -> Result<Vec<SeatCount>, Fault> {
    Stock::lock(conn, quantities.keys().copied().collect()).await?;
    let rows = prepared(
        sql_query(include_str!("sql/give_back.sql"))
            .bind::<Array<SqlUuid>, _>(quantities.keys().copied().collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(quantities.values().copied().collect::<Vec<_>>()),
    )
    .load(conn)
    .await?;
    Ok(rows)
}

/// Users and how many tickets of an event each of them gains or loses, in the order in which they are locked.
pub(super) type BuyerDelta = BTreeMap<(Uuid, Uuid), i32>;

/// Adds to what users bought of events and answers the new counts.
pub(super) async fn count_buyers(conn: &Conn, bought: &BuyerDelta) -> Result<Vec<BuyerCount>, Fault> {
    change_buyers(conn, include_str!("sql/count_buyers.sql"), bought).await
}

/// Takes away from what users bought of events and answers the new counts.
pub(super) async fn discount_buyers(conn: &Conn, returned: &BuyerDelta) -> Result<Vec<BuyerCount>, Fault> {
    change_buyers(conn, include_str!("sql/discount_buyers.sql"), returned).await
}

async fn change_buyers(
    mut conn: &Conn,
    sql: &'static str,
    delta: &BuyerDelta,
) -> Result<Vec<BuyerCount>, Fault> {
    if delta.is_empty() {
        return Ok(Vec::new());
    }
    let rows = prepared(
        sql_query(sql)
            .bind::<Array<SqlUuid>, _>(delta.keys().map(|key| key.0).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(delta.keys().map(|key| key.1).collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(delta.values().copied().collect::<Vec<_>>()),
    )
    .load(&mut conn)
    .await?;
    Ok(rows)
}

/// How many seats a list of lines has.
pub(super) fn quantity(items: &[HeldItem]) -> i32 {
    items.iter().map(|item| i32::try_from(item.quantity).unwrap_or(i32::MAX)).fold(0, i32::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(id: u128, capacity: i32, sold: i32) -> SeatCount {
        SeatCount {
            id: Uuid::from_u128(id),
            event_id: Uuid::nil(),
            capacity,
            sold,
            reserved: 0,
            price: 0,
            inventory_version: 1,
            waiting_tickets: 0,
            withdrawn: false,
        }
    }

    fn line(id: u128, quantity: u32) -> HeldItem {
        HeldItem { ticket_type_id: Uuid::from_u128(id), quantity, seats: Vec::new(), unit_price: 0 }
    }

    #[test]
    fn what_does_not_fit_takes_nothing_and_what_comes_after_may_fit() {
        let mut stock = Stock::of(vec![seats(1, 3, 0), seats(2, 10, 9)]);
        assert!(stock.take(&[line(1, 2)], false));
        assert!(!stock.take(&[line(1, 1), line(2, 2)], false));
        assert!(!stock.take(&[line(1, 2)], false));
        assert!(stock.take(&[line(1, 1), line(2, 1)], false));
        assert!(!stock.take(&[line(3, 1)], false));
        assert!(!stock.take(&[line(2, u32::MAX)], false));
        assert!(!stock.take(&[line(1, 1)], false));
        assert_eq!(stock.taken.values().copied().collect::<Vec<_>>(), [3, 1]);
    }

    #[test]
    fn seats_of_an_offer_are_there_for_it_and_for_nobody_else() {
        let mut stock = Stock::of(vec![SeatCount { reserved: 2, ..seats(1, 10, 8) }]);
        assert!(!stock.take(&[line(1, 1)], false));
        assert!(stock.take(&[line(1, 2)], true));
        assert!(!stock.take(&[line(1, 1)], false));
        assert_eq!((stock.taken[&Uuid::from_u128(1)], stock.offered[&Uuid::from_u128(1)]), (2, 2));
    }
}
