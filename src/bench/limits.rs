//! What the machine would do at best: the same work without us, each measured once a run.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context, ensure};
use uuid::Uuid;

use super::{
    http::get,
    stage::{Sale, Stage},
};

/// `redis-benchmark -c`.
const REDIS_CLIENTS: u32 = 50;
/// `pgbench -c`.
pub(super) const WRITERS: u32 = 8;
/// Stands for another number in each command.
const RANDOM: &str = "__rand_int__";

/// Those that were measured already.
#[derive(Debug, Default)]
pub(super) struct Limits {
    bare: Option<f64>,
    script: Option<f64>,
}

impl Limits {
    /// `GET /` of bare axum, a second.
    pub(super) async fn bare(&mut self, stage: &Stage) -> anyhow::Result<f64> {
        if let Some(known) = self.bare {
            return Ok(known);
        }
        let measured = stage.repeat(stage.bare(), &[get("/", None)]).await?.per_second();
        Ok(*self.bare.insert(measured))
    }

    /// The script that places a hold, by itself, a second.
    pub(super) async fn script(&mut self, stage: &Stage) -> anyhow::Result<f64> {
        if let Some(known) = self.script {
            return Ok(known);
        }
        let sale = stage.large_sale().await?;
        let command =
            domain::holds::place_command(&stage.inventory, sale.event, sale.kinds[0], RANDOM).await?;
        let rough = stage.tools.redis_benchmark(&command, REDIS_CLIENTS, 1, 2_000).await?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive rate")]
        let count = (rough * stage.time.as_secs_f64()) as u64;
        let measured = stage.tools.redis_benchmark(&command, REDIS_CLIENTS, 1, count).await?;
        let held = held(stage, &sale).await?;
        let wanted = i64::try_from(count)?;
        ensure!(held >= wanted / 100 * 99, "the script placed {held} of {wanted} holds");
        Ok(*self.script.insert(measured))
    }
}

/// How many seats of its first ticket type are held.
async fn held(stage: &Stage, sale: &Sale) -> anyhow::Result<i64> {
    let (_, seats) = stage.inventory.availability(sale.event, &sale.kinds).await?.context("no inventory")?;
    Ok(seats.first().context("no seats")?.held)
}

/// The confirm of one booking by itself, a second: its event locked against being cancelled, the row of its ticket type
/// guarded and counted up, and the rows that our commit writes for one booking that costs nothing.
pub(super) async fn confirm(stage: &Stage, sales: &[Sale]) -> anyhow::Result<f64> {
    bookings(stage, sales, "", "").await
}

/// The same with its payment by itself, each step a transaction of its own: the attempt and the charge before, what is
/// taken and the note of that after.
pub(super) async fn paid(stage: &Stage, sales: &[Sale]) -> anyhow::Result<f64> {
    let before = "\\set p random(1, 1000000000000000)\n\
        INSERT INTO payments (id, booking_id, event_id, user_id, attempt, provider, provider_key, token, status, amount, \
            currency) SELECT gen_random_uuid(), gen_random_uuid(), event, gen_random_uuid(), 1, 'bench', 'bench:' || :p, \
            'tok_ok', 'captured', 4500, 'EUR' FROM bench_kinds WHERE n = :n;\n\
        INSERT INTO sandbox_charges (provider_key, token, reference, status, amount, currency, booking_id) \
            VALUES ('bench:' || :p, 'tok_ok', 'bench:' || :p, 'authorised', 4500, 'EUR', gen_random_uuid());\n";
    let after = "UPDATE sandbox_charges SET status = 'captured', captured = amount, updated_at = now() \
            WHERE provider_key = 'bench:' || :p AND status = 'authorised';\n\
        UPDATE payments SET status = 'captured', updated_at = now() WHERE provider_key = 'bench:' || :p;\n";
    let measured = bookings(stage, sales, before, after).await?;
    for table in ["payments", "sandbox_charges"] {
        stage.tools.psql(&format!("DELETE FROM {table} WHERE provider_key LIKE 'bench:%'")).await?;
        stage.tools.psql(&format!("VACUUM {table}")).await?;
    }
    Ok(measured)
}

async fn bookings(stage: &Stage, sales: &[Sale], before: &str, after: &str) -> anyhow::Result<f64> {
    let kinds: Vec<(Uuid, Uuid)> =
        sales.iter().flat_map(|sale| sale.kinds.iter().map(|kind| (*kind, sale.event))).collect();
    let mut table = String::from(
        "DROP TABLE IF EXISTS bench_kinds; CREATE TABLE bench_kinds (n int PRIMARY KEY, kind uuid, event uuid); INSERT INTO bench_kinds VALUES ",
    );
    for (n, (kind, event)) in kinds.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(table, "{}({n}, '{kind}', '{event}')", if n == 0 { "" } else { ", " });
    }
    stage.tools.psql(&table).await?;
    let people = stage
        .tools
        .psql(
            "DROP TABLE IF EXISTS bench_people; CREATE TABLE bench_people (n int PRIMARY KEY, id uuid); \
             INSERT INTO bench_people SELECT row_number() OVER () - 1, id FROM users WHERE email LIKE 'load-%'; \
             ANALYZE bench_kinds, bench_people; \
             SELECT count(*) - 1 FROM bench_people",
        )
        .await?
        .concat();
    let script = format!(
        "\\set n random(0, {last})\n\
         \\set u random(0, {people})\n\
         {before}\
         BEGIN;\n\
         SELECT e.status FROM events e JOIN bench_kinds k ON k.event = e.id WHERE k.n = :n FOR SHARE OF e;\n\
         UPDATE ticket_types t SET sold = t.sold + 1, inventory_version = t.inventory_version + 1, updated_at = now() \
         FROM bench_kinds k WHERE k.n = :n AND t.id = k.kind AND t.sold + t.reserved + 1 <= t.capacity;\n\
         WITH booking AS ( \
             INSERT INTO bookings (id, reference, event_id, user_id, status, items, quantity, total, currency, attempt, \
                 confirmed_at) \
             SELECT gen_random_uuid(), gen_random_uuid(), k.event, p.id, 'confirmed', '[]', 1, 4500, 'EUR', 1, now() \
             FROM bench_kinds k, bench_people p WHERE k.n = :n AND p.n = :u RETURNING id, event_id) \
         INSERT INTO tickets (id, booking_id, event_id, ticket_type_id, code) \
             SELECT gen_random_uuid(), b.id, b.event_id, k.kind, gen_random_uuid() \
             FROM booking b, bench_kinds k WHERE k.n = :n;\n\
         INSERT INTO event_buyers AS b (event_id, user_id, sold) \
             SELECT k.event, p.id, 1 FROM bench_kinds k, bench_people p WHERE k.n = :n AND p.n = :u \
             ON CONFLICT (event_id, user_id) DO UPDATE SET sold = b.sold + 1, version = b.version + 1;\n\
         INSERT INTO booking_log (event_id, booking_id, user_id, kind, quantity, amount, currency, items) \
             SELECT k.event, gen_random_uuid(), p.id, 'confirmed', 1, 4500, 'EUR', '[]' \
             FROM bench_kinds k, bench_people p WHERE k.n = :n AND p.n = :u;\n\
         INSERT INTO audit_log (actor_id, action, object_type, object_id) \
             SELECT id, 'booking.confirmed', 'booking', gen_random_uuid() FROM bench_people WHERE n = :u;\n\
         INSERT INTO mails (id, cause, kind, user_id, recipient, data, status, sent_at) \
             SELECT gen_random_uuid(), gen_random_uuid(), 'bench', id, 'bench@evently.test', '{{}}', 'sent', now() \
             FROM bench_people WHERE n = :u;\n\
         INSERT INTO outbox (id, cause, pool, job, job_key, payload, run_at) \
             VALUES (gen_random_uuid(), gen_random_uuid(), 'none', 'none', '', '{{}}', 'infinity');\n\
         COMMIT;\n{after}",
        last = kinds.len() - 1,
    );
    let file = stage.file("confirm.sql");
    std::fs::write(&file, script)?;
    let measured = stage.tools.pgbench(&file, WRITERS, stage.time.max(Duration::from_secs(1))).await?;
    for clean in [
        "DELETE FROM outbox WHERE pool = 'none'",
        "DELETE FROM mails WHERE kind = 'bench'",
        "VACUUM outbox, mails",
    ] {
        stage.tools.psql(clean).await?;
    }
    Ok(measured)
}
