-- One confirmed booking of two tickets, with its user, event and venue.
INSERT INTO users (id, email, name, password_hash, verified_at)
VALUES ('00000000-0000-7000-8000-00000000000a', 'ada@evently.test', 'Ada Lovelace', '-', now());
INSERT INTO venues (id, name, address, city, country, latitude, longitude, timezone)
VALUES ('00000000-0000-7000-8000-00000000000c', 'Große Halle', 'Lange Straße 1', 'Berlin', 'DE', 52.5, 13.4, 'Europe/Berlin');
INSERT INTO events (id, slug, organizer_id, venue_id, title, description, category, starts_at, ends_at,
    sales_start_at, sales_end_at, status, currency, max_tickets_per_user, hold_ttl_secs, offer_ttl_secs, refund_policy)
VALUES ('00000000-0000-7000-8000-00000000000e', 'winter-lights', '00000000-0000-7000-8000-00000000000a',
    '00000000-0000-7000-8000-00000000000c', 'Winter Lights', '', 'concert', '2027-03-05T18:30:00Z', '2027-03-05T21:00:00Z',
    '2026-01-01T00:00:00Z', '2027-03-05T18:30:00Z', 'published', 'EUR', 10, 300, 1800, '[]');
INSERT INTO ticket_types (id, event_id, name, position, capacity, sold, base_price, price)
VALUES ('00000000-0000-7000-8000-000000000010', '00000000-0000-7000-8000-00000000000e', 'Stalls', 0, 100, 2, 4500, 4500);
INSERT INTO bookings (id, reference, event_id, user_id, status, items, quantity, total, currency, attempt, confirmed_at)
VALUES ('00000000-0000-7000-8000-00000000000b', 'EV-TEST01', '00000000-0000-7000-8000-00000000000e',
    '00000000-0000-7000-8000-00000000000a', 'confirmed',
    '[{"ticket_type_id": "00000000-0000-7000-8000-000000000010", "quantity": 2, "seats": [], "unit_price": 4500}]',
    2, 9000, 'EUR', 1, '2027-01-10T09:15:00Z');
INSERT INTO tickets (id, booking_id, event_id, ticket_type_id, code)
VALUES ('00000000-0000-7000-8000-000000000021', '00000000-0000-7000-8000-00000000000b',
    '00000000-0000-7000-8000-00000000000e', '00000000-0000-7000-8000-000000000010', 'AAAA-BBBB-CCCC'),
    ('00000000-0000-7000-8000-000000000022', '00000000-0000-7000-8000-00000000000b',
    '00000000-0000-7000-8000-00000000000e', '00000000-0000-7000-8000-000000000010', 'DDDD-EEEE-FFFF');
