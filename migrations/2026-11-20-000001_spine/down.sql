DROP TABLE idempotency_keys, mails, outbox, audit_log, booking_log, sandbox_refunds, sandbox_charges, refunds,
    payments, tickets, bookings, event_buyers, ticket_types, events, venues, refresh_tokens, sessions, email_codes, users;
DROP FUNCTION refuse_change;
