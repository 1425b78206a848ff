-- Figures rolled up from the booking log and from the counts of holds. Everything here can be recounted from these.

-- How far the log is counted: each row up to this id is in the figures once, none above it. One row.
CREATE TABLE analytics_offset (
    only_one    boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    log_id      bigint NOT NULL DEFAULT 0,
    -- When something was last counted.
    counted_at  timestamptz,
    -- When the figures were last compared with a recount, and how many rows of them differed.
    checked_at  timestamptz NOT NULL DEFAULT now(),
    differences bigint NOT NULL DEFAULT 0
);
INSERT INTO analytics_offset DEFAULT VALUES;

-- How many holds were placed, by event and quarter of an hour: every zone's days begin with one. Redis counts them while
-- it has the event's inventory of this epoch, so a count here only ever grows, however often it is brought; what Redis
-- counts after it lost everything has a higher epoch.
CREATE TABLE hold_counts (
    event_id uuid NOT NULL,
    at       timestamptz NOT NULL,
    epoch    bigint NOT NULL,
    holds    bigint NOT NULL CHECK (holds > 0),
    PRIMARY KEY (event_id, at, epoch)
) WITH (fillfactor = 70);

-- The figures of each event since its beginning.
CREATE TABLE analytics_events (
    event_id          uuid PRIMARY KEY,
    organizer_id      uuid,
    -- An event sells in one currency.
    currency          text NOT NULL,
    -- Whose days its days are.
    timezone          text NOT NULL,
    bookings          bigint NOT NULL DEFAULT 0,
    tickets           bigint NOT NULL DEFAULT 0,
    gross             bigint NOT NULL DEFAULT 0,
    failed            bigint NOT NULL DEFAULT 0,
    cancellations     bigint NOT NULL DEFAULT 0,
    cancelled_tickets bigint NOT NULL DEFAULT 0,
    -- Owed to those who cancelled, and what of it is paid.
    refunds           bigint NOT NULL DEFAULT 0,
    refunded_bookings bigint NOT NULL DEFAULT 0,
    refunded          bigint NOT NULL DEFAULT 0,
    holds             bigint NOT NULL DEFAULT 0,
    -- The most tickets that were sold at a time, and when that was so first: the moment of selling out, if it did.
    peak_tickets      bigint NOT NULL DEFAULT 0,
    peak_at           timestamptz
) WITH (fillfactor = 70);

-- The same for each day, by the calendar of the event's venue.
CREATE TABLE analytics_days (
    event_id          uuid NOT NULL,
    day               date NOT NULL,
    bookings          bigint NOT NULL DEFAULT 0,
    tickets           bigint NOT NULL DEFAULT 0,
    gross             bigint NOT NULL DEFAULT 0,
    failed            bigint NOT NULL DEFAULT 0,
    cancellations     bigint NOT NULL DEFAULT 0,
    cancelled_tickets bigint NOT NULL DEFAULT 0,
    refunds           bigint NOT NULL DEFAULT 0,
    refunded_bookings bigint NOT NULL DEFAULT 0,
    refunded          bigint NOT NULL DEFAULT 0,
    holds             bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (event_id, day)
) WITH (fillfactor = 70);
CREATE INDEX analytics_days_day ON analytics_days (day);

-- The same for each month, by its first day: what sold best in a year is found among a few thousand of these.
CREATE TABLE analytics_months (LIKE analytics_days INCLUDING DEFAULTS, PRIMARY KEY (event_id, day)) WITH (fillfactor = 70);
CREATE INDEX analytics_months_day ON analytics_months (day);

-- The same for each day over all events of an organizer; over all that there are where the organizer is the nil UUID.
CREATE TABLE analytics_totals (
    organizer_id      uuid NOT NULL,
    day               date NOT NULL,
    currency          text NOT NULL,
    bookings          bigint NOT NULL DEFAULT 0,
    tickets           bigint NOT NULL DEFAULT 0,
    gross             bigint NOT NULL DEFAULT 0,
    failed            bigint NOT NULL DEFAULT 0,
    cancellations     bigint NOT NULL DEFAULT 0,
    cancelled_tickets bigint NOT NULL DEFAULT 0,
    refunds           bigint NOT NULL DEFAULT 0,
    refunded_bookings bigint NOT NULL DEFAULT 0,
    refunded          bigint NOT NULL DEFAULT 0,
    holds             bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (organizer_id, day, currency)
) WITH (fillfactor = 70);

-- What each row of the log adds to the figures.
CREATE VIEW booking_log_figures AS
SELECT id, at, event_id,
       (kind = 'confirmed')::int                          AS bookings,
       CASE kind WHEN 'confirmed' THEN quantity ELSE 0 END AS tickets,
       CASE kind WHEN 'confirmed' THEN amount ELSE 0 END   AS gross,
       (kind = 'failed')::int                             AS failed,
       (kind = 'cancelled')::int                          AS cancellations,
       CASE kind WHEN 'cancelled' THEN quantity ELSE 0 END AS cancelled_tickets,
       CASE kind WHEN 'cancelled' THEN amount ELSE 0 END   AS refunds,
       (kind = 'refunded')::int                           AS refunded_bookings,
       CASE kind WHEN 'refunded' THEN amount ELSE 0 END    AS refunded,
       0                                                  AS holds
FROM booking_log;

-- And what each count of holds does.
CREATE VIEW hold_count_figures AS
SELECT at, event_id, 0 AS bookings, 0 AS tickets, 0 AS gross, 0 AS failed, 0 AS cancellations, 0 AS cancelled_tickets,
       0 AS refunds, 0 AS refunded_bookings, 0 AS refunded, holds
FROM hold_counts;

-- The zone of this name, or UTC where this server knows none: one venue's zone must not stop everybody's figures.
CREATE FUNCTION known_zone(name text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM now() AT TIME ZONE name;
    RETURN name;
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN 'UTC';
END $$;

-- One event's history, in order: for its days in another zone.
CREATE INDEX booking_log_event ON booking_log (event_id, id);
-- What sold best used to be read from the log itself.
DROP INDEX booking_log_recent;
