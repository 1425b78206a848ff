//! The tables as Diesel sees them; generated columns that only SQL uses are left out.

diesel::table! {
    users (id) {
        id -> Uuid,
        email -> Text,
        name -> Text,
        password_hash -> Text,
        role -> Text,
        verified_at -> Nullable<Timestamptz>,
        deactivated_at -> Nullable<Timestamptz>,
        version -> BigInt,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    email_codes (id) {
        id -> Uuid,
        user_id -> Uuid,
        purpose -> Text,
        code_hash -> Bytea,
        tries -> Integer,
        expires_at -> Timestamptz,
        used_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    sessions (id) {
        id -> Uuid,
        user_id -> Uuid,
        user_agent -> Nullable<Text>,
        ip -> Nullable<Text>,
        created_at -> Timestamptz,
        last_used_at -> Timestamptz,
        expires_at -> Timestamptz,
        revoked_at -> Nullable<Timestamptz>,
        revoked_why -> Nullable<Text>,
    }
}

diesel::table! {
    refresh_tokens (token_hash) {
        token_hash -> Bytea,
        session_id -> Uuid,
        expires_at -> Timestamptz,
        used_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    venues (id) {
        id -> Uuid,
        name -> Text,
        address -> Text,
        city -> Text,
        country -> Text,
        latitude -> Double,
        longitude -> Double,
        timezone -> Text,
        version -> BigInt,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        created_by -> Nullable<Uuid>,
    }
}

diesel::table! {
    events (id) {
        id -> Uuid,
        slug -> Text,
        organizer_id -> Uuid,
        venue_id -> Uuid,
        title -> Text,
        description -> Text,
        category -> Text,
        starts_at -> Timestamptz,
        ends_at -> Timestamptz,
        sales_start_at -> Timestamptz,
        sales_end_at -> Timestamptz,
        status -> Text,
        currency -> Text,
        max_tickets_per_user -> Integer,
        hold_ttl_secs -> Integer,
        offer_ttl_secs -> Integer,
        refund_policy -> Jsonb,
        version -> BigInt,
        inventory_epoch -> BigInt,
        published_at -> Nullable<Timestamptz>,
        cancelled_at -> Nullable<Timestamptz>,
        cancellation_done_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    ticket_types (id) {
        id -> Uuid,
        event_id -> Uuid,
        name -> Text,
        description -> Text,
        seating -> Text,
        position -> Integer,
        capacity -> Integer,
        sold -> Integer,
        reserved -> Integer,
        base_price -> BigInt,
        price -> BigInt,
        version -> BigInt,
        inventory_version -> BigInt,
        waiting_entries -> Integer,
        waiting_tickets -> Integer,
        last_place -> BigInt,
        deleted_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    event_buyers (event_id, user_id) {
        event_id -> Uuid,
        user_id -> Uuid,
        sold -> Integer,
        version -> BigInt,
    }
}

diesel::table! {
    bookings (id) {
        id -> Uuid,
        reference -> Text,
        event_id -> Uuid,
        user_id -> Uuid,
        status -> Text,
        failure -> Nullable<Text>,
        items -> Jsonb,
        quantity -> Integer,
        total -> BigInt,
        currency -> Text,
        attempt -> Integer,
        cancel_reason -> Nullable<Text>,
        created_at -> Timestamptz,
        confirmed_at -> Nullable<Timestamptz>,
        cancelled_at -> Nullable<Timestamptz>,
        refunded_at -> Nullable<Timestamptz>,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    tickets (id) {
        id -> Uuid,
        booking_id -> Uuid,
        event_id -> Uuid,
        ticket_type_id -> Uuid,
        code -> Text,
        seat -> Nullable<Text>,
        status -> Text,
        checked_in_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    payments (id) {
        id -> Uuid,
        booking_id -> Uuid,
        event_id -> Uuid,
        user_id -> Uuid,
        attempt -> Integer,
        provider -> Text,
        provider_key -> Text,
        token -> Text,
        reference -> Nullable<Text>,
        status -> Text,
        failure -> Nullable<Text>,
        amount -> BigInt,
        currency -> Text,
        refunded -> BigInt,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        action -> Nullable<Jsonb>,
        action_until -> Nullable<Timestamptz>,
        hold -> Nullable<Jsonb>,
    }
}

diesel::table! {
    refunds (id) {
        id -> Uuid,
        booking_id -> Uuid,
        payment_id -> Uuid,
        amount -> BigInt,
        currency -> Text,
        status -> Text,
        error -> Nullable<Text>,
        created_at -> Timestamptz,
        done_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    sandbox_charges (provider_key) {
        provider_key -> Text,
        token -> Text,
        reference -> Text,
        status -> Text,
        amount -> BigInt,
        captured -> BigInt,
        refunded -> BigInt,
        currency -> Text,
        booking_id -> Uuid,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    sandbox_refunds (provider_key) {
        provider_key -> Text,
        reference -> Text,
        amount -> BigInt,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    sandbox_faults (provider_key, operation) {
        provider_key -> Text,
        operation -> Text,
        times -> Integer,
    }
}

diesel::table! {
    provider_events (provider, event_id) {
        provider -> Text,
        event_id -> Text,
        kind -> Text,
        received_at -> Timestamptz,
    }
}

diesel::table! {
    payment_differences (provider, provider_key) {
        provider -> Text,
        provider_key -> Text,
        kind -> Text,
        booking_id -> Nullable<Uuid>,
        reference -> Nullable<Text>,
        detail -> Text,
        found_at -> Timestamptz,
        seen_at -> Timestamptz,
    }
}

diesel::table! {
    booking_log (id) {
        id -> BigInt,
        at -> Timestamptz,
        event_id -> Uuid,
        booking_id -> Uuid,
        user_id -> Uuid,
        kind -> Text,
        quantity -> Integer,
        amount -> BigInt,
        currency -> Text,
        items -> Jsonb,
    }
}

diesel::table! {
    analytics_offset (only_one) {
        only_one -> Bool,
        log_id -> BigInt,
        counted_at -> Nullable<Timestamptz>,
        checked_at -> Timestamptz,
        differences -> BigInt,
    }
}

diesel::table! {
    hold_counts (event_id, at, epoch) {
        event_id -> Uuid,
        at -> Timestamptz,
        epoch -> BigInt,
        holds -> BigInt,
    }
}

diesel::table! {
    analytics_events (event_id) {
        event_id -> Uuid,
        organizer_id -> Nullable<Uuid>,
        currency -> Text,
        timezone -> Text,
        bookings -> BigInt,
        tickets -> BigInt,
        gross -> BigInt,
        failed -> BigInt,
        cancellations -> BigInt,
        cancelled_tickets -> BigInt,
        refunds -> BigInt,
        refunded_bookings -> BigInt,
        refunded -> BigInt,
        holds -> BigInt,
        peak_tickets -> BigInt,
        peak_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    analytics_days (event_id, day) {
        event_id -> Uuid,
        day -> Date,
        bookings -> BigInt,
        tickets -> BigInt,
        gross -> BigInt,
        failed -> BigInt,
        cancellations -> BigInt,
        cancelled_tickets -> BigInt,
        refunds -> BigInt,
        refunded_bookings -> BigInt,
        refunded -> BigInt,
        holds -> BigInt,
    }
}

diesel::table! {
    analytics_months (event_id, day) {
        event_id -> Uuid,
        day -> Date,
        bookings -> BigInt,
        tickets -> BigInt,
        gross -> BigInt,
        failed -> BigInt,
        cancellations -> BigInt,
        cancelled_tickets -> BigInt,
        refunds -> BigInt,
        refunded_bookings -> BigInt,
        refunded -> BigInt,
        holds -> BigInt,
    }
}

diesel::table! {
    analytics_totals (organizer_id, day, currency) {
        organizer_id -> Uuid,
        day -> Date,
        currency -> Text,
        bookings -> BigInt,
        tickets -> BigInt,
        gross -> BigInt,
        failed -> BigInt,
        cancellations -> BigInt,
        cancelled_tickets -> BigInt,
        refunds -> BigInt,
        refunded_bookings -> BigInt,
        refunded -> BigInt,
        holds -> BigInt,
    }
}

diesel::table! {
    audit_log (id) {
        id -> BigInt,
        at -> Timestamptz,
        actor_id -> Nullable<Uuid>,
        action -> Text,
        object_type -> Text,
        object_id -> Uuid,
        detail -> Jsonb,
        trace_id -> Nullable<Text>,
    }
}

diesel::table! {
    outbox (id) {
        id -> Uuid,
        cause -> Text,
        pool -> Text,
        job -> Text,
        job_key -> Text,
        payload -> Jsonb,
        traceparent -> Nullable<Text>,
        run_at -> Timestamptz,
        enqueued_at -> Nullable<Timestamptz>,
        dead_at -> Nullable<Timestamptz>,
        error -> Nullable<Text>,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    mails (id) {
        id -> Uuid,
        cause -> Text,
        kind -> Text,
        user_id -> Nullable<Uuid>,
        recipient -> Text,
        data -> Jsonb,
        status -> Text,
        deadline -> Nullable<Timestamptz>,
        lease_until -> Nullable<Timestamptz>,
        attempts -> Integer,
        error -> Nullable<Text>,
        sent_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    idempotency_keys (user_id, operation, key) {
        user_id -> Uuid,
        operation -> Text,
        key -> Text,
        fingerprint -> Bytea,
        status -> SmallInt,
        body -> Jsonb,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    schedules (name) {
        name -> Text,
        pool -> Text,
        every_ms -> BigInt,
        exclusive -> Bool,
        last_started_at -> Nullable<Timestamptz>,
        last_ended_at -> Nullable<Timestamptz>,
        outcome -> Nullable<Text>,
        error -> Nullable<Text>,
        found -> BigInt,
        fixed -> BigInt,
        process -> Nullable<Text>,
        wanted_at -> Nullable<Timestamptz>,
        seen_at -> Timestamptz,
    }
}

diesel::joinable!(email_codes -> users (user_id));
diesel::joinable!(sessions -> users (user_id));
diesel::joinable!(refresh_tokens -> sessions (session_id));
diesel::joinable!(events -> users (organizer_id));
diesel::joinable!(events -> venues (venue_id));
diesel::joinable!(ticket_types -> events (event_id));
diesel::joinable!(event_buyers -> events (event_id));
diesel::joinable!(event_buyers -> users (user_id));
diesel::joinable!(bookings -> events (event_id));
diesel::joinable!(bookings -> users (user_id));
diesel::joinable!(tickets -> bookings (booking_id));
diesel::joinable!(tickets -> events (event_id));
diesel::joinable!(tickets -> ticket_types (ticket_type_id));
diesel::joinable!(refunds -> bookings (booking_id));
diesel::joinable!(refunds -> payments (payment_id));
diesel::joinable!(mails -> users (user_id));

diesel::allow_tables_to_appear_in_same_query!(
    users,
    email_codes,
    sessions,
    refresh_tokens,
    venues,
    events,
    ticket_types,
    event_buyers,
    bookings,
    tickets,
    payments,
    refunds,
    sandbox_charges,
    sandbox_refunds,
    sandbox_faults,
    provider_events,
    payment_differences,
    booking_log,
    analytics_offset,
    hold_counts,
    analytics_events,
    analytics_days,
    analytics_months,
    analytics_totals,
    audit_log,
    outbox,
    mails,
    idempotency_keys,
);
