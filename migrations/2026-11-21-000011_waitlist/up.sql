-- Who waits for what is sold out, and what was offered to them.

ALTER TABLE ticket_types
    -- Of entries that are `waiting`: how many, and how many tickets they want. Written with the entries, under the
    -- ticket type's lock, and with inventory_version: Redis must know who waits when it hears of a freed seat.
    ADD COLUMN waiting_entries integer NOT NULL DEFAULT 0 CHECK (waiting_entries >= 0),
    ADD COLUMN waiting_tickets integer NOT NULL DEFAULT 0 CHECK (waiting_tickets >= 0),
    -- The place that was given last.
    ADD COLUMN last_place bigint NOT NULL DEFAULT 0;
CREATE INDEX ticket_types_waited_for ON ticket_types (event_id) WHERE waiting_entries > 0;

CREATE TABLE waitlist_entries (
    id             uuid PRIMARY KEY,
    event_id       uuid NOT NULL REFERENCES events ON DELETE CASCADE,
    ticket_type_id uuid NOT NULL REFERENCES ticket_types ON DELETE CASCADE,
    user_id        uuid NOT NULL REFERENCES users,
    quantity       integer NOT NULL CHECK (quantity BETWEEN 1 AND 1000),
    -- The order in which they are served. Given from last_place; an organizer's move puts an entry between two others.
    place          numeric NOT NULL,
    status         text NOT NULL DEFAULT 'waiting'
                   CHECK (status IN ('waiting', 'offered', 'claimed', 'declined', 'expired', 'left')),
    joined_at      timestamptz NOT NULL DEFAULT now(),
    changed_at     timestamptz NOT NULL DEFAULT now()
);
-- One place a person and ticket type.
CREATE UNIQUE INDEX waitlist_entries_live ON waitlist_entries (ticket_type_id, user_id)
    WHERE status IN ('waiting', 'offered');
CREATE INDEX waitlist_entries_line ON waitlist_entries (ticket_type_id, place) WHERE status = 'waiting';
-- The next entry of each size is the first of its own: what is offered costs the same however long the line is.
CREATE INDEX waitlist_entries_by_quantity ON waitlist_entries (ticket_type_id, quantity, place)
    WHERE status = 'waiting';
CREATE INDEX waitlist_entries_user ON waitlist_entries (user_id, event_id, ticket_type_id, id DESC);
CREATE INDEX waitlist_entries_event ON waitlist_entries (event_id, ticket_type_id, place, id);

CREATE TABLE waitlist_offers (
    id             uuid PRIMARY KEY,
    entry_id       uuid NOT NULL REFERENCES waitlist_entries ON DELETE CASCADE,
    event_id       uuid NOT NULL REFERENCES events ON DELETE CASCADE,
    ticket_type_id uuid NOT NULL REFERENCES ticket_types ON DELETE CASCADE,
    user_id        uuid NOT NULL REFERENCES users,
    quantity       integer NOT NULL CHECK (quantity > 0),
    -- What one ticket costs, whatever the price does since.
    unit_price     bigint NOT NULL CHECK (unit_price >= 0),
    currency       text NOT NULL,
    -- SHA-256 of the token in the mail.
    token_hash     bytea NOT NULL UNIQUE,
    -- Its seats are in ticket_types.reserved while it is open or claimed. `lapsed`: claimed, and its hold is over.
    status         text NOT NULL DEFAULT 'open'
                   CHECK (status IN ('open', 'claimed', 'sold', 'lapsed', 'declined', 'expired')),
    created_at     timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz NOT NULL,
    -- The hold that it was claimed into.
    hold_id        uuid UNIQUE,
    claimed_at     timestamptz,
    hold_expires_at timestamptz,
    ended_at       timestamptz,
    CHECK ((hold_id IS NULL) = (hold_expires_at IS NULL))
);
CREATE INDEX waitlist_offers_entry ON waitlist_offers (entry_id, id DESC);
CREATE INDEX waitlist_offers_open ON waitlist_offers (expires_at) WHERE status = 'open';
CREATE INDEX waitlist_offers_claimed ON waitlist_offers (hold_expires_at) WHERE status = 'claimed';
CREATE INDEX waitlist_offers_live_event ON waitlist_offers (event_id) WHERE status IN ('open', 'claimed');
