INSERT INTO tickets (id, booking_id, event_id, ticket_type_id, code, seat)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[])
