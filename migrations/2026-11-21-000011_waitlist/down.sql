DROP TABLE waitlist_offers, waitlist_entries;
DROP INDEX ticket_types_waited_for;
ALTER TABLE ticket_types DROP COLUMN waiting_entries, DROP COLUMN waiting_tickets, DROP COLUMN last_place;
