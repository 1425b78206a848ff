//! Evaluates the prices of an event at a time at which they are due, once.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, QueryableByName, sql_query,
    sql_types::{Array, BigInt, Bool, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{
    due::{Due, DueRules, advance, find_due, put_off},
    engine::{Counted, Decision, Limit, Moment, decide},
    history,
    rules::PricingRules,
};
use crate::{
    db::{Conn, Db},
    events,
    fault::Fault,
    inventory::{self, Inventory, SyncError},
    kill_point::kill_point,
    statement::prepared,
};

/// What came of an evaluation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evaluated {
    /// It was done now, with these ticket types.
    Done { kinds: Vec<Moved>, event_version: i64 },
    /// It was done before.
    Repeated { changed: bool, event_version: i64 },
    /// The event is not on sale. It is due again when it is, if it will be.
    NotOnSale,
    /// The rules are off or due at another time by now.
    NotDue,
}

impl Evaluated {
    /// The version of the event in which its new prices are, if some are new: what Redis and the caches are to hear of.
    /// Also of what was done before: whoever did it may not have lived to tell.
    pub fn to_tell(&self) -> Option<i64> {
        match self {
            Self::Done { kinds, event_version } => {
                kinds.iter().any(|kind| kind.from != kind.to).then_some(*event_version)
            }
            Self::Repeated { changed, event_version } => changed.then_some(*event_version),
            Self::NotOnSale | Self::NotDue => None,
        }
    }
}

/// What became of one ticket type's price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    pub ticket_type_id: Uuid,
    pub from: i64,
    pub to: i64,
    /// What kept it from where the rules alone would have it.
    pub limited_by: Vec<Limit>,
}

/// What an evaluation saw, as it is kept: all that a replay cannot count again from the booking log.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Seen {
    #[serde(flatten)]
    pub moment: Moment,
    pub ticket_types: Vec<SeenKind>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct SeenKind {
    pub id: Uuid,
    pub base_price: i64,
    pub price: i64,
    /// What it was made.
    pub to: i64,
    pub capacity: i64,
    pub sold: i64,
    pub sold_in_window: i64,
    pub held: i64,
    pub waiting: i64,
}

/// Evaluates the prices of an event that are due at this second, all of them or none, once however often it is called
/// and by however many. What it changed is yet to be told to Redis: [`Evaluated::to_tell`].
pub async fn evaluate(
    db: &Db,
    inventory: &Inventory,
    event_id: Uuid,
    due_second: i64,
) -> Result<Evaluated, SyncError> {
    let due = Due { event_id, due_second };
    let mut conn = db.conn().await?;
    let Some(rules) = find_due(&mut conn, due).await? else {
        return Ok(repeated(&mut conn, due).await?.unwrap_or(Evaluated::NotDue));
    };
    let mut look = look(&mut conn, event_id).await?;
    count_demand(&mut conn, event_id, &rules.rules, &mut look).await?;
    drop(conn);
    count_holds(db, inventory, event_id, &mut look).await?;
    kill_point("reprice.looked");
    let mut conn = db.conn().await?;
    let evaluated =
        (*conn).transaction(async |conn: &mut Conn| write(conn, due, &rules, &look).await).await?;
    if matches!(evaluated, Evaluated::Done { .. }) {
        kill_point("reprice.committed");
    }
    Ok(evaluated)
}

#[derive(QueryableByName)]
struct DoneRow {
    #[diesel(sql_type = Integer)]
    changes: i32,
    #[diesel(sql_type = BigInt)]
    event_version: i64,
}

async fn repeated(conn: &mut Conn, due: Due) -> Result<Option<Evaluated>, Fault> {
    let row: Option<DoneRow> = prepared(
        sql_query(
            "SELECT changes, event_version FROM price_evaluations
             WHERE event_id = $1 AND due_at = to_timestamp($2)",
        )
        .bind::<SqlUuid, _>(due.event_id)
        .bind::<BigInt, _>(due.due_second),
    )
    .get_result(conn)
    .await
    .optional()?;
    Ok(row.map(|row| Evaluated::Repeated { changed: row.changes > 0, event_version: row.event_version }))
}

#[derive(QueryableByName)]
struct StockRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Integer)]
    sold: i32,
    #[diesel(sql_type = Integer)]
    waiting_tickets: i32,
}

#[derive(QueryableByName)]
struct MomentRow {
    #[diesel(sql_type = Timestamptz)]
    at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    sales_start_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    sales_over_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    starts_at: DateTime<Utc>,
    #[diesel(sql_type = BigInt)]
    log_position: i64,
}

/// What was counted, when, and which entries of the booking log are in it.
struct Look {
    moment: Moment,
    log_position: i64,
    kinds: BTreeMap<Uuid, Seats>,
}

#[derive(Clone, Copy, Default)]
struct Seats {
    sold: i64,
    sold_in_window: i64,
    held: i64,
    waiting: i64,
}

/// Counts under the locks of the ticket types, which whoever sells holds until its entries in the log are committed: no
/// entry of theirs is in flight then, and every later one has a higher number.
async fn look(conn: &mut Conn, event_id: Uuid) -> Result<Look, Fault> {
    conn.transaction(async |conn: &mut Conn| {
        let rows: Vec<StockRow> = prepared(
            sql_query(
                "SELECT id, sold, waiting_tickets FROM ticket_types
                 WHERE event_id = $1 AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE",
            )
            .bind::<SqlUuid, _>(event_id),
        )
        .load(conn)
        .await?;
        let row: MomentRow = prepared(
            sql_query(
                "SELECT clock_timestamp() AS at, e.sales_start_at, least(e.sales_end_at, e.starts_at) AS sales_over_at,
                        e.starts_at, CASE WHEN s.is_called THEN s.last_value ELSE 0 END AS log_position
                 FROM events e, booking_log_id_seq s WHERE e.id = $1",
            )
            .bind::<SqlUuid, _>(event_id),
        )
        .get_result(conn)
        .await?;
        let seats = |row: &StockRow| Seats {
            sold: row.sold.into(),
            waiting: row.waiting_tickets.into(),
            ..Seats::default()
        };
        Ok(Look {
            moment: Moment {
                at: row.at,
                sales_start_at: row.sales_start_at,
                sales_over_at: row.sales_over_at,
                starts_at: row.starts_at,
            },
            log_position: row.log_position,
            kinds: rows.iter().map(|row| (row.id, seats(row))).collect(),
        })
    })
    .await
}

#[derive(QueryableByName)]
struct DemandRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = BigInt)]
    sold: i64,
}

async fn count_demand(
    conn: &mut Conn,
    event_id: Uuid,
    rules: &PricingRules,
    look: &mut Look,
) -> Result<(), Fault> {
    let since = look.moment.at - look.moment.window(rules);
    let rows: Vec<DemandRow> = prepared(
        sql_query(
            "SELECT (item ->> 'ticket_type_id')::uuid AS id, sum((item ->> 'quantity')::bigint)::bigint AS sold
             FROM booking_log l CROSS JOIN LATERAL jsonb_array_elements(l.items) AS item
             WHERE l.event_id = $1 AND l.kind = 'confirmed' AND l.at > $2 AND l.id <= $3
             GROUP BY 1",
        )
        .bind::<SqlUuid, _>(event_id)
        .bind::<Timestamptz, _>(since)
        .bind::<BigInt, _>(look.log_position),
    )
    .load(conn)
    .await?;
    for row in rows {
        if let Some(seats) = look.kinds.get_mut(&row.id) {
            seats.sold_in_window = row.sold;
        }
    }
    Ok(())
}

async fn count_holds(
    db: &Db,
    inventory: &Inventory,
    event_id: Uuid,
    look: &mut Look,
) -> Result<(), SyncError> {
    let ids: Vec<Uuid> = look.kinds.keys().copied().collect();
    if inventory.availability(event_id, &[]).await?.is_none() {
        inventory::ensure_ready(inventory, db, event_id).await?;
    }
    let (_, counts) = inventory.availability(event_id, &ids).await?.ok_or(SyncError::Rebuilding)?;
    for count in counts {
        if let Some(seats) = look.kinds.get_mut(&count.ticket_type_id) {
            seats.held = count.held;
        }
    }
    Ok(())
}

#[derive(QueryableByName)]
struct EventRow {
    #[diesel(sql_type = Text)]
    currency: String,
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = Bool)]
    on_sale: bool,
}

/// Decides and writes, under the lock of the event.
async fn write(conn: &mut Conn, due: Due, rules: &DueRules, look: &Look) -> Result<Evaluated, Fault> {
    let event: Option<EventRow> = prepared(
        sql_query(
            "SELECT currency, version, status = 'published' AND sales_start_at <= now()
                    AND now() < least(sales_end_at, starts_at) AS on_sale
             FROM events WHERE id = $1 FOR NO KEY UPDATE",
        )
        .bind::<SqlUuid, _>(due.event_id),
    )
    .get_result(conn)
    .await
    .optional()?;
    let still_due = find_due(conn, due).await?.filter(|found| found.version == rules.version);
    let (Some(event), Some(_)) = (event, still_due) else {
        return Ok(repeated(conn, due).await?.unwrap_or(Evaluated::NotDue));
    };
    if !event.on_sale {
        put_off(conn, due.event_id).await?;
        return Ok(Evaluated::NotOnSale);
    }
    let decided = decide_all(conn, due.event_id, rules, look).await?;
    let moves: Vec<_> =
        decided.iter().filter(|(_, it)| it.price != it.reason.inputs.price).cloned().collect();
    let event_version = event.version + i64::from(!moves.is_empty());
    if insert_evaluation(conn, due, rules, look, &decided, (moves.len(), event_version)).await? == 0 {
        // The very same second once more, after the rules were off and on again.
        advance(conn, due.event_id).await?;
        return Ok(repeated(conn, due).await?.unwrap_or(Evaluated::NotDue));
    }
    if !moves.is_empty() {
        set_prices(conn, &moves).await?;
        history::record_moves(conn, due.event_id, look.moment.at, &event.currency, &moves).await?;
        let change = |(id, it): &(Uuid, Decision)| json!({ "ticket_type_id": id, "from": it.reason.inputs.price, "to": it.price });
        let detail = json!({ "prices": moves.iter().map(change).collect::<Vec<_>>() });
        events::changed(conn, due.event_id, None, "event.repriced", detail, &[]).await?;
    }
    advance(conn, due.event_id).await?;
    let kinds = decided.into_iter().map(|(ticket_type_id, it)| Moved {
        ticket_type_id,
        from: it.reason.inputs.price,
        to: it.price,
        limited_by: it.reason.limited_by,
    });
    Ok(Evaluated::Done { kinds: kinds.collect(), event_version })
}

#[derive(QueryableByName)]
struct PriceRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Integer)]
    capacity: i32,
    #[diesel(sql_type = BigInt)]
    base_price: i64,
    #[diesel(sql_type = BigInt)]
    price: i64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    changed_at: Option<DateTime<Utc>>,
}

/// Decides about the ticket types that were counted and are still there, at the prices that they have by now.
async fn decide_all(
    conn: &mut Conn,
    event_id: Uuid,
    rules: &DueRules,
    look: &Look,
) -> Result<Vec<(Uuid, Decision)>, Fault> {
    // Prices and their history are written under the lock of the event, which this transaction has.
    let rows: Vec<PriceRow> = prepared(
        sql_query(
            "SELECT t.id, t.capacity, t.base_price, t.price,
                    (SELECT h.at FROM price_history h WHERE h.ticket_type_id = t.id
                     ORDER BY h.step DESC LIMIT 1) AS changed_at
             FROM ticket_types t WHERE t.event_id = $1 AND t.deleted_at IS NULL
             ORDER BY t.id FOR NO KEY UPDATE OF t",
        )
        .bind::<SqlUuid, _>(event_id),
    )
    .load(conn)
    .await?;
    let decided = rows.iter().filter_map(|row| {
        let seats = look.kinds.get(&row.id)?;
        let counted = Counted {
            base_price: row.base_price,
            capacity: row.capacity.into(),
            sold: seats.sold,
            sold_in_window: seats.sold_in_window,
            held: seats.held,
            waiting: seats.waiting,
        };
        let inputs = look.moment.inputs(&rules.rules, &counted, row.price, row.changed_at);
        Some((row.id, decide(&rules.rules, &inputs)))
    });
    Ok(decided.collect())
}

async fn insert_evaluation(
    conn: &mut Conn,
    due: Due,
    rules: &DueRules,
    look: &Look,
    decided: &[(Uuid, Decision)],
    (changes, event_version): (usize, i64),
) -> Result<usize, Fault> {
    let kinds = decided.iter().map(|(id, Decision { price, reason })| SeenKind {
        id: *id,
        base_price: reason.inputs.base_price,
        price: reason.inputs.price,
        to: *price,
        capacity: reason.inputs.capacity,
        sold: reason.inputs.sold,
        sold_in_window: reason.inputs.sold_in_window,
        held: reason.inputs.held,
        waiting: reason.inputs.waiting,
    });
    let seen = Seen { moment: look.moment, ticket_types: kinds.collect() };
    Ok(prepared(
        sql_query(
            "INSERT INTO price_evaluations (event_id, due_at, evaluated_at, rules_version, log_position, seen,
                                            changes, event_version)
             VALUES ($1, to_timestamp($2), $3, $4, $5, $6, $7, $8)
             ON CONFLICT (event_id, due_at) DO NOTHING",
        )
        .bind::<SqlUuid, _>(due.event_id)
        .bind::<BigInt, _>(due.due_second)
        .bind::<Timestamptz, _>(look.moment.at)
        .bind::<BigInt, _>(rules.version)
        .bind::<BigInt, _>(look.log_position)
        .bind::<Jsonb, _>(serde_json::to_value(seen)?)
        .bind::<Integer, _>(i32::try_from(changes).unwrap_or(i32::MAX))
        .bind::<BigInt, _>(event_version),
    )
    .execute(conn)
    .await?)
}

async fn set_prices(conn: &mut Conn, moves: &[(Uuid, Decision)]) -> Result<(), Fault> {
    let prices: HashMap<Uuid, i64> = moves.iter().map(|(id, decision)| (*id, decision.price)).collect();
    prepared(
        sql_query(
            "UPDATE ticket_types t
             SET price = m.price, version = t.version + 1, inventory_version = t.inventory_version + 1,
                 updated_at = now()
             FROM unnest($1::uuid[], $2::bigint[]) AS m (id, price) WHERE t.id = m.id",
        )
        .bind::<Array<SqlUuid>, _>(prices.keys().copied().collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(prices.values().copied().collect::<Vec<_>>()),
    )
    .execute(conn)
    .await?;
    Ok(())
}
