//! The rules of an event as they are kept, and when they are due next.

use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, Bool, Integer, Jsonb, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use serde_json::{Value, json};
use uuid::Uuid;

use super::rules::PricingRules;
use crate::{
    audit::{self, AuditEntry},
    db::{Conn, Db},
    events::{self, Editor, WriteError},
    fault::Fault,
    statement::prepared,
};

/// The rules of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pricing {
    pub rules: PricingRules,
    /// The number in the rules' ETag; 0 while nobody has written any.
    pub version: i64,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Jsonb)]
    rules: Value,
    #[diesel(sql_type = BigInt)]
    version: i64,
}

impl Row {
    fn read(self) -> Result<Pricing, Fault> {
        let rules = serde_json::from_value(self.rules)?;
        Ok(Pricing { rules, version: self.version })
    }
}

async fn find(conn: &mut Conn, event_id: Uuid) -> Result<Pricing, Fault> {
    let rows: Vec<Row> = prepared(
        sql_query("SELECT rules, version FROM pricing_rules WHERE event_id = $1")
            .bind::<SqlUuid, _>(event_id),
    )
    .load(conn)
    .await?;
    let unwritten = || Ok(Pricing { rules: PricingRules::default(), version: 0 });
    rows.into_iter().next().map_or_else(unwritten, Row::read)
}

#[derive(QueryableByName)]
struct OwnerRow {
    #[diesel(sql_type = SqlUuid)]
    organizer_id: Uuid,
}

/// Whether there is such an event, and this editor may see what is not public of it.
pub(super) async fn may_see(conn: &mut Conn, editor: Editor, event_id: Uuid) -> Result<bool, Fault> {
    let rows: Vec<OwnerRow> =
        prepared(sql_query("SELECT organizer_id FROM events WHERE id = $1").bind::<SqlUuid, _>(event_id))
            .load(conn)
            .await?;
    Ok(rows.iter().any(|row| editor.may_edit(Some(row.organizer_id))))
}

/// The rules of an event; those that nobody has written yet are off. `None`: unknown, or somebody else's.
pub async fn read(db: &Db, editor: Editor, event_id: Uuid) -> Result<Option<Pricing>, Fault> {
    let mut conn = db.conn().await?;
    if !may_see(&mut conn, editor, event_id).await? {
        return Ok(None);
    }
    find(&mut conn, event_id).await.map(Some)
}

#[derive(QueryableByName)]
struct PriceRow {
    #[diesel(sql_type = BigInt)]
    base_price: i64,
}

/// Replaces the rules of an event if their version is still `expected`, 0 where there are none; audited. Rules that are
/// on are due one interval after the start of sales or from now on, and stay due when they were due already.
pub async fn replace(
    db: &Db,
    editor: Editor,
    event_id: Uuid,
    expected: i64,
    rules: PricingRules,
) -> Result<Pricing, WriteError> {
    let mut conn = db.conn().await?;
    (*conn)
        .transaction(async |conn: &mut Conn| {
            let event = events::lock(conn, editor, event_id).await?;
            let kinds: Vec<PriceRow> = prepared(
                sql_query("SELECT base_price FROM ticket_types WHERE event_id = $1 AND deleted_at IS NULL")
                    .bind::<SqlUuid, _>(event_id),
            )
            .load(conn)
            .await?;
            let base_prices: Vec<_> = kinds.iter().map(|kind| kind.base_price).collect();
            rules.check(&base_prices).map_err(WriteError::Invalid)?;
            let present = find(conn, event_id).await?;
            if present.version != expected {
                return Err(WriteError::Stale);
            }
            event.require_open()?;
            write(conn, event_id, &rules).await?;
            arm(conn, event_id).await?;
            let detail = json!({
                "version": present.version + 1,
                "rules": { "from": (present.version > 0).then_some(&present.rules), "to": &rules },
            });
            let entry = AuditEntry::new(Some(editor.user_id), "pricing.updated", ("event", event_id), detail);
            audit::append(conn, &[entry]).await?;
            Ok(find(conn, event_id).await?)
        })
        .await
}

async fn write(conn: &mut Conn, event_id: Uuid, rules: &PricingRules) -> Result<(), WriteError> {
    let every = i32::try_from(rules.every_minutes).unwrap_or(i32::MAX);
    prepared(
        sql_query(
            "INSERT INTO pricing_rules (event_id, enabled, every_minutes, rules) VALUES ($1, $2, $3, $4)
             ON CONFLICT (event_id) DO UPDATE
             SET enabled = excluded.enabled, every_minutes = excluded.every_minutes, rules = excluded.rules,
                 next_due_at = CASE WHEN excluded.enabled THEN pricing_rules.next_due_at END,
                 version = pricing_rules.version + 1, updated_at = now()",
        )
        .bind::<SqlUuid, _>(event_id)
        .bind::<Bool, _>(rules.enabled)
        .bind::<Integer, _>(every)
        .bind::<Jsonb, _>(serde_json::to_value(rules)?),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Sets when the rules of a published event are due next, if they are on: one interval after the start of sales or from
/// now on, or as they are, if that is earlier. Every change of an event calls it, in its transaction.
pub(crate) async fn arm(conn: &mut Conn, event_id: Uuid) -> Result<(), Fault> {
    prepared(
        sql_query(
            "UPDATE pricing_rules p SET next_due_at = n.due_at
             FROM events e, pricing_rules o, LATERAL (
                 SELECT least(o.next_due_at, date_trunc('second', greatest(now(), e.sales_start_at))
                                             + make_interval(mins => o.every_minutes)) AS due_at) n
             WHERE p.event_id = $1 AND o.event_id = $1 AND e.id = $1 AND p.enabled AND e.status = 'published'
               AND p.next_due_at IS DISTINCT FROM n.due_at",
        )
        .bind::<SqlUuid, _>(event_id),
    )
    .execute(conn)
    .await?;
    Ok(())
}
