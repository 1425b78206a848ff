//! The figures, recounted by SQL that has nothing in common with theirs.

use super::database::run;

/// What is counted, with the tables of figures, in their order.
const COLUMNS: &str =
    "bookings, tickets, gross, failed, cancellations, cancelled_tickets, refunds, refunded_bookings,
                       refunded, holds";

/// Everything that happened, with the day that it was at the event's venue.
const HAPPENED: &str = "
    SELECT l.event_id, e.organizer_id, l.currency, (l.at AT TIME ZONE v.timezone)::date AS day, l.kind, l.quantity,
           l.amount, 0 AS holds
    FROM booking_log l JOIN events e ON e.id = l.event_id JOIN venues v ON v.id = e.venue_id
    UNION ALL
    SELECT h.event_id, e.organizer_id, e.currency, (h.at AT TIME ZONE v.timezone)::date, 'held', 0, 0, h.holds
    FROM hold_counts h JOIN events e ON e.id = h.event_id JOIN venues v ON v.id = e.venue_id";

const SUMS: &str = "count(*) FILTER (WHERE kind = 'confirmed'),
    coalesce(sum(quantity) FILTER (WHERE kind = 'confirmed'), 0),
    coalesce(sum(amount) FILTER (WHERE kind = 'confirmed'), 0),
    count(*) FILTER (WHERE kind = 'failed'),
    count(*) FILTER (WHERE kind = 'cancelled'),
    coalesce(sum(quantity) FILTER (WHERE kind = 'cancelled'), 0),
    coalesce(sum(amount) FILTER (WHERE kind = 'cancelled'), 0),
    count(*) FILTER (WHERE kind = 'refunded'),
    coalesce(sum(amount) FILTER (WHERE kind = 'refunded'), 0),
    sum(holds)";

const NIL: &str = "00000000-0000-0000-0000-000000000000";

/// Every row in which the figures differ from a recount of all there is, and whatever is not counted yet.
pub async fn differences(url: &str) -> Vec<String> {
    let month = "date_trunc('month', day)::date";
    let mut found = Vec::new();
    for (table, those, columns, key) in [
        ("analytics_events", "true".to_owned(), "event_id", "event_id"),
        ("analytics_days", "true".to_owned(), "event_id, day", "event_id, day"),
        ("analytics_months", "true".to_owned(), "event_id, day", &format!("event_id, {month}")),
        ("analytics_totals", format!("organizer_id = '{NIL}'"), "day, currency", "day, currency"),
        (
            "analytics_totals",
            format!("organizer_id <> '{NIL}'"),
            "organizer_id, day, currency",
            "organizer_id, day, currency",
        ),
    ] {
        let sql = format!(
            "WITH recount AS (SELECT {key}, {SUMS} FROM ({HAPPENED}) h GROUP BY {key}),
                  figures AS (SELECT {columns}, {COLUMNS} FROM {table}
                              WHERE {those} AND bookings + failed + cancellations + refunded_bookings + holds > 0)
             SELECT * FROM (
                 (SELECT 'only recounted', * FROM (TABLE recount EXCEPT ALL TABLE figures) r)
                 UNION ALL
                 (SELECT 'only in the figures', * FROM (TABLE figures EXCEPT ALL TABLE recount) f)) d"
        );
        found.extend(run(url, &sql).await.iter().map(|row| format!("{table}: {row:?}")));
    }
    let left = "SELECT count(*) FROM booking_log, analytics_offset WHERE id > log_id HAVING count(*) > 0";
    found.extend(run(url, left).await.iter().map(|row| format!("not counted yet: {row:?}")));
    found
}
