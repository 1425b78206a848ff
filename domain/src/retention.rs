//! What is kept for a time, and how it goes when that is over: a batch at a time, so that nobody waits for it.

use diesel::{sql_query, sql_types::BigInt};
use diesel_async::RunQueryDsl;

use crate::{db::Conn, fault::Fault};

/// A kind of thing that is not kept for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Codes that nobody can enter any more: the mails that carry them are given up and the codes forgotten.
    MailsTooLate,
    /// Mails sent or given up, for 90 days.
    Mails,
    /// Answers kept for `Idempotency-Key`, for 24 hours.
    IdempotencyKeys,
    /// One-time codes, for a day after they have run out.
    EmailCodes,
    /// Refresh tokens, for 30 days after they have run out.
    RefreshTokens,
    /// Sessions, for 30 days after their end.
    Sessions,
    /// What payment providers told us, for 30 days: they repeat themselves for three.
    ProviderEvents,
    /// What evaluations of prices saw, for 400 days; what they changed is kept for good.
    PriceEvaluations,
}

impl Kept {
    pub const ALL: [Self; 8] = [
        Self::MailsTooLate,
        Self::Mails,
        Self::IdempotencyKeys,
        Self::EmailCodes,
        Self::RefreshTokens,
        Self::Sessions,
        Self::ProviderEvents,
        Self::PriceEvaluations,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::MailsTooLate => "mails_too_late",
            Self::Mails => "mails",
            Self::IdempotencyKeys => "idempotency_keys",
            Self::EmailCodes => "email_codes",
            Self::RefreshTokens => "refresh_tokens",
            Self::Sessions => "sessions",
            Self::ProviderEvents => "provider_events",
            Self::PriceEvaluations => "price_evaluations",
        }
    }

    /// `$1` is the most rows.
    const fn sql(self) -> &'static str {
        match self {
            Self::MailsTooLate => {
                "UPDATE mails SET status = 'failed', error = 'too late', lease_until = NULL, \
                 data = data - 'code' - 'token' - 'snapshot' \
                 WHERE id IN (SELECT id FROM mails WHERE status = 'pending' \
                 AND deadline < now() - interval '1 hour' LIMIT $1 FOR UPDATE SKIP LOCKED)"
            }
            Self::Mails => {
                "DELETE FROM mails WHERE id IN (SELECT id FROM mails WHERE status <> 'pending' \
                 AND created_at < now() - interval '90 days' LIMIT $1 FOR UPDATE SKIP LOCKED)"
            }
            Self::IdempotencyKeys => {
                "DELETE FROM idempotency_keys WHERE ctid = ANY(ARRAY(SELECT ctid FROM idempotency_keys \
                 WHERE created_at < now() - interval '24 hours' LIMIT $1 FOR UPDATE SKIP LOCKED))"
            }
            Self::EmailCodes => {
                "DELETE FROM email_codes WHERE id IN (SELECT id FROM email_codes \
                 WHERE expires_at < now() - interval '1 day' LIMIT $1 FOR UPDATE SKIP LOCKED)"
            }
            Self::RefreshTokens => {
                "DELETE FROM refresh_tokens WHERE token_hash IN (SELECT token_hash FROM refresh_tokens \
                 WHERE expires_at < now() - interval '30 days' LIMIT $1 FOR UPDATE SKIP LOCKED)"
            }
            Self::Sessions => {
                "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions \
                 WHERE least(expires_at, revoked_at) < now() - interval '30 days' LIMIT $1 FOR UPDATE SKIP LOCKED)"
            }
            Self::ProviderEvents => {
                "DELETE FROM provider_events WHERE ctid = ANY(ARRAY(SELECT ctid FROM provider_events \
                 WHERE received_at < now() - interval '30 days' LIMIT $1 FOR UPDATE SKIP LOCKED))"
            }
            Self::PriceEvaluations => {
                "DELETE FROM price_evaluations WHERE step IN (SELECT step FROM price_evaluations \
                 WHERE evaluated_at < now() - interval '400 days' LIMIT $1 FOR UPDATE SKIP LOCKED)"
            }
        }
    }
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Lets go of up to `limit` things of a kind whose time is over, by Postgres's clock; answers how many. Safe to
/// repeat, and to run twice at once.
pub async fn let_go(conn: &mut Conn, kept: Kept, limit: i64) -> Result<usize, Fault> {
    Ok(sql_query(kept.sql()).bind::<BigInt, _>(limit).execute(conn).await?)
}
