-- The spine: accounts, events, seats, bookings, money, and what a commit causes.
-- Ids are UUIDv7 made by the application, times timestamptz, money integer minor units.

CREATE TABLE users (
    id            uuid PRIMARY KEY,
    email         text NOT NULL CHECK (length(email) <= 254),
    name          text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    password_hash text NOT NULL,
    role          text NOT NULL DEFAULT 'user' CHECK (role IN ('user', 'organizer', 'operator', 'admin')),
    verified_at   timestamptz,
    deactivated_at timestamptz,
    version       bigint NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);
-- Two spellings of one address are one account.
CREATE UNIQUE INDEX users_email ON users (lower(email));

CREATE TABLE email_codes (
    id         uuid PRIMARY KEY,
    user_id    uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    purpose    text NOT NULL CHECK (purpose IN ('verify_email', 'reset_password')),
    code_hash  bytea NOT NULL,
    tries      integer NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX email_codes_user ON email_codes (user_id, purpose, created_at DESC);

CREATE TABLE sessions (
    id           uuid PRIMARY KEY,
    user_id      uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    user_agent   text,
    ip           text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz,
    revoked_why  text
);
CREATE INDEX sessions_user ON sessions (user_id) WHERE revoked_at IS NULL;
CREATE INDEX sessions_expiry ON sessions (expires_at);

-- A session's refresh tokens are one family: a used one that comes again ends the session.
CREATE TABLE refresh_tokens (
    token_hash bytea PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);

CREATE TABLE venues (
    id         uuid PRIMARY KEY,
    name       text NOT NULL,
    address    text NOT NULL,
    city       text NOT NULL,
    country    text NOT NULL,
    latitude   double precision NOT NULL CHECK (latitude BETWEEN -90 AND 90),
    longitude  double precision NOT NULL CHECK (longitude BETWEEN -180 AND 180),
    timezone   text NOT NULL,
    version    bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX venues_city ON venues (lower(city));

CREATE TABLE events (
    id             uuid PRIMARY KEY,
    slug           text NOT NULL UNIQUE,
    organizer_id   uuid NOT NULL REFERENCES users,
    venue_id       uuid NOT NULL REFERENCES venues,
    title          text NOT NULL,
    description    text NOT NULL,
    category       text NOT NULL,
    starts_at      timestamptz NOT NULL,
    ends_at        timestamptz NOT NULL,
    sales_start_at timestamptz NOT NULL,
    sales_end_at   timestamptz NOT NULL,
    status         text NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'published', 'cancelled', 'completed')),
    currency       text NOT NULL,
    max_tickets_per_user integer NOT NULL,
    hold_ttl_secs  integer NOT NULL,
    offer_ttl_secs integer NOT NULL,
    -- [{hours_before, percent}], largest hours_before first.
    refund_policy  jsonb NOT NULL,
    version        bigint NOT NULL DEFAULT 1,
    -- Raised by every rebuild of the event's inventory in Redis; fences an older rebuild off.
    inventory_epoch bigint NOT NULL DEFAULT 0,
    published_at   timestamptz,
    cancelled_at   timestamptz,
    -- Set once every booking and hold of a cancelled event has ended.
    cancellation_done_at timestamptz,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    search         tsvector NOT NULL GENERATED ALWAYS AS (
        setweight(to_tsvector('simple', title), 'A') || setweight(to_tsvector('simple', category), 'B')
        || setweight(to_tsvector('simple', description), 'C')) STORED,
    CHECK (starts_at < ends_at),
    CHECK (sales_start_at < sales_end_at)
);
CREATE INDEX events_upcoming ON events (starts_at, id) WHERE status = 'published';
CREATE INDEX events_organizer ON events (organizer_id, id);
CREATE INDEX events_venue ON events (venue_id);
CREATE INDEX events_search ON events USING gin (search);
CREATE INDEX events_cancelling ON events (id) WHERE status = 'cancelled' AND cancellation_done_at IS NULL;

CREATE TABLE ticket_types (
    id          uuid PRIMARY KEY,
    event_id    uuid NOT NULL REFERENCES events ON DELETE CASCADE,
    name        text NOT NULL,
    description text NOT NULL DEFAULT '',
    seating     text NOT NULL DEFAULT 'general' CHECK (seating IN ('general', 'reserved')),
    position    integer NOT NULL,
    capacity    integer NOT NULL CHECK (capacity >= 0),
    sold        integer NOT NULL DEFAULT 0 CHECK (sold >= 0),
    -- Seats promised outside Redis: offers of the waitlist.
    reserved    integer NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    base_price  bigint NOT NULL CHECK (base_price >= 0),
    price       bigint NOT NULL CHECK (price >= 0),
    -- Of what organisers edit: name, description, capacity, price. The object's ETag.
    version     bigint NOT NULL DEFAULT 1,
    -- Raised by every write of capacity, sold, reserved or price: Redis takes a row only if it is newer.
    inventory_version bigint NOT NULL DEFAULT 1,
    deleted_at  timestamptz,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    -- The last word on every seat.
    CONSTRAINT ticket_types_never_oversold CHECK (sold + reserved <= capacity)
);
CREATE INDEX ticket_types_event ON ticket_types (event_id, position);

-- How many tickets each user has of each event: what the per-user limit counts once a hold is sold.
CREATE TABLE event_buyers (
    event_id uuid NOT NULL REFERENCES events ON DELETE CASCADE,
    user_id  uuid NOT NULL REFERENCES users,
    sold     integer NOT NULL CHECK (sold >= 0),
    -- Raised by every write: Redis takes a row only if it is newer.
    version  bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (event_id, user_id)
);

CREATE TABLE bookings (
    -- The id of the hold it came from, so that confirming twice is one booking.
    id           uuid PRIMARY KEY,
    reference    text NOT NULL UNIQUE,
    event_id     uuid NOT NULL REFERENCES events,
    user_id      uuid NOT NULL REFERENCES users,
    status       text NOT NULL CHECK (status IN ('confirmed', 'failed', 'cancelled', 'refunded')),
    -- Why it failed: a problem code.
    failure      text,
    -- What was quoted: [{ticket_type_id, quantity, seats, unit_price}]; never changes.
    items        jsonb NOT NULL,
    quantity     integer NOT NULL CHECK (quantity > 0),
    total        bigint NOT NULL CHECK (total >= 0),
    currency     text NOT NULL,
    -- Which confirm of the hold decided this.
    attempt      integer NOT NULL,
    cancel_reason text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    confirmed_at timestamptz,
    cancelled_at timestamptz,
    refunded_at  timestamptz,
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CHECK ((status = 'failed') = (failure IS NOT NULL)),
    CHECK (status = 'failed' OR confirmed_at IS NOT NULL)
);
CREATE INDEX bookings_user ON bookings (user_id, id DESC);
CREATE INDEX bookings_event ON bookings (event_id, id DESC);
CREATE INDEX bookings_event_live ON bookings (event_id, id) WHERE status = 'confirmed';

CREATE TABLE tickets (
    id             uuid PRIMARY KEY,
    booking_id     uuid NOT NULL REFERENCES bookings,
    event_id       uuid NOT NULL REFERENCES events,
    ticket_type_id uuid NOT NULL REFERENCES ticket_types,
    code           text NOT NULL UNIQUE,
    seat           text,
    status         text NOT NULL DEFAULT 'valid' CHECK (status IN ('valid', 'cancelled', 'used')),
    checked_in_at  timestamptz
);
CREATE INDEX tickets_booking ON tickets (booking_id);
CREATE UNIQUE INDEX tickets_one_live_booking_a_seat ON tickets (event_id, seat)
    WHERE seat IS NOT NULL AND status <> 'cancelled';

-- One row an attempt to pay, committed before the provider hears of it.
CREATE TABLE payments (
    id           uuid PRIMARY KEY,
    booking_id   uuid NOT NULL,
    event_id     uuid NOT NULL,
    user_id      uuid NOT NULL,
    attempt      integer NOT NULL,
    provider     text NOT NULL,
    -- The provider's idempotency key: one per attempt, so that asking twice charges once.
    provider_key text NOT NULL UNIQUE,
    token        text NOT NULL,
    reference    text,
    status       text NOT NULL CHECK (status IN ('authorised', 'captured', 'voided', 'refunded', 'failed', 'unknown')),
    failure      text,
    amount       bigint NOT NULL CHECK (amount > 0),
    currency     text NOT NULL,
    refunded     bigint NOT NULL DEFAULT 0 CHECK (refunded BETWEEN 0 AND amount),
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (booking_id, attempt)
);
CREATE INDEX payments_open ON payments (updated_at) WHERE status IN ('authorised', 'unknown');

-- Refunds owed and paid. A booking is refunded once.
CREATE TABLE refunds (
    id           uuid PRIMARY KEY,
    booking_id   uuid NOT NULL UNIQUE REFERENCES bookings,
    payment_id   uuid NOT NULL REFERENCES payments,
    amount       bigint NOT NULL CHECK (amount > 0),
    currency     text NOT NULL,
    status       text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'done', 'failed')),
    error        text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    done_at      timestamptz
);
CREATE INDEX refunds_open ON refunds (created_at) WHERE status = 'pending';

-- The sandbox provider's own books; nothing but the sandbox gateway reads or writes them.
CREATE TABLE sandbox_charges (
    provider_key text PRIMARY KEY,
    token        text NOT NULL,
    reference    text NOT NULL UNIQUE,
    status       text NOT NULL CHECK (status IN ('authorised', 'captured', 'voided', 'declined')),
    amount       bigint NOT NULL CHECK (amount > 0),
    captured     bigint NOT NULL DEFAULT 0,
    refunded     bigint NOT NULL DEFAULT 0,
    currency     text NOT NULL,
    booking_id   uuid NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CHECK (captured <= amount AND refunded <= captured)
);
CREATE TABLE sandbox_refunds (
    provider_key text PRIMARY KEY,
    reference    text NOT NULL REFERENCES sandbox_charges (reference),
    amount       bigint NOT NULL CHECK (amount > 0),
    created_at   timestamptz NOT NULL DEFAULT now()
);

-- What happened to bookings, in order, for ever: everything counted can be recounted from it.
CREATE TABLE booking_log (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT now(),
    event_id   uuid NOT NULL,
    booking_id uuid NOT NULL,
    user_id    uuid NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('confirmed', 'failed', 'cancelled', 'refunded')),
    quantity   integer NOT NULL,
    amount     bigint NOT NULL,
    currency   text NOT NULL,
    items      jsonb NOT NULL
);
CREATE INDEX booking_log_recent ON booking_log (at, event_id) WHERE kind IN ('confirmed', 'cancelled');

CREATE TABLE audit_log (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT now(),
    -- Null: Evently itself.
    actor_id    uuid,
    action      text NOT NULL,
    object_type text NOT NULL,
    object_id   uuid NOT NULL,
    detail      jsonb NOT NULL DEFAULT '{}',
    trace_id    text
);
CREATE INDEX audit_log_object ON audit_log (object_type, object_id, id DESC);
CREATE INDEX audit_log_actor ON audit_log (actor_id, id DESC);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$;
CREATE TRIGGER booking_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON booking_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Jobs that a commit causes. A row lives until its job is done, so that a queue which loses everything
-- loses no job: what stays too long is enqueued again, under the same id.
CREATE TABLE outbox (
    id          uuid PRIMARY KEY,
    -- What caused it and which job: the same cause brings the same job once.
    cause       text NOT NULL UNIQUE,
    pool        text NOT NULL,
    job         text NOT NULL,
    job_key     text NOT NULL,
    payload     jsonb NOT NULL,
    traceparent text,
    run_at      timestamptz NOT NULL DEFAULT now(),
    enqueued_at timestamptz,
    dead_at     timestamptz,
    error       text,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX outbox_due ON outbox (run_at) WHERE enqueued_at IS NULL;
CREATE INDEX outbox_enqueued ON outbox (enqueued_at) WHERE enqueued_at IS NOT NULL AND dead_at IS NULL;

-- One row a mail owed: one per cause and kind, its content fixed when it became due.
CREATE TABLE mails (
    id          uuid PRIMARY KEY,
    cause       text NOT NULL,
    kind        text NOT NULL,
    user_id     uuid REFERENCES users ON DELETE SET NULL,
    recipient   text NOT NULL,
    data        jsonb NOT NULL,
    status      text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'sent', 'failed')),
    -- Not worth sending after this (a code that has run out).
    deadline    timestamptz,
    lease_until timestamptz,
    attempts    integer NOT NULL DEFAULT 0,
    error       text,
    sent_at     timestamptz,
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (cause, kind)
);
CREATE INDEX mails_open ON mails (created_at) WHERE status = 'pending';

-- Answers kept for `Idempotency-Key`, of the operations that are decided in Postgres.
CREATE TABLE idempotency_keys (
    user_id     uuid NOT NULL,
    operation   text NOT NULL,
    key         text NOT NULL,
    fingerprint bytea NOT NULL,
    status      smallint NOT NULL,
    body        jsonb NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, operation, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
