//! What a provider tells us unasked: whether it is the provider who speaks, whether it was heard before, and which
//! payment it is about. What it says of that payment counts for nothing: the provider is asked.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    QueryableByName, sql_query,
    sql_types::{Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    db::{Conn, Db},
    fault::Fault,
    jobs::RefreshPayment,
    outbox::{self, OutboxEntry},
    statement::prepared,
};

/// How old, or how far ahead of our clock, a signature may be: what was overheard is of no use later.
const TOLERANCE: TimeDelta = TimeDelta::minutes(5);
/// More signatures than a provider sends while a secret is being changed.
const MOST_SIGNATURES: usize = 8;

/// Not signed by the provider, or not just now.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("there is no signature of the form t=…,v1=…")]
    Malformed,
    #[error("the signature is older than five minutes, or of the future")]
    Stale,
    #[error("the signature is not of this body")]
    Wrong,
}

/// Checks a `Stripe-Signature` header against the body as it came: HMAC-SHA256 over `t.body`, compared in constant
/// time.
pub fn verify(
    header: &str,
    body: &[u8],
    secret: &SecretString,
    now: DateTime<Utc>,
) -> Result<(), SignatureError> {
    let mut timestamp = None;
    let mut signatures = Vec::new();
    for part in header.split(',') {
        match part.trim().split_once('=') {
            Some(("t", value)) => timestamp = Some(value),
            Some(("v1", value)) if signatures.len() < MOST_SIGNATURES => {
                signatures.extend(hex::decode(value).ok());
            }
            _ => {}
        }
    }
    let timestamp = timestamp.ok_or(SignatureError::Malformed)?;
    let signed_at = timestamp.parse().ok().and_then(|secs| DateTime::from_timestamp(secs, 0));
    let signed_at = signed_at.ok_or(SignatureError::Malformed)?;
    if signatures.is_empty() {
        return Err(SignatureError::Malformed);
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
    let signed = [timestamp.as_bytes(), b".", body].concat();
    if !signatures.iter().any(|signature| hmac::verify(&key, &signed, signature).is_ok()) {
        return Err(SignatureError::Wrong);
    }
    if (now - signed_at).abs() > TOLERANCE { Err(SignatureError::Stale) } else { Ok(()) }
}

/// An event, as far as it is of interest: who it is about.
#[derive(Debug, Deserialize)]
pub struct ProviderEvent {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    data: Data,
}

#[derive(Debug, Deserialize)]
struct Data {
    object: Object,
}

#[derive(Debug, Deserialize)]
struct Object {
    #[serde(default)]
    metadata: Option<Metadata>,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata {
    payment_key: Option<String>,
}

/// What came of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Its payment is going to be looked at.
    Noted,
    /// It was heard before.
    Before,
    /// It is about nothing of ours.
    Foreign,
}

#[derive(QueryableByName)]
struct IdRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// Takes note of an event once, and has its payment looked at: both or neither.
pub async fn hear(db: &Db, provider: &str, event: &ProviderEvent) -> Result<Heard, Fault> {
    let conn = &mut *db.conn().await?;
    conn.transaction(async |conn: &mut Conn| {
        let fresh = prepared(
            sql_query(
                "INSERT INTO provider_events (provider, event_id, kind) VALUES ($1, $2, $3)
                 ON CONFLICT DO NOTHING",
            )
            .bind::<Text, _>(provider)
            .bind::<Text, _>(&event.id)
            .bind::<Text, _>(&event.kind),
        )
        .execute(conn)
        .await?;
        if fresh == 0 {
            return Ok(Heard::Before);
        }
        let metadata = event.data.object.metadata.as_ref();
        let Some(key) = metadata.and_then(|metadata| metadata.payment_key.as_deref()) else {
            return Ok(Heard::Foreign);
        };
        let rows: Vec<IdRow> = prepared(
            sql_query("SELECT id FROM payments WHERE provider = $1 AND provider_key = $2")
                .bind::<Text, _>(provider)
                .bind::<Text, _>(key),
        )
        .load(conn)
        .await?;
        let Some(IdRow { id: payment_id }) = rows.into_iter().next() else { return Ok(Heard::Foreign) };
        let job = OutboxEntry::new(&format!("{provider}:{}", event.id), &RefreshPayment { payment_id });
        outbox::record(conn, &[job]).await?;
        Ok(Heard::Noted)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"id":"evt_1"}"#;

    fn header(secret: &str, at: i64, body: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signature = hmac::sign(&key, &[at.to_string().as_bytes(), b".", body].concat());
        format!("t={at},v1={}", hex::encode(signature))
    }

    fn check(header: &str, at: i64) -> Result<(), SignatureError> {
        let now = DateTime::from_timestamp(at, 0).unwrap_or_default();
        verify(header, BODY, &SecretString::from("whsec_1"), now)
    }

    #[test]
    fn only_the_provider_speaks_and_only_now() {
        let good = header("whsec_1", 1_000_000, BODY);
        assert_eq!(check(&good, 1_000_000), Ok(()));
        assert_eq!(check(&good, 1_000_300), Ok(()));
        assert_eq!(check(&good, 1_000_301), Err(SignatureError::Stale));
        assert_eq!(check(&good, 999_699), Err(SignatureError::Stale));
        // While a secret is changed there are two.
        let (_, other) = header("whsec_0", 1_000_000, BODY)
            .split_once(',')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap_or_default();
        assert_eq!(check(&format!("{good},{other},v0=00"), 1_000_000), Ok(()));
        assert_eq!(check(&header("whsec_0", 1_000_000, BODY), 1_000_000), Err(SignatureError::Wrong));
        assert_eq!(check(&header("whsec_1", 1_000_000, b"{}"), 1_000_000), Err(SignatureError::Wrong));
        // Another time under the same signature.
        assert_eq!(check(&good.replace("t=1000000", "t=1000001"), 1_000_000), Err(SignatureError::Wrong));
        for malformed in
            ["", "t=1000000", "v1=00", "t=x,v1=00", "t=1000000,v1=zz", "t=99999999999999999,v1=00"]
        {
            assert_eq!(check(malformed, 1_000_000), Err(SignatureError::Malformed), "{malformed}");
        }
    }
}
