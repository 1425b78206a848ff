//! What the machine would do at best for a waitlist: the rows of one join, and of one offer, by themselves.

use std::time::Duration;

use anyhow::ensure;

use super::{limits::WRITERS, stage::Stage};

/// Whoever has a place in one line joins the next: so many lines are enough.
const LINES: usize = 20;

/// Each a second.
pub(super) struct LineLimits {
    pub(super) join: f64,
    pub(super) offer: f64,
}

pub(super) async fn measure(stage: &Stage) -> anyhow::Result<LineLimits> {
    let sale = stage.sale(LINES, 1_000_000).await?;
    let (event, kind) = (sale.event, sale.kinds[0]);
    let kinds: Vec<_> = sale.kinds.iter().enumerate().map(|(n, kind)| format!("({n}, '{kind}')")).collect();
    let tables = format!(
        "DROP TABLE IF EXISTS bench_lines, bench_people; DROP SEQUENCE IF EXISTS bench_joins; \
         CREATE SEQUENCE bench_joins; \
         CREATE TABLE bench_lines (n bigint PRIMARY KEY, kind uuid); INSERT INTO bench_lines VALUES {}; \
         CREATE TABLE bench_people (n bigint PRIMARY KEY, id uuid); INSERT INTO bench_people \
         SELECT row_number() OVER () - 1, id FROM users WHERE email LIKE 'load-%'",
        kinds.join(", ")
    );
    stage.tools.psql(&tables).await?;
    let people: u64 = stage.tools.psql("SELECT count(*) FROM bench_people").await?.concat().parse()?;
    let join = format!(
        "BEGIN;\n\
         SELECT id FROM events WHERE id = '{event}' FOR SHARE;\n\
         WITH who AS MATERIALIZED (SELECT p.id, k.kind FROM (SELECT nextval('bench_joins') AS n) j \
             JOIN bench_people p ON p.n = j.n % {people} JOIN bench_lines k ON k.n = j.n / {people}), \
         raised AS (UPDATE ticket_types t SET last_place = t.last_place + 1, waiting_entries = t.waiting_entries + 1, \
             waiting_tickets = t.waiting_tickets + 1, inventory_version = t.inventory_version + 1 \
             FROM who WHERE t.id = who.kind RETURNING t.id, t.last_place, who.id AS user_id) \
         INSERT INTO waitlist_entries (id, event_id, ticket_type_id, user_id, quantity, place) \
         SELECT gen_random_uuid(), '{event}', id, user_id, 1, last_place FROM raised;\n\
         COMMIT;\n"
    );
    let join = pgbench(stage, "join.sql", join).await?;
    let offer = format!(
        "BEGIN;\n\
         SELECT id FROM events WHERE id = '{event}' FOR SHARE;\n\
         UPDATE ticket_types SET reserved = reserved + 1, waiting_entries = waiting_entries - 1, \
             waiting_tickets = waiting_tickets - 1, inventory_version = inventory_version + 1 WHERE id = '{kind}';\n\
         WITH offered AS (UPDATE waitlist_entries SET status = 'offered', changed_at = now() WHERE id = ( \
             SELECT id FROM waitlist_entries WHERE ticket_type_id = '{kind}' AND status = 'waiting' \
             ORDER BY place LIMIT 1) RETURNING id, user_id), \
         made AS (INSERT INTO waitlist_offers (id, entry_id, event_id, ticket_type_id, user_id, quantity, unit_price, \
             currency, token_hash, expires_at) SELECT gen_random_uuid(), id, '{event}', '{kind}', user_id, 1, 4500, \
             'EUR', sha256(id::text::bytea), now() + interval '1 hour' FROM offered RETURNING id, user_id), \
         owed AS (INSERT INTO mails (id, cause, kind, user_id, recipient, data, status) \
             SELECT gen_random_uuid(), id, 'bench', user_id, 'nobody@evently.test', '{{}}', 'sent' FROM made \
             RETURNING id) \
         INSERT INTO outbox (id, cause, pool, job, job_key, payload, run_at) \
             SELECT gen_random_uuid(), id, 'none', 'none', '', '{{}}', 'infinity' FROM owed;\n\
         COMMIT;\n"
    );
    let offer = pgbench(stage, "offer.sql", offer).await?;
    let left = format!(
        "SELECT count(*) FROM waitlist_entries WHERE ticket_type_id = '{kind}' AND status = 'waiting'"
    );
    ensure!(stage.tools.psql(&left).await?.concat() != "0", "the line was too short to measure offers");
    for clean in [
        format!("DELETE FROM waitlist_entries WHERE event_id = '{event}'"),
        format!(
            "UPDATE ticket_types SET waiting_entries = 0, waiting_tickets = 0, reserved = 0, \
             inventory_version = inventory_version + 1 WHERE event_id = '{event}'"
        ),
        "DELETE FROM outbox WHERE pool = 'none'".to_owned(),
        "DELETE FROM mails WHERE kind = 'bench'".to_owned(),
        "VACUUM ANALYZE waitlist_entries, waitlist_offers, outbox, mails".to_owned(),
    ] {
        stage.tools.psql(&clean).await?;
    }
    Ok(LineLimits { join, offer })
}

async fn pgbench(stage: &Stage, name: &str, script: String) -> anyhow::Result<f64> {
    let file = stage.file(name);
    std::fs::write(&file, script)?;
    stage.tools.pgbench(&file, WRITERS, stage.time.max(Duration::from_secs(1))).await
}
