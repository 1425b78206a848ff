//! The hold token: what was held, for whom, at what price, until when, signed by us. With it a hold is honoured
//! through Postgres although Redis lost everything.

use chrono::DateTime;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{HeldItem, Hold, HoldStatus, decode_items, encode_items};
use crate::crypto;

const AUDIENCE: &str = "evently-hold";

/// The token was altered, is not ours, or is none.
#[derive(Debug, thiserror::Error)]
#[error("the hold token is not valid")]
pub struct InvalidHoldToken;

/// What a token says.
#[derive(Clone, Debug)]
pub struct HoldClaims {
    hold: Hold,
    late: bool,
}

impl HoldClaims {
    /// The hold as it was placed.
    pub fn hold(&self) -> &Hold {
        &self.hold
    }

    /// A hold for which money was set aside that came after it had ended: it is taken anew if its seats are free,
    /// whatever its deadline was. For what the payment's own row says, not for what a client sends.
    pub fn of_late_payment(hold: Hold) -> Self {
        Self { hold, late: true }
    }

    pub(super) fn is_late(&self) -> bool {
        self.late
    }

    pub(super) fn items(&self) -> &[HeldItem] {
        &self.hold.items
    }
}

#[derive(Serialize, Deserialize)]
struct Wire {
    aud: String,
    /// Hold, event, user.
    jti: Uuid,
    ev: Uuid,
    sub: Uuid,
    items: String,
    total: i64,
    cur: String,
    /// Milliseconds.
    created: i64,
    deadline: i64,
    /// Made out of an offer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    of: bool,
}

/// Signs and checks hold tokens: HMAC, since nobody but us reads them.
#[derive(Clone)]
pub struct HoldTokens {
    header: Header,
    signing: EncodingKey,
    checking: DecodingKey,
    validation: Validation,
}

impl HoldTokens {
    /// `key` is derived from the signing key, for this purpose alone.
    pub fn new(key: &[u8; 32]) -> Self {
        crypto::install();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["aud"]);
        // The deadline is judged by Redis's clock, in the script.
        validation.validate_exp = false;
        Self {
            header: Header::new(Algorithm::HS256),
            signing: EncodingKey::from_secret(key),
            checking: DecodingKey::from_secret(key),
            validation,
        }
    }

    /// The token of a hold; the same hold has the same token.
    pub fn sign(&self, hold: &Hold) -> String {
        let wire = Wire {
            aud: AUDIENCE.to_owned(),
            jti: hold.id,
            ev: hold.event_id,
            sub: hold.user_id,
            items: encode_items(&hold.items),
            total: hold.total,
            cur: hold.currency.clone(),
            created: hold.created_at.timestamp_millis(),
            deadline: hold.expires_at.timestamp_millis(),
            of: hold.offered,
        };
        // HMAC over plain fields: there is nothing in it that could fail.
        jsonwebtoken::encode(&self.header, &wire, &self.signing).expect("HMAC signs anything")
    }

    /// What a token says, if it is ours. Whose it is, the caller compares.
    pub fn verify(&self, token: &str) -> Result<HoldClaims, InvalidHoldToken> {
        let wire = jsonwebtoken::decode::<Wire>(token, &self.checking, &self.validation)
            .map_err(|_| InvalidHoldToken)?
            .claims;
        let time = |ms| DateTime::from_timestamp_millis(ms).ok_or(InvalidHoldToken);
        let hold = Hold {
            id: wire.jti,
            event_id: wire.ev,
            user_id: wire.sub,
            status: HoldStatus::Held,
            items: decode_items(&wire.items).map_err(|_| InvalidHoldToken)?,
            total: wire.total,
            currency: wire.cur,
            created_at: time(wire.created)?,
            expires_at: time(wire.deadline)?,
            offered: wire.of,
        };
        Ok(HoldClaims { hold, late: false })
    }
}
