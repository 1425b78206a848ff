//! Every change of a price and what it came of, append-only.

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName, sql_query,
    sql_types::{Array, BigInt, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    engine::{Contribution, Decision, Limit, Reason},
    stored::may_see,
};
use crate::{
    db::{Conn, Db},
    events::Editor,
    fault::Fault,
    listing::{Fingerprint, InvalidCursor, Page},
    money::Money,
    statement::prepared,
};

/// What changed a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PriceCause {
    /// An evaluation of the event's rules.
    Rules,
    /// A new base price.
    Manual,
}

/// One change of a price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PriceChange {
    pub id: Uuid,
    pub ticket_type_id: Uuid,
    pub at: DateTime<Utc>,
    pub cause: PriceCause,
    /// The price before.
    pub from: Money,
    /// The price from then on.
    pub to: Money,
    /// The base price from then on.
    pub base_price: Money,
    /// Who changed it; null: the rules.
    pub actor_id: Option<Uuid>,
    /// How the rules came to it; null when it was changed by hand.
    pub reason: Option<PriceReason>,
}

/// How the rules came to a price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PriceReason {
    pub inputs: PriceInputs,
    /// In basis points of the capacity.
    pub utilisation: Contribution,
    /// In basis points of the demand that is expected.
    pub velocity: Contribution,
    /// In seconds to the event.
    pub time_to_event: Contribution,
    /// In tickets that are waited for.
    pub waitlist: Contribution,
    /// What the rules alone would make of the base price.
    pub target: Money,
    pub floor: Money,
    pub ceiling: Money,
    /// What kept the price from the target.
    pub limited_by: Vec<Limit>,
}

/// What the rules saw of a ticket type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PriceInputs {
    pub capacity: i64,
    pub sold: i64,
    /// Tickets sold within the window.
    pub sold_in_window: i64,
    /// How long the window was: shorter than the rule says at the beginning of sales.
    pub window_secs: i64,
    /// Tickets in holds.
    pub held: i64,
    /// Tickets that people on the waitlist wait for.
    pub waiting: i64,
    /// From the start of sales to their end.
    pub sale_secs: i64,
    /// To the start of the event.
    pub left_secs: i64,
    /// Since the price was changed last, if it ever was.
    pub since_change_secs: Option<i64>,
}

impl PriceReason {
    fn of(reason: Reason, currency: &str) -> Self {
        let inputs = reason.inputs;
        Self {
            inputs: PriceInputs {
                capacity: inputs.capacity,
                sold: inputs.sold,
                sold_in_window: inputs.sold_in_window,
                window_secs: inputs.window_secs,
                held: inputs.held,
                waiting: inputs.waiting,
                sale_secs: inputs.sale_secs,
                left_secs: inputs.left_secs,
                since_change_secs: inputs.since_change_secs,
            },
            utilisation: reason.utilisation,
            velocity: reason.velocity,
            time_to_event: reason.time_to_event,
            waitlist: reason.waitlist,
            target: Money::new(reason.target, currency),
            floor: Money::new(reason.floor, currency),
            ceiling: Money::new(reason.ceiling, currency),
            limited_by: reason.limited_by,
        }
    }
}

/// Which changes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct HistoryFilter {
    pub event_id: Uuid,
    pub ticket_type_id: Option<Uuid>,
}

#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// Unknown, or somebody else's event.
    #[error("there is no such event")]
    NotFound,
    #[error(transparent)]
    InvalidCursor(#[from] InvalidCursor),
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<diesel::result::Error> for HistoryError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Fault(error.into())
    }
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = BigInt)]
    step: i64,
    #[diesel(sql_type = SqlUuid)]
    ticket_type_id: Uuid,
    #[diesel(sql_type = Timestamptz)]
    at: DateTime<Utc>,
    #[diesel(sql_type = BigInt)]
    old_price: i64,
    #[diesel(sql_type = BigInt)]
    new_price: i64,
    #[diesel(sql_type = BigInt)]
    new_base_price: i64,
    #[diesel(sql_type = Text)]
    currency: String,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    actor_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Jsonb>)]
    reason: Option<Value>,
}

impl Row {
    fn read(self) -> Result<PriceChange, Fault> {
        let reason: Option<Reason> = self.reason.map(serde_json::from_value).transpose()?;
        let money = |amount| Money::new(amount, &self.currency);
        Ok(PriceChange {
            id: self.id,
            ticket_type_id: self.ticket_type_id,
            at: self.at,
            cause: if reason.is_some() { PriceCause::Rules } else { PriceCause::Manual },
            from: money(self.old_price),
            to: money(self.new_price),
            base_price: money(self.new_base_price),
            actor_id: self.actor_id,
            reason: reason.map(|reason| PriceReason::of(reason, &self.currency)),
        })
    }
}

/// A page of the history of an event's prices, newest first.
pub async fn page(
    db: &Db,
    editor: Editor,
    filter: HistoryFilter,
    limit: u32,
    cursor: Option<&str>,
) -> Result<Page<PriceChange>, HistoryError> {
    let list = Fingerprint::of("price_history", &filter);
    let before: Option<i64> = cursor.map(|cursor| list.position(cursor)).transpose()?;
    let mut conn = db.conn().await?;
    if !may_see(&mut conn, editor, filter.event_id).await? {
        return Err(HistoryError::NotFound);
    }
    let rows: Vec<Row> = prepared(
        sql_query(
            "SELECT id, step, ticket_type_id, at, old_price, new_price, new_base_price, currency, actor_id, reason
             FROM price_history
             WHERE event_id = $1 AND ($2::uuid IS NULL OR ticket_type_id = $2) AND ($3::bigint IS NULL OR step < $3)
             ORDER BY step DESC LIMIT $4",
        )
        .bind::<SqlUuid, _>(filter.event_id)
        .bind::<Nullable<SqlUuid>, _>(filter.ticket_type_id)
        .bind::<Nullable<BigInt>, _>(before)
        .bind::<BigInt, _>(i64::from(limit) + 1),
    )
    .load(&mut *conn)
    .await?;
    let page = list.page(rows, limit, |row| row.step);
    let data = page.data.into_iter().map(Row::read).collect::<Result<_, Fault>>()?;
    Ok(Page { data, next_cursor: page.next_cursor })
}

/// A price that somebody sets by hand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ManualChange<'a> {
    pub event_id: Uuid,
    pub ticket_type_id: Uuid,
    pub actor_id: Uuid,
    /// Before and from now on.
    pub price: (i64, i64),
    pub base_price: (i64, i64),
    pub currency: &'a str,
}

/// Notes that somebody set a price, if it is another one; in the transaction that writes it, under the event's lock.
pub(crate) async fn record_manual(conn: &mut Conn, change: ManualChange<'_>) -> Result<(), Fault> {
    if change.price.0 == change.price.1 && change.base_price.0 == change.base_price.1 {
        return Ok(());
    }
    prepared(
        sql_query(
            "INSERT INTO price_history (id, at, event_id, ticket_type_id, cause, old_price, new_price,
                                        old_base_price, new_base_price, currency, actor_id)
             VALUES ($1, clock_timestamp(), $2, $3, 'manual', $4, $5, $6, $7, $8, $9)",
        )
        .bind::<SqlUuid, _>(Uuid::now_v7())
        .bind::<SqlUuid, _>(change.event_id)
        .bind::<SqlUuid, _>(change.ticket_type_id)
        .bind::<BigInt, _>(change.price.0)
        .bind::<BigInt, _>(change.price.1)
        .bind::<BigInt, _>(change.base_price.0)
        .bind::<BigInt, _>(change.base_price.1)
        .bind::<Text, _>(change.currency)
        .bind::<SqlUuid, _>(change.actor_id),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes what the rules changed; in the transaction that writes it, under the event's lock.
pub(super) async fn record_moves(
    conn: &mut Conn,
    event_id: Uuid,
    at: DateTime<Utc>,
    currency: &str,
    moves: &[(Uuid, Decision)],
) -> Result<(), Fault> {
    let column = moves.iter();
    let reasons = column
        .clone()
        .map(|(_, decision)| serde_json::to_value(&decision.reason))
        .collect::<Result<Vec<_>, _>>()?;
    prepared(
        sql_query(
            "INSERT INTO price_history (id, at, event_id, ticket_type_id, cause, old_price, new_price,
                                        old_base_price, new_base_price, currency, reason)
             SELECT id, $2, $3, ticket_type_id, 'rules', old_price, new_price, base_price, base_price, $4, reason
             FROM unnest($1::uuid[], $5::uuid[], $6::bigint[], $7::bigint[], $8::bigint[], $9::jsonb[])
                  AS m (id, ticket_type_id, old_price, new_price, base_price, reason)",
        )
        .bind::<Array<SqlUuid>, _>(column.clone().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
        .bind::<Timestamptz, _>(at)
        .bind::<SqlUuid, _>(event_id)
        .bind::<Text, _>(currency)
        .bind::<Array<SqlUuid>, _>(column.clone().map(|(id, _)| *id).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(column.clone().map(|(_, d)| d.reason.inputs.price).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(column.clone().map(|(_, d)| d.price).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(column.map(|(_, d)| d.reason.inputs.base_price).collect::<Vec<_>>())
        .bind::<Array<Jsonb>, _>(reasons),
    )
    .execute(conn)
    .await?;
    Ok(())
}
