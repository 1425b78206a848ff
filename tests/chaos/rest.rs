//! After healing: waits until everything has come to rest, and reads the books of all sides.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use domain::{
    inventory::{SyncError, reconcile_event},
    jobs::Pool,
};
use mail_parser::MessageParser;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    ending::{
        BookingRow, ChargeRow, Delivered, Ending, EntryRow, EventRow, OfferRow, PaymentRow, Read, RefundRow,
        SeatRow,
    },
    history::Outcome,
    load::{Kept, Shop},
    plan::REFUNDS,
    stage::Stage,
};
use crate::support::{database::run, events::TestEvent, figures};

const LOOK: Duration = Duration::from_millis(250);

/// How many rows or jobs are still on their way.
const OPEN: &str = "SELECT (SELECT count(*) FROM outbox WHERE dead_at IS NULL)
                         + (SELECT count(*) FROM mails WHERE status = 'pending')
                         + (SELECT count(*) FROM payments WHERE status IN ('authorised', 'unknown'))
                         + (SELECT count(*) FROM refunds WHERE status = 'pending')
                         + (SELECT count(*) FROM waitlist_offers WHERE status IN ('open', 'claimed'))
                         + (SELECT count(*) FROM booking_log, analytics_offset WHERE id > log_id)";

/// Watches how every confirm ends, and confirms again what Redis lost and what was booked: the first with its token
/// completes it, the second changes nothing.
pub async fn read_all(shop: &Arc<Shop>, patience: Duration) -> BTreeMap<Uuid, Read> {
    let kept = shop.kept.lock().unwrap().clone();
    let begun = Instant::now();
    let mut reading = tokio::task::JoinSet::new();
    let slots = Arc::new(tokio::sync::Semaphore::new(8));
    for (hold, kept) in kept {
        let (shop, slots) = (Arc::clone(shop), Arc::clone(&slots));
        reading.spawn(async move {
            let _slot = slots.acquire().await.unwrap();
            let mut read = read_to_the_end(&shop, hold, &kept, begun + patience).await;
            if kept.with_token {
                // What this changes begins after healing, and has a time of its own.
                let at_ms = read.at_ms;
                shop.confirm(hold, &kept, "tok_ok", 10).await;
                read = read_to_the_end(&shop, hold, &kept, Instant::now() + patience).await;
                read.at_ms = at_ms;
            }
            (hold, read)
        });
    }
    let mut reads = BTreeMap::new();
    while let Some(read) = reading.join_next().await {
        let (hold, read) = read.unwrap();
        reads.insert(hold, read);
    }
    reads
}

async fn read_to_the_end(shop: &Shop, hold: Uuid, kept: &Kept, until: Instant) -> Read {
    loop {
        let outcome = shop.read(hold, kept.person).await;
        let status = match &outcome {
            Outcome::Answer { status: 404, .. } => "absent",
            Outcome::Answer { status: 200, body } => body["status"].as_str().unwrap(),
            _ => "confirming",
        };
        if status != "confirming" || Instant::now() > until {
            return Read { at_ms: shop.now_ms(), status: status.to_owned() };
        }
        sleep(LOOK).await;
    }
}

/// Waits until nothing is on its way any more; gives up after this, and leaves it to the checker to say what is.
pub async fn come_to_rest(stage: &Stage, app: &api::App, events: &[TestEvent], patience: Duration) {
    let begun = Instant::now();
    let mut quiet = 0;
    while quiet < 2 && begun.elapsed() < patience {
        let rows = run(&stage.database_url, OPEN).await;
        let no_rows = rows[0][0].as_deref() == Some("0");
        let jobs = app.queue.all_stats().await;
        let no_jobs = jobs.is_ok_and(|pools| pools.iter().all(|pool| pool.depth + pool.in_flight == 0));
        quiet = if no_rows && no_jobs && nothing_is_kept(app, events).await { quiet + 1 } else { 0 };
        sleep(LOOK).await;
    }
}

/// Whether no seat is kept for a waitlist: joins that died keep what comes free for a minute or two.
async fn nothing_is_kept(app: &api::App, events: &[TestEvent]) -> bool {
    for event in events {
        let seen = app.inventory.availability(event.id, &event.ticket_types).await;
        if !seen.is_ok_and(|seen| seen.is_none_or(|(_, counts)| counts.iter().all(|count| count.share == 0)))
        {
            return false;
        }
    }
    true
}

/// Everybody's books.
pub async fn ending(stage: &Stage, app: &api::App, shop: &Shop, reads: BTreeMap<Uuid, Read>) -> Ending {
    let url = &stage.database_url;
    let mut seats = Vec::new();
    let mut counted = Vec::new();
    for (event, percent) in shop.events.iter().zip(REFUNDS) {
        // Of an inventory that nobody asked for since it was lost, this builds a new one.
        let drift = reconciled(app, event.id).await;
        seats.extend(seats_of(url, app, event).await);
        counted.extend(count(url, event.id, percent, drift).await);
    }
    let bookings = bookings(url).await;
    Ending {
        delivered: delivered(stage, &bookings).await,
        entries: rows(url, "SELECT id, ticket_type_id, quantity, status FROM waitlist_entries")
            .await
            .map(|mut row| EntryRow {
                id: row.id(),
                ticket_type: row.id(),
                quantity: row.number(),
                status: row.text(),
            })
            .collect(),
        offers: offers(url, shop.begun_at_ms()).await,
        bookings,
        seats,
        events: counted,
        payments: rows(url, "SELECT booking_id, status, amount, refunded FROM payments")
            .await
            .map(|mut row| PaymentRow {
                booking: row.id(),
                status: row.text(),
                amount: row.number(),
                refunded: row.number(),
            })
            .collect(),
        charges: charges(url).await,
        refunds: rows(url, "SELECT booking_id, status, amount FROM refunds")
            .await
            .map(|mut row| RefundRow { booking: row.id(), status: row.text(), amount: row.number() })
            .collect(),
        reads,
        figures: figures::differences(url).await,
        left_over: left_over(url, app).await,
    }
}

async fn reconciled(app: &api::App, event: Uuid) -> u32 {
    // The first connection of a pool may be one that Postgres has ended since.
    for _ in 0..100 {
        match reconcile_event(&app.inventory, &app.db, event).await {
            Ok(drift) => return drift.total(),
            Err(SyncError::UnknownEvent) => break,
            Err(_) => sleep(LOOK).await,
        }
    }
    u32::MAX
}

async fn seats_of(url: &str, app: &api::App, event: &TestEvent) -> Vec<SeatRow> {
    let here = app.inventory.availability(event.id, &event.ticket_types).await.unwrap();
    let here = here.map(|(_, counts)| counts).unwrap_or_default();
    let sql = format!("{SAMPLE} WHERE event_id = '{}'", event.id);
    let row = |mut row: Row| {
        let ticket_type = row.id();
        let found = here.iter().find(|count| count.ticket_type_id == ticket_type);
        SeatRow {
            ticket_type,
            capacity: row.number(),
            sold: row.number(),
            reserved: row.number(),
            tickets: row.number(),
            redis: found.map(|count| (count.capacity, count.sold, count.offered)),
            waiting: {
                row.number();
                row.number()
            },
        }
    };
    rows(url, &sql).await.map(row).collect()
}

/// Each ticket type with its tickets, in one snapshot.
pub const SAMPLE: &str = "SELECT k.id::text, k.capacity, k.sold, k.reserved,
           (SELECT count(*) FROM tickets t WHERE t.ticket_type_id = k.id AND t.status <> 'cancelled'),
           (SELECT count(*) FROM waitlist_entries e WHERE e.ticket_type_id = k.id AND e.status = 'waiting'
            AND EXISTS (SELECT FROM waitlist_entries w JOIN waitlist_offers o ON o.entry_id = w.id
                        WHERE w.ticket_type_id = k.id AND w.place > e.place AND w.quantity >= e.quantity)),
           k.waiting_entries + k.waiting_tickets
    FROM ticket_types k";

async fn count(url: &str, event: Uuid, percent: u8, drift: u32) -> Vec<EventRow> {
    let sql = format!(
        "SELECT (SELECT coalesce(sum(sold), 0) FROM ticket_types WHERE event_id = '{event}'),
                (SELECT coalesce(sum(quantity), 0) FROM bookings
                 WHERE event_id = '{event}' AND status = 'confirmed'),
                (SELECT coalesce(sum(sold), 0) FROM event_buyers WHERE event_id = '{event}'),
                (SELECT coalesce(sum(CASE kind WHEN 'confirmed' THEN quantity ELSE -quantity END), 0)
                 FROM booking_log WHERE event_id = '{event}' AND kind IN ('confirmed', 'cancelled')),
                (SELECT coalesce(sum(tickets - cancelled_tickets), 0) FROM analytics_days WHERE event_id = '{event}')"
    );
    let row = |mut row: Row| EventRow {
        event,
        refund_percent: percent.into(),
        sold: row.number(),
        booked: row.number(),
        bought: row.number(),
        logged: row.number(),
        rolled_up: row.number(),
        drift,
    };
    rows(url, &sql).await.map(row).collect()
}

async fn bookings(url: &str) -> Vec<BookingRow> {
    let sql = "SELECT b.id, b.event_id, b.status, b.reference, b.quantity, b.total,
                      (SELECT count(*) FROM tickets t WHERE t.booking_id = b.id AND t.status <> 'cancelled')
               FROM bookings b";
    let row = |mut row: Row| BookingRow {
        id: row.id(),
        event: row.id(),
        status: row.text(),
        reference: row.text(),
        quantity: row.number(),
        total: row.number(),
        tickets: row.number(),
    };
    rows(url, sql).await.map(row).collect()
}

async fn charges(url: &str) -> Vec<ChargeRow> {
    let sql = "SELECT c.booking_id, c.status, c.amount, c.captured, c.refunded,
                      (SELECT count(*) FROM sandbox_refunds r WHERE r.reference = c.reference)
               FROM sandbox_charges c";
    let row = |mut row: Row| ChargeRow {
        booking: row.id(),
        status: row.text(),
        amount: row.number(),
        captured: row.number(),
        refunded: row.number(),
        refunds: row.number(),
    };
    rows(url, sql).await.map(row).collect()
}

async fn offers(url: &str, begun_at_ms: u64) -> Vec<OfferRow> {
    let sql = "SELECT id, entry_id, encode(token_hash, 'hex'), status, coalesce(hold_id::text, ''),
                      floor(extract(epoch FROM created_at) * 1000)::bigint FROM waitlist_offers";
    let row = |mut row: Row| OfferRow {
        id: row.id(),
        entry: row.id(),
        token_hash: row.text(),
        status: row.text(),
        hold: row.text().parse().ok(),
        made_ms: u64::try_from(row.number()).unwrap().saturating_sub(begun_at_ms),
    };
    rows(url, sql).await.map(row).collect()
}

/// What the mail server took: which booking each is about says its own text.
async fn delivered(stage: &Stage, bookings: &[BookingRow]) -> Vec<Delivered> {
    let owed: BTreeMap<String, (String, String)> =
        rows(&stage.database_url, "SELECT id, kind, cause FROM mails")
            .await
            .map(|mut row| (row.id().to_string(), (row.text(), row.text())))
            .collect();
    let received = stage.smtp.received();
    let mail = |raw: &str| {
        let message = MessageParser::default().parse(raw)?;
        let message_id = message.message_id()?.to_owned();
        let text = message.body_text(0)?.into_owned();
        let about = bookings.iter().find(|row| text.contains(&row.reference));
        let owed = message_id.split('@').next().and_then(|id| owed.get(id));
        let (kind, cause) = owed.cloned().unwrap_or_else(|| ("unknown".to_owned(), String::new()));
        let offer = if kind.starts_with("waitlist_offer") { cause.parse().ok() } else { None };
        Some(Delivered { message_id, booking: about.map(|row| row.id), offer, kind })
    };
    let unread =
        || Delivered { message_id: String::new(), booking: None, offer: None, kind: "unreadable".to_owned() };
    received.iter().map(|received| mail(&received.raw).unwrap_or_else(unread)).collect()
}

async fn left_over(url: &str, app: &api::App) -> Vec<String> {
    let sql = "SELECT concat_ws(' ', 'outbox', cause, 'since', created_at, 'enqueued', enqueued_at, error)
               FROM outbox
               UNION ALL
               SELECT concat_ws(' ', 'mail', status, kind, cause, 'attempt', attempts, lease_until, error)
               FROM mails WHERE status <> 'sent' AND (kind, error) IS DISTINCT FROM ('waitlist_offer', 'too late')";
    let mut left: Vec<String> = rows(url, sql).await.map(|mut row| row.text()).collect();
    for pool in app.queue.all_stats().await.unwrap() {
        if pool.depth + pool.in_flight + pool.dead > 0 || pool.pool == Pool::Email && pool.scheduled > 0 {
            left.push(format!(
                "{}: {} jobs waiting, {} running, {} dead, {} of a later time",
                pool.pool, pool.depth, pool.in_flight, pool.dead, pool.scheduled
            ));
        }
    }
    left
}

/// A row, read from left to right.
struct Row(std::vec::IntoIter<Option<String>>);

impl Row {
    fn text(&mut self) -> String {
        self.0.next().unwrap().unwrap()
    }

    fn id(&mut self) -> Uuid {
        self.text().parse().unwrap()
    }

    fn number(&mut self) -> i64 {
        self.text().parse().unwrap()
    }
}

async fn rows(url: &str, sql: &str) -> impl Iterator<Item = Row> + use<> {
    run(url, sql).await.into_iter().map(|row| Row(row.into_iter()))
}
