//! Confirmations of bookings: out of the outbox, rendered, sent, taken by the mail server.

use std::time::{Duration, Instant};

use super::{Bench, figure::Figure, growth};

const PATIENCE: Duration = Duration::from_mins(1);

pub(super) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let stage = &bench.stage;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive count")]
    let count = (stage.time.as_secs_f64() * stage.size.mails_a_second()) as u64;
    let sale = stage.large_sale().await?;
    growth::book(stage, &sale, count).await?;
    let before = stage.sink.taken();
    let began = Instant::now();
    stage
        .tools
        .psql(&format!(
            "WITH owed AS ( \
                 INSERT INTO mails (id, cause, kind, user_id, recipient, data) \
                 SELECT gen_random_uuid(), 'bench:' || id, 'booking_confirmed', user_id, \
                        'bench-' || right(id::text, 12) || '@evently.test', \
                        jsonb_build_object('kind', 'booking_confirmed', 'booking_id', id) \
                 FROM bookings WHERE event_id = '{}' RETURNING id) \
             INSERT INTO outbox (id, cause, pool, job, job_key, payload) \
             SELECT gen_random_uuid(), 'send_mail:' || id, 'email', 'send_mail', id, jsonb_build_object('mail_id', id) \
             FROM owed",
            sale.event
        ))
        .await?;
    let owed = began.elapsed();
    stage.sink.wait(before + count, PATIENCE).await;
    let (taken, took) = (stage.sink.taken() - before, began.elapsed().saturating_sub(owed));
    let figure = Figure::new("e-mails", taken as f64 / took.as_secs_f64().max(1e-9), "/s");
    let note = format!("{taken} of {count}, from the commit to the last one taken");
    bench.report(figure.at_least(300.0, 1_000.0).note(note))
}
