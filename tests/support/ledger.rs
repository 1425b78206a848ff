//! The books of the sandbox held against payments, refunds and bookings: what must be true whatever happened before,
//! once nothing is under way.

use super::database::TestDatabase;

/// Each query answers what is wrong, a line each.
const RULES: [(&str, &str); 8] = [
    (
        "a booking that was paid has one capture, of what was quoted",
        "SELECT b.id || ' ' || b.status || ' of ' || b.total || ': ' || count(c.provider_key) || ' captures of '
                || coalesce(sum(c.captured), 0)
         FROM bookings b LEFT JOIN sandbox_charges c ON c.booking_id = b.id AND c.status = 'captured'
         WHERE b.status <> 'failed' AND b.total > 0
         GROUP BY b.id HAVING count(c.provider_key) <> 1 OR sum(c.captured) <> b.total OR min(c.currency) <> b.currency",
    ),
    (
        "no capture without a booking",
        "SELECT c.provider_key || ' captured, booking ' || coalesce(b.status, 'none')
         FROM sandbox_charges c LEFT JOIN bookings b ON b.id = c.booking_id
         WHERE c.status = 'captured' AND coalesce(b.status, 'failed') = 'failed'",
    ),
    (
        "nothing is set aside for nothing",
        "SELECT provider_key FROM sandbox_charges WHERE status = 'authorised'",
    ),
    ("every payment is at rest", "SELECT provider_key || ' ' || status FROM payments WHERE status IN ('authorised', 'unknown')"),
    (
        "every charge is a payment of ours, and stands as we say",
        "SELECT c.provider_key || ' ' || c.status || ' there, ' || coalesce(p.status, 'nothing') || ' here'
         FROM sandbox_charges c LEFT JOIN payments p USING (provider_key)
         WHERE NOT coalesce(CASE c.status WHEN 'captured' THEN p.status IN ('captured', 'refunded')
                                 WHEN 'voided' THEN p.status = 'voided' ELSE p.status = 'failed' END, false)
            OR p.amount <> c.amount OR p.currency <> c.currency",
    ),
    (
        "what is owed is given back, once",
        "SELECT r.id || ' ' || r.status || ' ' || r.amount || ': ' || coalesce(sum(s.amount), 0) || ' given back'
         FROM refunds r LEFT JOIN sandbox_refunds s ON s.provider_key = r.id::text
         GROUP BY r.id HAVING r.status <> 'done' OR coalesce(sum(s.amount), 0) <> r.amount",
    ),
    (
        "nothing else is given back",
        "SELECT c.provider_key || ' ' || c.refunded || ' there, ' || p.refunded || ' here'
         FROM sandbox_charges c JOIN payments p USING (provider_key)
         WHERE c.refunded <> p.refunded
            OR c.refunded <> (SELECT coalesce(sum(amount), 0) FROM sandbox_refunds s WHERE s.reference = c.reference)",
    ),
    (
        "no seat is sold without a booking",
        "SELECT t.id || ' sold ' || t.sold || ', tickets ' || count(k.id)
         FROM ticket_types t LEFT JOIN tickets k ON k.ticket_type_id = t.id AND k.status <> 'cancelled'
         GROUP BY t.id HAVING t.sold <> count(k.id)",
    ),
];

impl TestDatabase {
    /// Asserts that the provider's books and the bookings agree: one capture a booking, none without a seat, each
    /// refund once.
    pub async fn assert_ledger_is_bookings(&self) {
        for (rule, sql) in RULES {
            let wrong: Vec<_> = self.rows(sql).await.into_iter().flatten().flatten().collect();
            assert!(wrong.is_empty(), "{rule}: {wrong:#?}");
        }
    }
}
